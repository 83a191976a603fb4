"""Reconcile: what agents report becomes state, and what state says that reports do not is repaired.

Every report may come twice, late, or from a run that has been replaced. Only the current run of a job, with
its epoch, moves anything; all else is answered by an order to forget.

An agent takes over with its first call and then names the runs it found: what should be there and is not is lost,
what is there and should not be is stopped. It is asked to name them again when its runs were given up, and by a server
that begins. Until it has, nothing is placed on its cluster, for what was given up may still run there. A census that
nobody waits for comes late: it does not know what was started since, so nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial

from cluster.health import Health, HealthPolicy, judge
from cluster.model import LeasePolicy
from cluster.protocol import Observation, RunEvent, RunFinished, RunProgress, RunResized, RunStarted, RunStarting, SyncRequest, Usage
from cluster.replicas import CacheState
from cluster.scaling import Wanted
from scheduler.bells import CYCLE, Bells, agent_bell, job_bell, whoever_waits_first
from scheduler.disclosure import told
from scheduler.dispatch import DRAINED, UNLICENSED, forget_order, stop_order
from scheduler.lifecycle import BROKE, ENDS, WORKED, Cause, State
from scheduler.settle import Terms, end_run
from scheduler.sizes import Resized, order_again, take_in
from scheduler.store import evictions, fleet, jobs, outbox
from scheduler.store.changes import Changes
from scheduler.store.records import ClusterRecord, JobRecord, RunRecord
from scheduler.store.session import Transaction
from scheduler.wishes import arrived, wanted
from workloads.catalogue.postings import NO_FEE
from workloads.errors import TooManyRowsError
from workloads.resources import format_duration

CAUSES: dict[str, Cause] = {
    "exit": Cause.EXIT, "max_runtime": Cause.MAX_RUNTIME, "start_failed": Cause.START_FAILED, "data": Cause.DATA,
    "data_changed": Cause.DATA_CHANGED, "cache": Cause.CACHE, "result": Cause.RESULT, "storage": Cause.STORAGE,
    "statement": Cause.STATEMENT, "runtime_env": Cause.RUNTIME_ENV, "beyond_grant": Cause.BEYOND_GRANT,
    "out_of_memory": Cause.OUT_OF_MEMORY, "schema": Cause.SCHEMA, "max_rows": Cause.MAX_ROWS,
    "infrastructure": Cause.INFRASTRUCTURE, "lost": Cause.RUN_LOST,
    "cancelled": Cause.CANCELLED_BY_USER, "preempted": Cause.PREEMPTED,
}  # fmt: skip
# What an end is put down to when its report names no category.
USUAL = {
    State.SUCCEEDED: Cause.FINISHED, State.FAILED: Cause.INFRASTRUCTURE, State.CANCELLED: Cause.CANCELLED_BY_USER,
    State.PREEMPTED: Cause.PREEMPTED, State.LOST: Cause.RUN_LOST,
}  # fmt: skip
# What the network ordered to end for other reasons than to make room.
ORDERED = {DRAINED: Cause.DRAINED, UNLICENSED: Cause.LICENCE_ENDED}
NO_USAGE = Usage()


@dataclass
class Reconciled:
    """What one report changed, for metrics."""

    superseded: bool = False
    on_lease_lost: LeasePolicy = "stop"
    census_wanted: bool = False
    ended: list[tuple[str, str, str]] = field(default_factory=list)  # run id, state, cause
    # Cluster, seconds since placed (None where inputs had to be brought in, which takes its own time), seconds since submitted.
    started: list[tuple[str, float | None, float]] = field(default_factory=list)
    stale: int = 0
    wanted: tuple[Wanted, ...] = ()  # What the cluster's autoscaler is asked for.
    scaled: list[tuple[str, float]] = field(default_factory=list)  # Cluster, seconds until nodes came that were asked for.
    caches: list[tuple[str, Usage]] = field(default_factory=list)  # Cluster and use of each that ended by its report, if any.
    resized: list[Resized] = field(default_factory=list)

    @property
    def undelivered(self) -> bool:
        """Whether a run ended without its result."""
        return any(state != State.SUCCEEDED for _, state, _ in self.ended)


class _Books:
    """One transaction's work: what it changes, by which terms it settles, whom it wakes. `close` writes it all."""

    def __init__(self, tx: Transaction, bells: Bells, now: float, done: Reconciled, fee: Decimal = NO_FEE) -> None:
        self.conn, self.now, self.done = tx.conn, now, done
        self.changes, self.terms = Changes(tx.conn), Terms(tx.conn, fee)
        self._tx, self._bells = tx, bells
        self._rings: set[str] = set()

    def ring(self, *names: str) -> None:
        """Wake after the commit, each once."""
        self._rings.update(names)

    def stop(self, run: RunRecord) -> None:
        """Tell an agent to end a run that should not be there."""
        self.changes.order(run.cluster, stop_order(run.id, "lost"), self.now)

    def forget(self, cluster: str, run_id: str) -> None:
        """Tell an agent that a run's outcome is durable. It reads so in the answer to its report: no bell wakes its parked call too."""
        self.changes.order(cluster, forget_order(run_id), self.now)

    def close(self) -> None:
        """Store everything; the bells ring after the commit."""
        self.ring(*map(job_bell, self.changes.write()))
        self._tx.after_commit(partial(self._bells.ring_each, sorted(self._rings, key=whoever_waits_first)))


