"""The size of an elastic gang: workers that join it and workers that are ended, while all others go on.

To grow is three steps, so that the gang has the new workers whole or not at all: their supervisors are all ready, all prepare, and
only then is it written down that they belong to the run, and they are let go. What fails before that leaves the gang as it was. To
shrink tells all workers who stays, ends the highest ranks, and is over once their supervisors, and with them their room, are gone.
Both are written down when they are asked for, so the next agent goes through the same steps again and finds them done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from cluster.backends.ray.gang_workers import run_of, supervisor_name
from cluster.backends.ray.seats import Seat
from cluster.errors import ClusterError, WorkerGoneError
from cluster.protocol import GangSize, RunRequest, RunResized
from cluster.runs.attempt import STOP_MARGIN_S, cancel
from cluster.runs.journal import Sized
from cluster.runs.outbox import nothing_seen

if TYPE_CHECKING:
    from cluster.backends.ray.gang_attempt import GangAttempt

logger = logging.getLogger(__name__)

USUAL_GRACE_S = 5.0


def membership(run: RunRequest | GangSize) -> dict[str, Any]:
    """The fields of a request that say who belongs to the gang."""
    document = run.model_dump(mode="json")
    return {name: document[name] for name in ("generation", "nodes", "accelerator_devices")}


class Resizing:
    """The changes of one gang's size, one after the other. `joining` are supervisors that do not belong to the run yet."""

    def __init__(self, gang: GangAttempt) -> None:
        self._gang = gang
        self._size: GangSize | None = None
        self._grace_s = USUAL_GRACE_S
        self._asked = asyncio.Event()
        self.started = asyncio.Event()
        self.joining: dict[int, Seat] = {}

    def ask(self, size: GangSize, grace_s: float) -> None:
        """Note an order. An older one changes nothing; one that is carried out already is answered again."""
        known = self._size.generation if self._size else self._gang.run.generation
        if size.generation > known:
            self._gang._journal.sized(Sized(size, over=False))
            self._grace_s = grace_s
            self._expect(size)
        elif size.generation == known and self._size is None:
            self._tell("")

    def retrace(self, change: Sized) -> None:
        """Take in what an earlier agent wrote down; what was over is told again."""
        if not change.over:
            self._expect(change.size)
            return
        self._apply(change.size)
        self._tell(change.message)

    def names(self) -> set[str]:
        """Supervisors that may have been made for workers that are to join."""
        if self._size is None:
            return set()
        run = self._gang.run
        return {supervisor_name(run.run_id, rank, self._size.generation) for rank in range(len(run.nodes), len(self._size.nodes))}

    async def sort_out(self, names: tuple[str, ...]) -> None:
        """Find out which supervisors belong to the run, and end those of changes that nobody knows of any more."""
        run, born = self._gang.run, self._gang._born
        found = [(name, worker) for name in names if (worker := run_of(name)) is not None]
        for _, worker in found:
            if worker.rank in born and worker.generation <= run.generation:
                born[worker.rank] = max(born[worker.rank], worker.generation)
        for name, worker in found:
            if born.get(worker.rank) != worker.generation and name not in self.names():
                with contextlib.suppress(ClusterError):
                    seat = await self._gang._crew.find(name)
                    if seat is not None:
                        await seat.let_go()

    async def work(self) -> None:
        """Carry out what is asked for, as soon as the run has started."""
        await self.started.wait()
        while True:
            await self._asked.wait()
            self._asked.clear()
            size = self._size
            if size is None:
                continue
            try:
                more = len(size.nodes) > len(self._gang.run.nodes)
                message = await (self._grow(size) if more else self._shrink(size))
            except Exception as error:  # whatever breaks here, the run goes on
                logger.exception("run %s could not be resized", self._gang.run.run_id)
                message = f"{type(error).__name__}: {error}"
            if message:
                await self._stay_as_it_is(size, message)
            self._tell(message)

    def _expect(self, size: GangSize) -> None:
        self._size = size
        if len(size.nodes) < len(self._gang.run.nodes):
            self._gang._stream.dismiss(len(size.nodes))
        self._asked.set()

    async def _grow(self, size: GangSize) -> str:
        """Let workers join. Says what stands against it."""
        gang, before = self._gang, len(self._gang.run.nodes)
        wanted = gang.run.model_copy(update={name: getattr(size, name) for name in ("generation", "nodes", "accelerator_devices")})
        gone = sorted(set(size.nodes[before:]) - gang._nodes.keys())
        if size.nodes[:before] != gang.run.nodes:
            return "the order names other nodes for the workers that it has"
        if gone:
            return f"node {', '.join(gone)} is not part of the cluster now"
        try:
            async with asyncio.timeout(gang._start_limit_s):
                for rank in range(before, len(size.nodes)):
                    self.joining[rank] = await gang._crew.seat(wanted, rank, size.generation, gang._nodes[size.nodes[rank]])
                await self._ask_joining("ready")
            prepared = await self._ask_joining("prepare", wanted.model_dump(mode="json"))
            if not all(prepared):
                return await self._why_not(prepared)
        except TimeoutError:
            return f"no process for the new workers within {gang._start_limit_s:g} s"
        except (ClusterError, WorkerGoneError) as error:
            return f"a new worker is gone: {error}"
        # From here on without a pause up to the workers being watched, so that an end in between meets all of them or none.
        if gang._stopping.done() or any(gang._stream.is_over(rank) for rank in range(before)):
            return "workers of the run have ended already"
        joined = list(self.joining.values())
        self._reach(size, "")
        gang._supervisors |= self.joining
        gang._follow(*self.joining)
        self.joining.clear()
        await gang._on_all("update", membership(gang.run))
        await self._ask_each(joined, "go", gang._master())
        return ""

    async def _shrink(self, size: GangSize) -> str:
        """End the highest ranks. Says what stands against it."""
        gang, after = self._gang, len(size.nodes)
        if size.nodes != gang.run.nodes[:after]:
            gang._stream.dismiss(len(gang.run.nodes))
            return "the order names other nodes for the workers that it has"
        await gang._on_all("update", membership(size))
        leaving = {rank: seat for rank, seat in gang._supervisors.items() if rank >= after}
        watches = [gang._watches[rank] for rank in leaving]
        asking = asyncio.ensure_future(self._ask_each(list(leaving.values()), "stop", "preempted", self._grace_s))
        try:
            if watches:
                await asyncio.wait(watches, timeout=self._grace_s + STOP_MARGIN_S)
        finally:
            await cancel(asking)
        for rank, seat in leaving.items():
            gang._end_rank(rank, "preempted", "preempted", "ended because the run shrinks; its supervisor did not answer")
            await cancel(gang._watches.pop(rank))
            await seat.let_go()
            del gang._supervisors[rank]
        self._reach(size, "")
        return ""

    async def _stay_as_it_is(self, size: GangSize, message: str) -> None:
        # By name, for one may have been made after nobody waited for it any more.
        for name in sorted(self.names()):
            with contextlib.suppress(ClusterError):
                seat = await self._gang._crew.find(name)
                if seat is not None:
                    await seat.let_go()
        self.joining.clear()
        run = self._gang.run
        self._reach(GangSize(generation=size.generation, nodes=run.nodes, accelerator_devices=run.accelerator_devices), message)

    def _reach(self, size: GangSize, message: str) -> None:
        self._gang._journal.sized(Sized(size, over=True, message=message))
        self._apply(size)

    def _apply(self, size: GangSize) -> None:
        """The run has this size now."""
        gang, before = self._gang, len(self._gang.run.nodes)
        update = {"generation": size.generation, "nodes": size.nodes, "accelerator_devices": size.accelerator_devices}
        gang.run = gang.run.model_copy(update=update)
        gang._born = {rank: gang._born[rank] if rank < before else size.generation for rank in range(len(size.nodes))}
        gang._stream.resize(len(size.nodes))
        if self._size is not None and self._size.generation <= size.generation:
            self._size = None

    def _tell(self, message: str) -> None:
        run = self._gang.run
        workers = len(run.nodes)
        self._gang._emit(RunResized(run_id=run.run_id, generation=run.generation, workers=workers, message=message, at=time.time()))

    async def _why_not(self, prepared: list[bool]) -> str:
        """What the first of the joining workers that could not prepare says."""
        rank = list(self.joining)[prepared.index(False)]
        batch = await self.joining[rank].ask("next", dict(nothing_seen()), 0.0)
        return f"worker {rank} could not prepare: {batch.get('finished', {}).get('message') or 'it was stopped'}"

    async def _ask_joining(self, method: str, *arguments: Any) -> list[Any]:
        """The answers of all joining workers. Raises WorkerGoneError."""
        return list(await asyncio.gather(*(seat.ask(method, *arguments) for seat in self.joining.values())))

    async def _ask_each(self, seats: list[Seat], method: str, *arguments: Any) -> None:
        """Ask some workers; of one that is gone its watch tells."""

        async def one(seat: Seat) -> None:
            with contextlib.suppress(WorkerGoneError):
                await seat.ask(method, *arguments)

        await asyncio.gather(*(one(seat) for seat in seats))
