"""Invariants of the engine: what no plan breaks, whatever the world."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import POLICY, Reason
from scheduler.engine.snapshot import Snapshot, Weights
from scheduler.engine.verdicts import verdicts
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, job, queue, world
from tests.property.queue_rules import path
from tests.property.worlds import fits, is_legal, left_over, open_to, rows_of, snapshots, suits, within_limit, workers_that_fit
from tests.reordering import reordered


def arrays(snapshot: Snapshot) -> dict[str, str]:
    """Every array of a snapshot, written out: NaN, which stands for what is unknown, is the same as itself there."""
    parts = (snapshot.clusters, snapshot.nodes, snapshot.queues, snapshot.jobs)
    return {f"{type(part).__name__}.{name}": repr(np.array(value).tolist()) for part in parts for name, value in vars(part).items()}


def told(snapshot: Snapshot, plan: Plan) -> tuple[list[object], dict[str, object]]:
    """A plan without rows: placements in order, and why the rest waits."""
    clusters, nodes, ids = snapshot.clusters.names, snapshot.nodes.names, snapshot.jobs.ids
    placements: list[object] = [
        (ids[item.job], clusters[item.cluster], [nodes[node] for node in item.nodes], item.score) for item in plan.placements
    ]
    waiting: dict[str, object] = {
        ids[item.job]: (item.blocker, dict(zip(clusters, item.clusters, strict=True)), item.nodes) for item in plan.unplaced
    }
    return placements, waiting


def is_accepted(snapshot: Snapshot, plan: Plan) -> bool:
    """Whether `check` lets a plan pass."""
    try:
        check(snapshot, plan)
    except PlanRejectedError:
        return False
    return True


@given(snapshots())
def test_a_plan_breaks_no_rule_and_answers_every_job(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    assert is_legal(snapshot, plan)
    answered = [item.job for item in plan.placements] + [item.job for item in plan.unplaced]
    assert sorted(answered) == list(range(len(snapshot.jobs.ids)))


@given(snapshots())
def test_nothing_waits_that_fits(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    left = left_over(snapshot, plan)
    for item in plan.unplaced:
        held_back = {Reason.QUEUE_LIMIT, Reason.QUEUE_QUOTA} & set(item.clusters)
        taking = [row for row in range(len(snapshot.clusters.names)) if fits(snapshot, item.job, row, left)]
        assert held_back or not taking


@given(snapshots())
def test_a_queue_is_held_back_only_at_its_limit(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    for item in plan.unplaced:
        if Reason.QUEUE_LIMIT in item.clusters:
            one_more = (*plan.placements, Placement(item.job, 0, (), 0.0))
            above = path(snapshot, int(snapshot.jobs.queue[item.job]))
            assert not all(within_limit(snapshot, one_more, queue) for queue in above)


@given(snapshots(), st.data())
def test_the_order_of_rows_decides_nothing(snapshot: Snapshot, data: st.DataObject) -> None:
    counts = (len(part) for part in (snapshot.clusters.names, snapshot.nodes.names, snapshot.queues.names, snapshot.jobs.ids))
    clusters, nodes, queues, jobs = (data.draw(st.permutations(range(count))) for count in counts)
    other = reordered(snapshot, clusters=clusters, nodes=nodes, queues=queues, jobs=jobs)
    assert told(other, place(other)) == told(snapshot, place(snapshot))


@given(snapshots(), st.data())
def test_in_strict_queues_the_first_start(snapshot: Snapshot, data: st.DataObject) -> None:
    strict = np.array([data.draw(st.booleans()) for _ in snapshot.queues.names], dtype=np.bool_)
    given = replace(snapshot, queues=replace(snapshot.queues, strict=strict))
    plan = place(given)
    check(given, plan)
    assert is_legal(given, plan)
    placed = {item.job for item in plan.placements}
    for row in np.flatnonzero(strict).tolist():
        own = [job for job in range(len(given.jobs.ids)) if given.jobs.queue[job] == row]
        own.sort(key=lambda job: (-given.jobs.rank[job], given.jobs.sequence[job], given.jobs.ids[job]))
        started = [job in placed for job in own]
        assert started == sorted(started, reverse=True)
    jobs = data.draw(st.permutations(range(len(given.jobs.ids))))
    other = reordered(given, clusters=range(len(given.clusters.names)), nodes=range(len(given.nodes.names)),
                      queues=range(len(given.queues.names)), jobs=jobs)  # fmt: skip
    assert told(other, place(other)) == told(given, plan)


@given(snapshots())
def test_the_same_snapshot_gives_the_same_plan_and_stays_as_it_is(snapshot: Snapshot) -> None:
    before = arrays(snapshot)
    assert place(snapshot) == place(snapshot)
    assert arrays(snapshot) == before


@given(snapshots())
def test_like_jobs_of_a_queue_start_in_their_order(snapshot: Snapshot) -> None:
    jobs, alike = snapshot.jobs, defaultdict(list)
    placed = {item.job for item in place(snapshot).placements}
    for row in range(len(jobs.ids)):
        rules = (jobs.request[row].tobytes(), int(jobs.workers[row]), int(jobs.label_class[row]), jobs.policy[row].tobytes())
        alike[int(jobs.queue[row]), rules].append((-int(jobs.rank[row]), int(jobs.sequence[row]), jobs.ids[row], row in placed))
    for rows in alike.values():
        started = [is_placed for *_, is_placed in sorted(rows)]
        assert started == sorted(started, reverse=True)


@given(snapshots(weighed=Weights(price=1.0, transfer=0.0, start=0.0)))
def test_no_cheaper_cluster_is_left_with_room(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    left = left_over(snapshot, plan)
    for item in plan.placements:
        price = snapshot.jobs.cost[item.job].tolist()
        cheaper = [row for row in range(len(snapshot.clusters.names)) if price[row] < price[item.cluster]]
        assert not [row for row in cheaper if fits(snapshot, item.job, row, left)]


@given(snapshots(most_jobs=1))
def test_a_gang_uses_as_few_nodes_as_can_hold_it(snapshot: Snapshot) -> None:
    nothing = left_over(snapshot, Plan((), ()))
    for item in place(snapshot).placements:
        here = np.flatnonzero(snapshot.nodes.cluster == item.cluster).tolist()
        rooms = sorted(
            (workers_that_fit(snapshot, item.job, node, nothing) for node in here if suits(snapshot, item.job, node)), reverse=True
        )
        fewest = next(count for count in range(1, len(rooms) + 1) if sum(rooms[:count]) >= snapshot.jobs.workers[item.job])
        assert len(set(item.nodes)) == fewest


@given(snapshots())
def test_reasons_are_those_of_rights_where_rights_forbid_and_only_there(snapshot: Snapshot) -> None:
    for item in place(snapshot).unplaced:
        for row, reason in enumerate(item.clusters):
            forbidden = Reason(int(snapshot.jobs.policy[item.job, row]))
            assert reason is forbidden if forbidden in POLICY else reason not in POLICY
            assert open_to(snapshot, item.job, row) == (reason > Reason.CLUSTER_CORDONED)
        assert item.blocker is max(item.clusters, default=Reason.CLUSTER_UNHEALTHY)


@given(snapshots(most_jobs=3))
def test_verdicts_say_what_the_plan_decided(snapshot: Snapshot) -> None:
    plan, nothing = place(snapshot), left_over(snapshot, Plan((), ()))
    where = {item.job: item.cluster for item in plan.placements}
    for row, _ in rows_of(snapshot):
        found = verdicts(snapshot, row, plan)
        assert [one.cluster for one in found if one.chosen] == ([where[row]] if row in where else [])
        assert all((one.score is None) == (one.start_s is None) == (one.reason is not Reason.FITS) for one in found)
        assert all(one.score is None or np.isfinite(one.score) for one in found)
        if row in where:
            assert [one.reason is Reason.FITS for one in found] == [fits(snapshot, row, one.cluster, nothing) for one in found]


@given(snapshots(), st.data())
def test_check_finds_what_a_second_opinion_finds(snapshot: Snapshot, data: st.DataObject) -> None:
    plan = place(snapshot)
    assume(snapshot.jobs.ids and snapshot.nodes.names)
    spoiled = data.draw(st.integers(0, len(snapshot.jobs.ids) - 1))
    nodes = data.draw(st.lists(st.integers(0, len(snapshot.nodes.names) - 1), min_size=1, max_size=4))
    # Mostly at the cluster of a node, so that many of these are right.
    where = data.draw(st.just(int(snapshot.nodes.cluster[nodes[0]])) | st.integers(0, len(snapshot.clusters.names) - 1))
    moved = Placement(spoiled, where, tuple(nodes), 0.0)
    other = Plan(
        (*(item for item in plan.placements if item.job != spoiled), moved), tuple(item for item in plan.unplaced if item.job != spoiled)
    )
    assert is_accepted(snapshot, other) == is_legal(snapshot, other)


weights = st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 7.0])


@given(weights, weights, st.integers(1, 40), st.sampled_from(["1", "2", "0.1"]))
@example(1.0, 3.0, 4, "0.1")
def test_hungry_queues_share_by_weight_within_one_job(one: float, other: float, jobs: int, size: str) -> None:
    waiting = [job(f"{name}{number:02}", size, queue=name) for name in ("a", "b") for number in range(jobs)]
    snapshot = world(cluster("sh", str(jobs * float(size))), jobs=waiting, queues=[queue("a", one), queue("b", other)])
    placed = [int(snapshot.jobs.queue[item.job]) for item in place(snapshot).placements]
    assert len(placed) == jobs
    assert abs(placed.count(0) - jobs * one / (one + other)) <= 1
    # At no moment is one queue ahead by more than one job, so a cycle that is cut short is fair too.
    for seen in range(1, jobs + 1):
        assert abs(placed[:seen].count(0) - seen * one / (one + other)) <= 1


@given(snapshots())
def test_capacity_that_is_added_takes_no_place_away_from_a_lone_job(snapshot: Snapshot) -> None:
    alone = reordered_to_first_job(snapshot)
    emptied = replace(alone, nodes=replace(alone.nodes, free=alone.nodes.total.copy()))
    assert len(place(emptied).placements) >= len(place(alone).placements)


def reordered_to_first_job(snapshot: Snapshot) -> Snapshot:
    """The same world with its first job alone."""
    every = {"clusters": range(len(snapshot.clusters.names)), "nodes": range(len(snapshot.nodes.names))}
    return reordered(snapshot, **every, queues=range(len(snapshot.queues.names)), jobs=range(min(1, len(snapshot.jobs.ids))))
