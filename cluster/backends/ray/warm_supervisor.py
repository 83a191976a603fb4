"""A supervisor that was started before anybody needed it, and that serves one worker of one run after the other.

Ray takes half a second and more to start an actor's process, and what a supervisor does for a run takes milliseconds. So on
each node a few wait (`pool.py`), without resources; who is taken holds the run's in a placement group of its own (`room.py`).
Every worker gets a `RaySupervisor` of its own that is thrown away with it: user code is a fresh process in any case, on a leash that
was started beforehand and serves nobody else, and nothing of a run's request, log or files stays here. Each call names the worker
that it is meant for, so what comes late from an agent that was superseded never reaches another run. It can be asked whom it serves,
which is how the next agent finds its runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.backends.ray.room import Room
from cluster.backends.ray.supervisor import RaySupervisor
from cluster.runs.leashed import Kennel
from cluster.runs.workspace import describe

BUSY = "busy"
NO_ROOM = "Ray has no room for it on the node; is something else using it?"
MOST_WORKERS = 200
FILL_AFTER_S = 0.05
MOST_GROWTH_BYTES = 256 * 1024 * 1024


class WarmSupervisor:
    """Serves one worker at a time. Every method may be called again: what is done already is not done twice."""

    def __init__(self, name: str, node_id: str, room: Room | None = None) -> None:
        self._room = room or Room(name, node_id)
        self._kennel = Kennel()
        self._past: set[str] = set()
        self._worker = ""
        self._inner: RaySupervisor | None = None
        self._taking: asyncio.Task[str] | None = None
        self._leaving: asyncio.Task[bool] | None = None
        self._served = 0
        self._usual_bytes = 0

    async def warm(self) -> None:
        """Load what a run needs, and start the first leash."""
        await asyncio.to_thread(_load)
        self._kennel.fill()

    async def worker(self) -> str:
        """Whom it serves, by name; empty while it waits."""
        return self._worker

    async def take(self, worker: str, rank: int, bundle: Mapping[str, float], limit_s: float, nodes: Sequence[str] = ()) -> str:
        """Serve a worker, and hold its resources, or those of a whole run on `nodes`. Empty when that is done, BUSY for another's,
        else why it cannot be done.

        What comes after the worker was let go of is not for it any more.
        """
        if not self._worker and worker not in self._past:
            self._worker = worker
            self._usual_bytes = self._usual_bytes or _resident_bytes()
            self._inner = RaySupervisor(rank, self._kennel)
            self._taking = asyncio.create_task(self._hold(bundle, limit_s, nodes))
        return await self.seated(worker)

    async def seated(self, worker: str) -> str:
        """How `take` ended, or ends, for the worker that it was called for."""
        if self._worker != worker or self._taking is None:
            return BUSY
        return await asyncio.shield(self._taking)

    async def ask(self, worker: str, method: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The answer of the worker's own supervisor, alone in a tuple; an empty tuple when it is not served here any more."""
        if self._worker != worker or self._inner is None:
            return ()
        return (await getattr(self._inner, method)(*arguments),)

    async def let_go(self, worker: str) -> bool:
        """End what is left of a worker and give its resources back. False: this process must not serve another one."""
        self._past.add(worker)
        if self._worker != worker:
            return True
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())
        return await asyncio.shield(self._leaving)

    async def _hold(self, bundle: Mapping[str, float], limit_s: float, nodes: Sequence[str]) -> str:
        try:
            if not await asyncio.to_thread(self._room.hold, bundle, limit_s, nodes):
                return NO_ROOM
            if self._inner is not None:
                self._inner.group = self._room.group_id
            return ""
        except Exception as error:  # whatever Ray says, the run must hear of it
            return describe(error)

    async def _leave(self) -> bool:
        assert self._inner is not None
        assert self._taking is not None
        self._room.give_up()
        await asyncio.wait([self._taking])
        clean = await self._inner.dispose()
        try:
            await asyncio.to_thread(self._room.release)
        except Exception:  # its end gives the room back as well
            clean = False
        self._served += 1
        fit = clean and self._served < MOST_WORKERS and _resident_bytes() - self._usual_bytes < MOST_GROWTH_BYTES
        if fit:
            # Not at once: those who wait for the end of the run go first.
            asyncio.get_running_loop().call_later(FILL_AFTER_S, self._kennel.fill)
            self._worker, self._inner, self._taking, self._leaving = "", None, None, None
        else:
            await asyncio.to_thread(self._kennel.close)
        return fit


def _load() -> None:
    """Import what the first run would wait for."""
    import ray.util.placement_group  # noqa: F401


def _resident_bytes() -> int:
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
