"""Sooner: which clusters have room for one more request, and the largest number that still works."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.snapshot import Bools, Ints, Snapshot
from scheduler.engine.sooner import Openings, largest
from tests.builders import GIB, cluster, job, queue, world


def every(count: int) -> Bools:
    """A flag that is set for all."""
    return np.ones(count, dtype=np.bool_)


def room(given: Snapshot, size: tuple[float, ...], workers: int, *, carried: Bools | None = None, group: Ints | None = None) -> list[bool]:
    """Which clusters have room for so many workers of cores, GiB and accelerators."""
    nodes = every(len(given.nodes.names)) if carried is None else carried
    opened = Openings(given).on(nodes, every(len(given.clusters.names)), group)
    request = np.zeros(len(given.resources))
    request[: len(size)] = size
    request[1] *= GIB
    return list(opened.room(request, workers).tolist())


@pytest.mark.parametrize(
    ("workers", "expected"),
    [(1, [True, True, False, False, False]), (3, [True, True] + [False] * 3), (4, [True] + [False] * 4), (5, [False] * 5)],
)
def test_open_clusters_have_room_for_as_many_workers_as_fit_on_all_their_nodes(workers: int, expected: list[bool]) -> None:
    members = [
        cluster("a", "2 2/8"), cluster("b", "3 8!"), cluster("closed", "8", cordoned=True), cluster("full", "0/8"),
        cluster("sick", "8", healthy=False),
    ]  # fmt: skip
    assert room(world(*members), (1.0, 4.0), workers) == expected


def test_only_nodes_with_the_labels_at_clusters_that_may_be_used_are_open() -> None:
    given = world(cluster("a", "4 4"), cluster("b", "4"))
    openings = Openings(given)
    opened = openings.on(np.array([True, False, True]), np.array([True, False]))
    assert (opened.home.tolist(), opened.free[:, 0].round().tolist()) == ([0], [4.0])
    assert openings.on(every(3), np.array([False, True])).home.tolist() == [1]


def test_what_may_be_taken_is_less_than_what_is_free() -> None:
    given = world(cluster("a", "4 4"))
    spare = given.nodes.free.copy()
    spare[1] = 0.0
    opened = Openings(given).on(every(2), every(1), spare=spare)
    assert [opened.room(np.array([1.0, GIB]), workers).tolist() for workers in (4, 5)] == [[True], [False]]


def test_workers_that_must_be_together_need_a_group_with_room_for_all() -> None:
    given = world(cluster("a", "2#x 2#y 2#y 9"), cluster("b", "3#x"), jobs=[job("j", same="zone")])
    group = given.nodes.group[:, 0]
    assert [room(given, (1.0, 4.0), workers, group=group) for workers in (3, 4, 5)] == [[True, True], [True, False], [False, False]]


def test_devices_count_one_by_one() -> None:
    given = world(cluster("a", "8+.5,.5H200"), cluster("b", "8+1,0H200"))
    assert room(given, (1.0, 4.0, 1.0), 1) == [False, True]
    assert room(given, (1.0, 4.0, 0.5), 2) == [True, True]
    assert room(given, (1.0, 4.0, 0.5), 3) == [False, False]


@pytest.mark.parametrize(("workers", "expected"), [(2, True), (3, False)])
def test_a_queue_lets_no_more_than_it_and_those_above_may_hold(workers: int, expected: bool) -> None:
    queues = [queue("x", ceiling="4"), queue("q", below="x", held="2"), queue("full", running=1, limit=1)]
    openings = Openings(world(cluster("a", "9"), queues=queues))
    assert openings.queue_lets(1, np.array([1.0, 4 * GIB]), workers) is expected
    assert not openings.queue_lets(2, np.array([1.0, GIB]), 1)


@pytest.mark.parametrize("least", range(4))
@pytest.mark.parametrize("most", range(6))
def test_the_largest_number_that_works_is_found(least: int, most: int) -> None:
    for limit in range(-1, 7):
        working = [number for number in range(least, most + 1) if number <= limit]
        assert largest(least, most, lambda number, limit=limit: number <= limit) == (max(working) if working else None)
