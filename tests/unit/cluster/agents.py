"""A real agent at work on a cluster in memory, with a stand-in for the control plane; all in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cluster.agent import Agent
from cluster.backends.memory import Behaviour, MemoryBackend, MemoryCluster
from cluster.model import Node
from cluster.protocol import RunFinished, RunRequest
from tests.unit.cluster.control import Control
from tests.virtual_time import until_so, virtual_clock

NODE = Node(name="n1", cpu=8, memory_bytes=2**34)


def behave(run: RunRequest) -> Behaviour:
    """`true` ends at once, `sleep 60` after a minute, `train 3` reports three metrics and ends."""
    word, *rest = run.command
    if word == "train":
        return Behaviour(
            duration_s=1.0, progress=tuple({"loss": 1.0 / step} for step in range(1, int(rest[0]) + 1)), log=("begun\n", "done\n")
        )
    return Behaviour(duration_s=float(rest[0]) if rest else 0.0)


def memory_cluster() -> MemoryCluster:
    return MemoryCluster([NODE], behave, now=virtual_clock().now)


@dataclass
class Running:
    """An agent at work."""

    control: Control
    cluster: MemoryCluster
    agent: Agent
    task: asyncio.Task[None]
    stop: asyncio.Event

    async def introduced(self) -> None:
        await until_so(lambda: self.control.censuses, "the agent names its runs")

    async def told(self, run_id: str = "a-1") -> RunFinished:
        """The end of a run as the control plane has it."""

        def ends() -> list[RunFinished]:
            return [event for event in self.control.events if isinstance(event, RunFinished) and event.run_id == run_id]

        await until_so(ends, f"the end of {run_id} is told")
        return ends()[0]

    async def failure(self) -> BaseException | None:
        """What ended the agent."""
        await until_so(self.task.done, "the agent ends")
        return self.task.exception()


@asynccontextmanager
async def agent(
    control: Control, cluster: MemoryCluster | None = None, backend: type[MemoryBackend] = MemoryBackend, **settings: Any
) -> AsyncIterator[Running]:
    """A running agent, ended in good order if it did not end by itself."""
    cluster = cluster or memory_cluster()
    made = Agent(backend(cluster), control, clock=virtual_clock(), agent_id="agent-1", **settings)
    ending = asyncio.Event()
    running = Running(control, cluster, made, asyncio.create_task(made.run(ending)), ending)
    try:
        yield running
        if not running.task.done():
            ending.set()
            await running.task
    finally:
        running.task.cancel()
