"""Results on their way from the server's directory to the stores of their tenants.

A result is first the server's, durable when its run has succeeded, wherever it is to lie. Then it is moved: a row says that it is on
the way, its files are sent, the row says that it has arrived, and a while later the server's files go. Whatever is killed or does not
answer in between, the result is whole in one place that is known, and a later turn goes on. No transaction waits for a store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controlplane.files import RunFiles
from controlplane.result_store import ResultStore, ResultStoreError
from scheduler.store import access, fleet, placed_results, small_results
from scheduler.store.access import Tenant
from scheduler.store.placed_results import Delivered, Placed
from scheduler.store.session import Connection, Store

log = logging.getLogger("cpn")
# Who was told that a file lies in the directory may be about to open it.
LEAVE_S = 60.0
LOOK_S = 5.0


@dataclass(frozen=True)
class Standing:
    """How a tenant's results get on: how many wait because their store could not be used, and why."""

    waiting: int = 0
    message: str = ""


class Shipments:
    """Moves results. `turn` works on disk, database and network, and one thread calls it; all else returns at once.

    A store that could not be used is asked again after `retry_s`.
    """

    def __init__(
        self, store: Store, files: RunFiles, retry_s: float, open_store: Callable[[str], ResultStore] = ResultStore
    ) -> None:  # fmt: skip
        self._store, self._files, self._retry_s, self._open_store = store, files, retry_s, open_store
        self._lock = threading.Lock()
        self._due: set[str] = set()
        self._failed: set[str] = set()
        self._all = self._any = True
        self._standings: dict[str, Standing] = {}
        self._not_before: dict[str, float] = {}
        # Runs whose results have arrived and are in the directory still, with the time; in order of time.
        self._leaving: dict[str, float] = {}
        self.woken = threading.Event()

    def ended(self, run_ids: Iterable[str]) -> None:
        """These runs have succeeded."""
        if self._any:
            with self._lock:
                self._due.update(run_ids)
            self.woken.set()

    def failed(self, run_ids: Iterable[str]) -> None:
        """These runs have ended without a result, and may have put something into a store."""
        if self._any:
            with self._lock:
                self._failed.update(run_ids)
            self.woken.set()

    def expect(self) -> None:
        """A run may put something into a store."""
        self._any = True

    def look(self) -> None:
        """Tenants have changed, or results were removed: look at everything."""
        with self._lock:
            self._all = self._any = True
            self._not_before.clear()
        self.woken.set()

    def standing(self, tenant: str) -> Standing:
        """How a tenant's results get on, as of the last turn."""
        return self._standings.get(tenant, Standing())

    def run(self, now: Callable[[], float], stopping: threading.Event) -> None:
        """Turns, until the end: when there is news, and again while something is left to be done."""
        while not stopping.is_set():
            self.woken.clear()
            try:
                left = self.turn(now(), stopping)
            except Exception:
                log.exception("moving results failed; the next turn tries again")
                self.look()
                left = True
                stopping.wait(LOOK_S)
            self.woken.wait(min(LOOK_S, self._retry_s) if left else None)

    def turn(self, now: float, stopping: threading.Event | None = None) -> bool:
        """Move what is due, and remove from stores what is not kept; whether something is left for a later turn."""
        with self._lock:
            due, failed, everything = self._due, self._failed, self._all
            self._due, self._failed, self._all = set(), set(), False
        with self._store.read() as conn:
            tenants = {tenant.name: tenant for tenant in access.list_tenants(conn)}
            results = placed_results.delivered(conn, self._held(conn) if everything else due)
            placed = placed_results.of_runs(conn, [one.run_id for one in results])
            gone = placed_results.removed(conn)
            broken = placed_results.abandoned(conn) if everything else list(placed_results.of_runs(conn, failed).values())
            more = bool(placed_results.on_the_way(conn)) or any(cluster.spec.result_store for cluster in fleet.list_clusters(conn))
        left = [one for one in gone if not self._removed(one)]
        remain = {one.run_id for one in broken if not self._removed(one)}
        self._leaving |= {one.run_id: one.stored_at for one in placed.values() if one.stored_at is not None}
        self._leave(now)
        to_move = [one for one in results if tenants[one.tenant].result_store or one.run_id in placed]
        waiting = self._move_all([one for one in to_move if one.run_id not in self._leaving], placed, tenants, now, stopping)
        with self._lock:
            self._due |= waiting
            self._failed |= remain
            self._any = self._all or more or any(tenant.result_store for tenant in tenants.values())
        return bool(left or remain or waiting or self._leaving)

    def _held(self, conn: Connection) -> set[str]:
        """The runs of which the server has something, or has begun to send something."""
        return {*self._files.result_sizes(), *small_results.sizes(conn), *placed_results.on_the_way(conn)}

    def _leave(self, now: float) -> None:
        """Drop from the directory what arrived long enough ago."""
        for run_id in [run_id for run_id, at in self._leaving.items() if at <= now - LEAVE_S]:
            self._files.drop_results(run_id)
            del self._leaving[run_id]

    def _move_all(
        self, results: list[Delivered], placed: dict[str, Placed], tenants: dict[str, Tenant], now: float,
        stopping: threading.Event | None,
    ) -> set[str]:  # fmt: skip
        """Move them; those that wait for a later turn. Says how each tenant's get on."""
        waiting: dict[str, set[str]] = {}
        faults: dict[str, str] = {}
        for one in results:
            url = tenants[one.tenant].result_store
            if one.tenant not in faults and now >= self._not_before.get(one.tenant, now) and not (stopping and stopping.is_set()):
                try:
                    self._move(one, placed.get(one.run_id), url, now)
                    continue
                except (ResultStoreError, OSError) as error:
                    words = str(error) if isinstance(error, ResultStoreError) else f"the server cannot read it ({error.strerror})"
                    faults[one.tenant] = words
                    self._not_before[one.tenant] = now + self._retry_s
                    if words != self.standing(one.tenant).message:
                        log.warning("results of %s wait for their store: %s", one.tenant, words)
            waiting.setdefault(one.tenant, set()).add(one.run_id)
        said = {tenant: faults.get(tenant) or self.standing(tenant).message for tenant in waiting}
        self._standings = {tenant: Standing(len(runs), said[tenant]) for tenant, runs in waiting.items()}
        return set().union(*waiting.values())

    def _move(self, one: Delivered, placed: Placed | None, url: str | None, now: float) -> None:
        """Let a result be where its tenant wants it. Raises ResultStoreError, and OSError where the server's file cannot be read."""
        if placed is not None:
            self._clear(placed, url)
        if url is None or not one.files:
            return
        size = sum(size for _, size in one.files)
        self._store.write(lambda tx: placed_results.begin(tx.conn, one.run_id, url, size))
        destination = self._open_store(url)
        for name, _ in one.files:
            with self._store.read() as conn:
                small = small_results.get(conn, one.run_id, name)
            if small is not None:
                destination.put_bytes(one.run_id, name, small)
            else:
                destination.put_file(one.run_id, name, self._files.result_path(one.run_id, name))
        if self._store.write(lambda tx: placed_results.finish(tx.conn, one.run_id, now)):
            self._leaving[one.run_id] = now
        else:
            self._remove(Placed(one.run_id, url, size, None))

    def _clear(self, placed: Placed, url: str | None) -> None:
        """Remove what was begun. A place that is not the tenant's any more may refuse that: what it has is left to its owner."""
        try:
            self._remove(placed)
        except ResultStoreError as error:
            if placed.url == url:
                raise
            log.warning("what %s has of %s is left there: %s", placed.url, placed.run_id, error)

    def _removed(self, placed: Placed) -> bool:
        """Remove a result that is not kept any more, where that can be done now."""
        try:
            self._remove(placed)
        except ResultStoreError as error:
            log.warning("what %s has of %s cannot be removed: %s", placed.url, placed.run_id, error)
            return False
        return True

    def _remove(self, placed: Placed) -> None:
        """Remove a run's objects, and then the row that tells of them. Raises ResultStoreError."""
        self._open_store(placed.url).remove(placed.run_id)
        self._store.write(lambda tx: placed_results.forget(tx.conn, placed.run_id))
