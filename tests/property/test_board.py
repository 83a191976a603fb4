"""The board decides as `place` does, and a board that was changed step by step is the one that would be made anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scheduler.engine import board as board_module
from scheduler.engine.board import Board, Placed, classes_of
from scheduler.engine.board_reasons import standings
from scheduler.engine.order import Named, by_name
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import ROUNDING, Ints, Snapshot
from tests.builders import cluster, job, queue, world
from tests.property.worlds import snapshots

QUEUES_SAY = (Reason.FITS, Reason.QUEUE_LIMIT, Reason.QUEUE_QUOTA)


def board_of(snapshot: Snapshot) -> tuple[Board, Named, Ints]:
    """A board with a snapshot's jobs, numbered by their rows."""
    named = by_name(snapshot)
    classes, kind = classes_of(named.snapshot.jobs)
    board, jobs = Board(named.snapshot, classes), named.snapshot.jobs
    # Jobs of one sequence go by their names, so they arrive in the order of those.
    by_id = np.array(sorted(range(len(jobs.ids)), key=jobs.ids.__getitem__), dtype=np.int64)
    board.arrive(by_id, jobs.queue[by_id], jobs.rank[by_id], jobs.sequence[by_id], kind[by_id])
    return board, named, kind


def told(named: Named, placed: Placed) -> list[tuple[int, int, tuple[int, ...], float]]:
    """Placements by the rows of the snapshot that was given."""
    return [
        (int(number), int(named.clusters[cluster]), tuple(named.nodes[placed.nodes_of(row)].tolist()), round(float(score), 9))
        for row, (number, cluster, score) in enumerate(zip(placed.numbers, placed.clusters, placed.scores, strict=True))
    ]


@given(snapshots())
def test_the_board_makes_the_plan_that_place_makes(snapshot: Snapshot) -> None:
    board, named, _ = board_of(snapshot)
    plan = place(snapshot)
    assert told(named, board.decide()) == [(item.job, item.cluster, item.nodes, round(item.score, 9)) for item in plan.placements]
    assert board.waiting == len(plan.unplaced)


@given(snapshots())
def test_the_board_says_why_jobs_wait_as_place_does(snapshot: Snapshot) -> None:
    board, named, kind = board_of(snapshot)
    board.decide()
    answers = {reason: standings(board, held_back=reason is not Reason.FITS, reason=reason) for reason in QUEUES_SAY}
    numbers, late, over = board.waiting_jobs()[0].tolist(), board.held_back().tolist(), board.over_quota().tolist()
    said = {number: QUEUES_SAY[1 if late[row] else 2 if over[row] else 0] for row, number in enumerate(numbers)}
    back = np.argsort(named.clusters)
    for item in place(snapshot).unplaced:
        answer, row = answers[said[item.job]], kind[item.job]
        assert Reason(answer.blocker[row]) is item.blocker
        assert tuple(Reason(reason) for reason in answer.clusters[row][back].tolist()) == item.clusters
        assert tuple((Reason(reason), int(count)) for reason, count in enumerate(answer.nodes[row]) if count) == item.nodes


URGENT = [job(f"j{number}", size, queue="urgent") for number, size in enumerate("1112")]
KEPT_AND_TAKEN = world(
    cluster("bj", "8"), jobs=[*URGENT, job("j4", "4", queue="batch")], queues=[queue("urgent"), queue("batch", quota="6", kept="4")]
)


@example(KEPT_AND_TAKEN, 1)
@given(snapshots(), st.integers(1, 3))
def test_a_decision_in_small_batches_is_the_same(snapshot: Snapshot, size: int) -> None:
    board, named, _ = board_of(snapshot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board_module, "BATCH", size)
        placed = board.decide()
    at_once, _, _ = board_of(snapshot)
    assert told(named, placed) == told(named, at_once.decide())
    assert board.held_back().tolist() == at_once.held_back().tolist()
    assert board.over_quota().tolist() == at_once.over_quota().tolist()


Change = Callable[[Board, st.DataObject], None]


def some_end(board: Board, data: st.DataObject) -> None:
    board.finish(data.draw(st.lists(st.sampled_from(board.runs), unique=True)) if board.runs else [])


def some_leave(board: Board, data: st.DataObject) -> None:
    numbers = board.waiting_jobs()[0].tolist()
    board.withdraw(np.array(data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else [], dtype=np.int64))


def some_nodes_change(board: Board, data: st.DataObject) -> None:
    if not len(board.home):
        return
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(board.home) - 1), min_size=1))), dtype=np.int64)
    ready = np.array([data.draw(st.booleans()) for _ in rows], dtype=np.bool_)
    larger = np.array([data.draw(st.sampled_from([1.0, 2.0])) for _ in rows])
    board.change_nodes(rows, board.total[rows] * larger[:, None], ready)


@given(snapshots(), st.lists(st.sampled_from([some_end, some_leave, some_nodes_change]), max_size=6), st.data())
def test_a_changed_board_decides_as_a_fresh_one(snapshot: Snapshot, changes: list[Change], data: st.DataObject) -> None:
    board, _, _ = board_of(snapshot)
    board.decide()
    for change in changes:
        change(board, data)
        fresh = rebuilt(board)
        assert np.array_equal(fresh.rooms, board.rooms)
        assert np.array_equal(fresh.there, board.there)
        assert np.array_equal(fresh.open_nodes, board.open_nodes)
        assert np.array_equal(fresh.against, board.against)
        assert standings(fresh).clusters.tolist() == standings(board).clusters.tolist()
        first, second = fresh.decide(), board.decide()
        assert first.numbers.tolist() == second.numbers.tolist()
        assert first.nodes.tolist() == second.nodes.tolist()
        assert not overbooked(board)


def overbooked(board: Board) -> list[int]:
    """Nodes with less than nothing free that did not become smaller."""
    return np.flatnonzero((board.free < -1e-6).any(axis=1)).tolist()


def rebuilt(board: Board) -> Board:
    """A new board of the world as it stands on another."""
    nodes = replace(board.world.nodes, total=board.total.copy(), free=board.free - ROUNDING * board.total, ready=board.ready.copy())
    queues = replace(board.world.queues, held=board.held.copy(), running=board.running.copy())
    fresh = Board(replace(board.world, nodes=nodes, queues=queues), board.classes)
    numbers, queue, kind = board.waiting_jobs()
    fresh.arrive(numbers, queue, np.zeros_like(numbers), np.arange(len(numbers)), kind)
    return fresh
