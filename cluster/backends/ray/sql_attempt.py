"""A run of SQL: one statement on a warm worker of the placed node (see sql_line.py)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.pool import Member, WarmPool
from cluster.backends.ray.session import Session
from cluster.backends.ray.sql_line import SqlLine
from cluster.errors import WorkerGoneError
from cluster.protocol import ResultFile, RunRequest
from cluster.runs.attempt import STOP_MARGIN_S, Attempt, Emit, cancel, first_of
from cluster.runs.journal import Journals
from cluster.runs.outbox import Batch, Seen

_TRIES = 2
_STOP_AGAIN_S = 0.2


class SqlAttempt(Attempt):
    """One statement. `member` is the worker that an earlier agent gave it to."""

    def __init__(
        self, run: RunRequest, session: Session, journals: Journals, emit: Emit,
        nodes: Mapping[str, RayNode], pool: WarmPool, line: SqlLine, member: Member | None = None,
    ) -> None:  # fmt: skip
        super().__init__(run, journals, emit, workers=1)
        self._session, self._nodes, self._pool, self._line, self._member = session, nodes, pool, line, member
        self._inline: dict[str, bytes] = {}
        self._heard = self._spoiled = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _drive(self, *, new: bool) -> None:
        try:
            if new:
                await self._run_new()
            elif self._member is None and (self._asked is None or self._pool.has(self._asked)):
                await self._run_late()
            elif self._member is None:
                self._end_rank(0, "lost", "lost", "the cluster does not know this run any more")
            else:
                self._line.follow(self.run.run_id, self, self._member)
                await self._until_over()
        except WorkerGoneError as error:
            self._spoiled = True
            self._end_rank(0, "lost", "lost", f"the SQL worker on {self.run.nodes[0]} is gone: {error}")

    async def _run_late(self) -> None:
        """The agent that took the run asked no worker, or one that lives and was not reached. Is the run still wanted?"""
        if not await self._is_wanted():
            self._end_unbegun()
        elif self.run.nodes[0] not in self._nodes:
            self._end_by_node()
        else:
            await self._run_new()

    async def _run_new(self) -> None:
        for tries_left in reversed(range(_TRIES)):
            self._over = asyncio.get_running_loop().create_future()
            place = self._line.join(self.run.run_id, self._nodes[self.run.nodes[0]], self, alone=not tries_left)
            try:
                await self._until_over()
                return
            except WorkerGoneError:
                # It died while it waited for work, or before it had news: another one takes the run.
                if self._member is None or self._heard or self._stream.over or not tries_left:
                    raise
                await self._pool.discard(self._member)
                self._member = None
            finally:
                self._line.leave(place)

    async def _until_over(self) -> None:
        """Until the last news; a stop ends the wait in the line, and the statement where it has begun. Raises what broke it."""
        if not await first_of(self._over, self._stopping):
            if self._member is None:
                self._end_unbegun()
                return
            stopper = asyncio.create_task(self._stop(self._member))
            try:
                await asyncio.wait([self._over])
            finally:
                await cancel(stopper)
        self._over.result()
        if self._spoiled and self._member is not None:
            # The statement's thread could not be ended; the run is over only when its process is.
            await self._session.kill(self._member.actor)

    def _end_unbegun(self) -> None:
        outcome, _ = self._stopping.result()
        self._end_rank(0, outcome, outcome, f"stopped before it was started: {outcome}")

    def given(self, member: Member) -> bool:
        """Note whom the statement goes to; False when that cannot be written down, or it is to stop."""
        if self._stopping.done():
            return False
        try:
            self._ask(member.name)
        except OSError as error:
            self._be_over(error)
            return False
        self._member = member
        return True

    def request(self) -> dict[str, Any]:
        """The run."""
        return self.run.model_dump(mode="json")

    def seen(self) -> Seen:
        """What was taken in."""
        return self._stream.seen(0)

    def hear(self, news: Batch) -> bool:
        """Take in news of the worker; True when the run is over."""
        try:
            if news.pop("unknown", False):
                raise WorkerGoneError("it has forgotten the run")
            self._heard = self._heard or bool(news)
            self._inline = news.pop("inline", {})
            self._spoiled = news.pop("spoiled", False)
            self._absorb(0, news)
        except Exception as error:  # whatever breaks here is this run's affair, not that of those it was sent with
            self._be_over(error)
        if self._stream.over:
            self._be_over()
        return self._over.done()

    def given_back(self) -> bool:
        """Whether it is still to be run."""
        self._member = None
        if self._stopping.done() and not self._over.done():
            self._end_unbegun()
            self._be_over()
        return not self._over.done()

    def broke(self, error: Exception) -> None:
        """There is no worker, or it is gone or failed."""
        if self._member is None:
            self._end_rank(0, "failed", "start_failed", str(error))
            self._be_over()
        else:
            self._be_over(error)

    def node_gone(self) -> None:
        """It waited for a worker of a node that is not there any more."""
        self._end_by_node()
        self._be_over()

    def _end_by_node(self) -> None:
        self._end_rank(0, "lost", "lost", f"node {self.run.nodes[0]} is not part of the cluster any more")

    def _be_over(self, error: Exception | None = None) -> None:
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    async def _stop(self, member: Member) -> None:
        """Interrupt the statement, again and again, for a stop may overtake its run; a worker that does not end it in time is ended."""
        outcome, grace_s = self._stopping.result()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                while True:
                    with contextlib.suppress(WorkerGoneError):
                        await self._session.ask(member.actor, "stop", self.run.run_id, outcome, grace_s)
                    await asyncio.sleep(_STOP_AGAIN_S)
        self._spoiled = True
        self._end_rank(0, outcome, outcome, f"stopped: {outcome}; its worker did not answer and was ended")
        self._be_over()

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
                await self._line.forget(self._member, self.run.run_id)
            self._member = None
