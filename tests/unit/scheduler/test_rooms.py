"""Which machines take a gang, as pictures: a node is its cores, its memory and what is free on each device, in thousandths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from scheduler.engine.rooms import (
    FIRST_DEVICE,
    IDLE,
    MANY,
    WHOLE,
    Asks,
    deal,
    empty_seats,
    fitting,
    hold,
    least,
    mask_of,
    seat,
    tightest,
    workers_on,
)
from scheduler.engine.snapshot import Ints


def room(*pictures: str, apart: bool = True) -> Ints:
    """What is free: `"8 64  1000 400"` has 8 cores, 64 of memory, an idle device and one with 400 left. Or devices are only counted."""
    rows = [[int(word) for word in picture.split()] for picture in pictures]
    return np.array([[cpu, memory, free.count(WHOLE), *(free if apart else ())] for cpu, memory, *free in rows], dtype=np.int64)


def asks(*jobs: str, first: Sequence[int], prefer: Sequence[int] = (0,), reach: Sequence[tuple[int, int]] = ((0, 0),)) -> Asks:
    """What gangs ask for: `"3  2 4  1x300"` are 3 workers with 2 cores, 4 of memory and 300 of one device each."""
    rows, end = [], 0
    for picture in jobs:
        workers, cpu, memory, *device = picture.split()
        devices, milli = map(int, device[0].split("x")) if device else (0, 0)
        rows.append([int(workers), int(cpu), int(memory), devices, milli, 0, end, end + int(workers)])
        end += int(workers)
    models = np.ones((1, len(prefer)))
    tables = [np.array(table, dtype=np.int64) for table in ([list(prefer)], list(first), [list(pair) for pair in reach])]
    return Asks(np.array(rows, dtype=np.int64), np.ones(len(rows)), tables[0], models, tables[1], tables[2])


def seated(free: Ints, asked: Asks, job: int = 0) -> tuple[int, list[tuple[int, int, int]]]:
    """The model that a job would be seated on, and its seats: the node, how many workers, and the mask of their devices."""
    seats = np.full((int(asked.job[-1, -1]), 3), 9, dtype=np.int64)
    model = seat(free, asked, job, seats)
    mine = seats[asked.job[job, 6] : asked.job[job, 7]].tolist() if model >= 0 else []
    ends = [at for at, row in enumerate(mine) if row[1] == 0]
    return model, [(node, count, mask) for node, count, mask in mine[: ends[0] if ends else None]]


@pytest.mark.parametrize(
    ("node", "job", "expected"),
    [
        ("8 64", "1  3 4", 2),
        ("8 64", "1  1 30", 2),
        ("8 64", "1  0 0", MANY),
        ("8 64  1000 1000 400", "1  1 1  1x1000", 2),
        ("8 64  1000 1000 1000", "1  1 1  2x1000", 1),
        # Of shares one at most, where a device has it, and cores for it too.
        ("8 64  200 400", "1  1 1  1x300", 1),
        ("8 64  300 -1", "1  1 1  1x300", 1),
        ("8 64  200 200", "1  1 1  1x300", 0),
        ("1 64  200 200", "1  1 1  1x300", 0),
        ("0 64  1000 1000", "1  1 1  1x300", 0),
    ],
)
def test_as_many_workers_fit_on_a_node_as_each_resource_has_room_for(node: str, job: str, expected: int) -> None:
    assert workers_on(room(node), asks(job, first=[0, 1]), 0, 0) == expected


@pytest.mark.parametrize(("milli", "expected"), [(300, 1), (301, 0), (501, 3), (1000, 3)])
def test_a_share_goes_to_the_first_device_of_the_least_room(milli: int, expected: int) -> None:
    assert tightest(room("8 64  500 300 300 1000"), 0, milli) == FIRST_DEVICE + expected
    assert tightest(room("8 64  500 300"), 0, 501) == -1


@pytest.mark.parametrize(
    ("job", "count", "expected"),
    [("1  1 1  1x300", 1, 0b0010), ("2  1 1  1x1000", 2, 0b0101), ("1  1 1  3x1000", 1, 0b1101), ("1  1 1", 1, 0)],
)
def test_devices_that_would_be_taken_are_told_by_a_mask(job: str, count: int, expected: int) -> None:
    devices = "8 64  1000 400 1000 1000"
    assert mask_of(room(devices), asks(job, first=[0, 1]), 0, 0, count) == expected
    assert mask_of(room(devices, apart=False), asks(job, first=[0, 1]), 0, 0, count) == 0


@pytest.mark.parametrize(
    ("nodes", "job", "expected"),
    [
        # One node if one has room: fewest idle devices, then fewest cores, then the first.
        (["8 64  1000 1000", "8 64  1000 0", "6 64  1000 0"], "1  1 1  1x1000", (0, [(2, 1, 0b01)])),
        (["8 64  1000 1000", "8 64  1000 1000"], "2  1 1  1x1000", (0, [(0, 2, 0b11)])),
        # Else the roomiest first, as many on each as it has room for.
        (["8 64  1000 0 0", "8 64  1000 1000 1000", "8 64  0 1000 1000"], "4  1 1  1x1000", (0, [(1, 3, 0b111), (2, 1, 0b010)])),
        (["8 64  1000 0 0", "8 64  1000 1000 1000", "8 64  0 1000 1000"], "6  1 1  1x1000",
         (0, [(1, 3, 0b111), (2, 2, 0b110), (0, 1, 0b001)])),
        (["8 64  1000 0 0", "8 64  1000 1000 1000"], "5  1 1  1x1000", (-1, [])),
        (["8 64  600 0", "8 64  500 400"], "2  1 1  1x400", (0, [(0, 1, 0b01), (1, 1, 0b10)])),
    ],
)  # fmt: skip
def test_a_gang_is_seated_on_one_node_or_on_the_roomiest(
    nodes: list[str], job: str, expected: tuple[int, list[tuple[int, int, int]]]
) -> None:
    assert seated(room(*nodes), asks(job, first=[0, len(nodes)], reach=[(0, len(nodes))])) == expected


@pytest.mark.parametrize(
    ("job", "prefer", "expected"),
    [
        # Node 0 is of one model, nodes 1 and 2 are of the other.
        ("1  1 1  1x1000", [1, 0], (1, [(1, 1, 1)])),
        ("1  1 1  1x1000", [0, 1], (0, [(0, 1, 1)])),
        # Where the first does not suffice the next is asked, and none behind the last.
        ("2  1 1  1x1000", [0, 1], (1, [(1, 1, 1), (2, 1, 1)])),
        ("2  1 1  1x1000", [0, -1], (-1, [])),
        ("3  1 1  1x1000", [0, 1], (-1, [])),
    ],
)  # fmt: skip
def test_a_gang_goes_to_one_model_in_the_order_in_which_it_prefers_them(
    job: str, prefer: list[int], expected: tuple[int, list[tuple[int, int, int]]]
) -> None:
    free = room("8 64  1000", "8 64  1000", "8 64  1000")
    assert seated(free, asks(job, first=[0, 1, 3], prefer=prefer, reach=[(0, 3), (0, 3)])) == expected


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        # All nodes are one place for who needs no device, whatever their models, or each cluster is.
        ([(0, 3), (0, 3)], (0, [(0, 2, 0), (1, 2, 0)])),
        ([(0, 1), (1, 3)], (1, [(1, 2, 0), (2, 2, 0)])),
    ],
)
def test_who_needs_no_device_goes_wherever_it_reaches(
    reach: list[tuple[int, int]], expected: tuple[int, list[tuple[int, int, int]]]
) -> None:
    assert seated(room("4 64", "4 64", "4 64"), asks("4  2 1", first=[0, 1, 3], prefer=[0, 1], reach=reach)) == expected


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("1  2 8  1x300", ["6 56  1000 100 1000", "8 64  1000 1000 1000"]),
        ("1  2 8  1x500", ["6 56  500 400 1000", "8 64  1000 1000 1000"]),
        ("2  2 8  1x1000", ["4 48  0 400 0", "8 64  1000 1000 1000"]),
        ("4  2 8  1x1000", ["6 56  0 400 1000", "2 40  0 0 0"]),
    ],
)
def test_what_is_held_is_given_back_whole(job: str, expected: list[str]) -> None:
    free = room("8 64  1000 400 1000", "8 64  1000 1000 1000")
    before, asked, seats = free.copy(), asks(job, first=[0, 2]), np.full((4, 3), 9, dtype=np.int64)
    assert seat(free, asked, 0, seats) == 0
    assert free.tolist() == before.tolist()
    hold(free, asked, 0, seats, 1)
    assert free.tolist() == room(*expected).tolist()
    hold(free, asked, 0, seats, -1)
    assert free.tolist() == before.tolist()


def test_where_devices_are_counted_alone_idle_ones_are_taken() -> None:
    free, asked, seats = room("8 64  1000 1000 1000", apart=False), asks("2  2 8  1x1000", first=[0, 1]), empty_seats(2)
    assert seat(free, asked, 0, seats) == 0
    hold(free, asked, 0, seats, 1)
    assert free.tolist() == [[4, 48, 1]]


def test_what_is_free_in_two_rooms_is_the_less_of_both() -> None:
    one, other, both = room("8 64  1000 400 1000"), room("4 99  1000 1000 0"), room("9 9  9 9 9")
    least(one, other, both, 0)
    assert both.tolist() == room("4 64  1000 400 0").tolist()
    assert both[0, IDLE] == 1
    counted = room("9 9  9", apart=False)
    least(room("8 64  1000 1000", apart=False), room("9 9  1000", apart=False), counted, 0)
    assert counted.tolist() == [[8, 9, 1]]


def test_machines_are_dealt_in_the_order_of_pairs_once_to_each_job() -> None:
    free = room("8 64  1000", "8 64  1000", "8 64  1000")
    asked = asks("1  1 1  1x1000", "2  1 1  1x1000", "1  1 1  1x1000", first=[0, 1, 3], prefer=[0, 1])
    jobs, models = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    dealt = np.full(3, -1, dtype=np.int64)
    deal(free, asked, empty_seats(4), jobs, models, dealt)
    assert (dealt.tolist(), free[:, IDLE].tolist()) == ([0, 1, -1], [0, 0, 0])


def test_jobs_that_would_fit_alone_are_told_from_those_that_never_would() -> None:
    asked = asks("2  1 1  1x1000", "3  1 1  1x1000", "1  9 1", first=[0, 2], reach=[(0, 2)])
    fits = np.zeros(3, dtype=np.bool_)
    fitting(room("8 64  1000", "8 64  1000"), asked, np.array([0, 1, 2]), empty_seats(6), fits)
    assert fits.tolist() == [True, False, False]
