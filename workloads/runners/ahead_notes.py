"""Notes of what was moved, beside a copy that was brought ahead of the run that will read it.

Who reads it first tells what it took as its own, so each byte is told once, by one run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

from workloads.runners.copies import Brought


class Notes:
    """The transfers of one copy that no run has told, a line of JSON each. They exist from the moment that it is brought ahead."""

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
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(replace(one, ahead=True))) + "\n" for one in moved)

    def claim(self, books: Callable[[], AbstractContextManager[None]]) -> list[Brought]:
        """What a run tells that reads the copy; nothing for all who come later. `books` keeps others away meanwhile."""
        if not self.exists():
            return []
        with books():
            try:
                lines = self._path.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                return []
            self.drop()
        # A line that was cut is of a machine that stopped: what it moved is told by nobody, as that of a worker that died.
        return [Brought(**json.loads(line)) for line in lines if line.endswith("}")]

    def drop(self) -> None:
        """The copy is gone, or told."""
        self._path.unlink(missing_ok=True)
