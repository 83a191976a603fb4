"""A run of user code: one supervisor per worker, started whole or not at all.

The steps are those of `cluster/runs/supervisor.py`, and each may be repeated, so a run of an earlier agent goes through the same
steps again and finds them done. When one worker fails, dies or is stopped, all are stopped, and the run ends as the
first of them did. The size of an elastic one changes while it runs (`gang_resize.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from cluster.backends.ray.census import end_of_namespace
from cluster.backends.ray.gang_resize import Resizing, membership
from cluster.backends.ray.gang_workers import supervisor_name
from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.seats import Seat, Supervisors
from cluster.backends.ray.session import Session
from cluster.errors import UnreachableError, WorkerGoneError
from cluster.protocol import GangSize, ResultFile, RunEvent, RunRequest
from cluster.runs.attempt import NEXT_WAIT_S, STOP_MARGIN_S, Attempt, Emit, cancel, first_of
from cluster.runs.journal import Journals, Sized
from cluster.runs.outbox import Batch
from cluster.runs.parts import PartCollector

FAILURE_GRACE_S = 5.0


def supervised(run: RunRequest) -> tuple[str, ...]:
    """The node of each supervisor: one for each worker. A statement on Daft, and what asks Ray for the rest, have one alone."""
    return run.nodes if run.kind in ("command", "training") else run.nodes[:1]


class GangAttempt(Attempt):
    """Command or training on one or more workers, a statement on Daft, or kind ray or map. `nodes` are those that live, by name."""

    def __init__(
        self, run: RunRequest, session: Session, journals: Journals, emit: Emit,
        nodes: Mapping[str, RayNode], crew: Supervisors, start_limit_s: float,
    ) -> None:  # fmt: skip
        super().__init__(run, journals, emit, workers=len(supervised(run)))
        self._session, self._nodes, self._crew, self._start_limit_s = session, nodes, crew, start_limit_s
        self._places = supervised(run)
        self._supervisors: dict[int, Seat] = {}
        self._watches: dict[int, asyncio.Task[None]] = {}
        self._port = 0
        # With which change of its size each rank joined.
        self._born = dict.fromkeys(range(len(run.nodes)), 0)
        self._sizes = Resizing(self)
        # One supervisor holds a placement group for the whole run, and its process has a namespace of its own in Ray.
        self._in_group = run.kind in ("ray", "map")
        self._parts = PartCollector(run.run_id, self._read_output, journals.results(run.run_id), emit)

    async def _drive(self, *, new: bool) -> None:
        if new:
            await self._create()
        elif not await self._find():
            if not await self._create_late():
                return
            new = True
        ready = await self._all_ready(new=new)
        if new and not ready:
            return
        self._follow(*self._supervisors)
        self._parts.begin()
        tasks = [asyncio.create_task(self._stop_when_asked()), asyncio.create_task(self._sizes.work())]
        try:
            if self._stream.first_end is not None:
                await self._stop_others()
            elif ready and (self._stream.announced or await self._is_wanted()):
                await self._start()
            while under_way := [task for task in self._watches.values() if not task.done()]:
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if not task.cancelled():
                        task.result()
            if not self._stopping.done():
                await self._parts.drained()
        finally:
            for task in (*tasks, *self._watches.values()):
                await cancel(task)
            await self._parts.close()

    def _follow(self, *ranks: int) -> None:
        for rank in ranks:
            self._watches[rank] = asyncio.create_task(self._watch(rank))

    async def _create(self) -> None:
        """A seat for every worker."""
        nodes = [self._nodes[name].node_id for name in self.run.nodes] if self.run.kind in ("ray", "sql", "map") else []
        for rank, name in enumerate(self._places):
            self._supervisors[rank] = await self._crew.seat(self.run, rank, 0, self._nodes[name], nodes)

    async def _create_late(self) -> bool:
        """The same for a run that an earlier agent took and did not begin, once it is said that it is still wanted. False: it is over."""
        gone = ""
        if await self._is_wanted():
            gone = ", ".join(sorted(set(self.run.nodes) - self._nodes.keys()))
            if not gone:
                await self._create()
                return True
        outcome = "lost" if gone else self._stopping.result()[0]
        message = f"node {gone} is not part of the cluster any more" if gone else f"stopped before it was started: {outcome}"
        for rank in range(len(self._places)):
            self._end_rank(rank, outcome, outcome, message)
        return False

    async def _find(self) -> bool:
        """The supervisors that an earlier agent made. A worker without one is lost, but where none was asked to work yet: then those that
        there are go too, and the answer is False."""
        await self._sizes.sort_out(self._names)
        self._places = supervised(self.run)
        missing = []
        for rank in range(len(self._places)):
            seat = await self._crew.surely_find(supervisor_name(self.run.run_id, rank, self._born[rank]))
            if seat is not None:
                self._supervisors[rank] = seat
            else:
                missing.append(rank)
        if missing and self._asked is None:
            for rank in sorted(self._supervisors):
                if not await self._supervisors.pop(rank).let_go():
                    raise WorkerGoneError(f"worker {rank} cannot be ended now")
            return False
        for rank in missing:
            self._end_rank(rank, "lost", "lost", f"the cluster does not know worker {rank} of this run any more")
        return True

    async def _all_ready(self, *, new: bool) -> bool:
        """Wait until all supervisors live. When they do not in time or a stop is asked for, a new run, of which nothing runs
        yet, is over; of an adopted one the workers that do not answer are over, and the others may be running. What has
        begun is given all the time that its cluster needs to answer again."""
        begun = any(self._stream.seen(rank)["started"] for rank in range(len(self._places)))
        answers = {rank: asyncio.ensure_future(seat.ask("ready")) for rank, seat in self._supervisors.items()}
        limit_s = None if begun else self._start_limit_s
        ready = await first_of(asyncio.gather(*answers.values(), return_exceptions=True), self._stopping, limit_s)
        late = [rank for rank, answer in answers.items() if not answer.done() or answer.exception() is not None]
        for answer in answers.values():
            if not answer.done():
                await cancel(answer)
        if ready and not late:
            self._port = answers[0].result() if 0 in answers else 0
            return True
        if not self._stopping.done():
            places = ", ".join(f"{rank} on {self.run.nodes[rank]}" for rank in late)
            what = f"worker {places} is gone" if begun else f"no process for worker {places} within {self._start_limit_s:g} s"
            end = ("lost", "lost") if begun else ("failed", "start_failed")
            for rank in range(len(self._places)) if new else late:
                self._end_rank(rank, *end, f"{what}: {_why(answers, late)}")
        elif new:
            outcome, _ = self._stopping.result()
            for rank in range(len(self._places)):
                self._end_rank(rank, outcome, outcome, f"stopped before it was started: {outcome}")
        return False

    async def _start(self) -> None:
        """Prepare all, then let all go. A worker that cannot says so itself, and its end stops the others."""
        request = self.run.model_dump(mode="json")
        if len(self._places) == 1 and not self.run.elastic:
            # It waits for no other, so one call does both.
            self._ask("")
            await self._on_all("begin", request)
            return
        prepared = await self._on_all("prepare", request)
        # An agent may have died when it had let only some go, which may have ended meanwhile; how, their watches know.
        over = [self._watches[rank] for rank, is_prepared in zip(self._supervisors, prepared, strict=True) if not is_prepared]
        if over:
            await asyncio.wait(over)
        if self._stream.first_end is None:
            if self.run.generation:
                await self._on_all("update", membership(self.run))
            self._ask("")
            await self._on_all("go", self._master())

    def _master(self) -> tuple[str, int] | None:
        """Where rank 0 of a gang listens; a worker that is alone needs no place to meet."""
        first = self._nodes.get(self.run.nodes[0])
        return (first.address, self._port) if first is not None and (self.run.elastic or len(self._places) > 1) else None

    async def _on_all(self, method: str, *arguments: Any) -> list[Any]:
        """The answers of all workers; None for one that is gone, whose watch reports it."""

        async def one(seat: Seat) -> Any:
            with contextlib.suppress(WorkerGoneError):
                return await seat.ask(method, *arguments)

        return await asyncio.gather(*(one(seat) for seat in self._supervisors.values()))

    async def _watch(self, rank: int) -> None:
        """Take in a worker's news until its end; when it did not succeed, stop the others."""
        try:
            while not self._stream.is_over(rank):
                self._absorb(rank, await self._supervisors[rank].ask("next", dict(self._stream.seen(rank)), NEXT_WAIT_S))
        except WorkerGoneError as error:
            self._end_rank(rank, "lost", "lost", f"worker {rank} on {self.run.nodes[rank]} is gone: {error}")
        if self._stream.first_end is not None:
            await self._stop_others()

    async def _stop_others(self) -> None:
        others = [seat for rank, seat in self._supervisors.items() if not self._stream.is_over(rank)]
        for seat in others:
            with contextlib.suppress(WorkerGoneError):
                await seat.ask("stop", "cancelled", FAILURE_GRACE_S)

    async def _stop_when_asked(self) -> None:
        """Carry a stop to all workers; who does not end in time has its process ended."""
        outcome, grace_s = await asyncio.shield(self._stopping)
        asking = asyncio.create_task(self._on_all("stop", outcome, grace_s))
        try:
            await asyncio.sleep(grace_s + STOP_MARGIN_S)
        finally:
            await cancel(asking)
        for rank, seat in self._supervisors.items():
            if not self._stream.is_over(rank):
                self._end_rank(rank, outcome, outcome, f"stopped: {outcome}; its supervisor did not answer and was ended")
                await seat.kill()

    async def _collect(self, end: dict[str, Any]) -> tuple[ResultFile, ...]:
        if self.run.kind == "map":
            return (*self.run.parts, *await self._parts.all())
        return await self._fetch_files(end["files"], self._read_output, {})

    async def _read_output(self, name: str, offset: int, length: int) -> bytes:
        if 0 not in self._supervisors:
            raise WorkerGoneError(f"the worker on {self.run.nodes[0]} is gone, and the result with it")
        chunk: bytes = await self._supervisors[0].ask("read_output", name, offset, length)
        return chunk

    def _absorb(self, rank: int, batch: Batch) -> None:
        super()._absorb(rank, batch)
        self._parts.add(batch.get("parts", ()))

    async def _release(self) -> None:
        """The end is on this agent's disk, so the supervisors go, and Ray has their resources back."""
        if self._in_group:
            await self._end_in_ray()
        for seat in (*self._supervisors.values(), *self._sizes.joining.values()):
            await seat.let_go()
        self._supervisors.clear()
        self._sizes.joining.clear()

    async def _end_in_ray(self) -> None:
        """Detached actors and groups of a program outlive it. Now, so that a run that is over has nothing there; `discard` tries again."""
        with contextlib.suppress(UnreachableError):
            await self._session.call(end_of_namespace, self.run.run_id)

    async def discard(self) -> None:
        """Supervisors were released with the end; those that an ended agent left behind go now."""
        names = {supervisor_name(self.run.run_id, rank, self._born[rank]) for rank in range(len(supervised(self.run)))}
        for name in sorted(names | set(self._names) | self._sizes.names()):
            seat = await self._crew.find(name)
            if seat is not None and not await seat.let_go():
                raise UnreachableError(f"the supervisor of {name} cannot be ended now")
        await self._release()
        if self._in_group:
            await self._session.call(end_of_namespace, self.run.run_id)

    def resize(self, size: GangSize, grace_s: float) -> None:
        """Ask for another size. Raises OSError when that cannot be written down."""
        if self.run.elastic and not self.finished:
            self._sizes.ask(size, grace_s)

    def _recall(self, batch: Batch) -> None:
        self._parts.add(batch.get("parts", ()))

    def _retrace(self, change: Sized) -> None:
        self._sizes.retrace(change)

    def _pass_on(self, events: list[RunEvent]) -> None:
        super()._pass_on(events)
        if self._stream.announced:
            self._sizes.started.set()


def _why(answers: Mapping[int, asyncio.Future[Any]], late: list[int]) -> str:
    errors = [answers[rank].exception() for rank in late if answers[rank].done() and not answers[rank].cancelled()]
    return str(next((error for error in errors if error is not None), "Ray has not started it; is something else using the node?"))
