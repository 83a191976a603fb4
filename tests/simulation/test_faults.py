"""The promises hold in every story: nothing acknowledged is lost, nothing is booked or settled twice, everything ends.

A story is drawn from its seed, so a failure is repeated by its number. One that was found and repaired is told by hand
in test_repaired.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.script import DEATHS, HANDS, SEPARATIONS, Happening, asking, lasting, on_sh
from tests.simulation.stories import JOBS, drawn, told


def everything(seed: int, folder: Path) -> None:
    """Any faults, any hands."""
    network = drawn(seed, folder, SEPARATIONS + DEATHS + HANDS)
    assert len(network.books.ends()) == len(network.books.acknowledged) == JOBS
    assert network.books.audits > JOBS


def separations(seed: int, folder: Path) -> None:
    """Where agents are cut off and servers die, but neither agents nor clusters, no two attempts of a job ever run at once."""
    network = drawn(seed, folder, SEPARATIONS + HANDS)
    assert len(network.books.ends()) == JOBS
    assert network.overlaps == []


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails(tmp_path: Path, seed: int) -> None:
    everything(seed, tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_whoever_is_cut_off(tmp_path: Path, seed: int) -> None:
    separations(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_whatever_fails_in_many_more_ways(tmp_path: Path, seed: int) -> None:
    everything(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1050))
def test_whoever_is_cut_off_in_many_more_ways(tmp_path: Path, seed: int) -> None:
    separations(seed, tmp_path)


def test_a_cut_off_agent_ends_its_runs_before_their_jobs_begin_elsewhere(tmp_path: Path) -> None:
    job = asking(1, "job-a", cpu=1, workers=4, attempts=2, where=("sh", "gz"))
    network = told(tmp_path, [job], [on_sh(10, "cut", 100), Happening(0, "cordon", "gz", 5.0, 0)], lasting(job_a=90.0))
    assert network.overlaps == []
    assert [(run, state) for _, run, state, _ in network.books.story() if state in ("lost", "succeeded")] == [
        ("job-a-1", "lost"), ("job-a-2", "succeeded"),
    ]  # fmt: skip
    assert network.members["gz"].cluster.started == {"job-a-2": 1}


def test_a_seed_has_one_story(tmp_path: Path) -> None:
    stories = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        network = drawn(0, tmp_path / name, SEPARATIONS + DEATHS + HANDS)
        stories.append((network.trace, network.books.story()))
    assert stories[0] == stories[1]


def test_without_faults_every_job_runs_once(tmp_path: Path) -> None:
    network = drawn(0, tmp_path, ("cordon",))
    started = sum((member.cluster.started for member in network.members.values()), start=Counter[str]())
    assert set(started.values()) == {1}
    assert "lost" not in {state for _, _, state, _ in network.books.story()}
