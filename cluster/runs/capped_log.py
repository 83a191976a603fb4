"""The log of one worker: a file of valid UTF-8 that never grows beyond its limit.

Because broken bytes are replaced before they are stored, an offset in the file is an offset in the text that was read
from it, whoever reads it and how often. What comes after the limit is counted, not kept, and the last line says so; so
is what a full disk does not take, for a command must not wait because of its log. How a run ended is told by its last lines, so
these are kept in memory and follow at the end, from there if the disk is still full.
"""

from __future__ import annotations

import codecs
import errno
import os
from collections import deque
from pathlib import Path

DEFAULT_LIMIT_BYTES = 64 * 1024 * 1024
_TAIL_BYTES = 16 * 1024


class CappedLog:
    """Append bytes, read text from any offset. One writer; offsets and sizes in bytes of UTF-8."""

    def __init__(self, path: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 (closed by close)
        self._limit = limit_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._unstored = b""  # What follows the file at the end.
        self._why = f"log limit of {limit_bytes} bytes reached"
        self.size = 0
        self.dropped = 0

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Append; `final` flushes a character that was cut and adds the line on what was dropped."""
        encoded = self._decoder.decode(data, final).encode()
        room = 0 if self.dropped else max(0, self._limit - self.size)
        self.dropped += len(encoded) - self._append(cut_at_character(encoded, room))
        self._remember(encoded)
        if final and self.dropped:
            self._end()

    def read(self, offset: int, limit: int) -> str:
        """At most `limit` bytes from `offset`, ending at a whole character; empty at the end."""
        stored = self.size - len(self._unstored)
        if offset < stored:
            self._file.seek(offset)
            data = self._file.read(min(limit, stored - offset))
        else:
            data = self._unstored[offset - stored :][:limit]
        return cut_at_character(data, len(data)).decode()

    def last_lines(self, count: int) -> list[str]:
        """The last lines that were written, kept or not."""
        text = b"".join(self._tail)[-_TAIL_BYTES:].decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-count:]

    def close(self) -> None:
        """Close the file; it stays on disk."""
        self._file.close()

    def _end(self) -> None:
        """What was dropped last, after the line on how much is missing before it."""
        last = b"".join(self._tail)[-min(self.dropped, _TAIL_BYTES) :]
        while last and last[0] & 0xC0 == 0x80:
            last = last[1:]
        self.dropped -= len(last)
        if self.dropped:
            last = f"\n[cpn] {self._why}; {self.dropped} bytes were dropped here, the last {len(last)} follow\n".encode() + last
        self._unstored = last[self._append(last) :]
        self.size += len(self._unstored)

    def _append(self, data: bytes) -> int:
        """How much of it was stored."""
        self._file.seek(self.size)
        try:
            written = self._file.write(data)
        except OSError as error:
            self._why, written = _unstored(error.errno), 0
        else:
            if written < len(data):  # The disk has taken its last.
                self._why = _unstored(errno.ENOSPC)
        stored = len(cut_at_character(data, written))
        self.size += stored
        return stored

    def _remember(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) > _TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())


def _unstored(number: int | None) -> str:
    return f"the log cannot be stored ({os.strerror(number or errno.EIO)})"


def cut_at_character(data: bytes, limit: int) -> bytes:
    """The longest prefix of valid UTF-8 `data` of at most `limit` bytes that splits no character."""
    if limit >= len(data) and (not data or data[-1] < 0x80):
        return data
    end = min(limit, len(data))
    start = end
    while start > 0 and end - start < 4:
        start -= 1
        byte = data[start]
        if byte & 0xC0 != 0x80:
            width = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:end] if start + width <= end else data[:start]
    return data[:end]
