"""A member that runs nothing (the `memory` backend) with its agent, in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

import uvloop

from cluster.agent import Agent
from cluster.backends.memory import MemoryBackend, MemoryCluster
from cluster.link import HttpLink
from cluster.model import Node
from controlplane.bench.errors import BenchError
from controlplane.collector import calm_collector
from scheduler.clock import SystemClock

STARTS_WITHIN_S, ENDS_WITHIN_S = 10.0, 30.0


class MemoryMember:
    """Use as a context manager: its agent serves while the context lasts."""

    def __init__(self, name: str, url: str, token: str, nodes: list[Node]) -> None:
        self.cluster = MemoryCluster(nodes)
        self._name, self._url, self._token = name, url, token
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="member", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(STARTS_WITHIN_S):
            raise BenchError("the member's agent does not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(ENDS_WITHIN_S)

    def counts(self) -> tuple[int, int]:
        """How many runs were started, and how many of them the control plane has not ordered to be forgotten. Raises BenchError."""
        if self._failure is not None:
            raise BenchError(f"the member's agent has ended: {self._failure}") from self._failure
        return asyncio.run_coroutine_threadsafe(self._counts(), self._loop).result(ENDS_WITHIN_S)

    async def _counts(self) -> tuple[int, int]:
        return len(self.cluster.started), len(self.cluster.known())

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except Exception as error:
            self._failure = error

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        calm_collector()
        self._ready.set()
        link = HttpLink(self._url, self._token, self._name)
        try:
            await Agent(MemoryBackend(self.cluster), link, clock=SystemClock(), agent_id=f"bench-{id(self)}").run(self._stop)
        finally:
            await link.close()
