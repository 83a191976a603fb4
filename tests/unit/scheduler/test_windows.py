"""Maintenance and reservations: what is placed beside them and before them, what is promised behind them, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.board import Board, classes_of
from scheduler.engine.check import check
from scheduler.engine.order import by_name
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot, Windows
from scheduler.errors import InvalidError, PlanRejectedError
from scheduler.freeze import freeze
from scheduler.store.records import QueueRecord, WindowRecord
from scheduler.windows import Known, fewest_nodes, is_open_to, lines_of, refuse_faults, taken_nodes
from tests.builders import cluster, job, shown, world
from tests.property.worlds import snapshots
from tests.records import NOW, candidate, job_spec, machine, member, world_of
from tests.reordering import reordered
from tests.timed import timed


def beside(
    snapshot: Snapshot, windows: Sequence[tuple[str, float, float]], limits: dict[str, float], *, open_to: str = "", reserved: bool = False
) -> Snapshot:  # fmt: skip
    """The world with windows (`sh n1 n2`, from, until) and limits of jobs; reservations are open to the jobs named."""
    names, nodes, ids = snapshot.clusters.names, snapshot.nodes, snapshot.jobs.ids
    covers = [
        [names[home] == words.split()[0] and name in words.split()[1:] for home, name in zip(nodes.cluster, nodes.names, strict=True)]
        for words, _, _ in windows
    ]
    found = Windows(
        names=tuple(f"w{row}" for row in range(len(windows))), begin_s=np.array([begin for _, begin, _ in windows]),
        end_s=np.array([end for _, _, end in windows]), maintenance=np.full(len(windows), not reserved),
        covers=np.array(covers, dtype=np.bool_).reshape(len(windows), len(nodes.names)),
        open_to=np.array([[name in open_to.split() for name in ids]] * len(windows), dtype=np.bool_).reshape(len(windows), len(ids)),
    )  # fmt: skip
    limit_s = np.array([limits.get(name, 10.0) for name in ids])
    return replace(snapshot, windows=found, jobs=replace(snapshot.jobs, limit_s=limit_s))


def decided(snapshot: Snapshot) -> dict[str, str]:
    plan = place(snapshot)
    check(snapshot, plan)
    return shown(snapshot, plan)


@pytest.mark.parametrize(
    ("window", "limit_s", "expected"),
    [
        (("sh n1", 0, 100), 10, "maintenance"),  # It is on.
        (("sh n1", -50, 0), 10, "sh n1"),  # It is over.
        (("sh n1", 50, 100), 10, "sh n1"),  # Done before it begins.
        (("sh n1", 50, 100), 49, "sh n1"),  # With the usual second until it starts, done when it begins.
        (("sh n1", 50, 100), 49.5, "maintenance"),
        (("sh n1", 50, 100), float("inf"), "maintenance"),
        (("gz n1", 0, 100), 10, "sh n1"),
    ],
)
def test_nothing_is_placed_that_could_run_into_maintenance(window: tuple[str, float, float], limit_s: float, expected: str) -> None:
    drawn = world(cluster("sh", "8"), jobs=[job("a")])
    assert decided(beside(drawn, [window], {"a": limit_s})) == {"a": expected}


def test_other_nodes_and_clusters_go_on() -> None:
    jobs = [job("a", "8"), job("b", "8"), job("c", "8"), job("gang", "1", workers=17)]
    drawn = world(cluster("gz", "8"), cluster("sh", "8 8"), jobs=jobs)
    plan = decided(beside(drawn, [("sh n1", 0, 100)], {}))
    assert plan == {"a": "gz n1", "b": "sh n2", "c": "maintenance", "gang": "maintenance"}


def test_reserved_nodes_take_only_the_jobs_that_they_are_kept_for() -> None:
    drawn = world(cluster("sh", "8 4"), jobs=[job("theirs", "4"), job("ours", "6"), job("short", "4"), job("late", "4")])
    windows = [("sh n1", 20, 100)]
    plan = decided(beside(drawn, windows, {"theirs": 50, "ours": 500, "short": 5, "late": 500}, open_to="ours", reserved=True))
    assert plan == {"theirs": "sh n2", "ours": "sh n1", "short": "node_busy", "late": "reserved_for_others"}
    alone = world(cluster("sh", "8"), jobs=[job("short", "4"), job("late", "4")])
    assert decided(beside(alone, windows, {"short": 5, "late": 500}, reserved=True)) == {"short": "sh n1", "late": "reserved_for_others"}


def test_a_blocked_job_is_promised_a_start_behind_maintenance() -> None:
    drawn = world(cluster("sh", "8 8", wait_s=0.0), jobs=[job("gang", "8", workers=2), job("small", "8"), job("long", "8")])
    lasting = timed(drawn, {"gang": 10.0, "small": 30.0, "long": 300.0}, heads=1)
    snapshot = beside(lasting, [("sh n1", 60, 200)], {"gang": 100.0, "small": 50.0, "long": 400.0})
    plan = place(snapshot)
    check(snapshot, plan)
    assert [(item.start_s, sorted(item.nodes)) for item in plan.promises] == [(200.0, [0, 1])]
    assert shown(snapshot, plan) == {"gang": "gang_does_not_fit", "small": "sh n1", "long": "reserved_for_another"}
    early = replace(plan, promises=(replace(plan.promises[0], start_s=100.0, end_s=110.0),))
    with pytest.raises(PlanRejectedError, match="could run into w0"):
        check(snapshot, early)


def test_check_rejects_a_placement_in_a_window_and_before_one() -> None:
    for begin in (-5.0, 5.0):
        snapshot = beside(world(cluster("sh", "8"), jobs=[job("a")]), [("sh n1", begin, 100)], {"a": 10})
        with pytest.raises(PlanRejectedError, match="a: is placed where it could run into w0"):
            check(snapshot, Plan((Placement(0, 0, (0,), 0.0),), ()))


def test_the_board_refuses_worlds_with_windows() -> None:
    named = by_name(beside(world(cluster("sh", "8"), jobs=[job("a")]), [("sh n1", 0, 9)], {}))
    with pytest.raises(ValueError, match="no maintenance and no reservations"):
        Board(named.snapshot, classes_of(named.snapshot.jobs)[0])


@st.composite
def worlds_with_windows(draw: st.DrawFn) -> Snapshot:
    snapshot = draw(snapshots(most_jobs=6))
    nodes, jobs, count = len(snapshot.nodes.names), len(snapshot.jobs.ids), draw(st.integers(1, 3))
    bits = st.integers(0, 2**16)

    def table(width: int) -> Any:
        return np.array([[draw(bits) >> (place % 16) & 1 for place in range(width)] for _ in range(count)], dtype=np.bool_)

    begin = np.array([draw(st.sampled_from([-5.0, 0.0, 5.0, 20.0])) for _ in range(count)])
    maintenance = np.array([draw(st.booleans()) for _ in range(count)], dtype=np.bool_)
    windows = Windows(
        tuple(f"w{row}" for row in range(count)), begin, begin + draw(st.sampled_from([3.0, 10.0])), maintenance,
        table(nodes).reshape(count, nodes), table(jobs).reshape(count, jobs) & ~maintenance[:, None],
    )  # fmt: skip
    limit_s = np.array([draw(st.sampled_from([1.0, 10.0, float("inf")])) for _ in range(jobs)])
    return replace(snapshot, windows=windows, heads=draw(st.sampled_from([0, 2])), jobs=replace(snapshot.jobs, limit_s=limit_s))


@settings(max_examples=60)
@given(worlds_with_windows(), st.data())
def test_plans_beside_windows_are_accepted_whatever_the_order_of_rows(snapshot: Snapshot, data: st.DataObject) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    counts = (len(part) for part in (snapshot.clusters.names, snapshot.nodes.names, snapshot.queues.names, snapshot.jobs.ids))
    clusters, nodes, queues, jobs = (data.draw(st.permutations(range(count))) for count in counts)
    other = reordered(snapshot, clusters=clusters, nodes=nodes, queues=queues, jobs=jobs)
    assert shown(other, place(other)) == shown(snapshot, plan)
    # What no window is against is not told to wait for one.
    told = {reason for item in plan.unplaced for reason in item.clusters}
    without = replace(snapshot, windows=None)
    if not {Reason.MAINTENANCE, Reason.RESERVED_FOR_OTHERS} & told and not snapshot.heads:
        assert len(place(without).placements) >= len(plan.placements)


ROWS = {"sh": [machine("sh", f"n{place}", cpu, 16) for place, cpu in ((1, 8), (2, 4), (3, 16))], "gz": [machine("gz", "n1", 8, 16)]}


def window(name: str = "new", nodes: Sequence[str] = (), **fields: Any) -> WindowRecord:
    usual: dict[str, Any] = {"purpose": "maintenance", "cluster": "sh", "tenant": None, "queue": None, "reason": ""}
    times = {"begins_at": NOW + 100, "ends_at": NOW + 200, "created_at": NOW}
    return WindowRecord(name=name, nodes=list(nodes), **{**usual, **times, **fields})


@pytest.mark.parametrize(
    ("asked", "path", "words"),
    [
        (window(ends_at=NOW + 100), "ends_at", "ends before it begins"),
        (window(begins_at=NOW - 10, ends_at=NOW), "ends_at", "has ended already"),
        (window(begins_at=NOW - 100), "begins_at", "begin it now or later"),
        (window(cluster="bj"), "cluster", "there is no cluster 'bj'; there are: gz, sh"),
        (window(nodes=["n1", "n9"]), "nodes.1", "cluster 'sh' has no node 'n9'; it has: n1, n2, n3"),
        (window(purpose="reservation", tenant="nobody"), "tenant", "cpn tenant create"),
        (window(purpose="reservation", queue="nowhere"), "queue", "there is no queue 'nowhere'; there are: default"),
        (window(nodes=["n3"], begins_at=NOW + 250, ends_at=NOW + 350), "nodes", "'old' has n3 at that time"),
        (window(begins_at=NOW + 399, ends_at=NOW + 500), "nodes", "'old' has all nodes at that time"),
    ],
)
def test_windows_that_mean_nothing_are_refused_with_path_and_remedy(asked: WindowRecord, path: str, words: str) -> None:
    old = window("old", ["n2", "n3"], begins_at=NOW + 300, ends_at=NOW + 400)
    known = Known(nodes=ROWS, queues=frozenset({"default"}), tenants=frozenset({"acme"}), windows=[old])
    with pytest.raises(InvalidError) as refused:
        refuse_faults(asked, known, NOW)
    assert [item.path for item in refused.value.problems] == [path]
    assert words in refused.value.problems[0].message
    refuse_faults(window(nodes=["n1"], begins_at=NOW + 300, ends_at=NOW + 400), known, NOW)
    refuse_faults(window(begins_at=NOW + 200, ends_at=NOW + 300), known, NOW)


def test_few_whole_nodes_are_chosen_for_an_amount() -> None:
    assert fewest_nodes(ROWS["sh"], 17, 0, frozenset()) == ("n1", "n3")
    assert fewest_nodes(ROWS["sh"], 0, 17 * 1024**3, frozenset()) == ("n1", "n2")
    assert fewest_nodes(ROWS["sh"], 12, 0, frozenset({"n3"})) == ("n1", "n2")
    for cpu, memory_gib, path in ((29, 0, "cpu"), (1, 49, "memory")):
        with pytest.raises(InvalidError) as refused:
            fewest_nodes(ROWS["sh"], cpu, memory_gib * 1024**3, frozenset())
        assert [item.path for item in refused.value.problems] == [path]
    others = [window("a", ["n1"]), window("b", begins_at=NOW + 200, ends_at=NOW + 300), window("c", cluster="gz")]
    assert taken_nodes(window(), others, ROWS["sh"]) == {"n1"}


def test_windows_are_frozen_with_whom_they_are_open_to() -> None:
    stored = (
        window("over", begins_at=NOW - 9, ends_at=NOW - 1), window("all"),
        window("ours", ["n2"], purpose="reservation", tenant="acme"), window("batch", ["n1"], purpose="reservation", queue="batch"),
    )  # fmt: skip
    stored_world = replace(world_of(member(), nodes=ROWS["sh"]), windows=stored)
    windows = freeze(stored_world, [candidate(stored_world, job_spec(max_runtime="2h"))], {}).snapshot.windows
    assert windows is not None
    assert (windows.names, windows.maintenance.tolist()) == (("all", "ours", "batch"), [True, False, False])
    assert windows.covers.tolist() == [[True] * 3, [False, True, False], [True, False, False]]
    assert (windows.open_to[:, 0].tolist(), windows.begin_s.tolist()) == ([False, True, False], [100.0] * 3)


@pytest.mark.parametrize(("queue", "expected"), [("research", True), ("vision", True), ("default", False), ("gone", False)])
def test_what_is_reserved_for_a_queue_is_for_all_below_it(queue: str, expected: bool) -> None:
    queues = [
        QueueRecord("default", 1.0, None, NOW),
        QueueRecord("research", 1.0, None, NOW),
        QueueRecord("lab", 1.0, None, NOW, "research"),
    ]
    lines = lines_of([*queues, QueueRecord("vision", 1.0, None, NOW, "lab")])
    window = WindowRecord("w", "reservation", "sh", [], None, "research", "", NOW, NOW + 60, NOW)
    assert is_open_to(window, job_spec(queue=queue), lines) is expected
