"""Devices in the live decision, as pictures: `8+1,.5H200` is a node with 8 cores and two accelerators, one of them half free."""

from __future__ import annotations

import pytest

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.engine.verdicts import verdicts
from tests.builders import cluster, decided, job, world


def seats(given: Snapshot) -> dict[str, str]:
    """Of each job its nodes and, behind each, the numbers of its devices: `n1:0,1 n2:0`; or why it waits."""
    plan = place(given)
    check(given, plan)
    found = {given.jobs.ids[item.job]: item.blocker.label for item in plan.unplaced}
    for item in plan.placements:
        devices = item.devices or ((),) * len(item.nodes)
        words = [f"{given.nodes.names[node]}:{','.join(str(n) for _, n in some)}" for node, some in zip(item.nodes, devices, strict=True)]
        found[given.jobs.ids[item.job]] = " ".join(words)
    return found


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        # Two halves are no whole one, and no device has room for more than a half.
        ("8+.5,.5H200", ["1+1H200"], ["node_busy"]),
        ("8+.5,.5H200", ["1+.6H200"], ["node_busy"]),
        ("8+.5,.5H200", ["1+.5H200", "1+.5H200", "1+.5H200"], ["n1:0", "n1:1", "node_busy"]),
        # A share goes to the tightest device of a node, whole ones are the first that nobody uses.
        ("8+1,.5,.3H200", ["1+.25H200"], ["n1:2"]),
        ("8+.5,1,0,1H200", ["1+2H200"], ["n1:1,3"]),
        ("8+1,1H200", ["1+.4H200", "1+.4H200", "1+1H200"], ["n1:0", "n1:0", "n1:1"]),
        # The node whose device the share just fills, not the one that it opens; so a whole device stays whole.
        ("8+1H200 8+.25,0H200", ["1+.25H200", "1+1H200"], ["n2:0", "n1:0"]),
        # Work that waits for halves wants a half to stay: the quarter takes the device on which nothing else would fit.
        ("8+.5,0H200 8+.4,0H200", ["1+.25H200", "1+.5H200"], ["n2:0", "n1:0"]),
        # A node that is told apart and one that is not, in one world; cores still count.
        ("8+1/2H200 8+.5,0H200", ["1+.5H200", "1+1H200"], ["n2:0", "n1:1"]),
        ("0/8+1,1H200 1+.25,0H200", ["1+.5H200"], ["node_busy"]),
        ("8 8+1,1A100", ["1+.5H200"], ["node_accelerator_model"]),
    ],
)
def test_devices_of_a_node(nodes: str, asked: list[str], expected: list[str]) -> None:
    jobs = [job(f"j{place}", size) for place, size in enumerate(asked)]
    assert list(dict(sorted(seats(world(cluster("a", nodes), jobs=jobs)).items())).values()) == expected


def test_workers_of_a_gang_share_devices() -> None:
    given = world(cluster("a", "8+1,.5H200 8+.5,0H200"), jobs=[job("g", "1+.5H200", workers=4), job("h", "1+.5H200")])
    assert seats(given) == {"g": "n1:1 n1:0 n1:0 n2:0", "h": "node_busy"}
    assert decided(world(cluster("a", "8+.5,.5H200"), jobs=[job("g", "1+.5H200", workers=3)])) == {"g": "gang_does_not_fit"}


def test_the_cheaper_cluster_is_no_choice_when_no_device_there_is_whole() -> None:
    members = (cluster("cheap", "8+.5,.5H200"), cluster("dear", "8+1H200"))
    given = world(*members, jobs=[job("j", "1+1H200", cost={"cheap": 1.0, "dear": 9.0})])
    assert decided(given) == {"j": "dear n1"}


def test_a_share_needs_devices_that_are_told_apart() -> None:
    with pytest.raises(ValueError, match="j asks for a share, and devices are not told apart"):
        place(world(cluster("a", "8+2H200"), jobs=[job("j", "1+.5H200")]))


def test_what_a_gang_would_find_if_nothing_ran_counts_all_devices() -> None:
    given = world(cluster("a", "8+.5,.5,0H200"), jobs=[job("g", "1+.5H200", workers=5)])
    (verdict,) = verdicts(given, 0, place(given))
    assert (verdict.reason, verdict.room, verdict.room_empty) == (Reason.GANG_DOES_NOT_FIT, 2, 6)
