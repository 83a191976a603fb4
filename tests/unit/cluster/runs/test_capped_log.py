"""A worker's log: valid text at every offset, never beyond its limit, and never in the way of the command."""

from __future__ import annotations

import errno
import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runs.capped_log import CappedLog, cut_at_character

text = st.text(alphabet="a\né日😀", max_size=30)


def read_all(log: CappedLog, step: int) -> str:
    """The whole log in pieces of at most `step` bytes."""
    pieces, offset = [], 0
    while piece := log.read(offset, step):
        assert len(piece.encode()) <= step
        pieces.append(piece)
        offset += len(piece.encode())
    assert offset == log.size
    return "".join(pieces)


@given(st.lists(st.one_of(st.binary(max_size=12), text.map(str.encode)), max_size=10), st.integers(4, 20))
def test_what_is_read_is_what_was_written_with_broken_bytes_replaced(pieces: list[bytes], step: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = CappedLog(Path(folder, "log"))
        for piece in pieces:
            log.write(piece)
        log.write(b"", final=True)
        assert read_all(log, step) == b"".join(pieces).decode(errors="replace")
        assert log.dropped == 0
        log.close()


@given(text, st.integers(0, 60))
def test_a_cut_splits_no_character(written: str, limit: int) -> None:
    data = written.encode()
    cut = cut_at_character(data, limit)
    assert data.startswith(cut)
    assert written.startswith(cut.decode())
    assert len(cut) <= limit
    assert limit - len(cut) < 4 or len(cut) == len(data), "no more is cut off than must be"


@given(st.lists(text, max_size=8), st.integers(0, 40))
def test_the_limit_holds_and_the_last_line_says_what_is_missing(pieces: list[str], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = CappedLog(Path(folder, "log"), limit)
        for piece in pieces:
            log.write(piece.encode())
            assert log.size <= limit
        kept, written = read_all(log, 1000), "".join(pieces)
        assert written.startswith(kept)
        assert log.dropped == len(written.encode()) - len(kept.encode())
        log.write(b"", final=True)
        assert read_all(log, 1000) == written, "what is little more than the limit is kept to the end after all"
        assert log.dropped == 0
        log.close()


def test_a_log_over_its_limit_has_its_beginning_what_is_missing_and_its_last_lines(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 5)
    log.write(b"begin" + b"x" * 100_000 + b"\n")
    log.write("日".encode() * 5000 + b"\nthe end\n", final=True)
    text = log.read(0, 10**6)
    beginning, line, *last = text.split("\n")
    assert (beginning, last[-2:]) == ("begin", ["the end", ""])
    shown = len("\n".join(last).encode())
    assert line == f"[cpn] log limit of 5 bytes reached; {log.dropped} bytes were dropped here, the last {shown} follow"
    assert log.dropped == 5 + 100_001 + 15_009 - 5 - shown
    assert 16_000 < shown <= 16 * 1024
    log.close()


def test_a_flood_takes_little_memory_and_disk(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 1024**2)
    piece = b"y" * 65_535 + b"\n"
    tracemalloc.start()
    try:
        for _ in range(160):
            log.write(piece)
        log.write(b"", final=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log.size == (tmp_path / "log").stat().st_size < 1024**2 + 20_000
    assert peak < 1024**2
    log.close()


def test_nothing_is_kept_once_something_was_dropped(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 5)
    for piece in (b"abc", b"defg", b"h"):
        log.write(piece)
    assert (log.read(0, 100), log.dropped) == ("abcde", 3)
    log.close()


def test_the_last_lines_are_known_even_when_they_are_not_kept(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 5)
    log.write(b"first\n" + b"x" * 100_000 + b"\n")
    log.write("one\n\n  \ntwo é".encode())
    assert log.last_lines(2) == ["one", "two é"]
    log.close()


def test_of_a_log_on_a_full_disk_the_last_lines_are_told_and_what_is_missing() -> None:
    log = CappedLog(Path("/dev/full"))
    log.write(b"one\ntwo\n")
    assert (log.size, log.dropped, log.read(0, 100)) == (0, 8, "")
    log.write(b"three\n", final=True)
    assert (log.dropped, read_all(log, 5)) == (0, "one\ntwo\nthree\n")
    assert log.last_lines(10) == ["one", "two", "three"]
    log.close()


def test_a_disk_that_gets_full_costs_the_middle_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CappedLog(tmp_path / "log")
    log.write("begun é\n".encode())
    monkeypatch.setattr(log, "_file", Full(log._file))
    log.write(b"x" * 100_000 + b"\n")
    log.write("the end é\n".encode(), final=True)
    beginning, nothing, line, *last = read_all(log, 7).split("\n")
    assert (beginning, nothing, last[-2:]) == ("begun é", "", ["the end é", ""])
    shown = len("\n".join(last).encode())
    missing = 100_001 + 11 - shown
    assert line == f"[cpn] the log cannot be stored (No space left on device); {missing} bytes were dropped here, the last {shown} follow"
    assert log.dropped == missing
    log.close()


class Full:
    """A file of which the disk takes no more."""

    def __init__(self, file: Any) -> None:
        self.seek, self.read, self.close = file.seek, file.read, file.close

    def write(self, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_unwritable_place_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CappedLog(tmp_path / "missing" / "log")
