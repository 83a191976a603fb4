"""Parts of a result on their way to the agent's disk: each told once when it is whole, and again by the next agent without being read."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from cluster.errors import WorkerGoneError
from cluster.protocol import ResultFile, RunEvent, RunPart
from cluster.runs.parts import PartCollector

CONTENT = {"a": b"x" * 10, "b": b"", "c": b"yz"}


class Worker:
    """What the files are read from; `gone` after so many pieces."""

    def __init__(self, gone: int = 100) -> None:
        self.read_names: list[str] = []
        self._gone = gone

    async def read(self, name: str, offset: int, length: int) -> bytes:
        if len(self.read_names) >= self._gone:
            raise WorkerGoneError("it is gone")
        self.read_names.append(name)
        return CONTENT[name][offset : offset + min(length, 4)]


def file(name: str) -> ResultFile:
    data = CONTENT[name]
    return ResultFile(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


async def collected(worker: Worker, folder: Path, names: str) -> tuple[list[RunEvent], tuple[ResultFile, ...]]:
    told: list[RunEvent] = []
    parts = PartCollector("a-1", worker.read, folder, told.append)
    parts.add({"name": name, "size_bytes": len(CONTENT[name])} for name in names)
    parts.begin()
    await parts.drained()
    await parts.close()
    return told, await parts.all()


def test_each_part_is_told_once_when_it_is_whole(tmp_path: Path) -> None:
    told, files = asyncio.run(collected(Worker(), tmp_path / "new", "abca"))
    assert told == [RunPart(run_id="a-1", file=file(name), directory=str(tmp_path / "new")) for name in "abc"]
    assert files == tuple(map(file, "abc"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == CONTENT


def test_what_lies_here_is_told_again_and_not_read_again(tmp_path: Path) -> None:
    asyncio.run(collected(Worker(), tmp_path, "ab"))
    worker = Worker()
    told, _ = asyncio.run(collected(worker, tmp_path, "abc"))
    assert [event.file.name for event in told if isinstance(event, RunPart)] == ["a", "b", "c"]
    assert worker.read_names == ["c"]


def test_of_a_worker_that_is_gone_what_arrived_stays_and_the_end_says_why(tmp_path: Path) -> None:
    async def broken() -> None:
        told: list[RunEvent] = []
        parts = PartCollector("a-1", Worker(gone=3).read, tmp_path, told.append)
        parts.add([{"name": "a", "size_bytes": 10}, {"name": "c", "size_bytes": 2}, {"name": "c", "size_bytes": 2}])
        parts.begin()
        await parts.drained()
        await parts.close()
        assert len(told) == 1
        with pytest.raises(WorkerGoneError):
            await parts.all()

    asyncio.run(broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
