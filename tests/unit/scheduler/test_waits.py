"""Waits: how long members usually take to start, learned from what was seen."""

from __future__ import annotations

import threading

import pytest

from scheduler.waits import NEWEST_SHARE, StartWaits


def test_nothing_is_known_of_a_member_that_started_nothing() -> None:
    assert StartWaits().snapshot() == {}


def test_the_first_start_is_taken_as_it_is_and_later_ones_count_a_fifth() -> None:
    waits = StartWaits()
    waits.saw("sh", 10.0)
    assert waits.snapshot() == {"sh": 10.0}
    waits.saw("sh", 20.0)
    waits.saw("gz", 1.0)
    assert waits.snapshot() == {"sh": pytest.approx(10.0 + 10.0 * NEWEST_SHARE), "gz": 1.0}


def test_what_changes_is_learned() -> None:
    waits = StartWaits()
    for seconds in [100.0, *[2.0] * 40]:
        waits.saw("sh", seconds)
    assert waits.snapshot()["sh"] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("starts", [[-5.0], [-5.0, -5.0], [0.0, -9.0]])
def test_a_start_before_its_placement_is_no_wait(starts: list[float]) -> None:
    waits = StartWaits()
    for seconds in starts:
        waits.saw("sh", seconds)
    assert waits.snapshot() == {"sh": 0.0}


def test_a_snapshot_does_not_change() -> None:
    waits = StartWaits()
    waits.saw("sh", 1.0)
    taken = waits.snapshot()
    waits.saw("sh", 9.0)
    assert taken == {"sh": 1.0}


def test_threads_may_learn_at_once() -> None:
    waits = StartWaits()

    def learn(name: str) -> None:
        for _ in range(500):
            waits.saw(name, 3.0)

    threads = [threading.Thread(target=learn, args=(name,)) for name in ("a", "b", "a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waits.snapshot() == {"a": pytest.approx(3.0), "b": pytest.approx(3.0)}
