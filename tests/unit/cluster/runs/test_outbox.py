"""A worker's news are kept until they were seen, and a reader waits for them without looking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cluster.runs.capped_log import CappedLog
from cluster.runs.outbox import LOG_BYTES_PER_BATCH, PROGRESS_PER_BATCH, Outbox, Seen, nothing_seen

END: dict[str, Any] = {"outcome": "succeeded", "category": None}
LONG_S = 60.0
T = TypeVar("T")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CappedLog]:
    log = CappedLog(tmp_path / "log")
    yield log
    log.close()


def seen(*, started: bool = True, log: int = 0, progress: int = 0, parts: int = 0) -> Seen:
    return {"started": started, "log": log, "progress": progress, "parts": parts}


def run(work: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(limited())


def test_a_batch_holds_what_was_not_seen(log: CappedLog) -> None:
    outbox = Outbox(log)
    assert outbox.batch(nothing_seen()) == {}
    outbox.start(5.0)
    log.write("é\n".encode())
    outbox.progress += [{"step": 1}, {"step": 2}]
    assert outbox.batch(nothing_seen()) == {"started": 5.0, "log": "é\n", "progress": [{"step": 1}, {"step": 2}]}
    assert outbox.batch(seen(log=2, progress=1)) == {"log": "\n", "progress": [{"step": 2}]}
    assert outbox.batch(seen(log=3, progress=2)) == {}


def test_parts_are_told_once_and_before_the_end(log: CappedLog) -> None:
    outbox = Outbox(log)
    outbox.parts += [{"name": str(number), "size_bytes": 1} for number in range(PROGRESS_PER_BATCH + 1)]
    outbox.finish(END)
    first = outbox.batch(seen())
    assert (len(first["parts"]), "finished" in first) == (PROGRESS_PER_BATCH, False)
    assert outbox.batch(seen(parts=PROGRESS_PER_BATCH)) == {"parts": [outbox.parts[-1]], "finished": END}


def test_the_end_comes_after_the_whole_log_and_all_progress(log: CappedLog) -> None:
    outbox = Outbox(log)
    log.write(b"x" * (LOG_BYTES_PER_BATCH + 10))
    outbox.progress += [{"step": step} for step in range(PROGRESS_PER_BATCH + 1)]
    outbox.finish(END)
    first = outbox.batch(seen())
    assert (len(first["log"]), len(first["progress"]), "finished" in first) == (LOG_BYTES_PER_BATCH, PROGRESS_PER_BATCH, False)
    second = outbox.batch(seen(log=LOG_BYTES_PER_BATCH))
    assert "finished" not in second, "progress is missing still"
    last = outbox.batch(seen(log=LOG_BYTES_PER_BATCH, progress=PROGRESS_PER_BATCH))
    assert (len(last["log"]), len(last["progress"]), last["finished"]) == (10, 1, END)


def test_only_the_first_end_counts() -> None:
    outbox = Outbox()
    assert outbox.finish(END)
    assert not outbox.finish({"outcome": "failed"})
    assert outbox.batch(nothing_seen()) == {"finished": END}


def test_every_reader_is_woken_by_news() -> None:
    async def scenario() -> None:
        outbox = Outbox()
        readers = [asyncio.create_task(outbox.next(nothing_seen(), LONG_S)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(reader.done() for reader in readers)
        outbox.finish(END)
        assert await asyncio.gather(*readers) == [{"finished": END}] * 2

    run(scenario())


def test_news_that_came_before_the_reader_are_told_at_once() -> None:
    outbox = Outbox()
    outbox.start(1.0)
    outbox.finish(END)
    assert run(outbox.next(nothing_seen(), 0.0)) == {"started": 1.0, "finished": END}


def test_a_reader_without_news_gets_nothing_after_its_time() -> None:
    outbox = Outbox()
    outbox.start(1.0)
    assert run(outbox.next(seen(), 0.01)) == {}


def test_a_start_is_told_without_waiting_for_the_end() -> None:
    async def scenario() -> None:
        outbox = Outbox()
        outbox.start(1.0)
        assert await outbox.next(nothing_seen(), LONG_S) == {"started": 1.0}

    run(scenario())


def test_a_start_and_the_end_that_follows_it_are_told_together() -> None:
    async def scenario() -> None:
        outbox = Outbox()
        reader = asyncio.create_task(outbox.next(nothing_seen(), LONG_S))
        await asyncio.sleep(0)
        outbox.start(1.0)
        await asyncio.sleep(0)
        outbox.finish(END)
        assert await reader == {"started": 1.0, "finished": END}

    run(scenario())


def test_a_start_does_not_rest_beyond_the_time_of_its_reader() -> None:
    outbox = Outbox()
    outbox.start(1.0)
    assert run(outbox.next(nothing_seen(), 0.0)) == {"started": 1.0}
