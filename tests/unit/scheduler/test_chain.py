"""A row that was changed, dropped, added or moved is found, and which one it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from scheduler.chain import GENESIS, AuditRow, Fault, FaultKind, Verifier, canonical, hash_of, joined, read_row

NOW = 1_800_000_000.25


def made(sequence: int, previous: str, *, actor: str = "tok-1", note: str = "") -> AuditRow:
    """A row as it is written."""
    values = (sequence, NOW + sequence, actor, "job.admitted", f"job-{sequence}", "acme", joined(["a/b"]), canonical({"note": note}))
    return AuditRow(*values, previous, hash_of(previous, *values))


def log(count: int = 9) -> list[AuditRow]:
    """A sound log of so many rows."""
    rows: list[AuditRow] = []
    for sequence in range(1, count + 1):
        rows.append(made(sequence, rows[-1].hash if rows else GENESIS))
    return rows


def faults(rows: Sequence[AuditRow], head: str | None = None, piece: int = 1000) -> list[Fault]:
    """What is wrong with these rows, taken in by pieces."""
    verifier = Verifier(head)
    for begin in range(0, len(rows), piece):
        verifier.feed(rows[begin : begin + piece])
    return verifier.close()


def told(rows: Sequence[AuditRow], head: str | None = None) -> list[tuple[str, int]]:
    return [(fault.kind.value, fault.sequence) for fault in faults(rows, head)]


def renumbered(rows: Sequence[AuditRow], by: int) -> list[AuditRow]:
    return [replace(row, sequence=row.sequence + by) for row in rows]


def test_a_sound_log_has_no_faults_however_it_is_cut_into_pieces() -> None:
    rows = log()
    assert [faults(rows, rows[3].hash, piece) for piece in (1, 2, 5, 100)] == [[], [], [], []]
    assert faults([]) == []
    assert faults([], GENESIS) == [], "the head of an empty log is in every log"


@pytest.mark.parametrize(("field", "value"), [
    ("at", NOW), ("actor", "tok-2"), ("act", "job.refused"), ("subject", "job-x"), ("tenant", None), ("products", ""),
    ("document", '{"note":"other"}'), ("hash", "f" * 64), ("previous", "e" * 64),
])  # fmt: skip
def test_a_row_that_was_changed_is_named(field: str, value: object) -> None:
    rows = log()
    rows[4] = replace(rows[4], **{field: value})  # type: ignore[arg-type]
    found = told(rows)
    assert ("changed", 5) in found
    assert {sequence for _, sequence in found} == {5}


def test_a_row_that_was_changed_and_hashed_anew_is_named_by_the_one_behind_it() -> None:
    rows = log()
    rows[4] = made(5, rows[3].hash, actor="tok-2")
    assert told(rows) == [("changed", 5)]


@pytest.mark.parametrize(("tamper", "expected"), [
    (lambda rows: rows[:4] + rows[5:], [("missing", 5)]),
    (lambda rows: rows[:2] + rows[6:], [("missing", 3)]),
    (lambda rows: rows[3:], [("missing", 1)]),
    (lambda rows: rows[:4] + renumbered(rows[5:], -1), [("missing", 5)]),
    (lambda rows: [*rows[:4], made(5, rows[3].hash, note="new"), *renumbered(rows[4:], 1)], [("inserted", 5)]),
    (lambda rows: [*rows[:4], replace(rows[0], sequence=5), *renumbered(rows[4:], 1)], [("inserted", 1)]),
    (lambda rows: [*rows[:4], rows[3], *rows[4:]], [("inserted", 4)]),
    (lambda rows: [*rows[:4], replace(rows[5], sequence=5), replace(rows[4], sequence=6), *rows[6:]], [("reordered", 5)]),
    (lambda rows: [*rows[:4], rows[5], rows[4], *rows[6:]], [("reordered", 5)]),
    (lambda rows: [*rows[:2], *rows[3:6], rows[2], *rows[6:]], [("reordered", 3)]),
])  # fmt: skip
def test_rows_that_are_missing_inserted_or_moved_are_named(
    tamper: Callable[[list[AuditRow]], list[AuditRow]], expected: list[tuple[str, int]]
) -> None:
    assert told(tamper(log())) == expected


def test_what_was_cut_off_at_the_end_is_found_by_a_head_that_was_kept() -> None:
    rows = log()
    assert told(rows[:6]) == [], "a shorter log is a sound one"
    assert told(rows[:6], rows[-1].hash) == [("truncated", 6)]
    assert told(rows, rows[-1].hash) == []


def test_a_log_that_was_written_anew_is_found_by_a_head_that_was_kept() -> None:
    rows, anew = log(), [made(1, GENESIS, note="other")]
    for sequence in range(2, 10):
        anew.append(made(sequence, anew[-1].hash))
    assert told(anew) == []
    assert told(anew, rows[-1].hash) == [("truncated", 9)]


def test_more_faults_than_are_told_are_counted() -> None:
    rows = [replace(row, actor="tok-2") for row in log(150)]
    verifier = Verifier()
    verifier.feed(rows)
    assert (len(verifier.close()), verifier.faults_count) == (100, 150)
    assert {fault.kind for fault in verifier.faults} == {FaultKind.CHANGED}


def test_an_exported_row_reads_back_as_it_is() -> None:
    row = made(1, GENESIS, note='a "quote", \u4e2d and \ud800')
    assert read_row(json.dumps(row.shown())) == row


@pytest.mark.parametrize("line", ["{}", "[]", "no", '{"products": 1, "document": {}}', "null"])
def test_what_is_no_row_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"row|Expecting"):
        read_row(line)
