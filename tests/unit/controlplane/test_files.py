"""Results as they arrive: whole or not at all, within a limit and in bounded memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import httpx
import pytest

from cluster.protocol import ResultFile
from controlplane.client import Client
from controlplane.files import NoRoomError, RunFiles, TooLargeError

MIB = 1024**2


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def many(count: int) -> AsyncIterator[bytes]:
    for index in range(count):
        yield bytes([index % 251]) * MIB


def files(folder: Path, limit: int = 100) -> RunFiles:
    return RunFiles(folder, max_log_bytes=4096, max_result_bytes=limit)


def receive(place: RunFiles, name: str, *pieces: bytes) -> None:
    asyncio.run(place.receive("a-1", name, chunks(*pieces)))


def left(folder: Path) -> list[str]:
    """Every file below the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_limit_is_for_all_files_of_a_result_together(tmp_path: Path) -> None:
    place = files(tmp_path)
    receive(place, "a", b"x" * 60)
    receive(place, "a", b"y" * 60)
    with pytest.raises(TooLargeError, match=r"with deep/b the result is over the limit of 100 bytes; .* raise CPN_MAX_RESULT_BYTES"):
        receive(place, "deep/b", b"x" * 30, b"x" * 11)
    assert left(tmp_path) == ["results/a-1/a"]
    receive(place, "deep/b", b"x" * 40)
    assert left(tmp_path) == ["results/a-1/a", "results/a-1/deep/b"]


def test_what_would_not_be_taken_is_refused_before_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = files(tmp_path)
    receive(place, "a", b"x" * 60)
    place.check_room("a-1", "b", 40)
    place.check_room("a-1", "a", 100)
    with pytest.raises(TooLargeError):
        place.check_room("a-1", "b", 41)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=39))
    with pytest.raises(NoRoomError, match="no room for the result file b"):
        place.check_room("a-1", "b", 40)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = files(tmp_path)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoomError, match="its operator must free some"):
        receive(place, "a", b"x")
    assert left(tmp_path) == []


def test_a_sender_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    place = files(tmp_path)
    with pytest.raises(ConnectionResetError):
        asyncio.run(place.receive("a-1", "a", broken()))
    assert left(tmp_path) == []


def test_a_server_that_begins_removes_what_its_predecessor_left_half(tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "incoming" / "a-1-0").write_bytes(b"half")
    files(tmp_path)
    assert left(tmp_path) == []


def test_a_large_result_is_fetched_in_little_memory(tmp_path: Path) -> None:
    class Flow(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return (bytes([index % 251]) * MIB for index in range(24))

    transport = httpx.MockTransport(lambda _request: httpx.Response(200, stream=Flow()))
    with Client("http://plane", transport=transport) as client:
        tracemalloc.start()
        try:
            client.download("job-a", "large", tmp_path / "large")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "large").stat().st_size == 24 * MIB
    assert peak < 8 * MIB


def test_a_large_result_is_received_in_little_memory(tmp_path: Path) -> None:
    place = files(tmp_path, 64 * MIB)
    tracemalloc.start()
    try:
        asyncio.run(place.receive("a-1", "large", many(24)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "results/a-1/large").stat().st_size == 24 * MIB
    assert peak < 8 * MIB


def test_what_earlier_runs_brought_becomes_a_later_ones(tmp_path: Path) -> None:
    place = files(tmp_path)
    asyncio.run(place.receive("a-1", "part-1", chunks(b"one")))
    asyncio.run(place.receive("a-2", "part-2", chunks(b"two")))
    assert place.take_over("a-4", []) == []
    for _ in range(2):
        found = place.take_over("a-4", ["a-1", "a-2", "a-3"])
        assert [(file.name, file.size_bytes) for file in found] == [("part-1", 3), ("part-2", 3)]
        assert place.missing("a-4", tuple(found)) == ""
        assert left(tmp_path) == ["results/a-4/part-1", "results/a-4/part-2"]
    assert place.result_sizes() == {"a-4": 6}


def test_a_file_is_summed_as_it_comes_and_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = files(tmp_path, 64 * MIB)
    asyncio.run(place.receive("a-1", "large", many(3)))
    content = b"".join(bytes([index]) * MIB for index in range(3))
    announced = ResultFile(name="large", size_bytes=3 * MIB, sha256=hashlib.sha256(content).hexdigest())
    reads: list[object] = []

    def read(handle: BinaryIO, name: str) -> object:
        reads.append(handle)
        return digest(handle, name)

    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", read)
    assert place.missing("a-1", (announced,)) == ""
    assert reads == []
    assert files(tmp_path, 64 * MIB).missing("a-1", (announced,)) == "", "a server that began since reads it"
    assert len(reads) == 1
    path = place.result_path("a-1", "large")
    path.write_bytes(content[:-1] + b"x")
    assert place.missing("a-1", (announced,)) == "large"


def test_a_file_comes_in_pieces_of_any_size(tmp_path: Path) -> None:
    place = files(tmp_path, 64 * MIB)
    pieces = [b"a", b"b" * MIB, b"", b"c" * (2 * MIB + 5), b"d"]
    receive(place, "mixed", *pieces)
    assert place.result_path("a-1", "mixed").read_bytes() == b"".join(pieces)


def test_a_large_file_is_brought_to_the_disk_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.incoming.SYNC_EVERY_BYTES", 4 * MIB)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    asyncio.run(files(tmp_path, 64 * MIB).receive("a-1", "large", many(10)))
    assert synced == [4 * MIB, 8 * MIB, 10 * MIB]
