"""Notes of what was moved, and of what made room for it, beside a copy that was brought ahead of the run that will read it.

Who reads it first tells what it took as its own, so each byte is told once, by one run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

from workloads.runners.copies import Brought, Claimed

NOTHING = Claimed()


class Notes:
    """What no run has told of one copy, a line of JSON each time. They exist from the moment that it is brought ahead."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        """Whether the copy was brought ahead, and no run has read it."""
        return self._path.exists()

    def begin(self) -> None:
        """From now on it is brought ahead."""
        self._path.touch(mode=0o600)

    def add(self, moved: Sequence[Brought]) -> None:
        """Keep these for the run that will read it."""
        self._write(Claimed(tuple(replace(one, ahead=True) for one in moved)))

    def made_room(self, evicted: int, evicted_bytes: int) -> None:
        """So many copies were removed for it."""
        self._write(Claimed((), evicted, evicted_bytes))

    def claim(self, books: Callable[[], AbstractContextManager[None]]) -> Claimed:
        """What a run tells that reads the copy; nothing for all who come later. `books` keeps others away meanwhile."""
        if not self.exists():
            return NOTHING
        with books():
            try:
                lines = self._path.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                return NOTHING
            self.drop()
        # A line that was cut is of a machine that stopped: what it moved is told by nobody, as that of a worker that died.
        found = [json.loads(line) for line in lines if line.endswith("]}")]
        return Claimed(
            tuple(Brought(**one) for line in found for one in line["brought"]),
            sum(line["evicted"] for line in found), sum(line["evicted_bytes"] for line in found),
        )  # fmt: skip

    def _write(self, what: Claimed) -> None:
        line = {"evicted": what.evicted, "evicted_bytes": what.evicted_bytes, "brought": [asdict(one) for one in what.brought]}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def drop(self) -> None:
        """The copy is gone, or told."""
        self._path.unlink(missing_ok=True)
