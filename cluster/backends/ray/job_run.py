"""One run that is a job of Ray's Job API: waited for room, submitted, followed by its log, stopped, told of.

Driven by one task that asks again and again, for the Job API tells nothing by itself. It ends exactly once. While the head does not
answer nothing is said, for nobody knows how the run is; a head that answers and does not know the job has lost it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from cluster.backends.ray.job_api import JobApi, JobFacts
from cluster.backends.ray.job_room import JobRoom
from cluster.backends.ray.job_words import ENTRYPOINT, JobLog, files_of, job_name, kept_of, mark_of, place_of, read_log
from cluster.errors import AuthenticationError, PermanentError, TransientError
from cluster.protocol import Category, RunEvent, RunFinished, RunLog, RunRequest, RunStarted, RunStarting, Usage
from cluster.runs.limits import memory_words, tasks_words

log = logging.getLogger(__name__)
StopOutcome = Literal["cancelled", "preempted", "lost"]
Outcome = Literal["succeeded", "failed", "cancelled", "preempted", "lost"]
FIRST_LOOK_S, LOOK_S, LARGE_LOG = 0.1, 0.5, 256 * 1024
CLOCKS_APART_S = 5.0


class JobRun:
    """A run in progress or over. `start_limit_s`: how long it may wait for room, and for Ray to start it after that."""

    def __init__(self, run: RunRequest, api: JobApi, room: JobRoom, emit: Callable[[RunEvent], None], start_limit_s: float) -> None:
        self.run = run
        self.finished = False
        self._api, self._room, self._emit, self._start_limit_s = api, room, emit, start_limit_s
        self._name, self._mark = job_name(run.run_id), mark_of(run)
        self._stop: StopOutcome | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._start_by = 0.0
        self._began = False
        self._shipped = 0

    def begin(self) -> None:
        """Start a new run."""
        self._go(self._live(new=True))

    def resume(self) -> None:
        """Go on with a run of an earlier agent, which has been submitted."""
        self._start_by = time.time() + self._start_limit_s
        self._go(self._live(new=False))

    def stop(self, outcome: StopOutcome) -> None:
        """Ask for the end. The first request counts."""
        self._stop = self._stop or outcome
        self._stopping.set()

    async def detach(self) -> None:
        """Leave the run to go on without this agent."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def discard(self) -> None:
        """Have the head forget the job; one that is not over is ended first, as soon as Ray can. Raises UnreachableError."""
        await self.detach()
        while (found := await self._api.job(self._name)) is not None and not found.over:
            await self._api.stop(self._name)
            await asyncio.sleep(LOOK_S)
        await self._api.delete(self._name)

    def _go(self, work: Any) -> None:
        self._emit(RunStarting(run_id=self.run.run_id))
        self._task = asyncio.create_task(work, name=f"job {self.run.run_id}")

    async def _live(self, *, new: bool) -> None:
        try:
            if not new or await self._submit():
                self._room.hold(self.run, time.monotonic())
                await self._follow()
        except asyncio.CancelledError:
            raise
        except AuthenticationError as error:
            self._finish("failed", "infrastructure", str(error))
        except PermanentError as error:
            self._finish("failed", "start_failed", str(error))
        except Exception as error:  # whatever breaks here, the run must end
            log.exception("run %s failed in its agent", self.run.run_id)
            self._finish("failed", "infrastructure", f"{type(error).__name__}: {error}")
        finally:
            self._room.release(self.run.run_id)

    async def _submit(self) -> bool:
        """Hand it to Ray once it fits. False: it is over already."""
        until = time.monotonic() + self._start_limit_s
        while True:
            try:
                lacks = self._room.lacks(self.run, time.monotonic())
            except KeyError:
                return self._finish("failed", "start_failed", f"node {self.run.nodes[0]} is not part of the cluster now")
            if self._stop is not None:
                return self._finish(self._stop, self._stop, "it was stopped before it was handed to Ray")
            if lacks and time.monotonic() >= until:
                return self._finish("failed", "start_failed", f"not started within {self._start_limit_s:g} s: {lacks}")
            if not lacks and await self._hand_over():
                return True
            await self._pause(LOOK_S)

    async def _hand_over(self) -> bool:
        self._start_by = time.time() + self._start_limit_s
        node = self._room.nodes[self.run.nodes[0]]
        place = place_of(self.run, node, self._room.shares_address(self.run.nodes[0]))
        files = files_of(self.run, self._start_by)
        try:
            await self._api.submit(self._name, files, ENTRYPOINT, metadata=kept_of(self.run), **place)
        except TransientError as error:
            # It may have arrived; the next try looks first.
            log.warning("run %s could not be submitted, trying again: %s", self.run.run_id, error)
            return False
        return True

    async def _follow(self) -> None:
        pause_s = FIRST_LOOK_S
        while not self.finished:
            with contextlib.suppress(TransientError, AuthenticationError):
                pause_s = max(min(pause_s * 1.5, LOOK_S), await self._look())
            if not self.finished:
                await self._pause(pause_s)

    async def _look(self) -> float:
        """Ask once, and tell what is new. Returns how long to wait at the least before the next question."""
        found = await self._api.job(self._name)
        if found is None:
            self._finish("lost", "lost", "the cluster does not know its job any more")
            return 0.0
        whole = "" if found.status == "PENDING" else await self._api.log(self._name)
        read = read_log(whole, self._mark)
        self._tell(read)
        if found.over:
            self._conclude(found, read)
        elif self._stop is not None:
            await self._api.stop(self._name)
        if not found.over and found.status == "PENDING" and time.time() > self._start_by + CLOCKS_APART_S:
            # Should Ray start it after all, its entry program sees that it is too late.
            message = f"Ray did not start it within {self._start_limit_s:g} s: {found.message}"
            self._finish(self._stop or "failed", self._stop or "start_failed", message)
        return 4 * LOOK_S if len(whole) > LARGE_LOG else 0.0

    def _tell(self, read: JobLog) -> None:
        if read.began is not None and not self._began:
            self._began = True
            self._emit(RunStarted(run_id=self.run.run_id, at=read.began))
        data = read.text.encode()
        if len(data) > self._shipped:
            self._emit(RunLog(run_id=self.run.run_id, offset=self._shipped, text=data[self._shipped :].decode()))
            self._shipped = len(data)

    def _conclude(self, found: JobFacts, read: JobLog) -> None:
        ended = read.ended or {}
        why, code = ended.get("ended"), ended.get("code", found.code)
        usage = Usage(
            wall_s=ended.get("wall_s", 0.0), cpu_s=ended.get("cpu_s", 0.0), peak_memory_bytes=int(ended.get("peak_memory_bytes", 0))
        )
        at = ended.get("at") or found.ended_at or time.time()
        told = str(ended.get("message", ""))
        outcome, category, message = _verdict(found, why, code, self._stop, told, self.run, ended.get("took", 0))
        self._finish(outcome, category, message, code=code, usage=usage, at=at)

    def _finish(
        self, outcome: Outcome, category: Category | None, message: str, *, code: int | None = None, usage: Usage | None = None,
        at: float | None = None,
    ) -> bool:  # fmt: skip
        """Tell the end. False, for those who go no further."""
        self.finished = True
        self._emit(RunFinished(
            run_id=self.run.run_id, outcome=outcome, category=category, exit_code=code, message=message[:2000], at=at or time.time(),
            usage=usage or Usage(),
        ))  # fmt: skip
        return False

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a stop is asked for."""
        if self._stopping.is_set():
            await asyncio.sleep(seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _verdict(
    found: JobFacts, why: str | None, code: int | None, stop: StopOutcome | None, told: str, run: RunRequest, took: int
) -> tuple[Outcome, Category | None, str]:
    """How a job that is over ended, by what its entry program said, and else by what Ray says."""
    if why == "max_runtime":
        return "failed", "max_runtime", f"it ran longer than its max_runtime of {run.max_runtime_s:g} s"
    if why in ("memory", "tasks"):
        held = run.model_dump(include={"kind", "cpu", "memory_bytes"})
        if why == "memory":
            return "failed", "out_of_memory", memory_words(took, held)
        return "failed", "beyond_grant", tasks_words(took, held)
    if why in ("late", "start_failed"):
        return "failed", "start_failed", told or "Ray started it too late"
    if why == "exit":
        return ("succeeded", None, "") if code == 0 else ("failed", "exit", f"the command ended with status {code}")
    if found.status == "STOPPED" or why == "stopped":
        # Nobody here asked for it: the control plane takes that for a loss.
        return stop or "cancelled", stop or "cancelled", "" if stop else "it was stopped at the cluster"
    if found.status == "SUCCEEDED":
        return "succeeded", None, ""
    if found.trouble == "RUNTIME_ENV_SETUP_FAILURE":
        return "failed", "start_failed", f"Ray could not bring its files to the node: {found.message}"
    return stop or "lost", stop or "lost", f"Ray lost it: {found.message or found.trouble or found.status}"
