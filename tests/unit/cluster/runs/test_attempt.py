"""An attempt on a full disk of its agent: the run ends and says why, and nothing half is left."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

from cluster.protocol import SMALL_BYTES, ResultFile, RunEvent, RunFinished, SmallFile
from cluster.runs.attempt import Attempt
from cluster.runs.journal import Journals
from tests.unit.cluster.control import run_request


class Delivering(Attempt):
    """Its one worker has succeeded and has two files, of which some came with its end."""

    inline: dict[str, bytes]

    async def _drive(self, *, new: bool) -> None:
        assert new
        files = [{"name": name, "size_bytes": len(self.inline.get(name, b"abc"))} for name in ("a", "b")]
        self._absorb(0, {"started": 1.0, "finished": {"outcome": "succeeded", "at": 2.0, "files": files}})

    async def _collect(self, end: dict[str, Any]) -> tuple[ResultFile, ...]:
        async def read(name: str, _offset: int, _size: int) -> bytes:
            if name == "b":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return b"abc"

        return await self._fetch_files(end["files"], read, self.inline)

    async def _release(self) -> None:
        """Nothing is held."""

    async def discard(self) -> None:
        """Nothing is there."""


def events_of(journals: Journals, inline: dict[str, bytes] | None = None, **fields: int) -> list[RunEvent]:
    events: list[RunEvent] = []

    async def live() -> None:
        attempt = Delivering(run_request(**fields), journals, events.append, workers=1)
        attempt.inline = inline or {}
        attempt.begin()
        await attempt.wait()
        await attempt.detach()

    asyncio.run(live())
    return events


def test_small_files_travel_with_the_end_and_need_no_folder(tmp_path: Path) -> None:
    journals = Journals(tmp_path)
    end = events_of(journals, {"a": b"abc", "b": b"def"})[-1]
    assert isinstance(end, RunFinished)
    assert (end.files, end.directory) == ((SmallFile.of("a", b"abc"), SmallFile.of("b", b"def")), "")
    assert not journals.results("a-1").exists()
    recorded = journals.read("a-1")
    assert recorded is not None
    assert recorded.finished == end, "the next agent tells the same"


def test_files_that_are_not_all_small_are_written_here(tmp_path: Path) -> None:
    journals = Journals(tmp_path)
    large = b"x" * (SMALL_BYTES + 1)
    end = events_of(journals, {"a": b"abc", "b": large})[-1]
    assert isinstance(end, RunFinished)
    assert [type(file) for file in end.files] == [ResultFile, ResultFile]
    assert Path(end.directory, "b").read_bytes() == large


def test_a_full_disk_while_results_are_collected(tmp_path: Path) -> None:
    journals = Journals(tmp_path)
    end = events_of(journals)[-1]
    assert isinstance(end, RunFinished)
    assert (end.outcome, end.category, end.files) == ("failed", "storage", ())
    assert "No space left on device" in end.message
    assert not journals.results("a-1").exists()


def test_a_result_over_the_limit_is_not_collected(tmp_path: Path) -> None:
    journals = Journals(tmp_path)
    end = events_of(journals, max_result_bytes=5)[-1]
    assert isinstance(end, RunFinished)
    assert (end.outcome, end.category, end.files) == ("failed", "result", ())
    assert "the result of 6 bytes is over the limit of 5 bytes (CPN_MAX_RESULT_BYTES)" in end.message
    assert not journals.results("a-1").exists()
