"""A worker's log: valid text at every offset, never beyond its limit, and never in the way of the command."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.backends.ray.capped_log import CappedLog, cut_at_character

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
        said = f"\n[cpn] log limit of {limit} bytes reached; {log.dropped} bytes were dropped\n" if log.dropped else ""
        assert read_all(log, 1000) == kept + said
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


def test_a_full_disk_drops_the_log_and_keeps_the_last_lines() -> None:
    log = CappedLog(Path("/dev/full"))
    log.write(b"one\ntwo\n")
    log.write(b"three\n", final=True)
    assert (log.size, log.dropped, log.read(0, 100)) == (0, 14, "")
    assert log.last_lines(10) == ["one", "two", "three"]
    log.close()


def test_an_unwritable_place_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CappedLog(tmp_path / "missing" / "log")
