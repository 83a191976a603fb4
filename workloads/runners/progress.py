"""Progress that user code reports: JSON lines appended to the file named by CPN_PROGRESS_FILE.

    {"step": 3, "metrics": {"loss": 0.1, "accuracy": 0.97}}

One object a line, ended by a newline; `step` is a whole number from 0, `metrics` maps names to finite
numbers. In Python, appending one is all there is to it:

    with open(os.environ["CPN_PROGRESS_FILE"], "a") as progress:
        progress.write(json.dumps({"step": step, "metrics": {"loss": loss}}) + "\\n")

The reader follows the file as it grows and never stops a run: what it cannot read becomes a warning.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 64 * 1024
MAX_METRICS = 200
MAX_NAME_LENGTH = 128
MAX_STEP = 2**63 - 1
MAX_READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class ProgressRecord:
    """One report. `sequence` counts the reports of a file from 1."""

    sequence: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class ProgressRead:
    """What came in since the last call, in order; warnings say the line's number."""

    records: tuple[ProgressRecord, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class ProgressParser:
    """Turns the bytes of a progress file, in pieces as they come, into records. Keeps the unfinished last line."""

    _pending: bytes = b""
    _overlong: bool = False
    _line: int = 0
    _sequence: int = 0
    _records: list[ProgressRecord] = field(default_factory=list)
    _warnings: list[str] = field(default_factory=list)

    def feed(self, piece: bytes) -> ProgressRead:
        """Take the next bytes; every line that is complete by now is reported."""
        *complete, rest = (self._pending + piece).split(b"\n")
        self._pending = rest
        for line in complete:
            self._take(line)
        if len(self._pending) > MAX_LINE_BYTES:
            # Only its end is still of interest; a line without one must not fill the memory.
            self._pending, self._overlong = b"", True
        return self._taken()

    def finish(self) -> ProgressRead:
        """The run is over: a last line without a newline counts as complete."""
        if self._pending or self._overlong:
            line, self._pending = self._pending, b""
            self._take(line)
        return self._taken()

    def restart(self) -> tuple[str, ...]:
        """The file was written anew: forget the unfinished line, count lines from 1 and reports on."""
        self._pending, self._overlong, self._line = b"", False, 0
        return ("progress file: it became shorter and is read from its beginning",)

    def _taken(self) -> ProgressRead:
        read = ProgressRead(tuple(self._records), tuple(self._warnings))
        self._records.clear()
        self._warnings.clear()
        return read

    def _take(self, line: bytes) -> None:
        self._line += 1
        if self._overlong or len(line) > MAX_LINE_BYTES:
            self._overlong = False
            self._warn(f"is longer than {MAX_LINE_BYTES} bytes")
        elif line.strip():
            self._parse(line)

    def _parse(self, line: bytes) -> None:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            self._warn("is not JSON")
            return
        step = document.get("step") if isinstance(document, dict) else None
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= MAX_STEP:
            self._warn('needs "step", a whole number from 0')
            return
        metrics = document.get("metrics")
        if not isinstance(metrics, dict) or len(metrics) > MAX_METRICS:
            self._warn(f'needs "metrics", an object of at most {MAX_METRICS} numbers')
            return
        kept = {name: float(value) for name, value in metrics.items() if self._is_metric(name, value)}
        if kept or not metrics:
            self._sequence += 1
            self._records.append(ProgressRecord(self._sequence, step, kept))

    def _is_metric(self, name: str, value: Any) -> bool:
        if len(name) > MAX_NAME_LENGTH:
            self._warn(f"metric {name[:20]!r}… has a name longer than {MAX_NAME_LENGTH} characters")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self._warn(f"metric {name!r} is not a number")
        elif not _is_finite(value):
            self._warn(f"metric {name!r} is not a finite number")
        else:
            return True
        return False

    def _warn(self, what: str) -> None:
        self._warnings.append(f"progress file, line {self._line}: {what}")


class ProgressFile:
    """Follows one progress file from its beginning. A file that does not exist yet has nothing to report."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._parser = ProgressParser()

    def read(self) -> ProgressRead:
        """What was appended since the last call, at most 4 MiB of it. A file that became shorter is read anew."""
        restarted: tuple[str, ...] = ()
        try:
            with self._path.open("rb") as stream:
                if stream.seek(0, os.SEEK_END) < self._offset:
                    self._offset, restarted = 0, self._parser.restart()
                stream.seek(self._offset)
                piece = stream.read(MAX_READ_BYTES)
        except FileNotFoundError:
            return ProgressRead()
        self._offset += len(piece)
        read = self._parser.feed(piece)
        return ProgressRead(read.records, restarted + read.warnings)

    def finish(self) -> ProgressRead:
        """All that is left when the run is over."""
        records: list[ProgressRecord] = []
        warnings: list[str] = []
        before = -1
        while before != self._offset:
            before = self._offset
            read = self.read()
            records.extend(read.records)
            warnings.extend(read.warnings)
        last = self._parser.finish()
        return ProgressRead((*records, *last.records), (*warnings, *last.warnings))


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
