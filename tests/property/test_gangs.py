"""Invariants of gangs: whole, together where they must be, and never waiting beside room."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.engine.verdicts import verdicts
from tests.property.test_engine import is_accepted, told
from tests.property.worlds import could_be_larger, fits, gang_worlds, group_of, is_legal, is_spread, left_over, most_together
from tests.reordering import reordered

FEW = settings(max_examples=40)


@FEW
@given(gang_worlds())
def test_gangs_are_whole_and_together_and_none_waits_beside_room(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    assert is_legal(snapshot, plan)
    left = left_over(snapshot, plan)
    for item in plan.unplaced:
        taking = [row for row in range(len(snapshot.clusters.names)) if fits(snapshot, item.job, row, left)]
        assert not taking or Reason.QUEUE_QUOTA in item.clusters


@FEW
@given(gang_worlds())
def test_an_elastic_gang_has_as_many_workers_as_fit_within_its_range(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    for item in plan.placements:
        assert snapshot.jobs.least[item.job] <= len(item.nodes) <= snapshot.jobs.most[item.job, item.cluster]
        assert not could_be_larger(snapshot, plan, item)


@FEW
@given(gang_worlds())
def test_a_queue_that_spreads_leaves_no_emptier_node_unused(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    assert all(is_spread(snapshot, plan, row) for row in range(len(plan.placements)))


@FEW
@given(gang_worlds(), st.data())
def test_the_order_of_rows_decides_nothing(snapshot: Snapshot, data: st.DataObject) -> None:
    counts = (len(part) for part in (snapshot.clusters.names, snapshot.nodes.names, snapshot.queues.names, snapshot.jobs.ids))
    clusters, nodes, queues, jobs = (data.draw(st.permutations(range(count))) for count in counts)
    other = reordered(snapshot, clusters=clusters, nodes=nodes, queues=queues, jobs=jobs)
    assert told(other, place(other)) == told(snapshot, place(snapshot))


@FEW
@given(gang_worlds(most_jobs=1))
def test_a_gang_takes_the_tightest_group_with_room(snapshot: Snapshot) -> None:
    nothing = left_over(snapshot, Plan((), ()))
    for item in place(snapshot).placements:
        rooms: dict[int | None, float] = {}
        for node in range(len(snapshot.nodes.names)):
            if snapshot.nodes.cluster[node] == item.cluster and not snapshot.queues.spread.any():
                group = group_of(snapshot, item.job, node)
                rooms[group] = rooms.get(group, 0.0) + _alone(snapshot, item.job, node, nothing)
        enough = [room for group, room in rooms.items() if group is not None and room >= len(item.nodes)]
        assert not enough or rooms[group_of(snapshot, item.job, item.nodes[0])] == min(enough)


def _alone(snapshot: Snapshot, job: int, node: int, left: list[list[float]]) -> float:
    only = [amounts if row == node else [0.0] * len(amounts) for row, amounts in enumerate(left)]
    return most_together(snapshot, job, int(snapshot.nodes.cluster[node]), only)


@FEW
@given(gang_worlds(most_jobs=1))
def test_a_verdict_tells_the_room_of_the_largest_group(snapshot: Snapshot) -> None:
    nothing, total = left_over(snapshot, Plan((), ())), snapshot.nodes.total.tolist()
    for item in verdicts(snapshot, 0, place(snapshot)):
        if item.room is not None:
            now, empty = (most_together(snapshot, 0, item.cluster, amounts) for amounts in (nothing, total))
            assert (item.room, item.room_empty) == (now, empty)
            assert now < snapshot.jobs.least[0]


@FEW
@given(gang_worlds(), st.data())
def test_check_finds_what_a_second_opinion_finds(snapshot: Snapshot, data: st.DataObject) -> None:
    plan = place(snapshot)
    assume(snapshot.jobs.ids)
    spoiled = data.draw(st.integers(0, len(snapshot.jobs.ids) - 1))
    workers = data.draw(st.integers(int(snapshot.jobs.least[spoiled]), int(snapshot.jobs.workers[spoiled])))
    nodes = data.draw(st.lists(st.integers(0, len(snapshot.nodes.names) - 1), min_size=workers, max_size=workers))
    moved = Placement(spoiled, int(snapshot.nodes.cluster[nodes[0]]), tuple(nodes), 0.0)
    other = Plan(
        (*(item for item in plan.placements if item.job != spoiled), moved), tuple(item for item in plan.unplaced if item.job != spoiled)
    )
    assert is_accepted(snapshot, other) == is_legal(snapshot, other)
