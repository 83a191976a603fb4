"""How long results and logs of runs are kept: so many days after a run's end, and within so many bytes, the oldest going first.

Only what lies somewhere is looked at, and of it only what belongs to runs that are over. What the database does not know stays: it
may have been restored from an older backup. A tenant may have limits of its own for results. What lies in its store goes there later
(`shipments`), because a store may not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.files import RunFiles
from controlplane.settings import Settings
from scheduler.store import access, placed_results, small_results
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


@dataclass(frozen=True)
class Kept:
    """A result that is kept: its size, when its run ended (seconds since the epoch), and whose it is."""

    size_bytes: int
    ended: float
    tenant: str


def surplus_of_tenants(
    kept: Mapping[str, Kept], usual: Limits, own: Mapping[str, tuple[float | None, int | None]], now: float
) -> list[str]:
    """The same, where tenants may have their own limits (days, bytes); one that is None is the usual one.

    Tenants without a limit of bytes of their own share the usual one.
    """
    gone: set[str] = set()
    pools: dict[str, dict[str, Kept]] = {}
    for run_id, one in kept.items():
        days, size_bytes = own.get(one.tenant, (None, None))
        days = usual.days if days is None else days
        if days > 0 and now - one.ended > days * DAY_S:
            gone.add(run_id)
        else:
            pools.setdefault(one.tenant if size_bytes is not None else "", {})[run_id] = one
    for tenant, pool in pools.items():
        size_bytes = own[tenant][1] if tenant else None
        limits = Limits(0, usual.size_bytes if size_bytes is None else size_bytes)
        sizes, ended = {run_id: one.size_bytes for run_id, one in pool.items()}, {run_id: one.ended for run_id, one in pool.items()}
        gone.update(surplus(sizes, ended, limits, now))
    return sorted(gone)


class Retention:
    """Removes what was kept long enough. `sweep` works on the disk and the store."""

    def __init__(self, settings: Settings, store: Store, files: RunFiles) -> None:
        self._store, self._files = store, files
        self._results = Limits(settings.keep_results_days, settings.keep_results_bytes)
        self._logs = Limits(settings.keep_logs_days, settings.keep_logs_bytes)

    def sweep(self, now: float) -> bool:
        """Remove what has to go at a time: first in the store, then on the disk. Whether results went, which may lie elsewhere too."""
        if self._logs.any:
            sizes = self._files.logs.sizes()
            with self._store.read() as conn:
                ended = ended_at(conn, sizes)
            self._remove("log", surplus(sizes, ended, self._logs, now), sizes, self._files.logs.drop, now)
        with self._store.read() as conn:
            own = {
                tenant.name: (tenant.keep_results_days, tenant.keep_results_bytes) for tenant in access.list_tenants(conn)
            }  # fmt: skip
        if not self._results.any and all(limits == (None, None) for limits in own.values()):
            return False
        sizes = self._result_sizes()
        with self._store.read() as conn:
            ended, owners = ended_at(conn, sizes), placed_results.owners(conn, sizes)
        kept = {run_id: Kept(size, ended[run_id], owners[run_id]) for run_id, size in sizes.items() if run_id in ended}
        gone = surplus_of_tenants(kept, self._results, own, now)
        self._remove("result", gone, sizes, self._files.drop_results, now)
        return bool(gone)

    def _result_sizes(self) -> dict[str, int]:
        """Bytes of results by run, on the disk, in the database and in the stores of tenants."""
        with self._store.read() as conn:
            small, placed, large = small_results.sizes(conn), placed_results.sizes(conn), self._files.result_sizes()
        here = {run_id: small.get(run_id, 0) + large.get(run_id, 0) for run_id in small.keys() | large.keys()}
        return here | placed

    def _remove(self, what: What, gone: list[str], sizes: Mapping[str, int], drop: Callable[[str], None], now: float) -> None:
        if not gone:
            return
        self._store.write(lambda tx: add_removals(tx.conn, what, gone, now))
        for run_id in gone:
            drop(run_id)
        log.info("removed the %ss of %d runs, %d bytes", what, len(gone), sum(sizes[run_id] for run_id in gone))
