"""One run as its agent sees it: what all runs of all backends have in common.

An attempt is driven by one task, writes its journal before it passes anything on, and ends exactly once. What differs,
who works and how they are started and stopped, is a backend's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from cluster.errors import WorkerGoneError
from cluster.full_disk import is_full
from cluster.protocol import SMALL_BYTES, GangSize, Preview, ResultFile, RunEvent, RunFinished, RunRequest, SmallFile
from cluster.runs.journal import Journals, Recorded, Sized
from cluster.runs.outbox import Batch
from cluster.runs.parts import ReadOutput, fetch_file, plain_name
from cluster.runs.stream import RunStream

logger = logging.getLogger(__name__)

StopOutcome = Literal["cancelled", "preempted", "lost"]
Emit = Callable[[RunEvent], None]

NEXT_WAIT_S = 30.0
STOP_MARGIN_S = 5.0


class Attempt(ABC):
    """A run in progress or over. `begin` or `resume` once, then `confirm` and `stop` as often as wanted."""

    def __init__(self, run: RunRequest, journals: Journals, emit: Emit, *, workers: int) -> None:
        self.run = run
        self.finished = False
        self._journals, self._emit = journals, emit
        self._journal = journals.open(run.run_id)
        self._stream = RunStream(run.run_id, workers, elastic=run.elastic)
        self._stopping: asyncio.Future[tuple[StopOutcome, float]] = asyncio.get_running_loop().create_future()
        self._confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whom the work was asked for; None as long as nobody can have begun it.
        self._asked: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._names: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """It was adopted, its work is not known to have begun, and nobody has said since that it may."""
        return not (self._confirmed.done() or self.finished or self._stream.announced)

    def confirm(self) -> None:
        """The run is still wanted."""
        if not self._confirmed.done():
            self._confirmed.set_result(None)

    def begin(self) -> None:
        """Start a new run."""
        self.confirm()
        self._journal.begin(self.run)
        self._pass_on(self._stream.begin())
        self._task = asyncio.create_task(self._live(new=True), name=f"run {self.run.run_id}")

    def resume(self, recorded: Recorded | None, names: Sequence[str] = ()) -> None:
        """Go on with a run of an earlier agent: tell again what its journal says, then what its workers say.

        `names` are those of the actors that the cluster has for it. Work that has not begun waits until it is confirmed.
        """
        self._names = tuple(names)
        if recorded is None:
            self._journal.begin(self.run)
            self._ask("")
        elif recorded.asked is not None or recorded.batches:
            self._asked = recorded.asked or ""
        self._pass_on(self._stream.begin())
        for news in recorded.batches if recorded else ():
            if isinstance(news, Sized):
                self._retrace(news)
            else:
                self._pass_on(self._stream.absorb(*news))
                self._recall(news[1])
        if recorded is not None and recorded.finished is not None:
            self.finished = True
            self._emit(recorded.finished)
        else:
            self._task = asyncio.create_task(self._live(new=False), name=f"run {self.run.run_id}")

    def _ask(self, whom: str) -> None:
        """Note, before anybody is asked to begin the work, that from now on it may have begun. Raises OSError when this disk is full."""
        if self._asked != whom:
            self._journal.ask(whom)
            self._asked = whom

    async def _is_wanted(self) -> bool:
        """Wait until it is said that the run is wanted; False when it is to stop instead."""
        await first_of(self._confirmed, self._stopping)
        return not self._stopping.done()

    def stop(self, outcome: StopOutcome, grace_s: float) -> None:
        """Ask for the end. The first request counts."""
        if not self._stopping.done() and not self.finished:
            self._stopping.set_result((outcome, grace_s))

    def resize(self, size: GangSize, grace_s: float) -> None:  # noqa: B027
        """Ask for another size, where the run may have one."""

    async def detach(self) -> None:
        """Leave the run to go on without this agent."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        self._journal.close()

    async def wait(self) -> None:
        """Until the run is over and its workers are released."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _retrace(self, change: Sized) -> None:  # noqa: B027
        """A change of size that an earlier agent wrote down."""

    def _recall(self, batch: Batch) -> None:  # noqa: B027
        """News that an earlier agent took in."""

    @abstractmethod
    async def _drive(self, *, new: bool) -> None:
        """Take the run from where it stands to the end of all its workers."""

    @abstractmethod
    async def _collect(self, end: dict[str, Any]) -> tuple[ResultFile, ...]:
        """Bring the result's files here."""

    @abstractmethod
    async def _release(self) -> None:
        """Let go of the workers, as far as they are not needed for a later agent."""

    @abstractmethod
    async def discard(self) -> None:
        """Remove what is left of the run on the cluster."""

    async def _live(self, *, new: bool) -> None:
        try:
            await self._drive(new=new)
            await self._conclude()
        except asyncio.CancelledError:
            raise
        except WorkerGoneError as error:
            self._finish({"outcome": "lost", "category": "lost", "message": str(error)}, ())
        except Exception as error:  # whatever breaks here, the run must end
            logger.exception("run %s failed in its agent", self.run.run_id)
            category = "storage" if is_full(error) else "infrastructure"
            self._finish({"outcome": "failed", "category": category, "message": f"{type(error).__name__}: {error}"}, ())
        await self._release()

    async def _conclude(self) -> None:
        """All workers have ended: files, then the end."""
        end = self._stream.end()
        files: tuple[ResultFile, ...] = ()
        size, most = sum(file["size_bytes"] for file in end.get("files", ())), self.run.max_result_bytes
        if most is not None and size > most:
            # It would be refused, so it is not brought here first, where it might fill the disk.
            message = f"the result of {size} bytes is over the limit of {most} bytes (CPN_MAX_RESULT_BYTES); write less to it"
            end = {**end, "outcome": "failed", "category": "result", "message": message}
        elif end["outcome"] == "succeeded" and end.get("files"):
            files = await self._collect(end)
        self._finish(end, files)

    def _absorb(self, rank: int, batch: Batch) -> None:
        """Take in a worker's news: journal first."""
        if batch:
            self._journal.batch(rank, batch)
            self._pass_on(self._stream.absorb(rank, batch))
            if self._stream.announced or self._stream.first_end is not None:
                # What has begun need not be told that it may, and its end must not wait for that.
                self.confirm()

    def _end_rank(self, rank: int, outcome: str, category: str, message: str) -> None:
        """Say for a worker that cannot say it any more how it ended."""
        if not self._stream.is_over(rank):
            end = {"outcome": outcome, "category": category, "message": message, "at": time.time()}
            self._absorb(rank, {"finished": end})

    def _finish(self, end: dict[str, Any], files: tuple[ResultFile, ...]) -> None:
        preview = end.get("preview")
        finished = RunFinished(
            run_id=self.run.run_id,
            outcome=end["outcome"],
            category=end.get("category"),
            exit_code=end.get("exit_code"),
            message=end.get("message", ""),
            at=end.get("at") or time.time(),
            preview=Preview(**preview) if preview and end["outcome"] == "succeeded" else None,
            files=files,
            brought=tuple(part.name for part in self.run.parts) if files else (),
            directory=str(self._journals.results(self.run.run_id)) if not all(isinstance(file, SmallFile) for file in files) else "",
            deposit=end.get("deposit", "") if files else "",
            usage=self._stream.usage(),
        )
        # The end is told even when this disk is full: without its record only a later agent knows less.
        with contextlib.suppress(OSError):
            self._journal.finish(finished)
        self.finished = True
        self._emit(finished)

    def _pass_on(self, events: list[RunEvent]) -> None:
        for event in events:
            self._emit(event)

    def _results_directory(self) -> Path:
        """A fresh, private directory for the files."""
        directory = self._journals.results(self.run.run_id)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        return directory

    async def _fetch_files(self, wanted: list[dict[str, Any]], read: ReadOutput, inline: dict[str, bytes]) -> tuple[ResultFile, ...]:
        """The files `[{"name", "size_bytes"}]`: small ones as they came with the end, others written here chunk by chunk."""
        small = {name: SmallFile.of(str(plain_name(name)), data) for name, data in inline.items() if len(data) <= SMALL_BYTES}
        if len(small) == len(wanted):
            return tuple(small[entry["name"]] for entry in wanted)
        directory = self._results_directory()
        try:
            return await self._write_files(directory, wanted, read, inline)
        except BaseException:
            # Above all on a full disk nothing of a partial file stays.
            shutil.rmtree(directory, ignore_errors=True)
            raise

    async def _write_files(
        self, directory: Path, wanted: list[dict[str, Any]], read: ReadOutput, inline: dict[str, bytes]
    ) -> tuple[ResultFile, ...]:
        async def piece(name: str, offset: int, length: int) -> bytes:
            chunk: bytes = inline[name] if name in inline else await read(name, offset, length)
            return chunk

        return tuple([await fetch_file(directory / plain_name(one["name"]), one["name"], one["size_bytes"], piece) for one in wanted])


async def first_of(work: asyncio.Future[Any], stopping: asyncio.Future[Any], timeout_s: float | None = None) -> bool:
    """Wait for either; True when the work is done, False when a stop was asked for or the time is over."""
    await asyncio.wait([work, stopping], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    return work.done()


async def cancel(task: asyncio.Future[Any]) -> None:
    """End a task and wait for it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
