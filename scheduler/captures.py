"""Captures: what a cycle decided on and what it decided, kept so that anybody can decide again and compare.

A capture is one line of JSON: the format and its version, when and in which order, snapshot and plan. A file of captures is
such lines, gzipped; files put behind one another are one file. `replay` gives each snapshot to the engine of this version: an
engine that is a pure function makes the same plan, to the byte, in any process on any machine.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import CaptureError, PlanRejectedError
from scheduler.notation import NotationError, noted, read, text_of

FORMAT, VERSION = "cpn-capture", 2
# Time matters more than size while a server decides.
COMPRESSION = 3


@dataclass(frozen=True, eq=False)
class Capture:
    """One decision: its number, when it was made (seconds since 1970), the world it was made on, and the plan as JSON."""

    sequence: int
    at: float
    snapshot: Snapshot
    plan: Any


@dataclass(frozen=True)
class Replayed:
    """One decision made again. `difference` is empty where the plan is the same, to the byte, and `check` accepts it."""

    sequence: int
    at: float
    jobs: int
    placed: int
    difference: str


def decision_of(snapshot: Snapshot, plan: Plan) -> str:
    """Snapshot and plan in the one way to write them; equal decisions are equal text."""
    return text_of({"plan": noted(plan), "snapshot": noted(snapshot)})


def packed(sequence: int, at: float, decision: str) -> bytes:
    """A capture as it is kept: one gzipped line. `decision` is what `decision_of` answered."""
    head = text_of({"at": at, "format": FORMAT, "sequence": sequence, "version": VERSION})
    return gzip.compress(f"{head[:-1]},{decision[1:]}\n".encode(), COMPRESSION, mtime=0)


def read_captures(path: Path) -> Iterator[Capture]:
    """The captures of a file, one at a time. Raises CaptureError with the line."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _capture(path, number, line)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CaptureError(f"{path}: cannot be read ({error}); a file of captures is what `cpn capture` writes") from error
    if not number:
        raise CaptureError(f"{path}: holds no decision; `cpn capture` writes one line for each")


def _capture(path: Path, number: int, line: str) -> Capture:
    where = f"{path}, line {number}"
    try:
        document = json.loads(line)
        form, version = document["format"], document["version"]
    except (ValueError, KeyError, TypeError):
        form, version, document = None, None, {}
    if form != FORMAT:
        raise CaptureError(f"{where}: this is no captured decision; a file of captures is what `cpn capture` writes")
    if version != VERSION:
        raise CaptureError(f"{where}: format version {version}, and this cpn reads {VERSION}; replay it with the cpn that captured it")
    try:
        snapshot = read(document["snapshot"], Snapshot)
        return Capture(int(document["sequence"]), float(document["at"]), snapshot, document["plan"])
    except NotationError as error:
        raise CaptureError(f"{where}: {error}; replay it with the cpn that captured it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(f"{where}: is not whole ({error})") from error


def replay(capture: Capture) -> Replayed:
    """Decide again and compare; what differs first is told with its path, as it was and as it is now."""
    plan = place(capture.snapshot)
    now = noted(plan)
    found = "" if text_of(now) == text_of(capture.plan) else first_difference(capture.plan, now, "plan")
    if not found:
        try:
            check(capture.snapshot, plan)
        except PlanRejectedError as error:
            found = f"the plan is the same, and the check rejects it: {error}"
    return Replayed(capture.sequence, capture.at, len(capture.snapshot.jobs.ids), len(plan.placements), found)


def first_difference(was: Any, now: Any, path: str) -> str:
    """Where two documents differ first, and how; empty where they are equal."""
    was, now = _inside(was), _inside(now)
    if isinstance(was, dict) and isinstance(now, dict):
        for name in [*was, *(name for name in now if name not in was)]:
            if name not in was or name not in now:
                return f"{path}.{name} {'is new' if name not in was else 'is gone'}"
            if found := first_difference(was[name], now[name], f"{path}.{name}"):
                return found
        return ""
    if isinstance(was, list) and isinstance(now, list):
        for place_, (one, other) in enumerate(zip(was, now, strict=False)):
            if found := first_difference(one, other, f"{path}[{place_}]"):
                return found
        return "" if len(was) == len(now) else f"{path} had {len(was)} entries, now {len(now)}"
    return "" if text_of(was) == text_of(now) else f"{path} was {_short(was)}, now {_short(now)}"


def _inside(document: Any) -> Any:
    """What a mark of the notation stands around, so that paths are those of the plan."""
    if isinstance(document, dict):
        for mark in ("fields", "tuple", "list", "set", "name"):
            if mark in document:
                return document[mark]
    return document


def _short(document: Any) -> str:
    text = text_of(document)
    return text if len(text) <= 80 else text[:77] + "…"
