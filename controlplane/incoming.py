"""A file that comes in pieces, written and summed by a thread: a disk that is slow, or a sum over much, holds up nobody else.

What has come is brought to the disk now and then, so that the end does not wait for all of a large file, and whoever sends too fast for the
disk is slowed down by it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import BinaryIO

PIECE_BYTES = 1024**2
SYNC_EVERY_BYTES = 256 * 1024**2


class Incoming:
    """One file, written to `handle`. `add` all of it, then `finish`. Raises OSError."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle, self._sum = handle, hashlib.sha256()
        self._pieces, self._held, self._unsynced = list[bytes](), 0, 0

    async def add(self, data: bytes) -> None:
        """The next bytes."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= PIECE_BYTES:
            await asyncio.to_thread(self._write)

    async def finish(self) -> str:
        """That was all of it: it is on the disk now. Returns its SHA-256."""
        await asyncio.to_thread(self._end)
        return self._sum.hexdigest()

    def _write(self) -> None:
        for piece in self._pieces:
            self._handle.write(piece)
            self._sum.update(piece)
        self._unsynced += self._held
        self._pieces, self._held = [], 0
        if self._unsynced >= SYNC_EVERY_BYTES:
            self._sync()

    def _end(self) -> None:
        self._write()
        self._sync()

    def _sync(self) -> None:
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._unsynced = 0
