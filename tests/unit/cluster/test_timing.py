"""Pauses between tries: longer each time, up to a limit, and short again after a success."""

from __future__ import annotations

import asyncio

import pytest

from cluster.timing import Backoff, wait_at_most
from tests.virtual_time import virtual, virtual_clock


async def paused(backoff: Backoff) -> float:
    """How long one pause takes."""
    clock = virtual_clock()
    began = clock.now()
    await backoff.pause()
    return clock.now() - began


@virtual
async def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 5.0)
    assert [await paused(backoff) for _ in range(8)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0], abs=1e-3)


@virtual
async def test_after_a_success_the_first_pause_is_the_shortest_again() -> None:
    backoff = Backoff(1.0, 3.0)
    for _ in range(3):
        await backoff.pause()
    backoff.reset()
    assert [await paused(backoff) for _ in range(3)] == pytest.approx([1.0, 2.0, 3.0], abs=1e-3)


@pytest.mark.parametrize(("rings_after_s", "waited_s"), [(1.0, 1.0), (4.0, 3.0), (0.0, 0.0)])
@virtual
async def test_a_pause_ends_early_when_it_is_asked_to_and_counts_as_one(rings_after_s: float, waited_s: float) -> None:
    backoff, bell, clock = Backoff(3.0, 12.0), asyncio.Event(), virtual_clock()
    asyncio.get_running_loop().call_later(rings_after_s, bell.set)
    began = clock.now()
    await backoff.pause(bell)
    assert clock.now() - began == pytest.approx(waited_s, abs=1e-3)
    assert await paused(backoff) == pytest.approx(6.0, abs=1e-3)


@virtual
async def test_waiting_for_an_event_takes_no_longer_than_it_may() -> None:
    event, clock = asyncio.Event(), virtual_clock()
    began = clock.now()
    await wait_at_most(event, 5.0)
    assert clock.now() - began == pytest.approx(5.0, abs=1e-3)
    event.set()
    await wait_at_most(event, 5.0)
    assert clock.now() - began == pytest.approx(5.0, abs=1e-3)