def absorb(
    tx: Transaction, bells: Bells, name: str, report: SyncRequest, now: float, policy: HealthPolicy, fee: Decimal = NO_FEE
) -> Reconciled:  # fmt: skip
    """Take in one sync of one agent; `fee` is the market's share of what data costs. Raises NotFoundError for an unknown cluster."""
    conn, done = tx.conn, Reconciled()
    cluster = fleet.get_cluster(conn, name)
    done.on_lease_lost = cluster.spec.on_lease_lost
    if cluster.agent_id != report.agent_id:
        if not report.takes_over:
            if not report.reachable and cluster.health is not Health.HEALTHY:
                # An agent that cannot begin says why, where no other one does better.
                fleet.update_cluster(conn, name, detail=report.detail)
            done.superseded = True
            return done
        cluster = replace(cluster, agent_id=report.agent_id, introduced=False)
    books = _Books(tx, bells, now, done, fee)
    if report.takes_over:
        books.ring(agent_bell(name))  # a parked call of the agent before it learns that it is over
    introduced = cluster.introduced or report.known_runs is not None
    done.census_wanted = report.reachable and not introduced
    done.wanted = wanted(cluster.wishes)
    _hear(books, cluster, report, policy, introduced=introduced)
    outbox.acknowledge(conn, name, report.acknowledged, now)
    if report.observations:
        books.changes.read(observation.event.run_id for observation in report.observations)
    for observation in report.observations:
        _observe(books, name, observation)
    if report.takes_over:
        order_again(conn, books.changes, name, now)
    if report.known_runs is not None:
        _compare(books, name, report.known_runs, wanted=not cluster.introduced)
    books.close()
    return done


def _hear(books: _Books, cluster: ClusterRecord, report: SyncRequest, policy: HealthPolicy, *, introduced: bool) -> None:
    now = books.now
    reachable_at = now if report.reachable else cluster.reachable_at
    health = standing(replace(cluster, heard_at=now, reachable_at=reachable_at, introduced=introduced), now, policy)
    columns: dict[str, object] = {
        "agent_id": report.agent_id, "heard_at": now, "reachable_at": reachable_at, "health": health.value, "introduced": introduced,
        "detail": "" if report.reachable else report.detail,
    }  # fmt: skip
    if report.inventory is not None:
        if report.inventory.remote_id != cluster.remote_id:
            fleet.check_remote_id(books.conn, cluster.name, report.inventory.remote_id)
        columns |= {
            "copies": _stored(report.inventory.cache),
            "backend_version": report.inventory.version, "resizes": report.inventory.resizes, "remote_id": report.inventory.remote_id,
            "driver": report.inventory.driver.model_dump(mode="json"),
            "scaling": report.inventory.scaling.model_dump(mode="json") if report.inventory.scaling else None,
        }  # fmt: skip
        took_s = arrived(cluster.wishes, report.inventory.scaling.types if report.inventory.scaling else (), now)
        books.done.scaled += [] if took_s is None else [(cluster.name, took_s)]
        fleet.replace_nodes(books.conn, cluster.name, report.inventory.nodes, now)
    elif report.cache is not None:
        columns["copies"] = _stored(report.cache.state)
    fleet.update_cluster(books.conn, cluster.name, **columns)
    if health is not cluster.health or report.inventory is not None or report.cache is not None:
        books.ring(CYCLE)


def _stored(cache: CacheState | None) -> dict[str, object] | None:
    return cache.model_dump(mode="json") if cache else None


