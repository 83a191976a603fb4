"""Gangs in one zone or rack, as pictures of nodes and jobs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.board import Board, classes_of
from scheduler.engine.check import check
from scheduler.engine.groups import grouped
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.engine.verdicts import verdicts
from scheduler.errors import PlanRejectedError
from scheduler.freeze import freeze
from tests.builders import DrawnCluster, DrawnJob, cluster, decided, job, queue, world
from tests.records import machine, member, run, world_of
from tests.records import queue as stored_queue


def gang(workers: int, size: str = "2", same: str = "rack", name: str = "a") -> DrawnJob:
    return job(name, size, workers=workers, same=same)


@pytest.mark.parametrize(
    ("members", "jobs", "expected"),
    [
        # The four free cores of one rack, not the eight of two.
        ([cluster("sh", "2#a.1 2#a.2 2#a.2")], [gang(2)], {"a": "sh n2 n3"}),
        # Two racks with room: the tighter one; two alike: the one with the first node.
        ([cluster("sh", "8#a.1 4#a.2 8#a.1")], [gang(2)], {"a": "sh n2 n2"}),
        ([cluster("sh", "2#a.2 2#a.1 2#a.1 2#a.2")], [gang(2)], {"a": "sh n1 n4"}),
        # Nodes that belong to no rack take nobody, however much room they have.
        ([cluster("sh", "99 2#a.1 2#a.1")], [gang(2)], {"a": "sh n2 n3"}),
        ([cluster("sh", "99 99")], [gang(2)], {"a": "group_does_not_fit"}),
        # A rack is not enough, a zone is; a rack without a zone is a rack.
        ([cluster("sh", "2#a.1 2#a.2")], [gang(2)], {"a": "group_does_not_fit"}),
        ([cluster("sh", "2#a.1 2#b.1 2#a.2")], [gang(2, same="zone")], {"a": "sh n1 n3"}),
        ([cluster("sh", "2#.1 2#.2 2#.2")], [gang(2)], {"a": "sh n2 n3"}),
        # Racks of two zones, or of two clusters, with the same name are two racks.
        ([cluster("sh", "2#a.1 2#b.1")], [gang(2)], {"a": "group_does_not_fit"}),
        ([cluster("sh", "2#a.1"), cluster("gz", "2#a.1")], [gang(2)], {"a": "gang_does_not_fit"}),
        ([cluster("sh", "2#a.1 2#a.2"), cluster("gz", "2#a.1 2#a.1")], [gang(2)], {"a": "gz n1 n2"}),
        # What is in use counts as in use, and each gang sees what the one before it took.
        ([cluster("sh", "0/4#a.1 4#a.1 2#a.2 4#a.2")], [gang(3)], {"a": "sh n4 n4 n3"}),
        ([cluster("sh", "4#a.1 4#a.2")], [gang(2), gang(2, name="b"), gang(2, name="c")],
         {"a": "sh n1 n1", "b": "sh n2 n2", "c": "node_busy"}),
        # Like jobs that need no common rack go where this one cannot.
        ([cluster("sh", "2#a.1 2#a.2")], [gang(2), job("b", "2", workers=2)], {"a": "node_busy", "b": "sh n1 n2"}),
        # As few nodes as possible within the rack.
        ([cluster("sh", "1#a.1 2#a.1 4#a.1 8#a.2")], [gang(2, "2")], {"a": "sh n3 n3"}),
    ],
)  # fmt: skip
def test_pictures(members: list[DrawnCluster], jobs: list[DrawnJob], expected: dict[str, str]) -> None:
    assert decided(world(*members, jobs=jobs)) == expected


def test_groups_are_numbered_by_their_first_nodes_within_each_cluster() -> None:
    found = grouped(np.array([0, 0, 0, 1, 1]), np.array([7, -1, 3, 3, 7]))
    assert found.group.tolist() == [0, -1, 1, 2, 3]
    assert found.cluster.tolist() == [0, 0, 1, 1]
    assert found.largest(np.array([5, 9, 6, 1, 2]), 3).tolist() == [6, 2, 0]
    assert found.tightest(np.array([5, 9, 6, 1, 2]), 0, 5).tolist() == [0]


def test_the_widest_group_has_most_nodes_with_room_for_at_least_one() -> None:
    found = grouped(np.zeros(5, dtype=np.int64), np.array([1, 2, 2, 2, 3]))
    rooms = np.array([5, 1, 1, 1, 9])
    assert found.widest(rooms, 0, 3).tolist() == [1, 2, 3]
    assert found.widest(rooms, 0, 4).tolist() == [0]
    assert found.widest(rooms, 0, 6).tolist() == [4]


def test_no_nodes_make_no_groups() -> None:
    found = grouped(np.zeros(2, dtype=np.int64), np.full(2, -1))
    assert (found.group.tolist(), found.largest(np.array([5, 5]), 1).tolist()) == ([-1, -1], [0])


@pytest.mark.parametrize(
    ("nodes", "jobs", "on", "expected"),
    [
        # One worker on each node before any gets two, the emptiest first.
        ("8 8 8", [job("a", workers=3, queue="q")], "", {"a": "sh n1 n2 n3"}),
        ("2/8 8 4/8", [job("a", workers=2, queue="q")], "", {"a": "sh n2 n3"}),
        ("1 8", [job("a", workers=4, queue="q")], "", {"a": "sh n2 n1 n2 n2"}),
        # Jobs of the queue count, before and in this plan; those of others do not.
        ("8 8 8", [job("a", queue="q"), job("b", queue="q"), job("c", queue="q"), job("d", queue="q")], "",
         {"a": "sh n1", "b": "sh n2", "c": "sh n3", "d": "sh n1"}),
        ("8 8", [job("a", queue="q")], "sh.n1", {"a": "sh n2"}),
        ("8 8", [job("p"), job("p2"), job("a", queue="q")], "", {"p": "sh n1", "p2": "sh n1", "a": "sh n2"}),
        # The rack with most nodes with room.
        ("9#a.1 2#a.2 2#a.2", [job("a", workers=2, queue="q", same="rack")], "", {"a": "sh n2 n3"}),
        # A share is spread too.
        ("8+.9,1H200 8+1,1H200", [job("a", "1+.1H200", queue="q"), job("b", "1+.1H200", queue="q")], "", {"a": "sh n1", "b": "sh n2"}),
    ],
)  # fmt: skip
def test_a_queue_that_spreads(nodes: str, jobs: list[DrawnJob], on: str, expected: dict[str, str]) -> None:
    assert decided(world(cluster("sh", nodes), jobs=jobs, queues=[queue("q", spread=True, on=on)])) == expected


def test_a_queue_whose_seats_are_left_out_has_none_yet() -> None:
    jobs = [job("p", queue="packed"), job("a", queue="q"), job("b", queue="q")]
    drawn = world(cluster("sh", "8 8"), jobs=jobs, queues=[queue("packed"), queue("q", spread=True)])
    told = replace(drawn, queues=replace(drawn.queues, seats=np.zeros((0, 0), dtype=np.int64)))
    assert decided(told) == decided(drawn) == {"p": "sh n1", "a": "sh n2", "b": "sh n1"}


@pytest.mark.parametrize(
    ("nodes", "sound"),
    [((0, 1), True), ((1, 0), True), ((0, 0), False), ((0, 2), False), ((2, 1), False)],
)
def test_check_proves_that_work_is_spread(nodes: tuple[int, ...], sound: bool) -> None:
    snapshot = world(cluster("sh", "4 4 4"), jobs=[job("a", workers=2, queue="q")], queues=[queue("q", spread=True, on="sh.n3")])
    said = ""
    try:
        check(snapshot, Plan((Placement(0, 0, nodes, 0.0),), ()))
    except PlanRejectedError as error:
        said = str(error)
    assert bool(said) is not sound
    assert sound or "on fewer or fuller nodes" in said


def test_the_board_refuses_queues_that_spread() -> None:
    snapshot = world(cluster("sh", "4"), jobs=[job("a", queue="q")], queues=[queue("q", spread=True)])
    with pytest.raises(ValueError, match="queues that spread"):
        Board(snapshot, classes_of(snapshot.jobs)[0])


def test_a_frozen_queue_spreads_as_the_one_above_and_knows_where_its_workers_are() -> None:
    above, below = replace(stored_queue("top"), layout="spread"), replace(stored_queue("web"), parent="top")
    own = replace(stored_queue("dense"), parent="top", layout="pack")
    nodes = [machine(name="n1"), machine(name="n2")]
    runs = [run("sh", ["n2", "n2"], queue="web"), run("gone", ["n1"], queue="web", job_id="job-2")]
    found = freeze(world_of(member(), nodes=nodes, queues=[own, above, below], runs=runs), [], {}).snapshot.queues
    assert (found.spread.tolist(), found.seats.tolist()) == ([False, True, True], [[0, 0], [0, 0], [0, 2]])
    assert freeze(world_of(member(), nodes=nodes), [], {}).snapshot.queues.seats.size == 0


PICTURE = world(cluster("sh", "4#a.1 4#a.1 4#a.2 4"), jobs=[gang(2, "3")])


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [((0, 1), ""), ((0, 2), "its workers are in 2 groups that must be in one"), ((0, 3), "a node that belongs to no group"),
     ((3, 3), "a node that belongs to no group")],
)  # fmt: skip
def test_check_proves_that_workers_are_together(nodes: tuple[int, ...], fault: str) -> None:
    plan = Plan((Placement(0, 0, nodes, 0.0),), ())
    said = ""
    try:
        check(PICTURE, plan)
    except PlanRejectedError as error:
        said = str(error)
    assert fault in said if fault else not said


@pytest.mark.parametrize(
    ("nodes", "job_", "reason", "room", "empty"),
    [
        ("4#a.1 2/4#a.2 4#a.2", gang(4), Reason.GROUP_DOES_NOT_FIT, 3, 4),
        ("99 99", gang(2), Reason.GROUP_DOES_NOT_FIT, 0, 0),
        ("4#a.1 0/4#a.1", gang(3), Reason.GANG_DOES_NOT_FIT, 2, 4),
        ("4 0/4", job("a", "2", workers=3), Reason.GANG_DOES_NOT_FIT, 2, 4),
        ("0/4#a.1", gang(2), Reason.NODE_BUSY, None, None),
    ],
)
def test_a_verdict_tells_how_much_room_there_is(nodes: str, job_: DrawnJob, reason: Reason, room: int | None, empty: int | None) -> None:
    snapshot = world(cluster("sh", nodes), cluster("gz", "1"), jobs=[job_])
    found = verdicts(snapshot, 0, place(snapshot))[0]
    assert (found.reason, found.room, found.room_empty) == (reason, room, empty)


def test_the_board_refuses_what_it_cannot_decide() -> None:
    with pytest.raises(ValueError, match="one zone or rack"):
        classes_of(PICTURE.jobs)
    classes_of(_apart(PICTURE).jobs)


def _apart(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, jobs=replace(snapshot.jobs, same=np.full(len(snapshot.jobs.ids), -1)))
