"""Logs and results of runs, as files in the data directory.

Agents bring both while the run is current. A log is written at its byte offset, so the same piece may come twice
(`run_logs`). A result file appears under its name only when it has arrived whole: until then it is in `incoming/`, which
is emptied when a server begins.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.full_disk import is_full
from cluster.protocol import ResultFile
from controlplane.incoming import Incoming
from controlplane.run_logs import RunLogs

RUN_ID = re.compile(r"^[a-z0-9-]{1,48}$")
NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_. -]*(/[A-Za-z0-9_][A-Za-z0-9_. -]*)*$")
MOST_SUMS = 4096


class TooLargeError(Exception):
    """A result is over the limit."""


class NoRoomError(Exception):
    """The disk of the data directory is full."""


class RunFiles:
    """`results/<run>/…` under the data directory, and `logs` beside them. `max_result_bytes` is for all files of a run together."""

    def __init__(self, data_dir: Path, *, max_log_bytes: int, max_result_bytes: int) -> None:
        self.logs = RunLogs(data_dir / "logs", max_log_bytes)
        self._results, self._incoming, self._max_result = data_dir / "results", data_dir / "incoming", max_result_bytes
        self._numbers, self._sums = itertools.count(), _Sums()
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._results, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def append_log(self, run_id: str, offset: int, data: bytes) -> None:
        """Write a piece of a log at its offset. Raises ValueError for what is no run id."""
        self.logs.append(_checked(RUN_ID, run_id), offset, data)

    def result_path(self, run_id: str, name: str) -> Path:
        """Where a result file is. Raises ValueError for a name that is not plain."""
        return self._results / _checked(RUN_ID, run_id) / _checked(NAME, name)

    def check_room(self, run_id: str, name: str, size: int) -> None:
        """Whether a result file of `size` bytes would be taken. Raises TooLargeError, NoRoomError, ValueError."""
        self.check_limit(name, size + self._brought(run_id, self.result_path(run_id, name)))
        if size > shutil.disk_usage(self._incoming).free:
            raise _no_room(name)

    def check_limit(self, name: str, size: int) -> None:
        """Whether a result may be of this size with this file. Raises TooLargeError."""
        if size > self._max_result:
            raise TooLargeError(
                f"with {name} the result is over the limit of {self._max_result} bytes; write less to it, put it where its "
                "readers can fetch it, or have the operator raise CPN_MAX_RESULT_BYTES"
            )

    async def receive(self, run_id: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a result file; it appears when it is whole, and nothing of it stays else. Raises TooLargeError, NoRoomError."""
        path = self.result_path(run_id, name)
        size = await asyncio.to_thread(self._brought, run_id, path)
        # Numbered, because an agent that heard no answer may send the file again while the first one still arrives.
        part = self._incoming / f"{run_id}-{next(self._numbers)}"
        try:
            with _room_for(name):
                with part.open("wb") as handle:
                    incoming = Incoming(handle)
                    async for chunk in chunks:
                        size += len(chunk)
                        self.check_limit(name, size)
                        await incoming.add(chunk)
                    found = await incoming.finish()
                self._sums.note(part, path, found)
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def missing(self, run_id: str, files: tuple[ResultFile, ...]) -> str:
        """The first announced file that did not arrive as announced; empty when all did."""
        for file in files:
            path = self.result_path(run_id, file.name)
            if not path.is_file() or path.stat().st_size != file.size_bytes or self._sums.of(path) != file.sha256:
                return file.name
        return ""

    def take_over(self, run_id: str, earlier: Iterable[str]) -> list[ResultFile]:
        """Make the files of earlier runs those of this one; all that it has then, by name. Twice does no harm."""
        folder = self._results / _checked(RUN_ID, run_id)
        for other in earlier:
            left = self._results / _checked(RUN_ID, other)
            for path in sorted(left.iterdir()) if left.is_dir() else ():
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.replace(folder / path.name)
            shutil.rmtree(left, ignore_errors=True)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [ResultFile(name=path.name, size_bytes=path.stat().st_size, sha256=self._sums.of(path)) for path in found]

    def drop_results(self, run_id: str) -> None:
        """Remove what a run brought that did not succeed."""
        shutil.rmtree(self._results / _checked(RUN_ID, run_id), ignore_errors=True)

    def result_sizes(self) -> dict[str, int]:
        """Bytes of the result files that are there, by run."""
        return {folder.name: self._brought(folder.name, folder) for folder in self._results.iterdir()}

    def _brought(self, run_id: str, besides: Path) -> int:
        """Bytes of the files that a run has brought, without the one that comes again now."""
        folder = self._results / run_id
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != besides)


class _Sums:
    """SHA-256 of files by their path. Those of files that arrived lately are known: to read a large one again takes longer than its
    agent waits for an answer."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def note(self, lies: Path, path: Path, sha256: str) -> None:
        """The sum of a file that is about to be moved to `path`."""
        self._known.pop(path, None)
        self._known[path] = _stamp(lies), sha256
        if len(self._known) > MOST_SUMS:
            del self._known[next(iter(self._known))]

    def of(self, path: Path) -> str:
        """Known, or found by reading all of it."""
        stamp, known = self._known.get(path, (None, ""))
        if stamp == _stamp(path):
            return known
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _room_for(name: str) -> Iterator[None]:
    """What the disk raises when it is full, as NoRoomError."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise _no_room(name) from error


def _no_room(name: str) -> NoRoomError:
    return NoRoomError(f"the server's disk has no room for the result file {name}; its operator must free some in the data directory")


def _checked(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.match(text):
        raise ValueError(f"{text!r} is not an acceptable name")
    return text
