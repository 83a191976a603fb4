"""Captured decisions: written and read to the bit whatever fields they have, decided again, and refused where they are broken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from controlplane.captures import KeptDecisions, pieces
from scheduler.captures import decision_of, first_difference, packed, read_captures, replay
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Floats, Ints, Snapshot
from scheduler.errors import CaptureError
from scheduler.notation import NotationError, noted, read, text_of
from tests.builders import cluster, job, queue, world
from tests.property.worlds import snapshots

WORLD = world(
    cluster("sh", "4 0/8+1/2H200"), cluster("gz", "16! 2", cordoned=True), queues=[queue("a", 2.0, quota="4", ceiling="8")],
    jobs=[job("j1", "3", queue="a", cost={"sh": 0.1}), job("j2", "9"), job("j3", "1+1H200", refused={"gz": Reason.OVER_BUDGET})],
)  # fmt: skip


def _file(folder: Path, *lines: bytes) -> Path:
    path = folder / "captures.jsonl.gz"
    path.write_bytes(b"".join(lines))
    return path


def _line(**changes: Any) -> bytes:
    document = json.loads(gzip.decompress(packed(7, 1.5, decision_of(WORLD, place(WORLD)))))
    return gzip.compress((json.dumps({**document, **changes}) + "\n").encode())


@settings(max_examples=40)
@given(snapshots())
def test_a_snapshot_comes_back_to_the_bit_and_so_does_its_plan(snapshot: Snapshot) -> None:
    document = json.loads(text_of(noted(snapshot)))
    again = read(document, Snapshot)
    assert text_of(noted(again)) == text_of(noted(snapshot))
    for part in ("clusters", "nodes", "queues", "jobs"):
        for name, value in vars(getattr(snapshot, part)).items():
            found = getattr(getattr(again, part), name)
            if isinstance(value, np.ndarray):
                assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, np.ascontiguousarray(value).tobytes())
            else:
                assert found == value
    assert place(again) == place(snapshot)


@dataclass(frozen=True)
class Window:
    """A field's own dataclass."""

    begin_s: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Wider:
    """What a snapshot may come to look like."""

    rows: Ints
    runs: tuple[Window, ...] = ()
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    least: float | None = None
    table: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    named: frozenset[str] = frozenset()


def test_fields_of_any_kind_are_carried_without_being_named() -> None:
    value = Wider(
        np.array([1, -1]), (Window(0.1, ("a",)), Window(float("inf"))), {"x": Reason.NODE_BUSY}, 2.5,
        np.array([[0.1, np.inf, -0.0]]), frozenset({"b", "a"}),
    )  # fmt: skip
    again = read(json.loads(text_of(noted(value))), Wider)
    assert (again.runs, again.reasons, again.least, again.named) == (value.runs, value.reasons, value.least, value.named)
    assert again.table.tobytes() == value.table.tobytes()
    assert isinstance(again.reasons["x"], Reason)


def test_what_an_older_document_does_not_have_keeps_its_default() -> None:
    document = noted(Wider(np.array([3])))
    del document["fields"]["runs"], document["fields"]["least"]
    assert read(document, Wider).runs == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda fields: fields.update(later=1), "this version knows no field later of Wider"),
        (lambda fields: fields.update(rows={"of": "Path", "fields": {}}), "wider.rows: this version knows no Path"),
        (lambda fields: fields.update(rows={"array": "|O", "shape": [1], "data": ""}), "has no meaning here"),
        (lambda fields: fields.update(rows={"array": "<i8", "shape": [3], "data": "AAAA"}), "wider.rows"),
        (lambda fields: fields.update(rows={"array": "<i8", "shape": [1], "data": "#"}), "wider.rows"),
        (lambda fields: fields.update(reasons={"enum": "Reason", "name": "NO_SUCH"}), "wider.reasons: KeyError"),
        (lambda fields: fields.update(runs=[1]), "wider.runs: a list has no meaning here"),
        (lambda fields: fields.update(runs={"bytes": ""}), "wider.runs"),
        (lambda fields: fields.pop("rows"), "wider: TypeError"),
    ],
)
def test_a_document_of_something_else_is_refused_with_its_path(change: Any, fault: str) -> None:
    document = noted(Wider(np.array([3])))
    change(document["fields"])
    with pytest.raises(NotationError, match=fault):
        read(document, Wider)


def test_what_has_no_notation_is_refused() -> None:
    for value in (object(), np.array([object()]), 1j, b"bytes"):
        with pytest.raises(TypeError, match="has no notation"):
            noted(value)


def test_captures_behind_one_another_are_one_file_and_replay_to_the_byte(tmp_path: Path) -> None:
    other = replace(WORLD, clusters=replace(WORLD.clusters, cordoned=np.array([False, False])))
    path = _file(tmp_path, packed(1, 10.0, decision_of(WORLD, place(WORLD))), packed(2, 11.5, decision_of(other, place(other))))
    found = [replay(one) for one in read_captures(path)]
    assert [(one.sequence, one.at, one.jobs, one.placed, one.difference) for one in found] == [(1, 10.0, 3, 1, ""), (2, 11.5, 3, 1, "")]


