"""Parts of a run's result on their way while the run goes on: from the worker to this disk, and on as events.

A part that has arrived here is told, and the agent brings it to the control plane. Of a run that is adopted all parts are told again:
those that lie here already are not read a second time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from cluster.errors import WorkerGoneError
from cluster.protocol import ResultFile, RunEvent, RunPart

CHUNK_BYTES = 4 * 1024 * 1024

ReadOutput = Callable[[str, int, int], Awaitable[bytes]]


class PartCollector:
    """The parts of one run. `read` asks the worker for a piece of a file, `directory` is where files go."""

    def __init__(self, run_id: str, read: ReadOutput, directory: Path, emit: Callable[[RunEvent], None]) -> None:
        self._run_id, self._read, self._directory, self._emit = run_id, read, directory, emit
        self._wanted: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._arrived: dict[str, ResultFile] = {}
        self._work: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    def add(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """These lie whole at the worker: `{"name", "size_bytes"}`."""
        for part in parts:
            self._wanted.put_nowait((part["name"], part["size_bytes"]))

    def begin(self) -> None:
        """The worker can be asked now."""
        self._work = asyncio.create_task(self._fetch_all())

    async def drained(self) -> None:
        """All that was added has arrived, or cannot arrive any more."""
        if self._work is not None:
            waiting = asyncio.create_task(self._wanted.join())
            await asyncio.wait([waiting, self._work], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def all(self) -> tuple[ResultFile, ...]:
        """The files that have arrived. Raises what kept one from it: WorkerGoneError, OSError."""
        if self._failure is not None:
            raise self._failure
        return tuple(file for _, file in sorted(self._arrived.items()))

    async def close(self) -> None:
        """Fetch no more."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _fetch_all(self) -> None:
        try:
            while True:
                name, size = await self._wanted.get()
                if name not in self._arrived:
                    self._arrived[name] = file = await self._fetch(name, size)
                    self._emit(RunPart(run_id=self._run_id, file=file, directory=str(self._directory)))
                self._wanted.task_done()
        except (WorkerGoneError, OSError) as error:
            self._failure = error

    async def _fetch(self, name: str, size: int) -> ResultFile:
        path = self._directory / plain_name(name)
        if path.is_file() and path.stat().st_size == size:
            with path.open("rb") as stream:
                found = await asyncio.to_thread(hashlib.file_digest, stream, "sha256")
            return ResultFile(name=name, size_bytes=size, sha256=found.hexdigest())
        return await fetch_file(path, name, size, self._read)


async def fetch_file(path: Path, name: str, size: int, read: ReadOutput) -> ResultFile:
    """Write a result file here chunk by chunk; it appears under its name when it is whole. Raises OSError, and what `read` raises."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial, digest, offset = path.with_name(f".{path.name}"), hashlib.sha256(), 0

    def add(file: BinaryIO, chunk: bytes) -> None:
        file.write(chunk)
        digest.update(chunk)

    try:
        with partial.open("wb") as file:
            while offset < size:
                chunk = await read(name, offset, CHUNK_BYTES)
                if not chunk:
                    raise OSError(f"the result file {name} became shorter while it was read")
                if len(chunk) < CHUNK_BYTES:
                    add(file, chunk)
                else:
                    # The agent serves other runs meanwhile.
                    await asyncio.to_thread(add, file, chunk)
                offset += len(chunk)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return ResultFile(name=name, size_bytes=offset, sha256=digest.hexdigest())


def plain_name(name: str) -> PurePosixPath:
    """A relative path that stays below its directory. Raises ValueError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} is no name for a result file")
    return path
