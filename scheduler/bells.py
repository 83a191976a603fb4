"""Wake-ups inside one server: whoever waits for something listens to its bell, whoever changes it rings.

A bell carries no data. A waiter listens first, then looks at the store, then sleeps; so a ring between look
and sleep is never missed. A waiter also looks again after a while, because a bell of another server is not
heard here: timers are the fallback, not the path.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

CYCLE = "cycle"


def agent_bell(cluster: str) -> str:
    """New instructions for the agent of a cluster."""
    return f"agent/{cluster}"


def job_bell(job_id: str) -> str:
    """A job moved, or its run logged or reported something."""
    return f"job/{job_id}"


def whoever_waits_first(bell: str) -> tuple[bool, bool, str]:
    """A key that sorts bells in the order in which they ring after an end: who waits for a job, agents, and then who decides."""
    return bell == CYCLE, bell.startswith(agent_bell("")), bell


class Bells:
    """Thread-safe. `ring` never blocks and never fails; what listeners are woken by must not either."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def ring(self, name: str) -> None:
        """Wake everybody who listens to this bell now."""
        with self._lock:
            listeners = tuple(self._listeners.get(name, ()))
        for wake in listeners:
            wake()

    def ring_each(self, names: Iterable[str]) -> None:
        """The same for many bells, most of which nobody listens to."""
        with self._lock:
            heard = [wake for name in names for wake in self._listeners.get(name, ())]
        for wake in heard:
            wake()

    def ring_all(self) -> None:
        """Wake everybody, whatever they wait for."""
        with self._lock:
            names = tuple(self._listeners)
        for name in names:
            self.ring(name)

    @contextmanager
    def listen(self, name: str, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` at each ring while the context lasts."""
        with self._lock:
            self._listeners.setdefault(name, []).append(wake)
        try:
            yield
        finally:
            with self._lock:
                listeners = self._listeners[name]
                listeners.remove(wake)
                if not listeners:
                    del self._listeners[name]

    @contextmanager
    def listen_async(self, name: str) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set at each ring; the waiter clears it."""
        loop, rung = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # A loop that was closed meanwhile has no waiters left to wake.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(rung.set)

        with self.listen(name, wake):
            yield rung
