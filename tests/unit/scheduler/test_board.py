"""The board, step by step: who arrives and waits, what comes free, and which worlds and jobs it leaves to `place`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.board import RANK_OFFSET, SEQUENCE_BITS, Board, classes_of
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.order import by_name
from scheduler.engine.snapshot import Snapshot
from tests.builders import cluster, job, queue, world
from tests.running import beside, claim


def board_of(given: Snapshot) -> Board:
    """A board on which the jobs of a snapshot wait, numbered by their rows."""
    named = by_name(given).snapshot
    classes, kind = classes_of(named.jobs)
    board, jobs = Board(named, classes), named.jobs
    board.arrive(np.arange(len(jobs.ids)), jobs.queue, jobs.rank, jobs.sequence, kind)
    return board


def come(board: Board, number: int, *, queue: int = 0, rank: int = 0, sequence: int = 0, kind: int = 0) -> None:
    """One job more, of a kind of those that were there at first."""
    board.arrive(*(np.array([value], dtype=np.int64) for value in (number, queue, rank, sequence, kind)))


PLAIN = world(cluster("sh", "4"), jobs=[job("a", "1"), job("b", "1")], queues=[queue("default"), queue("other")])
TWO = np.arange(2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (world(cluster("sh", "4"), queues=[queue("a"), queue("b", spread=True)]), "queues that spread"),
        (world(cluster("sh", "4"), queues=[queue("a"), queue("b", strict=True)]), "no strict queues"),
        (world(cluster("sh", "4"), queues=[queue("a"), queue("b", preemption=PreemptionPolicy.LOWER_PRIORITY)]), "ends no runs"),
        (beside(world(cluster("sh", "4"), queues=[queue("default")]), claims=[claim("a", "1", "sh/n1")]), "keeps no claims"),
        (world(cluster("sh", "4+1,.5H200"), queues=[queue("a")]), "told apart"),
        (replace(PLAIN, heads=1), "promises"),
        (replace(PLAIN, weights=replace(PLAIN.weights, carbon=1.0)), "other weights"),
        (replace(PLAIN, jobs=replace(PLAIN.jobs, array=TWO - 1, array_left=TWO)), "array"),
        (replace(PLAIN, jobs=replace(PLAIN.jobs, same=TWO - 1)), "zone or rack"),
        (replace(PLAIN, jobs=replace(PLAIN.jobs, least=TWO)), "fewer workers"),
        (replace(PLAIN, jobs=replace(PLAIN.jobs, most=TWO[:, None])), "fewer workers"),
        (replace(PLAIN, jobs=replace(PLAIN.jobs, prefer=TWO)), "balanced"),
        (replace(PLAIN, jobs=replace(PLAIN.jobs, longer_s=TWO * 1.0)), "balanced"),
    ],
)  # fmt: skip
def test_what_one_queue_or_job_asks_for_that_the_board_does_not_know_is_refused(given: Snapshot, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        board_of(given)


@pytest.mark.parametrize(("rank", "sequence"), [(RANK_OFFSET, 0), (-RANK_OFFSET, 0), (0, -1), (0, 1 << SEQUENCE_BITS), (RANK_OFFSET, -1)])
def test_what_the_board_cannot_order_by_is_refused(rank: int, sequence: int) -> None:
    board = board_of(PLAIN)
    with pytest.raises(ValueError, match="out of the range"):
        come(board, 9, rank=rank, sequence=sequence)
    assert board.waiting == 2


def test_jobs_wait_by_queue_then_rank_then_sequence_then_in_the_order_in_which_they_came() -> None:
    board = board_of(replace(PLAIN, jobs=replace(PLAIN.jobs, rank=TWO * 0)))
    come(board, 2, queue=1, rank=RANK_OFFSET - 1)
    come(board, 3, rank=1 - RANK_OFFSET)
    come(board, 4, rank=RANK_OFFSET - 1, sequence=(1 << SEQUENCE_BITS) - 1)
    come(board, 5)
    come(board, 6, queue=1, rank=RANK_OFFSET - 1)
    numbers, queues, kinds = board.waiting_jobs()
    # The first two came with sequences 0 and 1, and the sixth with 0.
    assert numbers.tolist() == [4, 0, 5, 1, 3, 2, 6]
    assert queues.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert kinds.tolist() == [0] * 7
    board.withdraw(np.array([0, 2]))
    assert board.waiting_jobs()[0].tolist() == [4, 5, 1, 3, 6]


def test_what_runs_is_known_until_it_ends_and_then_its_room_is_there_again() -> None:
    board = board_of(world(cluster("sh", "4"), jobs=[job("a", "3"), job("b", "2"), job("c", "1")]))
    assert board.decide().numbers.tolist() == [0, 2]
    assert (board.runs, board.waiting) == ((0, 2), 1)
    board.finish([])
    assert board.decide().numbers.tolist() == []
    board.finish([0, 2])
    assert board.runs == ()
    assert board.decide().numbers.tolist() == [1]
    assert board.held[0, 0] == 2.0
    assert board.running.tolist() == [1]


@pytest.mark.parametrize(("size", "placed"), [("4", []), ("5", [0])])
def test_a_node_that_grows_or_shrinks_has_as_much_room_more_or_less(size: str, placed: list[int]) -> None:
    board = board_of(world(cluster("sh", "8"), jobs=[job("job", "5")]))
    total = world(cluster("sh", size)).nodes.total
    board.change_nodes(np.array([0]), total, np.array([True]))
    assert board.decide().numbers.tolist() == placed
    board.finish(board.runs)
    board.change_nodes(np.array([0]), total, np.array([False]))
    come(board, 1)
    assert board.decide().numbers.tolist() == []


@pytest.mark.parametrize("state", ["cordoned", "unhealthy"])
def test_nobody_goes_to_a_cluster_that_takes_no_work(state: str) -> None:
    where = cluster("sh", "4", cordoned=state == "cordoned", healthy=state != "unhealthy")
    assert board_of(world(where, jobs=[job("a", "1")])).decide().numbers.tolist() == []


def test_the_board_tells_who_was_passed_over_from_who_got_no_turn_and_who_found_no_room() -> None:
    limits = [queue("ceiling", ceiling="2"), queue("limit", limit=2), queue("free"), queue("above", limit=1), queue("below", below="above")]
    jobs = [job(f"{name}{number}", "1", queue=name) for name in ("below", "ceiling", "limit") for number in range(3)]
    board = board_of(world(cluster("sh", "9"), jobs=[*jobs, job("z", "99", queue="free")], queues=limits))
    ran = board.decide().numbers.tolist()
    assert sorted(ran) == [0, 3, 4, 6, 7]
    waiting = board.waiting_jobs()[0].tolist()
    assert dict(zip(waiting, board.over_quota().tolist(), strict=True)) == {1: False, 2: False, 5: True, 8: False, 9: False}
    assert dict(zip(waiting, board.held_back().tolist(), strict=True)) == {1: True, 2: True, 5: False, 8: True, 9: False}
    # Who has come since was not passed over.
    come(board, 10, queue=board.world.queues.names.index("ceiling"), sequence=99)
    assert dict(zip(board.waiting_jobs()[0].tolist(), board.over_quota().tolist(), strict=True))[10] is False


def test_a_queue_that_may_run_one_more_holds_nobody_back() -> None:
    board = board_of(world(cluster("sh", "4"), jobs=[job("a", "1"), job("b", "9")], queues=[queue("default", limit=2)]))
    assert board.decide().numbers.tolist() == [0]
    assert board.held_back().tolist() == [False]


@pytest.mark.parametrize(("batch", "seats"), [(1, 9), (2, 9), (9, 2), (9, 3)])
def test_a_decision_in_batches_tells_each_job_its_own_nodes(batch: int, seats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job("a", "1", workers=2), job("b", "2"), job("c", "1", workers=2), job("d", "2")]
    given = world(cluster("sh", "2 2 2 2"), jobs=jobs)
    placed = board_of(given).decide()
    at_once = [placed.nodes_of(row).tolist() for row in range(4)]
    monkeypatch.setattr("scheduler.engine.board.BATCH", batch)
    monkeypatch.setattr("scheduler.engine.board.SEATS", seats)
    board = board_of(given)
    placed = board.decide()
    assert (placed.numbers.tolist(), [placed.nodes_of(row).tolist() for row in range(4)]) == ([0, 1, 2, 3], at_once)
    board.finish([0, 3])
    assert board.free[:, 0].round(3).tolist() == [2.0 * (node in (*at_once[0], *at_once[3])) for node in range(4)]