def standing(cluster: ClusterRecord, now: float, policy: HealthPolicy) -> Health:
    """A member's health. One whose agent never called is suspect, not lost: there is nothing to give up there.
    One whose agent says that the cluster does not answer, or has to name its runs yet, is suspect at once."""
    heard_at, reachable_at = cluster.heard_at, cluster.reachable_at
    if heard_at is None:
        return Health.SUSPECT
    health = judge(heard_at, cluster.created_at if reachable_at is None else reachable_at, now, policy)
    usable = cluster.introduced and reachable_at is not None and reachable_at >= heard_at
    return Health.SUSPECT if health is Health.HEALTHY and not usable else health


def _current(changes: Changes, cluster: str, observation: Observation) -> tuple[JobRecord, RunRecord] | None:
    run = changes.run(observation.event.run_id)
    job = changes.job(run.job_id) if run is not None else None
    if run is None or job is None or run.cluster != cluster or run.epoch != observation.epoch or job.run_id != run.id or run.state in ENDS:
        return None
    return job, run


def _observe(books: _Books, cluster: str, observation: Observation) -> None:
    event = observation.event
    current = _current(books.changes, cluster, observation)
    if current is None:
        books.done.stale += 1
        if isinstance(event, RunFinished):
            books.forget(cluster, event.run_id)
        return
    job, run = current
    _advance(books, job, run, event)
    books.ring(job_bell(job.id))


def _advance(books: _Books, job: JobRecord, run: RunRecord, event: RunEvent) -> None:
    if isinstance(event, RunProgress):
        jobs.add_progress(books.conn, run.id, event.sequence, event.step, event.metrics, event.at)
    elif isinstance(event, RunStarting):
        _starting(books, job, run, event.message)
    elif isinstance(event, RunStarted):
        _to_running(books, job, run)
    elif isinstance(event, RunResized):
        _resized(books, job, run, event)
    elif isinstance(event, RunFinished):
        _finish(books, job, run, event)


def _resized(books: _Books, job: JobRecord, run: RunRecord, event: RunResized) -> None:
    done = take_in(books.changes, job, run, event, books.now)
    if done is not None:
        books.done.resized.append(done)
        # Room may have become free.
        books.ring(CYCLE)


def _starting(books: _Books, job: JobRecord, run: RunRecord, message: str) -> None:
    job, run = _to_starting(books, job, run)
    if message and run.state == State.STARTING and job.message != message:
        books.changes.touch_job(job, message=message)


def _to_starting(books: _Books, job: JobRecord, run: RunRecord) -> tuple[JobRecord, RunRecord]:
    if run.state != State.PLACED:
        return job, run
    run = books.changes.move_run(run, State.STARTING, Cause.ACCEPTED, starting_at=books.now)
    return books.changes.move_job(job, State.STARTING, Cause.ACCEPTED, at=books.now), run


def _to_running(books: _Books, job: JobRecord, run: RunRecord) -> tuple[JobRecord, RunRecord]:
    job, run = _to_starting(books, job, run)
    if run.state != State.STARTING:
        return job, run
    now = books.now
    run = books.changes.move_run(run, State.RUNNING, Cause.STARTED, started_at=now)
    brought_in = any(line["item"] == "transfer" for line in run.quote["lines"])
    books.done.started.append((run.cluster, None if brought_in else now - run.placed_at, now - job.submitted_at))
    return books.changes.move_job(job, State.RUNNING, Cause.STARTED, at=now, started_at=now), run


def _finish(books: _Books, job: JobRecord, run: RunRecord, event: RunFinished) -> None:
    finish = State(event.outcome)
    cause = CAUSES[event.category] if event.category else USUAL[finish]
    if finish is State.SUCCEEDED or cause in WORKED:
        # The report of the start may have been overtaken; the work did begin.
        job, run = _to_running(books, job, run)
    elif run.state == State.PLACED and cause not in BROKE:
        job, run = _to_starting(books, job, run)
    if finish is State.CANCELLED and not job.cancel_requested:
        # Stopped at the cluster by somebody else: the network's doing, not the buyer's.
        finish, cause = State.LOST, Cause.RUN_LOST
    if finish is State.SUCCEEDED and (excess := _too_many_rows(job, run, event)):
        finish, cause = State.FAILED, Cause.MAX_ROWS
        event = event.model_copy(update={"message": excess, "preview": None, "files": ()})
    if cause is Cause.MAX_RUNTIME and (paid_s := run.quote.get("runtime_s")) is not None:
        cause = Cause.BUDGET
        words = f"stopped after {format_duration(paid_s)}, before it would exceed the budget of {job.spec['budget']}"
        event = event.model_copy(update={"message": f"{words}; raise the budget, or ask for fewer resources"})
    message, ordered = event.message, evictions.of_run(books.conn, run.id) if finish is State.PREEMPTED else None
    if ordered is not None:
        # What the cluster ends by itself costs an attempt: else a job that always ends so would be tried for ever.
        cause, message = ORDERED.get(ordered.why, Cause.PREEMPTED), ordered.message
    spared = ordered is not None
    if cause is Cause.STATEMENT and (spec := job.parsed()).inputs:
        message = told(message, [item.product for item in books.terms.inputs(spec, run.cluster)])
    end_run(books.changes, books.terms, job, run, finish, cause, now=books.now, message=message, event=event, spared=spared)
    books.forget(run.cluster, run.id)
    books.done.ended.append((run.id, finish.value, cause.value))
    if event.usage != NO_USAGE:
        books.done.caches.append((run.cluster, event.usage))
    if event.usage.transfers:
        fleet.note_transfers(books.conn, run.cluster, event.usage.transfers, books.now)
    _ring_after_end(books, run)


