"""`cpn-live`: the simulator's decisions are those of `place`, by queues, whichever way they are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.board import Board
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import TraceError
from scheduler.simulator import frozen_board
from scheduler.simulator.frozen_board import FrozenBoard, Pace
from scheduler.simulator.live import Live, board_of, classes_for, queues_for, resources_of, snapshot_of
from scheduler.simulator.networks import Network, NodeGroup, Site, machines_of
from scheduler.simulator.simulate import simulate
from scheduler.simulator.world import World, build_world
from scheduler.store.records import QueueRecord
from scheduler.traces.trace import Builder, Trace
from workloads.catalogue.pricing import Prices
from workloads.resources import GIB, Money

QUEUES = (
    QueueRecord("org", 1.0, None, 0.0, quota={"H200": 4.0}),
    QueueRecord("a", 2.0, None, 0.0, parent="org", quota={"H200": 2.0}, borrow_limit={"H200": 4.0}),
    QueueRecord("b", 1.0, 2, 0.0, parent="org"),
)


def _prices(cpu: str, device: str) -> Prices:
    cpu_hour, accelerator, none = (Money.parse(f"{text} CNY") for text in (cpu, device, "0.00"))
    return Prices(cpu_hour=cpu_hour, memory_gib_hour=none, transfer_gib=none, accelerator_hour={"H200": accelerator})


NETWORK = Network((
    Site("sh", "CN-SH", _prices("0.40", "40.00"), (NodeGroup(2, 8.0, 64 * GIB, "H200", 4), NodeGroup(1, 8.0, 64 * GIB, "A100", 2))),
    Site("gz", "CN-GZ", _prices("0.20", "30.00"), (NodeGroup(1, 8.0, 64 * GIB, "H200", 2), NodeGroup(1, 16.0, 64 * GIB))),
))  # fmt: skip
# After how long, how long, workers, cores of each, devices of each, kind, group.
drawn_rows = st.tuples(
    st.integers(0, 3), st.integers(1, 9), st.integers(1, 3), st.sampled_from([0, 1, 4]), st.sampled_from([0, 1, 2]), st.integers(0, 2),
    st.sampled_from(["a", "b", "c"]),
)  # fmt: skip
MODELS = (None, {"H200": 1.0}, {"A100": 1.0, "H200": 1.0})


def _trace(rows: list[tuple[int, int, int, int, int, int, str]]) -> Trace:
    jobs, at = Builder(), 0
    for place_, models in enumerate(MODELS):
        jobs.kind(place_, models)
    for after, length, workers, cores, devices, kind, group in rows:
        at += after
        jobs.add(
            float(at), float(length), workers=workers, cpu_milli=cores * 1000, devices=devices, kind=kind if devices else 0, group=group
        )  # fmt: skip
    return jobs.trace()


def _world(trace: Trace) -> World:
    return build_world(trace, machines_of(NETWORK))


@settings(max_examples=25)
@given(st.lists(drawn_rows, min_size=1, max_size=10), st.sampled_from([(), QUEUES]))
def test_board_and_place_make_one_history(rows: list[tuple[int, int, int, int, int, int, str]], queues: tuple[QueueRecord, ...]) -> None:
    trace = _trace(rows)
    by_board, by_place = Live(_world(trace), queues), Live(_world(trace), queues)
    world = by_place.world
    named, columns = queues_for(world, queues), resources_of(world)
    frozen = FrozenBoard(snapshot_of(world, columns, named), classes_for(world, columns)[0])
    by_place.board = frozen
    first, second = by_board.run(), by_place.run()
    assert first.start_s.tolist() == second.start_s.tolist()
    assert first.model.tolist() == second.model.tolist()
    assert (first.end_s >= 0).tolist() == world.fits.tolist() or queues
    held_up = world.fits & (first.end_s < 0)
    assert frozen.waiting == int(held_up.sum())


@settings(max_examples=20)
@given(st.lists(drawn_rows, min_size=1, max_size=8))
def test_the_snapshot_is_one_that_check_accepts(rows: list[tuple[int, int, int, int, int, int, str]]) -> None:
    world = _world(_trace(rows))
    live = Live(world, QUEUES)
    board = FrozenBoard(snapshot_of(world, live.columns, live.queues), classes_for(world, live.columns)[0])
    jobs = live.arrivals
    board.arrive(jobs, live.queue[jobs], np.zeros(len(jobs), dtype=np.int64), jobs, live.kind[jobs])
    snapshot = board.snapshot()
    check(snapshot, place(snapshot))


def _starts(queues: tuple[QueueRecord, ...], *rows: tuple[int, int, int, int, int, int, str]) -> list[float]:
    return simulate(_world(_trace(list(rows))), "cpn-live", queues=queues).start_s.tolist()


def test_a_strict_queue_lets_nobody_pass() -> None:
    # Eight of ten H200 are taken, the next job wants four of them and the last one could run.
    rows = [(0, 10, 2, 0, 4, 1, "a"), (1, 10, 1, 0, 4, 1, "a"), (0, 10, 1, 0, 1, 1, "a")]
    free = (QueueRecord("a", 1.0, None, 0.0),)
    assert _starts(free, *rows) == [0.0, 10.0, 1.0]
    strict = (replace(free[0], order="strict"),)
    assert _starts(strict, *rows) == [0.0, 10.0, 10.0]
    world = _world(_trace(rows))
    assert isinstance(Live(world, strict).board, FrozenBoard)
    assert not isinstance(Live(world, free).board, FrozenBoard)


def test_a_limit_of_jobs_and_a_ceiling_hold() -> None:
    # b runs two jobs at most; a holds six devices at most.
    rows = [(0, 10, 1, 1, 0, 0, "b")] * 3 + [(0, 10, 1, 0, 2, 1, "a")] * 4
    assert _starts(QUEUES, *rows) == [0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0]


def test_what_is_bound_to_a_model_waits_for_it_and_others_do_not() -> None:
    # All ten H200 are taken; the third job is bound to them, the fourth may also have an A100.
    rows = [(0, 10, 2, 0, 4, 1, "c"), (0, 10, 1, 0, 2, 1, "c"), (0, 10, 1, 0, 2, 1, "c"), (0, 5, 1, 0, 2, 2, "c")]
    assert _starts((), *rows) == [0.0, 0.0, 10.0, 0.0]


def test_unlike_speeds_are_refused() -> None:
    jobs = Builder()
    jobs.kind("fast", {"H200": 2.0, "A100": 1.0})
    jobs.add(0.0, 10.0, devices=1)
    with pytest.raises(TraceError, match="whole devices of equal speed"):
        Live(_world(jobs.trace()), ())


def test_the_board_is_taken_where_it_knows_the_world() -> None:
    world = _world(_trace([(0, 1, 1, 1, 0, 0, "a")]))
    columns = resources_of(world)
    snapshot = snapshot_of(world, columns, queues_for(world, QUEUES))
    assert snapshot.clusters.names == ("gz", "sh")
    assert snapshot.nodes.total[:, 2].tolist() == [0.0, 2.0, 2.0, 4.0, 4.0]
    pace = Pace(world.limit_s, world.length_s, world.trace.group)
    for heads, kind in ((0, Board), (4, FrozenBoard)):
        assert isinstance(board_of(replace(snapshot, heads=heads), classes_for(world, columns)[0], pace), kind)


# A gang of all H200 of one cluster comes while small jobs come and go without end.
STREAM = [
    (0, 10, 1, 0, 2, 1, "a"), (0, 6, 1, 0, 2, 1, "a"), (1, 5, 4, 0, 2, 1, "big"), *[(4, 8, 1, 0, 2, 1, "a")] * 8,
]  # fmt: skip


def test_a_blocked_gang_is_promised_a_start_as_on_the_server() -> None:
    starts = {
        backfill: simulate(_world(_trace(STREAM)), "cpn-live", backfill).start_s.tolist() for backfill in ("none", "easy", "conservative")
    }
    # With a promise it starts when the one that came before it has ended; without, others pass it and hold it up.
    assert starts["none"][2] == 17.0
    assert starts["easy"][2] == starts["conservative"][2] == 6.0


def test_every_decision_with_promises_is_one_that_check_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def checked(snapshot: Snapshot) -> Plan:
        plan = place(snapshot)
        check(snapshot, plan)
        seen.append(len(plan.promises))
        return plan

    monkeypatch.setattr(frozen_board, "place", checked)
    simulate(_world(_trace(STREAM)), "cpn-live", "easy", queues=QUEUES)
    assert len(seen) > 5
    assert max(seen) > 0


def test_what_is_known_of_like_jobs_shortens_the_estimate() -> None:
    pace = Pace(np.full(30, 100.0), np.full(30, 25.0), np.zeros(30, dtype=np.int64))
    assert pace.waiting_s(np.array([0])).tolist() == [100.0]
    for job in range(25):
        pace.note(job)
    assert pace.waiting_s(np.array([29])).tolist() == [25.0]
    assert (pace.left_s(29, 5.0), pace.left_s(29, 60.0)) == (20.0, 40.0)
