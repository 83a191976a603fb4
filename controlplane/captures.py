"""The decisions that a server keeps: a folder of captures, the oldest of which make room for new ones.

Two bounds hold: how many are kept, and how many bytes they take. A decision equal to the one before (jobs that wait where nothing
runs make the same cycle every second) is kept once. Keeping never fails a cycle: what cannot be written is logged and left out.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from scheduler.captures import decision_of, packed
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot

log = logging.getLogger("cpn")
NAME = re.compile(r"cycle-(\d{12})\.json\.gz")
PIECE = 256 * 1024


class KeptDecisions:
    """`captures/cycle-N.json.gz` under the data directory; `most` of 0 keeps nothing. Safe to use from several threads."""

    def __init__(self, data_dir: Path, *, most: int, max_bytes: int) -> None:
        self.folder, self.most, self._max_bytes = data_dir / "captures", most, max_bytes
        self._lock, self._last = threading.Lock(), b""
        self._sizes: dict[int, int] = {}
        if most:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in self.folder.iterdir():
                if found := NAME.fullmatch(path.name):
                    self._sizes[int(found[1])] = path.stat().st_size
        self._next = max(self._sizes, default=0) + 1

    def keep(self, at: float, snapshot: Snapshot, plan: Plan) -> None:
        """Keep a decision made at a time (seconds since 1970)."""
        if not self.most:
            return
        try:
            self._keep(at, decision_of(snapshot, plan))
        except (OSError, TypeError, ValueError):
            log.exception("a decision could not be captured; the cycle goes on")

    def _keep(self, at: float, decision: str) -> None:
        digest = hashlib.sha256(decision.encode()).digest()
        if digest == self._last:
            return
        data = packed(self._next, at, decision)
        with self._lock:
            path = self._path(self._next)
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.replace(path)
            self._sizes[self._next] = len(data)
            self._next, self._last = self._next + 1, digest
            while len(self._sizes) > 1 and (len(self._sizes) > self.most or sum(self._sizes.values()) > self._max_bytes):
                oldest = min(self._sizes)
                self._path(oldest).unlink(missing_ok=True)
                del self._sizes[oldest]

    def newest(self, count: int | None = None) -> list[Path]:
        """The files of the last `count` decisions, or of all, the oldest first."""
        with self._lock:
            numbers = sorted(self._sizes)
        return [self._path(number) for number in (numbers if count is None else numbers[-count:])]

    def _path(self, number: int) -> Path:
        return self.folder / f"cycle-{number:012}.json.gz"


def pieces(paths: list[Path]) -> Iterator[bytes]:
    """The bytes of files behind one another; one that made room meanwhile is left out."""
    for path in paths:
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
        except FileNotFoundError:
            continue
