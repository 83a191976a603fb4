"""Results that runs put into a store themselves: of their tenant, or else of the cluster that they run on.

Before the run gets leave to put anything there, a row says that something may be there. What it has put there is made its result before
its success is told: joined and proved by a thread of its own, which no transaction and no call waits for; whoever asks again learns how
it stands. So a success that is committed has its result whole, in a place that no run can write to. What other runs leave in stores is
removed like results that are not kept (`shipments`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from cluster.deposits import PATIENCE_S, Grant
from cluster.protocol import ResultFile
from controlplane.deposit_store import DepositStore, NotAsToldError
from controlplane.files import RunFiles
from controlplane.result_store import ResultStoreError
from controlplane.shipments import Shipments
from scheduler.store import access, fleet, jobs, placed_results
from scheduler.store.session import Store

log = logging.getLogger("cpn")
AT_ONCE = 2
# What a run may need beside its own time and that for putting its result there: to be started, and a slow clock.
START_S = 3600.0


@dataclass(frozen=True)
class Told:
    """What a run says that it has put into its store."""

    run_id: str
    epoch: int
    token: str
    files: tuple[ResultFile, ...]


class Deposits:
    """Grants, and what became of them. `grant` works on the database, and rarely over the network."""

    def __init__(self, store: Store, files: RunFiles, shipments: Shipments, now: Callable[[], float], ending: threading.Event) -> None:
        self._store, self._files, self._shipments, self._now, self._ending = store, files, shipments, now, ending
        self._turns = threading.Semaphore(AT_ONCE)
        self._taking: dict[str, Future[bool]] = {}

    def grant(self, run_id: str, epoch: int) -> Grant | None:
        """Leave for a current run to put a large result into a store; None where there is none for it, or it cannot be used."""
        url, max_runtime_s = self._place(run_id)
        if url is None:
            return None
        try:
            made = DepositStore(url).grant(run_id, epoch, START_S + max_runtime_s + PATIENCE_S, self._now())
        except ResultStoreError as error:
            log.warning("run %s may put no result into a store: %s", run_id, error)
            return None
        self._store.write(lambda tx: placed_results.begin(tx.conn, run_id, url, 0))
        self._shipments.expect()
        return made

    def size(self, run_id: str) -> int | None:
        """Bytes of a run's result that were taken in from a store; None for nothing."""
        with self._store.read() as conn:
            placed = placed_results.of_runs(conn, [run_id]).get(run_id)
        return None if placed is None or placed.stored_at is None else placed.size_bytes

    async def take(self, told: Told, wait_s: float) -> bool:
        """Make what a current run has put there its result; False when that goes on after `wait_s`.

        Raises ValueError for names that no result has, TooLargeError, NotAsToldError, and ResultStoreError when the store cannot be used.
        """
        for file in told.files:
            self._files.result_path(told.run_id, file.name)
        self._files.check_limit(told.files[-1].name if told.files else "them", sum(file.size_bytes for file in told.files))
        work = self._taking.get(told.run_id)
        if work is None:
            work = self._taking[told.run_id] = Future()
            work.set_running_or_notify_cancel()
            threading.Thread(target=self._take, args=(told, work), name=f"deposit of {told.run_id}", daemon=True).start()
        waiting = asyncio.wrap_future(work)
        await asyncio.wait([waiting], timeout=wait_s)
        if not waiting.done():
            # It goes on; who asks again waits for it anew.
            waiting.cancel()
            return False
        self._taking.pop(told.run_id, None)
        waiting.result()
        return True

    def _place(self, run_id: str) -> tuple[str | None, float]:
        """The store for a run's result, if there is one, and how long it may run."""
        with self._store.read() as conn:
            run = jobs.get_run(conn, run_id)
            if run is None:
                return None, 0.0
            job, placed = jobs.get_job(conn, run.job_id), placed_results.of_runs(conn, [run_id]).get(run_id)
            if placed is not None:
                # It was granted before, and may have something there.
                url = placed.url if placed.stored_at is None else None
            else:
                url = access.get_tenant(conn, job.tenant).result_store or fleet.get_cluster(conn, run.cluster).spec.result_store
            return url, job.parsed().max_runtime

    def _take(self, told: Told, work: Future[bool]) -> None:
        try:
            with self._turns:
                self._settle(told)
            work.set_result(True)
        except BaseException as error:  # whoever asks is to learn of it
            work.set_exception(error)

    def _settle(self, told: Told) -> None:
        with self._store.read() as conn:
            placed = placed_results.of_runs(conn, [told.run_id]).get(told.run_id)
        if placed is None:
            raise ResultStoreError(f"run {told.run_id} was granted no place in a store")
        if placed.stored_at is not None:
            return
        store = DepositStore(placed.url)
        store.gather(told.run_id, told.epoch, told.token, told.files)
        store.prove(told.run_id, told.files, self._ending)
        store.drop_pieces(told.run_id)
        size, at = sum(file.size_bytes for file in told.files), self._now()
        if not self._store.write(lambda tx: placed_results.finish(tx.conn, told.run_id, at, size)):
            # It was given up meanwhile, and what it had put there was removed before it was joined.
            store.remove(told.run_id)
            raise NotAsToldError(f"run {told.run_id} is over; its result is not wanted any more")
