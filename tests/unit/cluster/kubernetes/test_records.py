"""News on their way through a container's log: nothing twice, nothing lost in silence, and what is none of ours does no harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.kubernetes import records
from cluster.backends.kubernetes.records import RecordReader, RecordWriter


def written(*batches: dict[str, Any]) -> bytes:
    lines: list[bytes] = []
    writer = RecordWriter(lines.append)
    for batch in batches:
        writer.batch(batch)
    return b"".join(lines)


def test_news_come_numbered_whatever_pieces_the_log_comes_in() -> None:
    data = written({"started": 1.0, "log": "第一\n"}, {"log": "second\n"}, {"finished": {"outcome": "succeeded"}})
    reader = RecordReader()
    read = [batch for at in range(len(data)) for batch in reader.feed(data[at : at + 1])]
    assert read == [{"started": 1.0, "log": "第一\n", "n": 1}, {"log": "second\n", "n": 2}, {"finished": {"outcome": "succeeded"}, "n": 3}]


def test_what_was_taken_is_skipped_when_the_log_comes_again() -> None:
    data = written({"log": "a"}, {"log": "b"}, {"log": "c"})
    reader = RecordReader(taken=1)
    assert [batch["log"] for batch in reader.feed(data.split(b"\n")[0] + b"\n" + data.split(b"\n")[1] + b"\n")] == ["b"]
    reader.again()
    assert [batch["log"] for batch in reader.feed(data)] == ["c"]


def test_dropped_records_are_told_and_the_start_with_the_next() -> None:
    lines = written({"started": 5.0}, {"log": "a\n"}, {"log": "b\n"}).splitlines(keepends=True)
    (batch,) = RecordReader().feed(lines[2])
    assert batch["started"] == 5.0
    assert batch["log"] == "\n[cpn] 2 pieces of what this worker told were dropped by its cluster before they were read\nb\n"
    (batch,) = RecordReader(taken=1).feed(lines[2])
    assert "1 pieces" in batch["log"]


def test_files_come_in_pieces_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PIECE_BYTES", 4)
    (tmp_path / "result").write_bytes(b"0123456789")
    lines: list[bytes] = []
    RecordWriter(lines.append).file(tmp_path, "result", 10)
    assert len(lines) == 3
    reader = RecordReader()
    for _ in range(2):
        reader.again()
        assert list(reader.feed(b"".join(lines))) == []
    assert reader.files == {"result": bytearray(b"0123456789")}


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(b"0123")
    with pytest.raises(OSError, match="became shorter"):
        RecordWriter(lambda _line: None).file(tmp_path, "result", 5)


@pytest.mark.parametrize(
    "line",
    ["No such module", "{not json", '{"n": 1}', '{"n": "1", "news": {}, "since": null}', '[{"n": 1}]', '{"file": "a", "offset": 0}',
     '{"file": "a", "offset": 0, "data": "?"}', '{"n": 1, "news": [], "since": null}', '{"n": 1, "news": {}, "since": "x"}', "{}"],
)  # fmt: skip
def test_lines_of_others_are_kept_for_people_and_taken_for_nothing(line: str) -> None:
    reader = RecordReader()
    assert list(reader.feed(line.encode() + b"\n\n")) == []
    assert (reader.taken, reader.files, reader.strays) == (0, {}, line)


def test_a_line_without_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LINE_BYTES", 10)
    reader = RecordReader()
    for _ in range(5):
        assert list(reader.feed(b"x" * 8)) == []
    assert list(reader.feed(b"\n" + written({"log": "a"})[:0])) == []
    assert reader.strays == "x" * 10


def test_a_record_is_one_line_of_readable_json() -> None:
    (line,) = written({"log": "第\n\x1b"}).splitlines()
    assert json.loads(line) == {"n": 1, "since": None, "news": {"log": "第\n\x1b"}}
    assert "第" in line.decode()
