"""Room on devices: what fits where, and what is left afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.device_kernel import CODES, fits
from scheduler.engine.device_loop import board_of, book, place_queue
from scheduler.engine.devices import FEW, MANY, ONE, SHARE, after, fitting, free_devices, free_milli, kind_of, take, tightest_device
from tests.pictures import facts, nodes, shapes


@pytest.mark.parametrize(
    ("node", "ask", "fits_there"),
    [
        ("T4 8  500 500", "1 1000", False),  # two halves are not one whole
        ("T4 8  500 1000", "1 1000", True),
        ("T4 8  500 1000", "1 2x1000", False),
        ("T4 8  1000 1000", "1 2x1000", True),
        ("T4 8  1000 1000", "1 3x1000", False),
        ("T4 8  470 460", "1 470", True),
        ("T4 8  460 460", "1 470", False),
        ("T4 8  0 0", "8", True),
        ("T4 8", "1 100", False),
        ("T4 7  1000", "8 1000", False),
        ("T4 8  1000", "8 1000 P100|T4", True),
        ("T4 8  1000", "8 1000 P100", False),
    ],
)
def test_a_worker_fits(node: str, ask: str, fits_there: bool) -> None:
    world, asks = nodes(node), shapes(ask)
    assert fitting(world, asks, 0).tolist() == [fits_there]
    assert fits(world, 0, asks, 0) is fits_there


def test_memory_is_looked_at() -> None:
    world, asks = nodes("T4 8  1000"), shapes("1 1000")
    world.memory_mib[0] = 0
    assert not fitting(world, asks, 0).any()
    assert not fits(world, 0, asks, 0)


@pytest.mark.parametrize(
    ("node", "ask", "device", "left"),
    [
        ("T4 8  1000 530", "1 470", 1, [1000, 60]),
        ("T4 8  1000 530", "1 470", 0, [530, 530]),
        ("T4 8  530 1000 1000", "1 1000", -1, [530, 0, 1000]),
        ("T4 8  1000 530 1000 1000", "1 2x1000", -1, [0, 530, 0, 1000]),
        ("T4 8  0 530", "1", -1, [0, 530]),
    ],
)
def test_room_is_taken_from_devices(node: str, ask: str, device: int, left: list[int]) -> None:
    world, asks = nodes(node), shapes(ask)
    assert after(world, asks, 0, np.array([device]))[0].tolist() == left
    taken, booked = nodes(node), nodes(node)
    take(taken, asks, 0, 0, device)
    book(booked, asks, 0, 0, device, board_of(1, 1, 1), 0)
    for found in (taken, booked):
        assert found.gpu_milli[0].tolist() == left
        assert found.cpu_milli[0] == 7000
    assert taken.kinds.tolist() == booked.kinds.tolist()


def test_room_is_counted() -> None:
    world = nodes("T4 8  1000 530 0", "T4 8  1000")
    assert free_milli(world).tolist() == [1530, 1000]
    assert free_devices(world).tolist() == [1, 1]


def test_a_node_lacks_devices_that_larger_ones_have() -> None:
    world, asks = nodes("T4 8  1000", "T4 8  1000 1000"), shapes("1 2x1000")
    assert world.gpu_milli.tolist() == [[1000, -1], [1000, 1000]]
    assert fitting(world, asks, 0).tolist() == [False, True]


def test_the_tightest_device_is_the_first_of_equal_ones() -> None:
    world = nodes("T4 8  1000 480 470 470", "T4 8  490 1000 480 480")
    assert tightest_device(world, shapes("1 470"), 0).tolist() == [2, 2]


@pytest.mark.parametrize(("ask", "kind"), [("1 470", SHARE), ("1 1000", ONE), ("1 2x1000", FEW), ("1 4x1000", FEW), ("1 8x1000", MANY)])
def test_work_is_of_a_kind(ask: str, kind: int) -> None:
    assert kind_of(shapes(ask), 0) == kind


def test_nothing_is_taken_where_nothing_fits() -> None:
    world, asks = nodes("T4 8  500"), shapes("1 1000")
    chosen = np.zeros(1, dtype=np.int64)
    place_queue(CODES["bestfit"], world, asks, facts(world, asks), np.array([0]), np.zeros((1, 2)), board_of(1, 1, 1), 0, 1, chosen)
    assert chosen.tolist() == [-1]
    assert world.gpu_milli.tolist() == [[500]]
    assert world.cpu_milli.tolist() == [8000]
