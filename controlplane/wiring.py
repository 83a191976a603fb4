"""The control plane put together: store, bells, cycle, metrics and files, with the threads that drive them.

Threads run beside the HTTP server and the store's writer: one runs cycles whenever its bell rings (or a delayed
retry is due), one judges the members' health once a second, one removes results and logs where they have a limit, and one
moves results to the stores of their tenants. All survive any single failure: it is logged, and the next turn tries again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from cluster.health import HealthPolicy
from cluster.protocol import ResultFile, SyncRequest
from controlplane.captures import KeptDecisions
from controlplane.deposits import Deposits
from controlplane.files import RunFiles
from controlplane.prefetch import Prefetch
from controlplane.retention import Retention
from controlplane.settings import Settings
from controlplane.shipments import Shipments
from controlplane.submissions import gathered_submissions
from controlplane.tokens import TokenBook
from controlplane.withdrawals import Withdrawals
from monitoring.capacity import Capacity, measure
from monitoring.metrics import Metrics, NetworkState
from scheduler.bells import CYCLE, Bells, agent_bell
from scheduler.clock import Clock, SystemClock
from scheduler.cycle import Cycle, CycleReport
from scheduler.dispatch import run_name
from scheduler.engine.evictable import Budget
from scheduler.engine.snapshot import Weights
from scheduler.explain import Explanation, explain
from scheduler.forecast import Kept
from scheduler.freeze import read_world
from scheduler.lifecycle import FINAL, State
from scheduler.preemption import Preemption
from scheduler.reconcile import Reconciled, absorb, sweep
from scheduler.resizing import Resizing
from scheduler.store import fleet, jobs, outbox, small_results
from scheduler.store.records import JobRecord
from scheduler.store.session import Connection, Store, Transaction
from scheduler.store.small_results import Contents
from scheduler.topology import USUAL_TOPOLOGY
from scheduler.waits import StartWaits
from scheduler.wishes import scale_key

log = logging.getLogger("cpn")
T = TypeVar("T")
IDLE_CYCLE_S = 1.0
SENDING_S = 10.0
RESTS, LONGEST_REST_S = 3.0, 0.25


class ControlPlane:
    """Everything a server has. `start` begins the threads, `stop` ends them and the store."""

    def __init__(self, settings: Settings, store: Store, clock: Clock | None = None) -> None:
        self.settings, self.store, self.clock = settings, store, clock or SystemClock()
        self.bells, self.waits = Bells(), StartWaits()
        self.topology = USUAL_TOPOLOGY.with_more(settings.label_keys("zone_labels"), settings.label_keys("rack_labels"))
        self.health = HealthPolicy(suspect_after_s=settings.suspect_after_s, lost_after_s=settings.lost_after_s)
        self.withdrawals = Withdrawals(store, self.clock)
        self.captures = KeptDecisions(settings.data_dir, most=settings.capture, max_bytes=settings.max_capture_bytes)
        self.cycle = Cycle(
            store, self.clock, self.bells, self.waits, per_queue=settings.per_queue,
            weights=Weights(history=settings.history_weight, **settings.score_weights),
            half_life_s=settings.history_half_life_s, keep=self.captures.keep,
            topology=self.topology,
            heads=settings.heads, flexible=settings.flexible_waits,
            preemption=Preemption(Budget(settings.preemption_per_cycle, settings.preemption_restarts), settings.preemption_claim_s),
            resizing=Resizing(settings.resize_settle_s), scale_limit_s=settings.scale_up_limit_s,
        )  # fmt: skip
        self.prefetch = Prefetch(store, self.clock, lambda: (self.cycle.promises, self.cycle.last))
        self.metrics = Metrics(self.network_state)
        self.tokens = TokenBook(store, self.clock)
        self.submissions = gathered_submissions(store, self.bells, self.clock, settings)
        self.files = RunFiles(settings.data_dir, max_log_bytes=settings.max_log_bytes, max_result_bytes=settings.max_result_bytes)
        self.retention = Retention(settings, store, self.files)
        self.shipments = Shipments(store, self.files, settings.store_retry_s)
        self.stopping = threading.Event()
        self.deposits = Deposits(store, self.files, self.shipments, self.clock.now, self.stopping)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to decide. Agents are asked to name their runs, because the database may be one that was restored."""
        self.store.write(lambda tx: fleet.want_introductions(tx.conn))
        loops = [("cycle", self._cycle_loop), ("sweep", self._sweep_loop), ("retention", self._retention_loop)]
        for name, loop in [*loops, ("shipments", lambda: self.shipments.run(self.clock.now, self.stopping))]:
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def announce_stop(self) -> None:
        """Let everybody who waits answer now. Safe in a signal handler's frame: it takes no lock that it may hold."""
        self.stopping.set()
        threading.Thread(target=self.bells.ring_all, name="last-bells", daemon=True).start()

    def stop(self) -> None:
        """End the threads, then finish what is queued for the store."""
        self.stopping.set()
        self.bells.ring_all()
        self.shipments.woken.set()
        for thread in self._threads:
            # What is being sent to a store is not waited for: it is given up, and sent anew by the next server.
            thread.join(SENDING_S if thread.name == "shipments" else None)
        self.store.close()

    def deciding(self) -> bool:
        """Whether the threads that decide are alive."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def write(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Queue a write; done after its commit."""
        return self.store.submit(work)

    def sync(self, cluster: str, report: SyncRequest, contents: Contents) -> Future[tuple[Reconciled, list[str]]]:
        """Take in an agent's report, and the results that it brought; what changed, and the instructions open after it, as JSON."""
        now = self.clock.now()

        def work(tx: Transaction) -> tuple[Reconciled, list[str]]:
            done = absorb(tx, self.bells, cluster, report, now, self.health, self.settings.market_fee)
            small_results.put(tx.conn, contents, [run_id for run_id, state, _ in done.ended if state == State.SUCCEEDED])
            return done, [] if done.superseded else outbox.pending_texts(tx.conn, cluster)

        return self.store.submit(work)

    def saw(self, done: Reconciled) -> None:
        """Count and learn from what reports changed."""
        self.metrics.saw_reports(done)
        for cluster, since_placed, _ in done.started:
            if since_placed is not None:
                self.waits.saw(cluster, since_placed)
        self.shipments.ended(run_id for run_id, state, _ in done.ended if state == State.SUCCEEDED)
        if done.undelivered:
            self.shipments.failed(run_id for run_id, state, _ in done.ended if state != State.SUCCEEDED)
        for cluster, took_s in done.scaled:
            self.waits.saw(scale_key(cluster), took_s)

    def tidy(self, done: Reconciled) -> None:
        """Drop the files of runs that delivered nothing; parts that a next attempt takes over stay. Works on the disk."""
        for run_id, state, _ in done.ended:
            if state != State.SUCCEEDED:
                for gone in self._unwanted(run_id):
                    self.files.drop_results(gone)

    def _unwanted(self, run_id: str) -> list[str]:
        """The runs whose files nobody wants any more now that this one has ended without a result."""
        with self.store.read() as conn:
            run = jobs.get_run(conn, run_id)
            job = jobs.get_job(conn, run.job_id) if run is not None else None
        if run is None or job is None or job.kind != "map":
            return [run_id]
        # What an attempt has left behind that none took over goes with the last one.
        return [run_name(job.id, number) for number in range(1, run.attempt + 1)] if State(job.state) in FINAL else []

    def take_over_parts(self, job_id: str, run_id: str) -> list[ResultFile]:
        """The parts of earlier attempts, as a run's own. Works on the disk."""
        with self.store.read() as conn:
            run = jobs.get_run(conn, run_id)
        attempts = range(1, run.attempt if run is not None else 1)
        return self.files.take_over(run_id, [run_name(job_id, number) for number in attempts])

    def capacity(self) -> Capacity:
        """Computing power now."""
        with self.store.read() as conn:
            world = read_world(conn, self.clock.now())
        return measure(world.clusters, world.nodes, world.runs)

    def explain(self, conn: Connection, job: JobRecord, kept: Kept) -> Explanation:
        """Where a job stands, by the latest decision."""
        return explain(
            conn, job, now=self.clock.now(), waits=self.waits.snapshot(), decision=self.cycle.last, kept=kept,
            per_queue=self.settings.per_queue, topology=self.topology,
        )  # fmt: skip

    def network_state(self) -> NetworkState:
        """What a scrape shows."""
        with self.store.read() as conn:
            world = read_world(conn, self.clock.now())
            queues = jobs.count_by_state(conn)
        return NetworkState(world.now, queues, world.clusters, measure(world.clusters, world.nodes, world.runs))

    def _cycle_loop(self) -> None:
        rung = threading.Event()
        with self.bells.listen(CYCLE, rung.set):
            while not self.stopping.is_set():
                woken = rung.is_set()
                rung.clear()
                began = time.monotonic()
                try:
                    report = self.cycle.run(woken=woken)
                except Exception:
                    log.exception("a cycle failed; nothing of it was stored, the next one tries again")
                    self.stopping.wait(IDLE_CYCLE_S)
                    rung.set()
                    continue
                ended = time.monotonic()
                self.metrics.saw_cycle(report)
                self.bells.ring_each([agent_bell(name) for name in self.prefetch.decided()])
                if not (report.full and report.placed):
                    rung.wait(self._idle_s(report))
                # A decision costs more the more wait, and hardly more the more it places. So after each others have the processor for
                # RESTS times as long, and what they bring in and free meanwhile is decided on together. Idle, nobody waits for this.
                self.stopping.wait(max(min(RESTS * (ended - began), LONGEST_REST_S) - (time.monotonic() - ended), 0.0))

    def _idle_s(self, report: CycleReport) -> float:
        return IDLE_CYCLE_S if report.due is None else min(max(report.due - self.clock.now(), 0.0), IDLE_CYCLE_S)

    def _sweep_loop(self) -> None:
        began = self.clock.now()
        while not self.stopping.wait(self.settings.sweep_interval_s):
            try:
                now = self.clock.now()
                done = self.store.write(lambda tx, now=now: sweep(tx, self.bells, now, self.health, began))  # type: ignore[misc]
                self.saw(done)
                self.tidy(done)
            except Exception:
                log.exception("judging the members' health failed; the next turn tries again")

    def _retention_loop(self) -> None:
        while True:
            try:
                if self.retention.sweep(self.clock.now()):
                    self.shipments.look()
            except Exception:
                log.exception("removing results and logs failed; the next turn tries again")
            if self.stopping.wait(self.settings.keep_interval_s):
                return
