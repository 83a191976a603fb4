"""Logs and results of runs, as files in the data directory.

Agents bring both while the run is current. A log is written at its byte offset, so the same piece may come
twice. A result file appears under its name only when it has arrived whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from cluster.protocol import ResultFile

RUN_ID = re.compile(r"^[a-z0-9-]{1,48}$")
NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_. -]*(/[A-Za-z0-9_][A-Za-z0-9_. -]*)*$")
DROPPED = "\n[cpn: the log is over its limit; what follows is dropped]\n"


class TooLargeError(Exception):
    """A result is over the limit."""


class RunFiles:
    """`logs/<run>.log` and `results/<run>/…` under the data directory."""

    def __init__(self, data_dir: Path, *, max_log_bytes: int, max_result_bytes: int) -> None:
        self._logs, self._results = data_dir / "logs", data_dir / "results"
        self._max_log, self._max_result = max_log_bytes, max_result_bytes
        for folder in (self._logs, self._results):
            folder.mkdir(parents=True, exist_ok=True)

    def log_path(self, run_id: str) -> Path:
        """Where a run's log is. Raises ValueError for what is no run id."""
        return self._logs / f"{_checked(RUN_ID, run_id)}.log"

    def append_log(self, run_id: str, offset: int, data: bytes) -> None:
        """Write a piece of a log at its offset, up to the limit."""
        if offset >= self._max_log:
            return
        whole = data if offset + len(data) <= self._max_log else data[: self._max_log - offset] + DROPPED.encode()
        handle = os.open(self.log_path(run_id), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(handle, whole, offset)
        finally:
            os.close(handle)

    def read_log(self, run_id: str, offset: int, limit: int = 256 * 1024) -> bytes:
        """Bytes of a log from an offset; empty when there are none (yet)."""
        try:
            with self.log_path(run_id).open("rb") as handle:
                handle.seek(offset)
                return handle.read(limit)
        except FileNotFoundError:
            return b""

    def result_path(self, run_id: str, name: str) -> Path:
        """Where a result file is. Raises ValueError for a name that is not plain."""
        return self._results / _checked(RUN_ID, run_id) / _checked(NAME, name)

    async def receive(self, run_id: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a result file; it appears when it is whole. Raises TooLargeError."""
        path = self.result_path(run_id, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(path.name + ".part")
        size = 0
        try:
            with part.open("wb") as handle:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._max_result:
                        raise TooLargeError(f"the result file {name} is over the limit of {self._max_result} bytes")
                    handle.write(chunk)
                handle.flush()
                # The flush of a large file takes seconds, in which the event loop serves others.
                await asyncio.to_thread(os.fsync, handle.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def missing(self, run_id: str, files: tuple[ResultFile, ...]) -> str:
        """The first announced file that did not arrive as announced; empty when all did."""
        for file in files:
            path = self.result_path(run_id, file.name)
            if not path.is_file() or path.stat().st_size != file.size_bytes or _sha256(path) != file.sha256:
                return file.name
        return ""

    def drop_results(self, run_id: str) -> None:
        """Remove what a run brought that did not succeed."""
        shutil.rmtree(self._results / _checked(RUN_ID, run_id), ignore_errors=True)


def _checked(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.match(text):
        raise ValueError(f"{text!r} is not an acceptable name")
    return text


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