def test_another_plan_is_told_by_its_first_difference(tmp_path: Path) -> None:
    plan = place(WORLD)
    moved = replace(plan.placements[0], nodes=(1,))
    for other, place_ in (
        (Plan((moved, *plan.placements[1:]), plan.unplaced), "plan.placements[0].nodes[0] was 1, now 0"),
        (Plan((), plan.unplaced), "plan.placements had 0 entries, now"),
        (
            Plan(plan.placements, (replace(plan.unplaced[0], blocker=Reason.QUEUE_LIMIT), *plan.unplaced[1:])),
            '.blocker was "QUEUE_LIMIT", now',
        ),
    ):
        (one,) = [replay(one) for one in read_captures(_file(tmp_path, packed(1, 0.0, decision_of(WORLD, other))))]
        assert place_ in one.difference


def test_scores_are_compared_to_the_last_bit(tmp_path: Path) -> None:
    plan = place(WORLD)
    near = replace(plan.placements[0], score=float(np.nextafter(plan.placements[0].score, 9.0)))
    path = _file(tmp_path, packed(1, 0.0, decision_of(WORLD, Plan((near, *plan.placements[1:]), plan.unplaced))))
    assert "plan.placements[0].score was" in replay(next(read_captures(path))).difference


def test_differences_of_documents_are_found_in_order() -> None:
    assert first_difference({"fields": {"a": 1}}, {"fields": {"a": 1, "b": 2}}, "x") == "x.b is new"
    assert first_difference({"fields": {"a": 1, "b": 2}}, {"fields": {"a": 1}}, "x") == "x.b is gone"
    assert first_difference({"tuple": [1, "a" * 200]}, {"tuple": [1, "b"]}, "x").startswith('x[1] was "aaa')


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "holds no decision"),
        (b"plain text", "cannot be read"),
        (gzip.compress(b"not json\n", mtime=0), "line 1: this is no captured decision"),
        (gzip.compress(b"[]\n", mtime=0), "line 1: this is no captured decision"),
        (gzip.compress(b'{"format": "other", "version": 1}\n', mtime=0), "line 1: this is no captured decision"),
        (_line() + _line(version=1), "line 2: format version 1, and this cpn reads 2; replay it with the cpn that captured it"),
        (_line(snapshot={"of": "Snapshot", "fields": {"moon": 1}}), "line 1: .*no field moon"),
        (_line(snapshot=None), "line 1: .*a Snapshot belongs here"),
        (_line(sequence="x"), "line 1: is not whole"),
        (_line()[:-20], "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tmp_path: Path, data: bytes, fault: str) -> None:
    with pytest.raises(CaptureError, match=fault):
        list(read_captures(_file(tmp_path, data)))


def _other(number: int) -> Snapshot:
    return replace(WORLD, jobs=replace(WORLD.jobs, sequence=WORLD.jobs.sequence + number))


def test_the_newest_decisions_are_kept_within_both_bounds(tmp_path: Path) -> None:
    kept = KeptDecisions(tmp_path, most=3, max_bytes=10**9)
    for number in range(5):
        kept.keep(float(number), _other(number), place(_other(number)))
    assert [path.name for path in kept.newest()] == [f"cycle-{number:012}.json.gz" for number in (3, 4, 5)]
    assert [path.name for path in kept.newest(1)] == ["cycle-000000000005.json.gz"]
    assert len(list(kept.folder.iterdir())) == 3
    path = _file(tmp_path, *pieces(kept.newest()))
    assert [one.sequence for one in read_captures(path)] == [3, 4, 5]
    # After a restart numbers go on, and a tighter bound of bytes keeps the newest alone.
    tight = KeptDecisions(tmp_path, most=3, max_bytes=10)
    tight.keep(9.0, _other(9), place(_other(9)))
    assert [path.name for path in tight.newest()] == ["cycle-000000000006.json.gz"]


def test_a_decision_like_the_one_before_is_kept_once(tmp_path: Path) -> None:
    kept = KeptDecisions(tmp_path, most=10, max_bytes=10**9)
    for at in range(3):
        kept.keep(float(at), WORLD, place(WORLD))
    assert [one.at for one in read_captures(kept.newest()[0])] == [0.0]
    assert len(kept.newest()) == 1


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    kept = KeptDecisions(tmp_path, most=0, max_bytes=1)
    kept.keep(0.0, WORLD, place(WORLD))
    assert kept.newest() == []
    assert not kept.folder.exists()


def test_what_cannot_be_written_does_not_fail_the_cycle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptDecisions(tmp_path, most=2, max_bytes=10**9)
    kept.folder.rmdir()
    kept.keep(0.0, WORLD, place(WORLD))
    assert "could not be captured" in caplog.text
    assert kept.newest() == []
