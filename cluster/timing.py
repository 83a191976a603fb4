"""Time as an agent uses it: a clock that is handed in, and pauses between tries."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch, UTC."""

    def now(self) -> float: ...


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or until it takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Backoff:
    """Pauses that double from `first_s` up to `most_s`, and begin anew after a success."""

    def __init__(self, first_s: float = 0.1, most_s: float = 5.0) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._next_s = first_s

    async def pause(self, at_most_until: asyncio.Event | None = None) -> None:
        """Wait before the next try, no longer than until the event."""
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, self._most_s)
        if at_most_until is None:
            await asyncio.sleep(pause_s)
        else:
            await wait_at_most(at_most_until, pause_s)

    def reset(self) -> None:
        """A try succeeded; the next pause is the shortest again."""
        self._next_s = self._first_s
