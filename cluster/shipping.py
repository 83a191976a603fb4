"""From a backend's events to what the control plane is told: logs and results first, then the observation.

Each run has its own line, so that a large result holds up no other run. Within a line the order is kept: the
observation that a run ended is queued after its last log piece and result file have arrived, so whoever
commits the end finds everything in its place. Nothing is dropped while the control plane is away.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cluster.errors import AuthenticationError, PermanentError, ReportRefusedError, StorageFullError, StoreAwayError, TransientError
from cluster.link import ControlLink
from cluster.protocol import (
    Category,
    Observation,
    ResultFile,
    RunEvent,
    RunFinished,
    RunLog,
    RunPart,
    RunProgress,
    RunRequest,
    RunStarted,
    RunStarting,
    SmallFile,
)
from cluster.timing import Backoff

log = logging.getLogger("cpn.agent")
MAX_LOG_PIECE = 1024**2
PARALLEL_FILES = 4
START_RESTS_S = 0.02
NO_ROOM_PATIENCE_S = 60.0
STORE_PATIENCE_S = 600.0
FEW = 30  # Observations that are told whole, whatever they say.
MOST_CONTENT = 1024**2  # Of results in one report.

Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass
class TrackedRun:
    """What the agent remembers of a run between its start (or adoption) and the order to forget it."""

    epoch: int
    over: bool = False
    stale: bool = False
    forget_when_over: bool = False
    resting: asyncio.TimerHandle | None = None
    shipped: set[str] = field(default_factory=set)  # Parts of the result that the control plane has.


class Shipping:
    """Takes events, brings logs and files to the control plane and keeps `pending` observations in order."""

    def __init__(
        self, link: ControlLink, runs: dict[str, TrackedRun], spawn: Spawn, *,
        on_pending: Callable[[], None], on_over: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._link, self._runs, self._spawn = link, runs, spawn
        self._on_pending, self._on_over = on_pending, on_over
        self._lines: dict[str, deque[RunEvent]] = {}
        self._pending: deque[Observation] = deque()
        self._files = asyncio.Semaphore(PARALLEL_FILES)

    def accept(self, event: RunEvent) -> None:
        """Take an event into its run's line. Events of unknown and of ended runs are repeats and ignored."""
        run = self._runs.get(event.run_id)
        if run is None or run.over:
            log.debug("event of a run that is not tracked", extra={"run_id": event.run_id, "event": event.type})
            return
        line = self._lines.get(event.run_id)
        if line is not None:
            line.append(event)
        elif _needs_upload(event):
            self._lines[event.run_id] = deque([event])
            self._spawn(self._work(event.run_id, run))
        else:
            self._observe(run, event)

    def batch(self, size: int) -> tuple[Observation, ...]:
        """The oldest observations that the control plane has not accepted, as many as one report may carry."""
        left, taken = MOST_CONTENT, list[Observation]()
        for observation in islice(self._pending, size):
            left -= _content_of(observation.event)
            if left < 0 and taken:
                break
            taken.append(observation)
        return tuple(taken)

    def accepted(self, count: int) -> None:
        """The control plane has the oldest `count` observations."""
        for _ in range(count):
            self._pending.popleft()

    def replace_first(self, observation: Observation | None) -> None:
        """Put another observation in place of the oldest, or none."""
        self._pending.popleft()
        if observation is not None:
            self._pending.appendleft(observation)

    async def _work(self, run_id: str, run: TrackedRun) -> None:
        line = self._lines[run_id]
        try:
            while line:
                event = line.popleft()
                if isinstance(event, RunLog):
                    await self._ship_log(run, _join(event, line))
                elif isinstance(event, RunPart):
                    await self._ship_part(run, event)
                elif isinstance(event, RunFinished):
                    self._observe(run, await self._ship_files(run, event))
                else:
                    self._observe(run, event)
        finally:
            del self._lines[run_id]

    def _observe(self, run: TrackedRun, event: RunEvent) -> None:
        self._pending.append(Observation(epoch=run.epoch, event=_public(event)))
        if run.resting is not None:
            run.resting.cancel()
        if isinstance(event, RunStarting | RunStarted):
            # What nobody waits for goes with what comes next: of a small run that is its end, a few milliseconds later.
            run.resting = asyncio.get_running_loop().call_later(START_RESTS_S, self._on_pending)
        else:
            self._on_pending()
        if isinstance(event, RunFinished):
            run.over = True
            self._on_over(event.run_id)

    async def _ship_log(self, run: TrackedRun, piece: RunLog) -> None:
        for offset, text in _cut(piece.offset, piece.text):
            if run.stale:
                return
            try:
                accepted = await _insist(partial(self._link.upload_log, piece.run_id, run.epoch, offset, text))
            except AuthenticationError:
                raise
            except PermanentError as error:
                log.error("a piece of log was refused and is dropped: %s", error, extra={"run_id": piece.run_id, "offset": offset})
                continue
            run.stale = not accepted

    async def earlier_parts(self, run: RunRequest) -> RunRequest:
        """A run of kind map with the parts of its result that earlier attempts brought. Raises ClusterError."""
        if run.kind != "map" or run.attempt == 1:
            return run
        return run.model_copy(update={"parts": await self._link.take_over_parts(run.run_id, run.epoch)})

    async def granted(self, run: RunRequest) -> RunRequest:
        """A run with a place where it may put a large result itself, where there is one for it. Raises ClusterError."""
        return run.model_copy(update={"deposit": await self._link.ask_deposit(run.run_id, run.epoch)})

    async def _ship_part(self, run: TrackedRun, event: RunPart) -> None:
        """Upload a part ahead of the end. One that is refused now comes again with it, and what is said of it then counts."""
        if run.stale or event.file.name in run.shipped:
            return
        try:
            async with self._files:
                accepted = await _insist(partial(self._link.upload_result, event.run_id, run.epoch, event.file.name, _place(event)))
        except AuthenticationError:
            raise
        except (PermanentError, OSError) as error:
            log.warning("part %s of %s was not taken yet: %s", event.file.name, event.run_id, error)
            return
        run.stale = not accepted
        if accepted:
            run.shipped.add(event.file.name)

    async def _ship_files(self, run: TrackedRun, event: RunFinished) -> RunFinished:
        """Upload every file; the event as it may be reported then."""
        if event.deposit:
            return await self._take_deposit(run, event)
        arrived: list[ResultFile] = []
        for file in event.files:
            if isinstance(file, SmallFile):
                arrived.append(file)
                continue
            if run.stale:
                break
            if file.name in run.shipped or file.name in event.brought:
                arrived.append(file)
                continue
            path = Path(event.directory) / file.name
            try:
                async with self._files:
                    accepted = await _insist(partial(self._link.upload_result, event.run_id, run.epoch, file.name, path))
            except AuthenticationError:
                raise
            except PermanentError as error:
                return _without_result(event, arrived, _category(error), f"the result file {file.name} was refused: {error}")
            except OSError as error:
                return _without_result(event, arrived, "infrastructure", f"the result file {file.name} cannot be read: {error}")
            run.stale = not accepted
            arrived.append(file)
        return event

    async def _take_deposit(self, run: TrackedRun, event: RunFinished) -> RunFinished:
        """Have the control plane take in what the run has put into a store itself; the event as it may be reported then."""
        if run.stale:
            return event
        try:
            take = partial(self._link.take_deposit, event.run_id, run.epoch, event.deposit, event.files)
            run.stale = not await _insist(take)
        except AuthenticationError:
            raise
        except PermanentError as error:
            return _without_result(event, [], _category(error), f"the result was put into its store, and is not taken from there: {error}")
        except StoreAwayError as error:
            return _without_result(event, [], "infrastructure", f"the result lies in its store, which cannot be used: {error}")
        return event


