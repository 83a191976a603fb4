"""Supervisors' names say whose they are, and tell a rank that came back from the one before it."""

from __future__ import annotations

import pytest

from cluster.backends.ray.gang_workers import WorkerName, place_of, run_of, supervisor_name


@pytest.mark.parametrize(("run_id", "rank", "generation"), [("job-1-1", 0, 0), ("job-1.5-2", 12, 0), ("a", 3, 7)])
def test_a_name_is_read_back(run_id: str, rank: int, generation: int) -> None:
    name = supervisor_name(run_id, rank, generation)
    assert run_of(name) == WorkerName(run_id, rank, generation)
    assert place_of(name) == (rank, generation)


@pytest.mark.parametrize("name", ["cpn-sql-n1-0", "cpn-run-", "cpn-run-job", "cpn-run-job-x", "cpn-run-job-1.x", "other"])
def test_other_actors_are_none_of_ours(name: str) -> None:
    assert run_of(name) is None
