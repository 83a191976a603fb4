"""Time that passes only when nobody has anything to do: hours of waiting take milliseconds, and every run is the same.

The event loop keeps a ManualClock. When all tasks wait for timers, the clock is moved to the next one. So leases,
back-offs and long polls are tested with the figures they have in production, without sleeping and without chance.
What lives in such a loop must not wait for threads or sockets: for them no time would pass.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from scheduler.clock import ManualClock

P = ParamSpec("P")
T = TypeVar("T")
LOOK_S = 0.01
# Each turn of the loop takes a little, so that a timer is past when it is looked at: a float of today's date has steps
# of a quarter of this.
STEP_S = 1e-6


class NothingHappensError(Exception):
    """All tasks wait for each other, and no timer will wake one."""


class _NoWaiting(selectors.DefaultSelector):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout is None:
            raise NothingHappensError("every task waits, and there is no timer")
        self._clock.advance(STEP_S if found else (timeout or 0.0) + STEP_S)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_NoWaiting(clock))
        self.clock = clock

    def time(self) -> float:
        return self.clock.now()


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, T]], clock: ManualClock | None = None) -> T:
    """Run a scenario to its end; what it left running is cancelled."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock or ManualClock())) as runner:
        return runner.run(scenario())


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a coroutine that lives in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        in_virtual_time(lambda: test(*args, **kwargs))

    return run


def virtual_clock() -> ManualClock:
    """The clock of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.clock


async def until_so(condition: Callable[[], object], what: str, seconds: float = 120.0, *, look_s: float = LOOK_S) -> float:
    """Let virtual time pass until a condition holds; returns how much passed. Fails with what was waited for."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() - began < seconds, f"not within {seconds} virtual seconds: {what}"
        await asyncio.sleep(look_s)
    return loop.time() - began
