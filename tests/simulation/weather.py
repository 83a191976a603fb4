"""The network between an agent and the control plane: slow, lossy, repeating, out of order, or cut, as a seed decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from cluster.errors import UnreachableError
from cluster.protocol import SyncReply, SyncRequest
from tests.simulation.plane import Plane

T = TypeVar("T")
FINE_S = 0.002
CONNECT_S, ANSWER_S = 5.0, 15.0
LOST, REPEATED = 0.15, 0.2
LONGEST_DELAY_S, LATEST_REPEAT_S = 3.0, 20.0


class Weather:
    """What happens to the calls of one member. In a storm each way of a call may fail, and a request may come twice."""

    def __init__(self, random: Random, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._random, self._spawn = random, spawn
        self.cut = self.storm = False

    async def carry(self, call: Callable[[], Coroutine[Any, Any, T]], again: Callable[[], None] | None = None) -> T:
        """One call there and back; `again` is its request when it arrives a second time, to nobody's answer."""
        await self._one_way("the request is lost")
        if self.storm and again is not None and self._random.random() < REPEATED:
            self._spawn(self._repeat(again, self._random.uniform(0.0, LATEST_REPEAT_S)))
        answer = await call()
        await self._one_way("the answer is lost")
        return answer

    async def _one_way(self, loss: str) -> None:
        if self.cut:
            await asyncio.sleep(CONNECT_S)
            raise UnreachableError("the network is cut")
        if self.storm and self._random.random() < LOST:
            await asyncio.sleep(ANSWER_S)
            raise UnreachableError(loss)
        await asyncio.sleep(self._random.uniform(0.0, LONGEST_DELAY_S) if self.storm else FINE_S)

    @staticmethod
    async def _repeat(again: Callable[[], None], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        with contextlib.suppress(UnreachableError):
            again()


class SimulatedLink:
    """An agent's link through the weather."""

    def __init__(self, plane: Plane, weather: Weather, cluster: str) -> None:
        self._plane, self._weather, self._cluster = plane, weather, cluster

    async def sync(self, request: SyncRequest) -> SyncReply:
        return await self._weather.carry(
            lambda: self._plane.sync(self._cluster, request), lambda: self._plane.take_in(self._cluster, request)
        )

    async def upload_log(self, run_id: str, epoch: int, offset: int, text: str) -> bool:
        async def call() -> bool:
            return self._plane.append_log(self._cluster, run_id, epoch, offset, text)

        return await self._weather.carry(call)

    async def upload_result(self, run_id: str, epoch: int, name: str, path: Path) -> bool:
        raise NotImplementedError("runs of a cluster in memory leave no files")

    async def close(self) -> None:
        """Nothing to hang up."""
