"""The progress file: records in order, an unfinished last line, and warnings instead of failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workloads.runners.progress import MAX_LINE_BYTES, ProgressFile, ProgressParser, ProgressRecord


def line(step: object, **metrics: object) -> bytes:
    return json.dumps({"step": step, "metrics": metrics}).encode() + b"\n"


def test_records_are_numbered_in_order() -> None:
    read = ProgressParser().feed(line(0, loss=1) + b"\n" + line(1, loss=0.5, accuracy=0.9))
    assert read.records == (ProgressRecord(1, 0, {"loss": 1.0}), ProgressRecord(2, 1, {"loss": 0.5, "accuracy": 0.9}))
    assert read.warnings == ()


def test_an_unfinished_line_waits_for_its_end() -> None:
    parser = ProgressParser()
    whole = line(7, größe=1.5)
    assert parser.feed(whole[:12]).records == ()
    assert parser.feed(whole[12:-1]).records == ()
    assert parser.feed(whole[-1:]).records == (ProgressRecord(1, 7, {"größe": 1.5}),)


def test_the_last_line_needs_no_newline_when_the_run_is_over() -> None:
    parser = ProgressParser()
    parser.feed(line(1, a=1)[:-1])
    assert parser.finish().records == (ProgressRecord(1, 1, {"a": 1.0}),)
    assert parser.finish().records == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"not json\n", "is not JSON"),
        (b"\xff\xfe\n", "is not JSON"),
        (b"[1]\n", '"step"'),
        (b'{"step": "1", "metrics": {}}\n', '"step"'),
        (b'{"step": true, "metrics": {}}\n', '"step"'),
        (b'{"step": -1, "metrics": {}}\n', '"step"'),
        (b'{"step": 1.5, "metrics": {}}\n', '"step"'),
        (b'{"step": 99999999999999999999, "metrics": {}}\n', '"step"'),
        (b'{"step": 1}\n', '"metrics"'),
        (b'{"step": 1, "metrics": [1]}\n', '"metrics"'),
        (line(1, loss=float("nan")), "'loss' is not a finite number"),
        (line(1, loss=float("inf")), "'loss' is not a finite number"),
        (line(1, loss=10**400), "'loss' is not a finite number"),
        (line(1, loss="0.1"), "'loss' is not a number"),
        (line(1, loss=True), "'loss' is not a number"),
        (line(1, loss=None), "'loss' is not a number"),
        (line(1, **{"x" * 200: 1}), "longer than 128"),
        (line(1, **{f"m{i}": i for i in range(201)}), "at most 200"),
        (b"[" * 60_000 + b"\n", "is not JSON"),
        (b"x" * (MAX_LINE_BYTES + 1) + b"\n", "is longer than"),
    ],
)
def test_a_malformed_line_is_a_warning_and_the_next_one_counts(text: bytes, words: str) -> None:
    read = ProgressParser().feed(line(0, a=1) + text + line(2, a=2))
    assert [record.step for record in read.records] == [0, 2]
    assert [record.sequence for record in read.records] == [1, 2]
    assert len(read.warnings) == 1
    assert read.warnings[0].startswith("progress file, line 2: ")
    assert words in read.warnings[0]


def test_good_metrics_of_a_line_with_a_bad_one_are_kept() -> None:
    read = ProgressParser().feed(line(3, loss=float("nan"), accuracy=0.5))
    assert read.records == (ProgressRecord(1, 3, {"accuracy": 0.5}),)
    assert len(read.warnings) == 1


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    parser = ProgressParser()
    for _ in range(100):
        parser.feed(b"x" * 50_000)
    assert len(parser._pending) <= MAX_LINE_BYTES
    read = parser.feed(b"\n" + line(1, a=1))
    assert len(read.warnings) == 1
    assert read.records == (ProgressRecord(1, 1, {"a": 1.0}),)


def test_a_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    follower = ProgressFile(path)
    assert follower.read().records == ()
    path.write_bytes(line(1, a=1) + b'{"step": 2, ')
    assert [record.step for record in follower.read().records] == [1]
    assert follower.read().records == ()
    with path.open("ab") as stream:
        stream.write(b'"metrics": {"a": 2}}\n' + line(3, a=3)[:-1])
    assert [record.step for record in follower.read().records] == [2]
    assert [(record.sequence, record.step) for record in follower.finish().records] == [(3, 3)]


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    follower = ProgressFile(path)
    path.write_bytes(line(1, a=1) + line(2, a=2))
    follower.read()
    path.write_bytes(line(9, a=1))
    read = follower.read()
    assert [(record.sequence, record.step) for record in read.records] == [(3, 9)]
    assert read.warnings == ("progress file: it became shorter and is read from its beginning",)


def test_a_large_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_bytes(line(1, a=1) * 200_000)
    follower = ProgressFile(path)
    first = follower.read()
    rest = follower.finish()
    assert 0 < len(first.records) < 200_000
    assert len(first.records) + len(rest.records) == 200_000
    assert rest.records[-1].sequence == 200_000
