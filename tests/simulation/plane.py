"""A control plane in one thread and virtual time, which can die at any commit and begins again from its file.

Store, admission, cycle, reconciliation and bells are the production code; what drives them (the threads of the wiring
and the routes of the API) is repeated here in a few lines, because it must be the same in every run.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import event

from cluster.errors import UnreachableError
from cluster.health import HealthPolicy
from cluster.protocol import Instruction, SyncReply, SyncRequest
from scheduler.admission import cancel, examine
from scheduler.bells import CYCLE, Bells, agent_bell
from scheduler.clock import Clock
from scheduler.cycle import Cycle
from scheduler.dispatch import order_stop
from scheduler.reconcile import Reconciled, absorb, sweep
from scheduler.resizing import Resizing
from scheduler.store import fleet, jobs, outbox
from scheduler.store.records import ACTIVE
from scheduler.store.session import Store, Transaction, _Write
from scheduler.waits import StartWaits
from tests.stored_jobs import submit
from workloads.spec import JobSpec

T = TypeVar("T")
POLICY = HealthPolicy(suspect_after_s=15.0, lost_after_s=60.0)
LEASE_S, SWEEP_S, IDLE_CYCLE_S = 45.0, 4.0, 5.0


class KilledError(Exception):
    """The server's process has ended here."""


