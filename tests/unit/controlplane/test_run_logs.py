"""Kept logs: whole while they are small, then their beginning and their end, and always with what is missing where."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.run_logs import LEAST_BYTES, RunLogs


def read_all(logs: RunLogs, run_id: str = "a-1") -> list[tuple[int, bytes]]:
    """(bytes missing before, bytes) from the beginning to the end."""
    found, offset = [], 0
    while (piece := logs.read(run_id, offset)).data:
        assert piece.end == offset + piece.dropped + len(piece.data)
        found.append((piece.dropped, piece.data))
        offset = piece.end
    return found


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def numbered(size: int) -> bytes:
    """Bytes of which each place is told from others."""
    return b"".join(b"%07d\n" % number for number in range(size // 8 + 1))[:size]


@given(st.lists(st.integers(1, 1500), max_size=30), st.sets(st.integers(0, 29)))
def test_a_log_is_kept_within_its_limit_and_every_missing_byte_is_told(sizes: list[int], again: set[int]) -> None:
    whole, offset = numbered(sum(sizes)), 0
    with tempfile.TemporaryDirectory() as folder:
        logs = RunLogs(Path(folder), LEAST_BYTES)
        for index, size in enumerate(sizes):
            logs.append("a-1", offset, whole[offset : offset + size])
            offset += size
            if index in again:
                # An agent that begins anew brings everything again.
                logs.append("a-1", 0, whole[:offset])
            assert on_disk(Path(folder)) <= LEAST_BYTES
        place = 0
        for dropped, data in read_all(logs):
            place += dropped
            assert data == whole[place : place + len(data)]
            place += len(data)
        assert place == len(whole), "it goes on to the end"
        if len(whole) <= LEAST_BYTES // 2:
            assert read_all(logs) == ([(0, whole)] if whole else [])


def test_the_beginning_and_the_end_of_a_long_log_are_kept(tmp_path: Path) -> None:
    logs, whole = RunLogs(tmp_path, LEAST_BYTES), numbered(20_000)
    logs.append("a-1", 0, whole)
    (first, beginning), *rest = read_all(logs)
    missing = sum(dropped for dropped, _ in rest)
    end = b"".join(data for _, data in rest)
    assert (first, beginning) == (0, whole[: LEAST_BYTES - 1024])
    assert whole.endswith(end)
    assert len(end) > 512
    assert missing == len(whole) - len(beginning) - len(end)
    assert f"{missing} bytes of this log were dropped here" in logs.gap_words(missing).decode()
    assert "CPN_MAX_LOG_BYTES" in logs.gap_words(missing).decode()


def test_a_full_disk_loses_what_comes_then_and_the_log_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = RunLogs(tmp_path, LEAST_BYTES)
    logs.append("a-1", 0, b"before\n")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        logs.append("a-1", 7, b"lost\n")
    assert logs.end_words("a-1") == b"\n[cpn] 5 bytes of this log could not be stored: the server's disk was full\n"
    assert logs.end_words("b-1") == b""
    logs.append("a-1", 12, b"after\n")
    assert read_all(logs) == [(0, b"before\n"), (5, b"after\n")]


def test_other_errors_of_the_disk_are_not_swallowed(tmp_path: Path) -> None:
    (tmp_path / "a-1.log").mkdir()
    logs = RunLogs(tmp_path, LEAST_BYTES)
    with pytest.raises(IsADirectoryError):
        logs.append("a-1", 0, b"x")


def test_a_run_without_a_log_reads_as_nothing(tmp_path: Path) -> None:
    assert RunLogs(tmp_path, LEAST_BYTES).read("a-1", 3).data == b""