def without_implied(observations: tuple[Observation, ...]) -> tuple[Observation, ...]:
    """Of many observations those that say more than others do: that a run has succeeded says that it was taken and that its work began."""
    if len(observations) <= FEW:
        return observations
    done = {item.event.run_id for item in observations if isinstance(item.event, RunFinished) and item.event.outcome == "succeeded"}
    return tuple([item for item in observations if not (isinstance(item.event, RunStarting | RunStarted) and item.event.run_id in done)])


def reduced(observation: Observation, reason: str) -> Observation | None:
    """What can still be said when the control plane refuses an observation: that the run ended. None for all else."""
    event = observation.event
    if not isinstance(event, RunFinished) or (event.preview is None and not event.files and event.category == "infrastructure"):
        return None
    message = f"the report of the end ({event.outcome}) was refused: {reason}"
    plain = RunFinished(run_id=event.run_id, outcome="failed", category="infrastructure", message=message, at=event.at)
    return Observation(epoch=observation.epoch, event=plain)


def _category(error: PermanentError) -> Category:
    if isinstance(error, StorageFullError):
        return "storage"
    return "result" if isinstance(error, ReportRefusedError) else "data"


async def _insist(call: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
    """Try until the control plane answers, and for NO_ROOM_PATIENCE_S while it has no room, or STORE_PATIENCE_S while it cannot use a
    store, for the work is done already.

    Raises AuthenticationError (ends the agent), other PermanentErrors, StoreAwayError, OSError.
    """
    backoff, clock = Backoff(), asyncio.get_running_loop().time
    began = clock()
    while True:
        try:
            return await call()
        except StorageFullError:
            if clock() >= began + NO_ROOM_PATIENCE_S:
                raise
            await backoff.pause()
        except StoreAwayError:
            if clock() >= began + STORE_PATIENCE_S:
                raise
            await backoff.pause()
        except TransientError as error:
            log.debug("upload failed, trying again: %s", error)
            await backoff.pause()


def _place(event: RunPart) -> Path:
    return Path(event.directory) / event.file.name


def _needs_upload(event: RunEvent) -> bool:
    return isinstance(event, RunLog | RunPart) or (
        isinstance(event, RunFinished) and not all(isinstance(file, SmallFile) for file in event.files)
    )


def _content_of(event: RunEvent) -> int:
    """How much of a result the event carries, in characters of base64."""
    return _content(event.files) if isinstance(event, RunFinished) else 0


def _content(files: Sequence[ResultFile]) -> int:
    return sum(len(file.content) for file in files if isinstance(file, SmallFile))


def _public(event: RunEvent) -> RunEvent:
    """The event as it may leave the agent: without its private directory, and with numbers that JSON can carry."""
    if isinstance(event, RunFinished) and event.directory:
        return event.model_copy(update={"directory": ""})
    if isinstance(event, RunProgress) and not all(map(math.isfinite, event.metrics.values())):
        return event.model_copy(update={"metrics": {name: value for name, value in event.metrics.items() if math.isfinite(value)}})
    return event


def _join(first: RunLog, line: deque[RunEvent]) -> RunLog:
    """The first piece with those that follow it without a gap, up to MAX_LOG_PIECE bytes."""
    texts, end = [first.text], first.offset + len(first.text.encode())
    while line and isinstance(line[0], RunLog) and line[0].offset == end and end - first.offset < MAX_LOG_PIECE:
        text = line[0].text
        line.popleft()
        texts.append(text)
        end += len(text.encode())
    return first.model_copy(update={"text": "".join(texts)})


def _cut(offset: int, text: str) -> Sequence[tuple[int, str]]:
    """Pieces of at most MAX_LOG_PIECE bytes, no character cut in two, with their offsets."""
    data = text.encode()
    pieces, start = [], 0
    while start < len(data):
        end = min(start + MAX_LOG_PIECE, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append((offset + start, data[start:end].decode()))
        start = end
    return pieces


def _without_result(event: RunFinished, arrived: list[ResultFile], category: Category, message: str) -> RunFinished:
    """The end of a run whose result did not arrive whole: a success becomes a failure, another end keeps its cause."""
    update: dict[str, object] = {"files": tuple(arrived), "message": "; ".join(filter(None, (event.message, message)))}
    if event.outcome == "succeeded":
        update |= {"outcome": "failed", "category": category, "files": (), "preview": None}
    return event.model_copy(update=update)
