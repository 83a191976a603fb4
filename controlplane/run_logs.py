"""Logs of runs: the beginning of each and its latest part, within a limit on disk.

`<run>.log` is the beginning. What comes when that is full goes into segments, `<run>.tail/<offset of its first byte>`, the
oldest of which make room for new ones. An offset is one in the whole log, whatever of it is kept, so a reader learns how much is
missing where. A piece that comes again changes nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.full_disk import is_full

SEGMENTS = 4
READ_BYTES = 256 * 1024
LEAST_BYTES = 4096


@dataclass(frozen=True)
class Piece:
    """Bytes of a log, after `dropped` bytes that are not there any more. `end` is the offset behind it; without bytes there is no more."""

    data: bytes
    dropped: int
    end: int


class RunLogs:
    """All logs in a folder, each of at most `max_bytes` (LEAST_BYTES or more). Run ids are checked by the caller."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self.max_bytes = folder, max_bytes
        self._segment = max_bytes // 4 // SEGMENTS
        self._head = max_bytes - self._segment * SEGMENTS
        self._unstored: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, run_id: str, offset: int, data: bytes) -> None:
        """Write a piece at its offset. What a full disk does not take is counted, not kept, for a run must not wait because of its log."""
        path = self._folder / f"{run_id}.log"
        known = _size(path)
        stored = 0
        if offset < self._head and offset <= known:
            stored = _write(path, offset, data[: self._head - offset])
        whole = offset >= self._head or offset > known or offset + stored == self._head
        if stored < len(data) and whole:
            stored += self._append_tail(run_id, offset + stored, data[stored:])
        if stored < len(data):
            self._unstored[run_id] = self._unstored.get(run_id, 0) + len(data) - stored

    def read(self, run_id: str, offset: int) -> Piece:
        """The next bytes from an offset on, at most READ_BYTES."""
        data = _read(self._folder / f"{run_id}.log", offset)
        if data:
            return Piece(data, 0, offset + len(data))
        for start, path in self._segments(run_id):
            begin = max(offset, start)
            # A segment that made room since it was listed reads as empty, and the next one follows.
            if data := _read(path, begin - start):
                return Piece(data, begin - offset, begin + len(data))
        return Piece(b"", 0, offset)

    def end_words(self, run_id: str) -> bytes:
        """The line at the end of a log of which a full disk did not take everything; else nothing."""
        lost = self._unstored.get(run_id, 0)
        return f"\n[cpn] {lost} bytes of this log could not be stored: the server's disk was full\n".encode() if lost else b""

    def gap_words(self, dropped: int) -> bytes:
        """The line in place of bytes that are not there any more."""
        return (
            f"\n[cpn] {dropped} bytes of this log were dropped here; of a run's log {self.max_bytes} bytes are kept "
            "(CPN_MAX_LOG_BYTES), from its beginning and its end\n"
        ).encode()

    def sizes(self) -> dict[str, int]:
        """Bytes of the logs that are there, by run."""
        found: dict[str, int] = {}
        for path in self._folder.iterdir():
            run_id, _, kind = path.name.rpartition(".")
            size = sum(_size(segment) for _, segment in self._segments(run_id)) if kind == "tail" else _size(path)
            found[run_id] = found.get(run_id, 0) + size
        return found

    def drop(self, run_id: str) -> None:
        """Remove a log."""
        (self._folder / f"{run_id}.log").unlink(missing_ok=True)
        shutil.rmtree(self._tail(run_id), ignore_errors=True)
        self._unstored.pop(run_id, None)

    def _append_tail(self, run_id: str, offset: int, data: bytes) -> int:
        """How many bytes of a piece are in segments now, from its beginning on."""
        segments = self._segments(run_id)
        end = segments[-1][0] + _size(segments[-1][1]) if segments else offset
        done = min(max(end - offset, 0), len(data))
        while done < len(data):
            at = offset + done
            if not segments or at > end or at - segments[-1][0] >= self._segment:
                segments = [*self._with_room(segments), (at, self._tail(run_id) / f"{at:020}")]
            start, path = segments[-1]
            wanted = data[done : done + self._segment - (at - start)]
            written = _write(path, at - start, wanted)
            done, end = done + written, at + written
            if written < len(wanted):
                break
        return done

    def _with_room(self, segments: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
        """The segments without the oldest, so that there may be one more."""
        surplus = max(len(segments) + 1 - SEGMENTS, 0)
        for _, oldest in segments[:surplus]:
            oldest.unlink(missing_ok=True)
        return segments[surplus:]

    def _segments(self, run_id: str) -> list[tuple[int, Path]]:
        """(offset of the first byte, file), the oldest first."""
        try:
            return sorted((int(path.name), path) for path in self._tail(run_id).iterdir())
        except FileNotFoundError:
            return []

    def _tail(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.tail"


def _write(path: Path, offset: int, data: bytes) -> int:
    """How many bytes the disk took: fewer than all when it is full."""
    done = 0
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while done < len(data):
                done += os.pwrite(handle, data[done:], offset + done)
        finally:
            os.close(handle)
    except OSError as error:
        if not is_full(error):
            raise
    return done


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as handle:
            handle.seek(offset)
            return handle.read(READ_BYTES)
    except FileNotFoundError:
        return b""
