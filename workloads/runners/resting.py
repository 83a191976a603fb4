"""Places that failed lately are left alone for a while, by all processes that share a folder of copies.

A place that does not answer may cost each look at it minutes, and a hundred runs that want what lies there would look one after the
other. So a failure is remembered: for a second first, twice as long each time, a minute at most. What was remembered is told at once
meanwhile, with when it is tried again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from workloads.errors import DataChangedError, DataError, DataUnavailableError

FIRST_S, LONGEST_S = 1.0, 60.0
# A failure counts as another one in a row for so long.
_IN_A_ROW_S = 3600.0


@dataclass(frozen=True)
class _Failure:
    at: float
    times: int
    changed: bool
    message: str

    @property
    def rest_s(self) -> float:
        return min(FIRST_S * 2.0 ** (self.times - 1), LONGEST_S)


class Resting:
    """What failed, a file for each place. Any number of objects, threads and processes may share the folder."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self._folder, self._now = folder, now

    def error(self, uri: str) -> DataError | None:
        """Why a place is not to be tried now; None when it is."""
        found = self._read(uri)
        if found is None or not 0 <= (age_s := self._now() - found.at) < found.rest_s:
            return None
        left_s = found.rest_s - age_s
        words = f"{found.message} (so {age_s:.0f} s ago, {found.times} times in a row; it is tried again in {left_s:.0f} s)"
        return (DataChangedError if found.changed else DataUnavailableError)(words)

    def failed(self, uri: str, error: DataError) -> None:
        """A place was tried in vain."""
        now, before = self._now(), self._read(uri)
        in_a_row = before is not None and 0 <= now - before.at < _IN_A_ROW_S
        found = _Failure(now, before.times + 1 if before and in_a_row else 1, isinstance(error, DataChangedError), str(error))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._drop_old()
        path = self._file(uri)
        fresh = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        fresh.write_text(json.dumps(asdict(found)), encoding="utf-8")
        fresh.replace(path)

    def worked(self, uri: str) -> None:
        """A place had it: what was before does not count any more."""
        self._file(uri).unlink(missing_ok=True)

    def _read(self, uri: str) -> _Failure | None:
        try:
            return _Failure(**json.loads(self._file(uri).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _file(self, uri: str) -> Path:
        # A URI may carry a secret, and be longer than a file's name.
        return self._folder / f"{hashlib.sha256(uri.encode()).hexdigest()}.json"

    def _drop_old(self) -> None:
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if self._now() - path.stat().st_mtime > _IN_A_ROW_S:
                    path.unlink()
