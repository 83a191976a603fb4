"""Gang: how many workers fit on a node, and which nodes take them."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.gang import MANY, holes, pack, workers_per_node
from scheduler.engine.snapshot import Floats


def cores(*free: float) -> Floats:
    """Nodes with so many free cores and memory without end."""
    return np.array([[cpu, 1e15] for cpu in free])


@pytest.mark.parametrize(
    ("free", "request_", "expected"),
    [
        ([[8, 64]], [2, 4], [4]),
        ([[8, 64], [8, 7], [1, 64]], [2, 4], [4, 1, 0]),
        ([[8, 64]], [3, 0], [2]),
        ([[8, 64], [0, 0]], [0, 0], [MANY, MANY]),
        ([[0, 64]], [1, 1], [0]),
        ([[-1e-12, 64], [-3, 64]], [1, 1], [0, 0]),
        ([[8, 64]], [1e-320, 0], [MANY]),
    ],
)
def test_workers_that_fit(free: list[list[float]], request_: list[float], expected: list[int]) -> None:
    assert workers_per_node(np.array(free, dtype=float), np.array(request_, dtype=float)).tolist() == expected


def test_no_nodes_have_no_room() -> None:
    assert workers_per_node(np.zeros((0, 2)), np.array([1.0, 1.0])).tolist() == []


def test_the_hole_is_the_largest_share_that_is_left() -> None:
    free, share = np.array([[4.0, 10.0], [4.0, 30.0]]), np.full((2, 2), 0.01)
    share[:, 0] = 0.1
    assert holes(free, np.array([2.0, 5.0]), share).tolist() == pytest.approx([0.2, 0.25])


@pytest.mark.parametrize(
    ("free", "workers", "expected"),
    [
        ((8,), 1, [0]),
        ((8, 4, 2), 1, [2]),
        ((8, 4, 2), 2, [2]),
        ((8, 4, 2), 3, [1]),
        ((1, 8, 4, 2), 1, [0]),
        ((4, 4), 4, [0]),
        ((8, 4, 2), 8, [0]),
        ((2, 8, 4), 9, [1, 0]),
        ((2, 8, 4), 11, [1, 2]),
        ((2, 8, 4), 12, [1, 2]),
        ((2, 8, 4), 13, [1, 2, 0]),
        ((2, 2, 2, 2), 8, [0, 1, 2, 3]),
        ((0, 2, 0, 2), 3, [1, 3]),
    ],
    ids=str,
)
def test_as_few_nodes_as_possible_and_the_tightest(free: tuple[float, ...], workers: int, expected: list[int]) -> None:
    request = np.array([1.0, 1.0])
    room = cores(*free)
    share = np.broadcast_to([1 / sum(free), 0.0], room.shape)
    nodes = pack(workers_per_node(room, request), room, request, share, workers)
    assert len(nodes) == workers
    assert list(dict.fromkeys(nodes.tolist())) == expected
    assert (np.bincount(nodes, minlength=len(free)) <= free).all()


def test_nodes_with_accelerators_stay_free_for_who_needs_them() -> None:
    free, request = np.array([[8.0, 4.0], [16.0, 0.0]]), np.array([8.0, 0.0])
    share = np.array([[1 / 24, 1 / 4]] * 2)
    assert pack(workers_per_node(free, request), free, request, share, 1).tolist() == [1]


def test_a_request_of_nothing_fits_on_the_first_of_equal_nodes() -> None:
    free, request = cores(2, 2), np.array([0.0, 0.0])
    assert pack(workers_per_node(free, request), free, request, np.ones((2, 2)), 5).tolist() == [0] * 5


def test_the_rest_of_a_gang_goes_to_the_first_of_equal_holes() -> None:
    # Memory that nobody asks for is the largest hole everywhere.
    free, request = np.array([[2.0, 100.0], [9.0, 100.0], [3.0, 100.0]]), np.array([1.0, 0.0])
    nodes = pack(workers_per_node(free, request), free, request, np.full((3, 2), 0.01), 10)
    assert nodes.tolist() == [1] * 9 + [0]