def _too_many_rows(job: JobRecord, run: RunRecord, event: RunFinished) -> str:
    """Why a result is not taken that has more rows than its job may return, whoever let it pass; empty where it has not."""
    if event.preview is None:
        return ""
    quoted = (int(Decimal(line["quantity"])) for line in run.quote["lines"] if line["item"] == "data-rows")
    most = job.spec.get("max_rows") or next(quoted, None)
    return str(TooManyRowsError(most)) if most is not None and event.preview.total_rows > most else ""


def _compare(books: _Books, cluster: str, known: Sequence[str], *, wanted: bool) -> None:
    # The store must know what the agent has just told before it is asked what runs there.
    books.ring(*map(job_bell, books.changes.write()))
    active = {run.id: run for run in jobs.active_runs(books.conn, cluster)}
    pending = outbox.starts_pending(books.conn, cluster)
    missing = sorted(set(active) - set(known) - pending) if wanted else []
    _lose(books, [active[run_id] for run_id in missing], Cause.RUN_LOST, f"{cluster} no longer knows the run")
    for run_id in sorted(set(known) - set(active)):
        run = jobs.get_run(books.conn, run_id)
        if run is not None:
            books.stop(run)
        books.forget(cluster, run_id)


def lose_run(tx: Transaction, bells: Bells, run: RunRecord, cause: Cause, now: float, message: str, done: Reconciled) -> None:
    """Give a run up; its job is tried again elsewhere when its policy allows."""
    books = _Books(tx, bells, now, done)
    _lose(books, [run], cause, message)
    books.close()


def _lose(books: _Books, runs: Sequence[RunRecord], cause: Cause, message: str) -> None:
    if runs:
        books.changes.read_jobs(run.job_id for run in runs)
    for run in runs:
        job = books.changes.job(run.job_id)
        if job is None or job.run_id != run.id:
            continue
        end_run(books.changes, books.terms, job, run, State.LOST, cause, now=books.now, message=message)
        books.done.ended.append((run.id, State.LOST.value, cause.value))
        _ring_after_end(books, run)


def sweep(tx: Transaction, bells: Bells, now: float, policy: HealthPolicy, began: float) -> Reconciled:
    """Judge every member by the time it was last heard; runs of one that is lost are given up.

    `began` is when this server did. Where runs go on without a lease, members have the whole time from then on to be heard.
    """
    books = _Books(tx, bells, now, Reconciled())
    for cluster in fleet.list_clusters(tx.conn):
        health = standing(cluster, now, policy)
        if health is Health.LOST and cluster.spec.on_lease_lost == "continue" and now - began < policy.lost_after_s:
            health = Health.SUSPECT
        if health is not cluster.health:
            detail = cluster.detail or f"not heard for {now - (cluster.heard_at or cluster.created_at):.0f} s"
            fleet.update_cluster(tx.conn, cluster.name, health=health.value, detail=detail)
            books.ring(CYCLE)
        if health is Health.LOST:
            _lose(books, jobs.active_runs(tx.conn, cluster.name), Cause.CLUSTER_LOST, f"cluster {cluster.name} is lost")
            outbox.withdraw(tx.conn, cluster.name, now)
            fleet.update_cluster(tx.conn, cluster.name, introduced=False)
    books.close()
    return books.done


def _ring_after_end(books: _Books, run: RunRecord) -> None:
    books.ring(job_bell(run.job_id), CYCLE)
