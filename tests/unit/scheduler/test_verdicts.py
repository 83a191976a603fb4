"""Verdicts: each cluster's standing for one job, chosen, possible or refused."""

from __future__ import annotations

import pytest

from scheduler.engine.place import place
from scheduler.engine.plan import Verdict
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot, Weights
from scheduler.engine.verdicts import verdicts
from tests.builders import cluster, job, queue, world


def standing(given: Snapshot, name: str = "j") -> dict[str, Verdict]:
    """Verdicts by the cluster's name."""
    found = verdicts(given, given.jobs.ids.index(name), place(given))
    assert [verdict.cluster for verdict in found] == list(range(len(given.clusters.names)))
    return dict(zip(given.clusters.names, found, strict=True))


def words(given: Snapshot, name: str = "j") -> dict[str, str]:
    """`chosen`, `possible` or the reason, by the cluster's name."""
    found = standing(given, name)
    return {where: "chosen" if one.chosen else "possible" if one.score is not None else one.reason.label for where, one in found.items()}


def test_chosen_possible_and_refused() -> None:
    members = (cluster("z"), cluster("busy", "0/8"), cluster("a"), cluster("far"), cluster("closed", cordoned=True))
    asked = job("j", cost={"z": 1.0, "a": 2.0}, refused={"far": Reason.LICENCE_JURISDICTION})
    assert words(world(*members, jobs=[asked])) == {
        "z": "chosen", "busy": "node_busy", "a": "possible", "far": "licence_jurisdiction", "closed": "cluster_cordoned",
    }  # fmt: skip


def test_scores_and_starts_of_those_that_fit() -> None:
    # Not in the order of names, so a number that is not led back to its row stands at another cluster.
    members = (cluster("z", wait_s=2.0), cluster("b", "0/8"), cluster("c", wait_s=4.0))
    asked = job("j", cost={"z": 1.0, "c": 3.0}, transfer_s={"c": 60.0, "b": 5.0})
    found = standing(world(*members, jobs=[asked], weights=Weights(price=1.0, transfer=2.0, start=0.5)))
    assert {where: (one.score, one.start_s, one.chosen) for where, one in found.items()} == {
        "z": (0.0, 2.0, True), "b": (None, None, False), "c": (3.5, 64.0, False),
    }  # fmt: skip


def test_the_chosen_cluster_is_the_plans() -> None:
    given = world(cluster("a"), cluster("b"), jobs=[job("first", "8"), job("j", "8")])
    assert words(given, "first") == {"a": "chosen", "b": "possible"}
    # Judged with the room of the snapshot, `a` would have taken it too, but the plan gave that away before its turn.
    assert words(given) == {"a": "possible", "b": "chosen"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (world(cluster("a", "4"), cluster("b", "4!"), jobs=[job("j", "5")]), {"a": "node_too_small", "b": "node_not_ready"}),
        (world(cluster("a", "4 4"), jobs=[job("j", "4", workers=3)]), {"a": "gang_does_not_fit"}),
        (world(cluster("a"), jobs=[job("j")], queues=[queue("default", running=1, limit=1)]), {"a": "queue_limit"}),
        (world(cluster("a"), jobs=[job("first", "8"), job("j")]), {"a": "node_busy"}),
        (world(jobs=[job("j")]), {}),
    ],
)
def test_a_job_that_waits_has_the_plans_reasons(given: Snapshot, expected: dict[str, str]) -> None:
    assert words(given) == expected
