"""A run of SQL: one warm worker of the pool on the placed node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.pool import Member, WarmPool
from cluster.backends.ray.session import Session
from cluster.errors import ClusterError, WorkerGoneError
from cluster.protocol import ResultFile, RunRequest
from cluster.runs.attempt import NEXT_WAIT_S, STOP_MARGIN_S, Attempt, Emit, cancel, first_of
from cluster.runs.journal import Journals
from cluster.runs.outbox import Batch

_TRIES = 2
_STOP_AGAIN_S = 0.2


class SqlAttempt(Attempt):
    """One statement. `member` is the worker that an earlier agent gave it to."""

    def __init__(
        self, run: RunRequest, session: Session, journals: Journals, emit: Emit,
        nodes: Mapping[str, RayNode], pool: WarmPool, member: Member | None = None,
    ) -> None:  # fmt: skip
        super().__init__(run, journals, emit, workers=1)
        self._session, self._nodes, self._pool, self._member = session, nodes, pool, member
        self._inline: dict[str, bytes] = {}
        self._heard = self._spoiled = False

    async def _drive(self, *, new: bool) -> None:
        try:
            if new:
                await self._run_new()
            elif self._member is None and (self._asked is None or self._pool.has(self._asked)):
                await self._run_late()
            elif self._member is None:
                self._end_rank(0, "lost", "lost", "the cluster does not know this run any more")
            else:
                self._pool.hold(self._member)
                await self._follow("next", self.run.run_id)
        except WorkerGoneError as error:
            self._spoiled = True
            self._end_rank(0, "lost", "lost", f"the SQL worker on {self.run.nodes[0]} is gone: {error}")

    async def _run_late(self) -> None:
        """The agent that took the run asked no worker, or one that lives and was not reached. Is the run still wanted?"""
        if not await self._is_wanted():
            outcome, _ = self._stopping.result()
            self._end_rank(0, outcome, outcome, f"stopped before it was started: {outcome}")
        elif self.run.nodes[0] not in self._nodes:
            self._end_rank(0, "lost", "lost", f"node {self.run.nodes[0]} is not part of the cluster any more")
        else:
            await self._run_new()

    async def _run_new(self) -> None:
        for tries_left in reversed(range(_TRIES)):
            if not await self._take():
                return
            assert self._member is not None
            self._ask(self._member.name)
            try:
                await self._follow("run", self.run.model_dump(mode="json"))
                return
            except WorkerGoneError:
                # It died while it waited for work, or before it had news: another one takes the run.
                if self._heard or self._stream.over or not tries_left:
                    raise
                await self._pool.discard(self._member)

    async def _take(self) -> bool:
        """Get a worker; False when the run is over instead."""
        taking = asyncio.create_task(self._pool.take(self._nodes[self.run.nodes[0]]))
        try:
            if await first_of(taking, self._stopping):
                self._member = taking.result()
                return True
        except ClusterError as error:
            self._end_rank(0, "failed", "start_failed", str(error))
            return False
        taking.add_done_callback(self._give_back)
        outcome, _ = self._stopping.result()
        self._end_rank(0, outcome, outcome, f"stopped before it was started: {outcome}")
        return False

    def _give_back(self, taking: asyncio.Task[Member]) -> None:
        """A worker that came too late takes another run."""
        if not taking.cancelled() and taking.exception() is None:
            self._pool.give_back(taking.result())

    async def _follow(self, first: str, *arguments: Any) -> None:
        """Take in the worker's news until the end, asking by the method `first` at first."""
        assert self._member is not None
        stopper = asyncio.create_task(self._stop_when_asked(self._member))
        try:
            await self._take_in(await self._next(self._member, first, *arguments))
            while not self._stream.over:
                await self._take_in(await self._next(self._member, "next", self.run.run_id))
        finally:
            await cancel(stopper)

    async def _next(self, member: Member, method: str, *arguments: Any) -> Batch:
        """Ask for news by a method whose last arguments say what was seen and how long to wait."""
        batch: Batch = await self._session.ask(member.actor, method, *arguments, dict(self._stream.seen(0)), NEXT_WAIT_S)
        return batch

    async def _take_in(self, batch: Batch) -> None:
        assert self._member is not None
        if batch.pop("unknown", False):
            raise WorkerGoneError("it has forgotten the run")
        self._heard = self._heard or bool(batch)
        self._inline = batch.pop("inline", {})
        self._spoiled = batch.pop("spoiled", False)
        if self._spoiled:
            # The statement's thread could not be ended; the run is over only when its process is.
            await self._session.kill(self._member.actor)
        self._absorb(0, batch)

    async def _stop_when_asked(self, member: Member) -> None:
        """Interrupt the statement, again and again, for a stop may overtake its run; a worker that does not end it in time is ended."""
        outcome, grace_s = await asyncio.shield(self._stopping)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                while True:
                    with contextlib.suppress(WorkerGoneError):
                        await self._session.ask(member.actor, "stop", self.run.run_id, outcome, grace_s)
                    await asyncio.sleep(_STOP_AGAIN_S)
        self._spoiled = True
        self._end_rank(0, outcome, outcome, f"stopped: {outcome}; its worker did not answer and was ended")
        await self._session.kill(member.actor)

    async def _collect(self, end: dict[str, Any]) -> tuple[ResultFile, ...]:
        async def read(name: str, offset: int, length: int) -> bytes:
            if self._member is None:
                raise WorkerGoneError(f"the SQL worker on {self.run.nodes[0]} is gone, and the result with it")
            chunk: bytes = await self._session.ask(self._member.actor, "read_output", self.run.run_id, name, offset, length)
            return chunk

        return await self._fetch_files(end["files"], read, self._inline)

    async def _release(self) -> None:
        """The worker takes the next run; what it knows of this one stays until it is forgotten."""
        if self._member is None:
            return
        if self._spoiled:
            await self._pool.discard(self._member)
            self._member = None
        else:
            self._pool.give_back(self._member)

    async def discard(self) -> None:
        """The worker drops what it knows of the run."""
        if self._member is not None:
            with contextlib.suppress(WorkerGoneError):
                await self._session.ask(self._member.actor, "forget", self.run.run_id)
            self._member = None
