"""Place: small worlds and who goes where in them. Every plan is checked too."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.place import place
from scheduler.engine.plan import Plan, Unplaced
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot, Weights
from tests.builders import DrawnCluster, DrawnJob, cluster, decided, job, queue, shown, world


def waits(snapshot: Snapshot, name: str = "j") -> Unplaced:
    """Why a job waits."""
    return next(item for item in place(snapshot).unplaced if snapshot.jobs.ids[item.job] == name)


@pytest.mark.parametrize(
    ("nodes", "jobs", "expected"),
    [
        ("8", [job("a", "8")], {"a": "sh n1"}),
        ("8 4", [job("a", "4"), job("b", "8")], {"a": "sh n2", "b": "sh n1"}),
        ("8", [job("a", "4"), job("b", "4"), job("c", "1")], {"a": "sh n1", "b": "sh n1", "c": "node_busy"}),
        ("8 2/8", [job("a", "2"), job("b", "8")], {"a": "sh n2", "b": "sh n1"}),
        ("8", [job("a", "9"), job("b", "8")], {"a": "node_too_small", "b": "sh n1"}),
        ("8! 8", [job("a"), job("b", "8")], {"a": "sh n2", "b": "node_busy"}),
        ("8 8@gold", [job("a", "8", labels="gold"), job("b", "8", labels="gold")], {"a": "sh n2", "b": "node_busy"}),
        ("8+1H200 8", [job("a", "1+1H200"), job("b", "1+1H200")], {"a": "sh n1", "b": "node_busy"}),
        ("8+1H200 8", [job("a", "8"), job("b", "1+1H200")], {"a": "sh n2", "b": "sh n1"}),
        ("8:8 8:64", [job("a", "1:32"), job("b", "1:33")], {"a": "sh n2", "b": "node_busy"}),
        ("8", [job("a", rank=-100), job("b", "8", rank=100)], {"a": "node_busy", "b": "sh n1"}),
    ],
)
def test_jobs_on_nodes(nodes: str, jobs: list[DrawnJob], expected: dict[str, str]) -> None:
    assert decided(world(cluster("sh", nodes), jobs=jobs)) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ("4 4", job("j", "2", workers=4), "sh n1 n1 n2 n2"),
        ("4 4", job("j", "2", workers=2), "sh n1 n1"),
        ("4 4", job("j", "3", workers=2), "sh n1 n2"),
        ("4 4", job("j", "3", workers=3), "gang_does_not_fit"),
        ("4 4", job("j", "5", workers=2), "node_too_small"),
        ("2/4 2/4", job("j", "3", workers=2), "node_busy"),
        ("4 2/4", job("j", "3", workers=2), "gang_does_not_fit"),
        ("8+8H200 8+8H200 64", job("j", "1+8H200", workers=2), "sh n1 n2"),
        ("8+8H200 8+4/8H200 64", job("j", "1+8H200", workers=2), "gang_does_not_fit"),
    ],
)
def test_gangs_start_whole_or_not_at_all(nodes: str, asked: DrawnJob, expected: str) -> None:
    assert decided(world(cluster("sh", nodes), jobs=[asked])) == {"j": expected}


def test_a_gang_is_not_spread_over_clusters() -> None:
    given = world(cluster("a", "4"), cluster("b", "4"), cluster("c", "2 2 2 2"), jobs=[job("j", "2", workers=4)])
    assert decided(given) == {"j": "c n1 n2 n3 n4"}


def test_a_gang_that_waits_holds_nothing() -> None:
    given = world(cluster("sh", "4 4"), jobs=[job("gang", "4", workers=3), job("one", "4"), job("two", "4")])
    assert decided(given) == {"gang": "node_busy", "one": "sh n1", "two": "sh n2"}


@pytest.mark.parametrize(
    ("members", "asked", "expected"),
    [
        ([cluster("a"), cluster("b")], job("j"), "a n1"),
        ([cluster("a"), cluster("b")], job("j", cost={"a": 2.0}), "b n1"),
        ([cluster("a"), cluster("b")], job("j", transfer_s={"a": 2.0}), "b n1"),
        ([cluster("a", wait_s=9.0), cluster("b")], job("j"), "b n1"),
        ([cluster("a"), cluster("b")], job("j", cost={"a": 9.0}, refused={"b": Reason.LICENCE_JURISDICTION}), "a n1"),
        ([cluster("a"), cluster("b", healthy=False)], job("j", cost={"a": 9.0}), "a n1"),
        ([cluster("a"), cluster("b", cordoned=True)], job("j", cost={"a": 9.0}), "a n1"),
        ([cluster("a"), cluster("b", "0/8")], job("j", cost={"a": 9.0}), "a n1"),
        ([cluster("a"), cluster("b", "8!")], job("j", cost={"a": 9.0}), "a n1"),
        ([cluster("a", "2 2"), cluster("b", "4")], job("j", "2", workers=2), "a n1 n2"),
    ],
    ids=[
        "first of equals", "cheaper", "nearer to the data", "starts sooner", "where rights allow it", "healthy", "open",
        "with room", "with ready nodes", "nodes do not decide between clusters",
    ],
)  # fmt: skip
def test_the_best_permitted_cluster(members: list[DrawnCluster], asked: DrawnJob, expected: str) -> None:
    assert decided(world(*members, jobs=[asked])) == {"j": expected}


def test_weights_decide_between_price_and_transfer() -> None:
    asked = job("j", cost={"a": 2.0, "b": 1.0}, transfer_s={"a": 0.0, "b": 60.0})
    members = (cluster("a"), cluster("b"))
    assert decided(world(*members, jobs=[asked], weights=Weights(price=2.0))) == {"j": "b n1"}
    assert decided(world(*members, jobs=[asked], weights=Weights(transfer=2.0))) == {"j": "a n1"}


def test_a_full_cluster_sends_the_next_job_elsewhere() -> None:
    jobs = [job(name, "8", cost={"b": 2.0}) for name in ("first", "second", "third")]
    assert decided(world(cluster("a"), cluster("b"), jobs=jobs)) == {"first": "a n1", "second": "b n1", "third": "node_busy"}


def test_queues_share_what_is_scarce() -> None:
    jobs = [job(f"{name}{number}", "2", queue=name) for number in range(4) for name in ("a", "b")]
    placed = decided(world(cluster("sh", "8"), jobs=jobs, queues=[queue("a", 3.0), queue("b")]))
    assert sorted(name for name, where in placed.items() if where.startswith("sh")) == ["a0", "a1", "a2", "b0"]


def test_a_queues_limit_is_kept_and_named() -> None:
    jobs = [job("a", "1"), job("b", "1", refused={"gz": Reason.OVER_BUDGET}), job("c", "99")]
    given = world(cluster("sh", "8"), cluster("gz"), jobs=jobs, queues=[queue("default", running=2, limit=3)])
    assert decided(given) == {"a": "gz n1", "b": "queue_limit", "c": "queue_limit"}
    held_back = waits(given, "b")
    assert held_back.clusters == (Reason.QUEUE_LIMIT, Reason.OVER_BUDGET)
    assert held_back.nodes == ()


def test_a_job_without_room_lets_its_queue_use_the_limit() -> None:
    given = world(cluster("sh", "8"), jobs=[job("big", "99"), job("small")], queues=[queue("default", limit=1)])
    assert decided(given) == {"big": "node_too_small", "small": "sh n1"}


def test_in_a_strict_queue_nothing_overtakes_the_first() -> None:
    jobs = [job("a", "4", queue="s"), job("b", "9", queue="s"), job("c", queue="s"), job("d", queue="s", rank=1), job("e", queue="t")]
    given = world(cluster("sh", "8"), jobs=jobs, queues=[queue("s", strict=True), queue("t")])
    assert decided(given) == {"d": "sh n1", "a": "sh n1", "b": "node_too_small", "c": "queue_order", "e": "sh n1"}


def test_a_strict_queue_waits_for_a_job_that_is_over_its_ceiling() -> None:
    given = world(cluster("sh", "8"), jobs=[job("a", "6", queue="s"), job("b", queue="s")], queues=[queue("s", ceiling="4", strict=True)])
    assert decided(given) == {"a": "queue_quota", "b": "queue_order"}


def test_like_jobs_of_a_strict_queue_wait_behind_the_class_that_found_no_room() -> None:
    jobs = [job("a", "9", queue="t"), job("b", queue="s"), job("c", "9", queue="s"), job("d", queue="s")]
    given = world(cluster("sh", "8"), jobs=jobs, queues=[queue("s", strict=True), queue("t")])
    assert decided(given) == {"a": "node_too_small", "b": "sh n1", "c": "node_too_small", "d": "queue_order"}


def test_each_cluster_has_its_reason() -> None:
    members = [
        cluster("busy", "0/8 8!"), cluster("cordoned", cordoned=True), cluster("empty", ""), cluster("gone", healthy=False),
        cluster("labels", "8"), cluster("refused"), cluster("small", "2@gold"),
    ]  # fmt: skip
    members[0] = cluster("busy", "0/8@gold 8!@gold")
    found = waits(world(*members, jobs=[job("j", "4", labels="gold", refused={"refused": Reason.LICENCE_PURPOSE})]))
    assert found.clusters == (
        Reason.NODE_BUSY, Reason.CLUSTER_CORDONED, Reason.NODE_NOT_READY, Reason.CLUSTER_UNHEALTHY,
        Reason.NODE_LABELS, Reason.LICENCE_PURPOSE, Reason.NODE_TOO_SMALL,
    )  # fmt: skip
    assert found.blocker is Reason.NODE_BUSY


def test_nodes_are_counted_by_what_takes_them_out() -> None:
    nodes = "0/8@gold 0/8@gold 8! 8 2@gold 4/8@gold"
    given = world(cluster("sh", nodes), cluster("closed", "8 8 8", cordoned=True), jobs=[job("j", "4", workers=2, labels="gold")])
    assert waits(given).nodes == (
        (Reason.FITS, 1), (Reason.NODE_NOT_READY, 1), (Reason.NODE_LABELS, 1), (Reason.NODE_TOO_SMALL, 1), (Reason.NODE_BUSY, 2),
    )  # fmt: skip


def test_reasons_are_those_after_the_plan_is_carried_out() -> None:
    assert decided(world(cluster("sh", "8"), jobs=[job("a", "8"), job("b", "8")])) == {"a": "sh n1", "b": "node_busy"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (world(), {}),
        (world(jobs=[job("j")]), {"j": "cluster_unhealthy"}),
        (world(cluster("sh", "")), {}),
        (world(cluster("sh", ""), jobs=[job("j")]), {"j": "node_not_ready"}),
        (world(cluster("sh", ""), jobs=[job("j", "0")]), {"j": "node_not_ready"}),
        (world(cluster("sh", "8")), {}),
        (world(cluster("sh", "0/8"), jobs=[job("j", "0", workers=3)]), {"j": "sh n1 n1 n1"}),
        (world(cluster("sh", "0"), jobs=[job("j")]), {"j": "node_too_small"}),
        (world(cluster("sh", "8"), jobs=[job("j", "1+1H200")]), {"j": "node_accelerator_model"}),
        (world(cluster("sh", "8"), jobs=[job("j")], queues=[queue("default", 0.0)]), {"j": "sh n1"}),
    ],
    ids=[
        "nothing", "no clusters", "no nodes, no jobs", "no nodes", "nothing on no nodes", "no jobs", "a request of nothing",
        "a node of nothing", "a model that nobody has", "a queue without weight",
    ],
)  # fmt: skip
def test_edges(given: Snapshot, expected: dict[str, str]) -> None:
    assert decided(given) == expected


def test_fractions_that_add_up_fit() -> None:
    jobs = [job("a", "0.1"), job("b", "0.2"), job("c", "0.01")]
    assert decided(world(cluster("sh", "0.3"), jobs=jobs)) == {"a": "sh n1", "b": "sh n1", "c": "node_busy"}
    assert decided(world(cluster("sh", "0.3"), jobs=[job("j", "0.1", workers=3)])) == {"j": "sh n1 n1 n1"}
    assert decided(world(cluster("sh", "0.3"), jobs=[job("j", str(0.1 + 0.2))])) == {"j": "sh n1"}
    assert decided(world(cluster("sh", "0.3"), jobs=[job("j", "0.3001")])) == {"j": "node_too_small"}


def test_many_like_jobs_fill_a_node_to_its_brim() -> None:
    found = decided(world(cluster("sh", "100"), jobs=[job(f"j{number}", "0.1") for number in range(1001)]))
    assert sorted(set(found.values())) == ["node_busy", "sh n1"]
    assert [name for name, where in found.items() if where == "node_busy"] == ["j1000"]


def test_a_class_without_room_does_not_stop_others() -> None:
    jobs = [job("a", "8"), job("b", "8"), job("c", "8"), job("d", "4", queue="other"), job("e", "2")]
    assert decided(world(cluster("sh", "8 6"), jobs=jobs)) == {
        "a": "sh n1", "b": "node_busy", "c": "node_busy", "d": "sh n2", "e": "sh n2",
    }  # fmt: skip


def test_like_requests_under_other_rights_are_told_apart() -> None:
    jobs = [job("a", "8", refused={"gz": Reason.LICENCE_MISSING}), job("b", "8", refused={"gz": Reason.LICENCE_MISSING}), job("c", "8")]
    assert decided(world(cluster("sh"), cluster("gz"), jobs=jobs)) == {"a": "sh n1", "b": "node_busy", "c": "gz n1"}


def test_like_requests_under_other_labels_are_told_apart() -> None:
    jobs = [job("a", "8", labels="gold"), job("b", "8", labels="gold"), job("c", "8")]
    assert decided(world(cluster("sh", "8@gold 8"), jobs=jobs)) == {"a": "sh n1", "b": "node_busy", "c": "sh n2"}


def test_rows_of_the_plan_are_those_of_the_snapshot() -> None:
    given = world(cluster("z", "1 8"), cluster("a", "1"), jobs=[job("big", "8"), job("small", "1", refused={"a": Reason.JOB_CLUSTER})])
    placements = {given.jobs.ids[item.job]: (item.cluster, item.nodes) for item in place(given).placements}
    assert placements == {"big": (0, (1,)), "small": (0, (0,))}


def test_placements_come_in_the_order_of_turns_and_the_rest_in_rows() -> None:
    jobs = [job("x", "9"), job("a", "4", sequence=7), job("y", "9"), job("b", "4", sequence=3)]
    plan = place(world(cluster("sh", "8"), jobs=jobs))
    assert [item.job for item in plan.placements] == [3, 1]
    assert [item.job for item in plan.unplaced] == [0, 2]


def test_the_snapshot_stays_as_it_is() -> None:
    given = world(cluster("sh", "8 2/8"), cluster("gz", "4"), jobs=[job("a", "4", workers=2), job("b", "9")], queues=[queue("default")])
    before = [array.copy() for array in (given.nodes.free, given.nodes.total, given.queues.held, given.jobs.policy)]
    place(given)
    after = [given.nodes.free, given.nodes.total, given.queues.held, given.jobs.policy]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def test_an_empty_plan_shows_nothing() -> None:
    assert shown(world(), Plan((), ())) == {}
