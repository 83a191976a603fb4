"""What a worker has to tell about one run, kept until its reader has seen it.

A reader says what it has seen and waits for more, so nothing is polled, nothing is lost when the reader dies, and a
new reader that has seen nothing gets everything again. Batches are plain dictionaries, for they cross Ray:
`{"started": s, "log": text, "progress": [{"step", "metrics", "at"}], "parts": [{"name", "size_bytes"}], "finished": {…}}`, each key only
when there is news; parts are files of the result that are whole before its end.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from cluster.runs.capped_log import CappedLog

Batch = dict[str, Any]
LOG_BYTES_PER_BATCH = 256 * 1024
PROGRESS_PER_BATCH = 1000
START_RESTS_S = 0.02


class Seen(TypedDict):
    """What the reader has: whether it knows the start, bytes of log, number of progress records and of parts of the result."""

    started: bool
    log: int
    progress: int
    parts: int


def nothing_seen() -> Seen:
    """Where a new reader begins."""
    return {"started": False, "log": 0, "progress": 0, "parts": 0}


def seen_with(seen: Seen, batch: Batch) -> Seen:
    """What a reader has with a batch that follows what it has."""
    return {
        "started": seen["started"] or "started" in batch,
        "log": seen["log"] + len(batch.get("log", "").encode()),
        "progress": seen["progress"] + len(batch.get("progress", ())),
        "parts": seen["parts"] + len(batch.get("parts", ())),
    }


class Outbox:
    """One run's news. All methods are called from one event loop."""

    def __init__(self, log: CappedLog | None = None) -> None:
        self.log = log
        self.started_at: float | None = None
        self.progress: list[dict[str, Any]] = []
        self.parts: list[dict[str, Any]] = []
        self.finished: dict[str, Any] | None = None
        self._news = asyncio.Event()

    def start(self, at: float) -> None:
        """The user's work has begun."""
        self.started_at = at
        self.notify()

    def finish(self, finished: dict[str, Any]) -> bool:
        """The run is over. Only the first end counts; says whether this was it."""
        if self.finished is not None:
            return False
        self.finished = finished
        self.notify()
        return True

    def notify(self) -> None:
        """Wake all readers: there is news."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def batch(self, seen: Seen) -> Batch:
        """All news for a reader who has seen this much; the end comes last, after the whole log."""
        batch: Batch = {}
        if self.started_at is not None and not seen["started"]:
            batch["started"] = self.started_at
        complete = True
        if self.log is not None and self.log.size > seen["log"]:
            text = self.log.read(seen["log"], LOG_BYTES_PER_BATCH)
            batch["log"] = text
            complete = seen["log"] + len(text.encode()) >= self.log.size
        progress = self.progress[seen["progress"] : seen["progress"] + PROGRESS_PER_BATCH]
        if progress:
            batch["progress"] = progress
            complete = complete and seen["progress"] + len(progress) == len(self.progress)
        parts = self.parts[seen["parts"] : seen["parts"] + PROGRESS_PER_BATCH]
        if parts:
            batch["parts"] = parts
            complete = complete and seen["parts"] + len(parts) == len(self.parts)
        if complete and self.finished is not None:
            batch["finished"] = self.finished
        return batch

    async def next(self, seen: Seen, wait_s: float) -> Batch:
        """News as soon as there is any, a start after START_RESTS_S or with what comes before that; empty after `wait_s`."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        batch = self.batch(seen)
        while not batch and await self._wait(deadline):
            batch = self.batch(seen)
        if batch.keys() == {"started"}:
            # A small run is over in a moment; the news of its start and of its end are one message then, all the way.
            await self._wait(min(deadline, clock() + START_RESTS_S))
            batch = self.batch(seen)
        return batch

    async def _wait(self, deadline: float) -> bool:
        """False when the time is over."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            return False
        return True