class MortalStore(Store):
    """A store whose process may end just before or just after its next commit.

    It commits in the thread that writes, so that everything has its order, and leaves the flush of the disk to the
    machine: what dies here is a process.
    """

    def __init__(self, url: str, committed: Callable[[], None]) -> None:
        super().__init__(url)
        self.dies: Literal["", "before", "after"] = ""
        self._committed = committed
        event.listen(self.engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous=OFF"))

    def submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        dies, self.dies = self.dies, ""
        future: Future[T] = Future()

        def dying(tx: Transaction) -> T:
            answer = work(tx)
            if dies == "before":
                raise KilledError
            return answer

        self._commit([_Write(dying, future)])
        self._committed()
        if dies == "after":
            raise KilledError
        return future


class Plane:
    """A server on one database file, with these settings of its cycle. Whoever calls it while it is down, or when it dies, gets

    UnreachableError.
    """

    def __init__(self, path: Path, clock: Clock, *, audit: Callable[[], None], say: Callable[[str], None], **cycle: int) -> None:
        self._url, self._clock, self._audit, self._say = f"sqlite:///{path}", clock, audit, say
        self.logs: dict[str, bytearray] = defaultdict(bytearray)
        self.bells = Bells()
        self._settings = cycle
        self.started = 0
        self.start()

    def start(self) -> None:
        """Begin on what the file holds."""
        before, self.bells, self.waits = self.bells, Bells(), StartWaits()
        self.store = MortalStore(self._url, self._audit)
        settings = {"resizing": Resizing(settle_s=3.0), **self._settings}
        self.cycle = Cycle(self.store, self._clock, self.bells, self.waits, **settings)  # type: ignore[arg-type]
        self.up, self.started = True, self.started + 1
        self.store.write(lambda tx: fleet.want_introductions(tx.conn))
        before.ring_all()

    def kill(self) -> None:
        """End without a word."""
        if self.up:
            self._say("the server ends")
            self.up = False
            self.bells.ring_all()
            self.store.close()

    def write(self, work: Callable[[Transaction], T]) -> T:
        """One transaction. Raises UnreachableError when there is no server, or none any more."""
        if not self.up:
            raise UnreachableError("no server")
        try:
            return self.store.write(work)
        except KilledError:
            self.kill()
            raise UnreachableError("the server ended in the middle of it") from None

    # --- what turns by itself ---

    async def decide(self) -> None:
        """Cycles, whenever their bell rings or a delayed retry is due."""
        while True:
            rung = asyncio.Event()
            with self.bells.listen(CYCLE, rung.set):
                began, again = self._clock.now(), self._decide_once()
                if not again:
                    await _rung_or_late(rung, self._idle_s(began))

    def _decide_once(self) -> bool:
        if not self.up:
            return False
        try:
            report = self.cycle.run()
        except KilledError:
            self.kill()
            return False
        return report.full and report.placed > 0

    def _idle_s(self, began: float) -> float:
        if not self.up:
            return IDLE_CYCLE_S
        with self.store.read() as conn:
            due = jobs.next_not_before(conn, began)
        return IDLE_CYCLE_S if due is None else min(max(due - self._clock.now(), 0.0), IDLE_CYCLE_S)

    async def judge(self) -> None:
        """Sweeps, one after the other."""
        began = self._clock.now()
        while True:
            await asyncio.sleep(SWEEP_S)
            if self.up:
                with suppress(UnreachableError):
                    self.write(lambda tx: sweep(tx, self.bells, self._clock.now(), POLICY, began))

    # --- what clients and agents call ---

    def submit(self, spec: JobSpec, job_id: str, key: str) -> str:
        """Accept a job; its id when it is durable."""
        now = self._clock.now()
        if not self.up:
            raise UnreachableError("no server")
        with self.store.read() as conn:
            examine(conn, spec, now)
        return self.write(lambda tx: submit(tx, self.bells, spec, job_id=job_id, submitted_by="t", key=key, now=now))[0].id

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self.write(lambda tx: cancel(tx, self.bells, job_id, self._clock.now()))

    def set_cordon(self, cluster: str, cordon: Literal["open", "cordoned", "draining"]) -> None:
        """As the operator's commands do it."""

        def work(tx: Transaction) -> None:
            fleet.update_cluster(tx.conn, cluster, cordon=cordon)
            if cordon == "draining":
                for run in jobs.active_runs(tx.conn, cluster):
                    order_stop(tx.conn, run, "preempted", self._clock.now())
            tx.after_commit(lambda: self.bells.ring(CYCLE))
            tx.after_commit(lambda: self.bells.ring(agent_bell(cluster)))

        self.write(work)

    def take_in(self, cluster: str, report: SyncRequest) -> Reconciled:
        """What a report changes."""
        done = self.write(lambda tx: absorb(tx, self.bells, cluster, report, self._clock.now(), POLICY))
        for name, since_placed, _ in done.started:
            if since_placed is not None:
                self.waits.saw(name, since_placed)
        return done

    async def sync(self, cluster: str, report: SyncRequest) -> SyncReply:
        """Take in a report; wait for instructions as long as it asks for."""
        done = self.take_in(cluster, report)
        if done.superseded:
            return SyncReply(lease_s=LEASE_S, superseded=True)
        incarnation, deadline = self.started, self._clock.now() + min(report.wait_s, POLICY.suspect_after_s / 2)
        instructions = self._pending(cluster)
        while not (instructions or done.census_wanted) and (left := deadline - self._clock.now()) > 0:
            rung = asyncio.Event()
            with self.bells.listen(agent_bell(cluster), rung.set):
                await _rung_or_late(rung, left)
            if not self.up or self.started != incarnation:
                raise UnreachableError("the server ended while the call was parked")
            with self.store.read() as conn:
                if fleet.get_cluster(conn, cluster).agent_id != report.agent_id:
                    return SyncReply(lease_s=LEASE_S, superseded=True)
            instructions = self._pending(cluster)
        return SyncReply(instructions=instructions, lease_s=LEASE_S, census_wanted=done.census_wanted)

    def _pending(self, cluster: str) -> tuple[Instruction, ...]:
        with self.store.read() as conn:
            return outbox.pending(conn, cluster)

    def append_log(self, cluster: str, run_id: str, epoch: int, offset: int, text: str) -> bool:
        """A piece of a run's log; False when the run is not current."""
        if not self.up:
            raise UnreachableError("no server")
        with self.store.read() as conn:
            run = jobs.get_run(conn, run_id)
            current = run is not None and jobs.get_job(conn, run.job_id).run_id == run_id
        if run is None or not current or run.cluster != cluster or run.epoch != epoch or run.state not in ACTIVE:
            return False
        assert offset <= len(self.logs[run_id]), f"a piece of the log of {run_id} is missing"
        self.logs[run_id][offset : offset + len(text.encode())] = text.encode()
        return True


async def _rung_or_late(rung: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await rung.wait()
    except TimeoutError:
        pass
