"""How long results and logs of runs are kept: so many days after a run's end, and within so many bytes, the oldest going first.

Only what lies on the disk is looked at, and of it only what belongs to runs that are over. What the database does not know stays: it
may have been restored from an older backup.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.files import RunFiles
from controlplane.settings import Settings
from scheduler.store import small_results
from scheduler.store.removals import What, add_removals, ended_at
from scheduler.store.session import Store

log = logging.getLogger("cpn")
DAY_S = 86_400.0


@dataclass(frozen=True)
class Limits:
    """How much is kept; 0 is without limit."""

    days: float
    size_bytes: int

    @property
    def any(self) -> bool:
        """Whether something may have to go."""
        return self.days > 0 or self.size_bytes > 0


def surplus(sizes: Mapping[str, int], ended: Mapping[str, float], limits: Limits, now: float) -> list[str]:
    """The runs whose files go, by id: `sizes` in bytes by run, `ended` in seconds since the epoch of those that are over."""
    oldest_first = sorted((at, run_id) for run_id, at in ended.items() if run_id in sizes)
    too_old = {run_id for at, run_id in oldest_first if limits.days > 0 and now - at > limits.days * DAY_S}
    total = sum(size for run_id, size in sizes.items() if run_id not in too_old)
    for _, run_id in oldest_first:
        if limits.size_bytes <= 0 or total <= limits.size_bytes:
            break
        if run_id not in too_old:
            too_old.add(run_id)
            total -= sizes[run_id]
    return sorted(too_old)


class Retention:
    """Removes what was kept long enough. `sweep` works on the disk and the store."""

    def __init__(self, settings: Settings, store: Store, files: RunFiles) -> None:
        self._store, self._files = store, files
        results = Limits(settings.keep_results_days, settings.keep_results_bytes)
        logs = Limits(settings.keep_logs_days, settings.keep_logs_bytes)
        self._kinds: tuple[tuple[What, Limits, Callable[[], dict[str, int]], Callable[[str], None]], ...] = (
            ("result", results, self._result_sizes, files.drop_results),
            ("log", logs, files.logs.sizes, files.logs.drop),
        )

    @property
    def any(self) -> bool:
        """Whether anything has a limit."""
        return any(limits.any for _, limits, _, _ in self._kinds)

    def _result_sizes(self) -> dict[str, int]:
        """Bytes of results by run, on the disk and in the store."""
        with self._store.read() as conn:
            small, large = small_results.sizes(conn), self._files.result_sizes()
        return {run_id: small.get(run_id, 0) + large.get(run_id, 0) for run_id in small.keys() | large.keys()}

    def sweep(self, now: float) -> None:
        """Remove what has to go at a time: first in the store, then on the disk."""
        for what, limits, sizes_of, drop in self._kinds:
            if not limits.any:
                continue
            sizes = sizes_of()
            with self._store.read() as conn:
                ended = ended_at(conn, sizes)
            if gone := surplus(sizes, ended, limits, now):
                self._store.write(lambda tx, what=what, gone=gone: add_removals(tx.conn, what, gone, now))  # type: ignore[misc]
                for run_id in gone:
                    drop(run_id)
                log.info("removed the %ss of %d runs, %d bytes", what, len(gone), sum(sizes[run_id] for run_id in gone))
