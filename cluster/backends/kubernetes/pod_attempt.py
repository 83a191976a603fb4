"""One run as pods: made, followed by the records in their logs, stopped by deleting them, and found again by their labels.

Its task looks at the board whenever that has changed, and at what its listeners have heard. While the API server is away nothing is known
and nothing is said; the pods go on. A run is over when each of its workers has told its end, has ended without a word, or is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from cluster.backends.kubernetes.board import Board
from cluster.backends.kubernetes.client import rest_s
from cluster.backends.kubernetes.listening import Listener
from cluster.backends.kubernetes.making import Maker
from cluster.backends.kubernetes.objects import rank_of
from cluster.backends.kubernetes.pods import HOPELESS, PodFacts, end_without_word
from cluster.backends.kubernetes.rayjobs import read_rayjob
from cluster.backends.kubernetes.waiting import Waiting
from cluster.errors import ClusterError, PermanentError, TransientError, WorkerGoneError
from cluster.protocol import ResultFile, RunRequest
from cluster.runs.attempt import Attempt, Emit, cancel
from cluster.runs.journal import Journals
from cluster.runs.outbox import Batch
from cluster.runs.parts import plain_name

log = logging.getLogger(__name__)
MADE = "made"
FAILURE_GRACE_S = 5.0
# A pod that takes so much longer than its grace to go is taken off the books: its node does not answer.
UNANSWERED_S = 30.0
# How long its log may take to tell the last of a pod that has ended or is gone.
LAST_WORDS_S = 10.0
LOOK_S = 0.5


@dataclass(frozen=True)
class Tools:
    """What all runs of a cluster share."""

    maker: Maker
    board: Board


class PodAttempt(Attempt):
    """A run of one or more pods. `accelerator`: the resource's name at its nodes."""

    def __init__(self, run: RunRequest, journals: Journals, emit: Emit, tools: Tools, accelerator: str) -> None:
        # A program of kind ray is one process, whatever nodes its Ray has.
        self._workers = 1 if run.kind == "ray" else len(run.nodes)
        super().__init__(run, journals, emit, workers=self._workers)
        self._maker, self._board, self._accelerator = tools.maker, tools.board, accelerator
        self._listeners = [Listener(tools.maker.client, tools.maker.settings.namespace) for _ in range(self._workers)]
        self._pods: dict[int, PodFacts] = {}
        self._changed = asyncio.Event()
        self._waiting = Waiting(run.run_id, emit, tools.maker)
        self._since: dict[tuple[int, str], float] = {}
        self._seen_job = self._hung_up = False
        self._ending: asyncio.Task[None] | None = None
        self._ousted: set[int] = set()

    def notice(self) -> None:
        """The board has changed where this run is concerned."""
        self._changed.set()

    async def _drive(self, *, new: bool) -> None:
        if not new and not await self._is_there():
            if self._asked == MADE:
                return self._end_all("lost", "lost", "its Job is gone from the cluster")
            await self._is_wanted()
            new = True
        if new and not await self._make():
            return
        self._ask(MADE)
        stopper = asyncio.create_task(self._stop_when_asked())
        try:
            await self._watch_over(await self._start_by(new))
            if self._stopping.done():
                await stopper
            elif untold := self._untold():
                await self._take_down(FAILURE_GRACE_S, untold)
        finally:
            await cancel(stopper)
            if self._ending is not None:
                await cancel(self._ending)
            for listener in self._listeners:
                await listener.close()

    async def _is_there(self) -> bool:
        """Whether the cluster has something of the run now, asked until it answers."""
        tries = 0
        while True:
            try:
                return await self._maker.is_there(self.run.run_id)
            except ClusterError as error:
                log.warning("run %s cannot be looked for yet, trying again: %s", self.run.run_id, error)
                await asyncio.sleep(rest_s(error, tries))
            tries += 1

    async def _make(self) -> bool:
        """Make the objects, however long the API server is away. False: the run is over instead."""
        tries = 0
        while not self._stopping.done():
            try:
                await self._maker.make(self.run, self._accelerator)
                return True
            except TransientError as error:
                log.warning("run %s is not made yet, trying again: %s", self.run.run_id, error)
                await asyncio.wait([self._stopping], timeout=rest_s(error, tries))
            except PermanentError as error:
                # Unless an answer was lost before it nobody's work can have begun, so what cannot be looked for is not waited for.
                await self._take_down(1.0, insist=tries > 0)
                self._end_all("failed", "start_failed", str(error))
                return False
            tries += 1
        outcome, grace_s = self._stopping.result()
        await self._take_down(grace_s)
        self._end_all(outcome, outcome, f"stopped before it was started: {outcome}")
        return False

    async def _start_by(self, new: bool) -> float:
        """When its pods must have started, by this loop's clock."""
        left_s: float | None = self._maker.start_limit_s
        if not new:
            with contextlib.suppress(ClusterError):
                by = await self._maker.start_by(self.run.run_id)
                left_s = None if by is None else by - self._maker.now()
        return asyncio.get_running_loop().time() + max(left_s or 0.0, 0.0)

    async def _watch_over(self, start_by: float) -> None:
        while not self._stream.over:
            self._changed.clear()
            for pod in self._board.pods(self.run.run_id):
                self._meet(pod)
            if not self._stream.announced:
                await self._waiting.look(self._board.jobs(self.run.run_id), list(self._pods.values()))
            if not self._stopping.done():
                self._judge(start_by)
            if self._stream.first_end is not None and self._ending is None:
                self._ending = asyncio.create_task(self._take_down(FAILURE_GRACE_S, self._untold()))
            if not self._stream.over:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), LOOK_S)

    def _meet(self, pod: PodFacts) -> None:
        """Know a pod. The first of each rank counts: one that is made for it later would do its work a second time."""
        if not 0 <= pod.rank < len(self._listeners):
            return
        held = self._pods.get(pod.rank)
        if held is not None and held.uid != pod.uid:
            return
        self._pods[pod.rank] = pod
        if pod.started and not self._stream.is_over(pod.rank):
            self._listeners[pod.rank].follow(pod, lambda batch: self._hear(pod.rank, batch), self._changed.set)

    def _judge(self, start_by: float) -> None:
        """End the workers that cannot tell their end themselves."""
        now = asyncio.get_running_loop().time()
        there = {pod.uid for pod in self._board.pods(self.run.run_id)}
        jobs = bool(self._board.jobs(self.run.run_id))
        self._seen_job = self._seen_job or jobs
        for rank in range(len(self._listeners)):
            if not self._stream.is_over(rank):
                pod = self._pods.get(rank)
                if pod is None:
                    self._judge_unmade(rank, jobs, late=now > start_by)
                else:
                    self._judge_pod(pod, pod.uid in there, now, late=now > start_by)

    def _judge_unmade(self, rank: int, jobs: bool, *, late: bool) -> None:
        if self._seen_job and not jobs:
            self._end_rank(rank, "lost", "lost", "its Job was deleted by somebody else")
        elif over := [read_rayjob(job).waits for job in self._board.jobs(self.run.run_id) if read_rayjob(job).over]:
            self._end_rank(rank, "failed", "start_failed", f"KubeRay did not start it: {over[0]}")
        elif late:
            why = self._waiting.words or "no pod was made; see its Job's events"
            self._end_rank(rank, "failed", "start_failed", f"it did not start within {self._maker.start_limit_s:g} s: {why}")

    def _judge_pod(self, pod: PodFacts, there: bool, now: float, *, late: bool) -> None:
        listener = self._listeners[pod.rank]
        if not there:
            if not listener.busy or self._has_been(pod.rank, "gone", now):
                where = f"its pod {pod.name} on {pod.node or 'no node'}"
                self._end_rank(pod.rank, "lost", "lost", f"{where} is gone: deleted by somebody else, or with its node")
        elif pod.over and (not pod.started or listener.silent):
            self._end_worker(pod.rank, end_without_word(pod, listener.reader.taken > 0, listener.reader.strays))
        elif pod.over:
            self._judge_log(pod, now)
        elif pod.leaves_s is not None and self._has_been(pod.rank, "leaving", now, pod.leaves_s + UNANSWERED_S):
            where = f"its pod {pod.name} was told to end by somebody else, or because its node does not answer"
            self._end_rank(pod.rank, "lost", "lost", f"{where}, and {pod.node or 'no node'} did not say that it did")
        elif not pod.started and (pod.reason in HOPELESS or late):
            within = "" if pod.reason in HOPELESS else f" within {self._maker.start_limit_s:g} s"
            self._end_rank(pod.rank, "failed", "start_failed", f"its pod did not start{within}: {pod.why or 'no reason is given'}")

    def _judge_log(self, pod: PodFacts, now: float) -> None:
        """The pod has ended, and its log neither tells the end nor ends: the line to it is dead, or its node is."""
        listener = self._listeners[pod.rank]
        if not self._has_been(pod.rank, "over", now):
            return
        if self._has_been(pod.rank, "over twice", now):
            self._end_worker(pod.rank, end_without_word(pod, listener.reader.taken > 0, "(its log cannot be read)"))
        elif not self._hung_up:
            self._hung_up = True
            listener.hang_up()

    def _has_been(self, rank: int, state: str, now: float, seconds: float | None = None) -> bool:
        """Whether a rank has been in a state for so long, else for LAST_WORDS_S."""
        return now - self._since.setdefault((rank, state), now) >= (LAST_WORDS_S if seconds is None else seconds)

    def _hear(self, rank: int, batch: Batch) -> None:
        """Take in news. A pod that was told to end does not know why; whoever knows it says so."""
        end = batch.get("finished")
        if end is not None and end["outcome"] == "cancelled":
            if self._stopping.done():
                outcome, _ = self._stopping.result()
                end |= {"outcome": outcome, "category": outcome, "message": f"stopped: {outcome}"}
            elif self._stream.first_end is None:
                end |= {"outcome": "lost", "category": "lost", "message": "its pod was told to end by somebody else, or by its node"}
                # Its Job makes another one for it.
                self._ousted.add(rank)
        self._absorb(rank, {**batch, "worker": rank})
        if end is not None:
            self._changed.set()

    def _recall(self, batch: Batch) -> None:
        if "worker" in batch:
            listener = self._listeners[batch["worker"]]
            listener.reader.taken, listener.heard_end = batch["n"], "finished" in batch

    def _end_worker(self, rank: int, end: dict[str, Any]) -> None:
        self._absorb(rank, {"finished": {"at": time.time(), **end}})

    def _end_all(self, outcome: str, category: str, message: str) -> None:
        for rank in range(len(self._listeners)):
            self._end_rank(rank, outcome, category, message)

    def _untold(self) -> set[int]:
        """Workers that may run, or be made again, for all that was heard of them."""
        silent = {rank for rank, pod in self._pods.items() if pod.over}
        return {rank for rank, listener in enumerate(self._listeners) if not listener.heard_end or rank in self._ousted} - silent

    async def _stop_when_asked(self) -> None:
        outcome, grace_s = await asyncio.shield(self._stopping)
        await self._take_down(grace_s)
        listening = [listener.wait() for listener in self._listeners]
        await asyncio.wait([asyncio.ensure_future(waiting) for waiting in listening], timeout=LAST_WORDS_S)
        self._end_all(outcome, outcome, f"stopped: {outcome}")
        self._changed.set()

    async def _take_down(self, grace_s: float, ranks: set[int] | None = None, *, insist: bool = True) -> None:
        """Delete Jobs and pods, of all workers or of some, and wait until the pods are gone, however long the API server is away.

        Unless it is to `insist`, it leaves them when the server refuses.
        """
        began, tries = asyncio.get_running_loop().time(), 0
        while True:
            overdue = asyncio.get_running_loop().time() - began > grace_s + UNANSWERED_S
            try:
                if not await self._maker.end(self.run, ranks, 0.0 if overdue else max(grace_s, 1.0)):
                    return
                tries, pause_s = 0, LOOK_S
            except ClusterError as error:
                log.warning("pods of run %s are not ended yet: %s", self.run.run_id, error)
                if isinstance(error, PermanentError) and not insist:
                    return
                pause_s = max(LOOK_S, rest_s(error, tries))
                tries += 1
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause_s)

    async def _collect(self, end: dict[str, Any]) -> tuple[ResultFile, ...]:
        """The result's files as they came with the log, or as they lie in a store. Raises WorkerGoneError when one did not come."""
        if end.get("deposit"):
            return tuple(ResultFile(**{**file, "name": str(plain_name(file["name"]))}) for file in end["files"])
        listener = self._listeners[0]
        if any(file["name"] not in listener.reader.files for file in end["files"]):
            # An earlier agent has heard the end, and the files were in its memory.
            for pod in self._board.pods(self.run.run_id):
                self._meet(pod)
            if 0 in self._pods:
                await listener.read_files(self._pods[0])
        held = {name: bytes(data) for name, data in listener.reader.files.items()}
        for file in end["files"]:
            if len(held.get(file["name"], b"")) != file["size_bytes"]:
                raise WorkerGoneError(f"the result file {file['name']} is not in its pod's log any more")

        async def read(name: str, _offset: int, _length: int) -> bytes:
            return held[name]

        return await self._fetch_files(end["files"], read, {file["name"]: held[file["name"]] for file in end["files"]})

    async def _release(self) -> None:
        """Its pods stay with their logs, for an agent that knows nothing of the run, until it is forgotten. One that is deleted before it
        has ended, although it has told its end, would be made again by its Job.
        """
        for listener in self._listeners:
            listener.reader.files.clear()
        until = asyncio.get_running_loop().time() + LAST_WORDS_S
        while (running := self._running()) and asyncio.get_running_loop().time() < until:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_S)
        if running:
            await self._take_down(FAILURE_GRACE_S, running)

    def _running(self) -> set[int]:
        """Workers whose Job is there and whose pod has not ended, or is gone."""
        whose = {rank_of(job) for job in self._board.jobs(self.run.run_id)}
        over = {pod.rank for pod in self._board.pods(self.run.run_id) if pod.over}
        return {rank for rank in range(len(self._listeners)) if (rank in whose or None in whose) and rank not in over}

    async def discard(self) -> None:
        """Nothing of the run is left in the cluster. Raises ClusterError."""
        await self._maker.remove(self.run.run_id)
