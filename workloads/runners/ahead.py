"""Data that is brought to this machine before the run that will read it: one version after the other, for as long as it is wanted.

What is wanted is said again and again. What is wanted no more stops on its way, and so does everything when nobody has said anything
for a while; the beginning stays for the run, which goes on with it. A version under way is its bringer's turn (`replica_cache.py`), so
a run that wants it meanwhile waits for the same transfer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.catalogue.locations import Progress
from workloads.errors import CacheError, DataError
from workloads.runners.copies import Brought, Wanted
from workloads.runners.replica_cache import ReplicaCache

Carry = Callable[[Wanted, Path, Progress], Sequence[Brought]]


@dataclass(frozen=True)
class Sought:
    """A version that is wanted ahead; `until` is when the right to bring it here ends, in seconds since the epoch, None: not by itself."""

    item: Wanted
    until: float | None = None


class _WantedNoMoreError(Exception):
    """It is not wanted any more; raised on the way."""


class Ahead:
    """What this process brings in ahead, into one folder. Safe between threads.

    `carry` brings one version, and calls its progress again and again on the way. `clock` is steady, `now` is since the epoch, in seconds.
    """

    def __init__(
        self, cache: ReplicaCache, carry: Carry, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._cache, self._carry, self._clock, self._now = cache, carry, clock, now
        self._lock = threading.Lock()
        self._wanted: dict[str, Sought] = {}
        self._until = 0.0
        self._thread: threading.Thread | None = None

    def want(self, items: Sequence[Sought], for_s: float) -> None:
        """Bring these in, in this order, and nothing else; unless that is said again, for so many seconds."""
        with self._lock:
            self._wanted, self._until = {one.item.sha256: one for one in items}, self._clock() + for_s
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
                self._thread.start()

    def join(self) -> None:
        """Wait until nothing is on its way, and all that is wanted was looked at."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        seen = set[str]()
        while (one := self._next(seen)) is not None:
            seen.add(one.item.sha256)
            try:
                if not self._cache.has(one.item):
                    self._bring(one)
            except (CacheError, DataError, OSError, _WantedNoMoreError):
                # The next time that it is said to be wanted it is looked at again, when its place rests no more and there is room.
                # What is wrong with it is told by the run that reads it.
                continue

    def _next(self, seen: Collection[str]) -> Sought | None:
        """The next one to look at; None when there is none, and this thread is over."""
        with self._lock:
            left = [one for sha256, one in self._wanted.items() if sha256 not in seen and self._is_due(one)]
            if left:
                return left[0]
            self._thread = None
            return None

    def _is_due(self, one: Sought) -> bool:
        return self._clock() < self._until and (one.until is None or self._now() < one.until)

    def _bring(self, one: Sought) -> None:
        with self._lock:
            spared = {other.item.name for other in self._wanted.values()}

        def carry(item: Wanted, part: Path) -> Sequence[Brought]:
            return self._carry(item, part, lambda _size: self._check(item.sha256))

        self._cache.bring_ahead(one.item, carry, spared)

    def _check(self, sha256: str) -> None:
        with self._lock:
            found = self._wanted.get(sha256)
            if found is None or not self._is_due(found):
                raise _WantedNoMoreError
