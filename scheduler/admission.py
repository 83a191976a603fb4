"""Admission: is this job one that we can promise to keep? If so it is stored before anybody is told.

Faults of the request (unknown names, a statement that does not bind) are refused with their path, what the
rights forbid at every cluster with each rule in words. What only lacks room is accepted: it waits.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scheduler import acts
from scheduler.affordable import finds_paid_hour, with_hours_told, with_why_not
from scheduler.arrays import ring_after, store_array, task_ids
from scheduler.assess import Assessment, InputData, from_refusal
from scheduler.bells import CYCLE, Bells, job_bell
from scheduler.disclosure import disclosed, is_limited, only_groups
from scheduler.dispatch import order_stop
from scheduler.engine.reasons import FOR_GOOD, Reason
from scheduler.errors import ConflictError, InvalidError, Problem, RefusedError
from scheduler.freeze import judge_at
from scheduler.holds import open_predecessors
from scheduler.lifecycle import FINAL, Cause, State
from scheduler.market import Market, read_market
from scheduler.store import access, arrays, audit, dependencies, fleet, jobs, quotes
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord
from scheduler.store.session import Connection, Transaction
from scheduler.uses import Reservations
from workloads.catalogue.policy import place_independent
from workloads.catalogue.rates import charges_rows
from workloads.engines import ONE_WORKER_S, Worker, choose, estimate_bytes
from workloads.errors import StatementError
from workloads.map_jobs import MapStep
from workloads.runners.partitions import row_limit_fault
from workloads.runners.proving import DaftVerdict
from workloads.runners.sql import check_statement, judge_for_daft
from workloads.spec import JobSpec, split_ref

Assessments = tuple[Assessment, ...]
Keys = dict[tuple[str, str], tuple[str, str | None]]  # (tenant, idempotency key) → (id, digest) of what was submitted under it.


@dataclass(frozen=True)
class Offer:
    """An examined job or array of a batch, with the id that it gets when it is new; `document` is the spec as it is stored."""

    spec: JobSpec
    job_id: str
    key: str | None
    document: dict[str, Any] | None = None


@dataclass(frozen=True)
class Admitted:
    """What a submission has become: the job or array with this id, stored now or, under the same key, before.

    `job` is that of a new job as it is stored, but for its sequence number.
    """

    id: str
    new: bool
    job: JobRecord | None = field(default=None, compare=False)


def examine(conn: Connection, spec: JobSpec, now: float, *, may_wait: bool = True) -> Assessments:
    """Everything that can be said against a job before it waits. Raises InvalidError, RefusedError.

    Returns the assessment at every cluster, for a quote; needs no transaction with the later insert, because
    every cycle judges the rights again. With `may_wait` flexible jobs wait for an hour that their budget pays for.
    """
    market = validate(conn, spec, now)
    inputs = market.inputs(spec)
    rights, versions = [(item.product, item.licences) for item in inputs], [item.version for item in inputs]
    everywhere = place_independent(spec, rights, now=now, versions=versions)
    statement = disclosed(spec, inputs).against if is_limited(spec, market.products) else None
    if everywhere or statement is not None:
        found = [("", item) for item in map(from_refusal, everywhere)] + ([("sql", statement)] if statement is not None else [])
        raise RefusedError(tuple(Problem(path, item.reason.label, f"{item.message}; {item.remedy}") for path, item in found))
    clusters = fleet.list_clusters(conn)
    ways = judge_at(spec, market, clusters, now)
    assessments = tuple(item for way in ways for item in way.assessments)
    if assessments and all(any(against.reason in FOR_GOOD for against in item.against) for item in assessments):
        if spec.flexible is not None and any(item.reason is Reason.OVER_BUDGET for item in assessments):
            strict = any(queue.order == "strict" for queue in fleet.list_queues(conn) if queue.name == spec.queue)
            if strict or not may_wait:
                why = "in a strict queue nobody waits for another hour" if strict else "this server lets nobody wait for another hour"
                assessments = with_why_not(assessments, why)
            elif finds_paid_hour(spec, ways, clusters, now):
                return assessments
            else:
                assessments = with_hours_told(spec, ways, clusters, now)
        raise RefusedError(tuple(_refusal(item) for item in assessments))
    return assessments


def settle_engine(conn: Connection, spec: JobSpec, limit_s: float = ONE_WORKER_S, *, told: bool = False) -> JobSpec:
    """The spec with the engine that runs its statement, and the workers that this one takes; any other kind as it is.

    A job of one worker that leaves the choice open is DuckDB's as it stands; it gets a choice too when that is to be `told`.

    Raises InvalidError when the job names an engine that cannot run it. What else is wrong is left for `examine` to say.
    """
    if spec.chosen_engine is not None:
        raise InvalidError((Problem("chosen_engine", "answer", "it is for answers only; leave it out, and give engine"),))
    workers = spec.resources.most
    if spec.kind != "sql" or (workers == 1 and spec.engine == "auto" and not told):
        return spec
    market = read_market(conn, [spec])
    if any(_input_problems(market, alias, ref) for alias, ref in spec.inputs.items()):
        return spec
    versions = {item.alias: item.version for item in market.inputs(spec)}
    verdict = DaftVerdict(None, {})
    if spec.engine == "daft" or (spec.engine == "auto" and workers > 1):
        kept = only_groups(market.products[split_ref(ref)[0]] for ref in spec.inputs.values())
        found = disclosed(spec, market.inputs(spec))
        if found.against is not None:
            return spec
        try:
            verdict = judge_for_daft(found.sql or "", {alias: version.columns for alias, version in versions.items()})
        except StatementError:
            return spec
        if kept:
            # Its messages tell of values, and what it does with a condition before a group is dropped nobody has proved.
            verdict = DaftVerdict(f"{kept} answers about groups only, which is for DuckDB", {})
    refusal = verdict.refusal
    if spec.engine == "daft" and refusal is not None:
        words = f"Daft cannot run it: {refusal}; give engine: auto, which takes DuckDB then"
        raise InvalidError((Problem("engine", "statement", words),))
    size = estimate_bytes(
        (version.rows, [column.type for column in version.columns if column.name in verdict.read.get(alias, (column.name,))])
        for alias, version in versions.items()
    )
    worker = Worker(spec.resources.cpu, spec.resources.memory)
    choice = choose(spec.engine, workers, worker, size, refusal=refusal, limit_s=limit_s)
    return spec.model_copy(update={"resources": spec.resources.with_workers(choice.workers), "chosen_engine": choice})


def as_asked(spec: JobSpec) -> JobSpec:
    """A settled spec as it was submitted."""
    if spec.chosen_engine is None:
        return spec
    asked = spec.resources.with_workers(spec.chosen_engine.asked_workers)
    return spec.model_copy(update={"resources": asked, "chosen_engine": None})


def _refusal(item: Assessment) -> Problem:
    words = "; ".join(f"{against.message} ({against.remedy})" for against in item.against)
    return Problem("", item.reason.label, f"{item.cluster}: {words}")


def validate(conn: Connection, spec: JobSpec, now: float) -> Market:
    """Refuse what is wrong whatever the rights. Returns the part of the catalogue that the job refers to."""
    problems: list[Problem] = []
    if not access.has_tenant(conn, spec.tenant):
        problems.append(Problem("tenant", "unknown", f"there is no tenant {spec.tenant!r}"))
    problems.extend(_queue_problems(conn, spec.queue))
    deadline = spec.deadline_s()
    if deadline is not None and deadline <= now:
        problems.append(Problem("deadline", "past", "the deadline has passed; give a later one or leave it out"))
    clusters = {cluster.name for cluster in fleet.list_clusters(conn)} if spec.placement.clusters else set()
    for index, name in enumerate(spec.placement.clusters):
        if name not in clusters:
            problems.append(Problem(f"placement.clusters.{index}", "unknown", f"there is no cluster {name!r}"))
    market = read_market(conn, [spec])
    for alias, ref in sorted(spec.inputs.items()):
        problems.extend(_input_problems(market, alias, ref))
    problems.extend(_quote_problems(conn, spec, now))
    if not problems and spec.kind != "sql":
        problems.extend(_uncounted_problems(spec, market))
    if not problems and spec.kind == "sql":
        problems.extend(_statement_problems(spec, market))
    if not problems and spec.map is not None:
        problems.extend(_map_problems(spec.map, market.inputs(spec)))
    if problems:
        raise InvalidError(tuple(problems))
    return market


def _queue_problems(conn: Connection, name: str) -> list[Problem]:
    queues = fleet.list_queues(conn)
    inner = {queue.parent for queue in queues}
    open_queues = ", ".join(queue.name for queue in queues if queue.name not in inner)
    if name in inner:
        return [Problem("queue", "inner", f"jobs wait in the queues at the ends of the tree, and {name!r} has others below it; "
                        f"submit to one of: {open_queues}")]  # fmt: skip
    if name not in {queue.name for queue in queues}:
        return [Problem("queue", "unknown", f"there is no queue {name!r}; there are: {open_queues}")]
    return []


def _input_problems(market: Market, alias: str, ref: str) -> list[Problem]:
    name = split_ref(ref)[0]
    if name not in market.products:
        return [Problem(f"inputs.{alias}", "unknown", f"there is no product {name!r}; `cpn product list` shows what there is")]
    if ref not in market.versions:
        known = ", ".join(found for found in market.versions if split_ref(found)[0] == name) or "none yet"
        return [Problem(f"inputs.{alias}", "unknown", f"there is no version {ref!r}; there are: {known}")]
    return []


def _quote_problems(conn: Connection, spec: JobSpec, now: float) -> list[Problem]:
    """Of a quote that does not hold for this job, or not any more."""
    if spec.quote is None:
        return []
    held, again = quotes.find(conn, spec.quote), "ask for another with `cpn job plan`, or leave it out"
    if held is None or held.tenant != spec.tenant:
        return [Problem("quote", "unknown", f"tenant {spec.tenant} has no quote {spec.quote!r}; {again}")]
    if held.expires_at <= now:
        ended = datetime.fromtimestamp(held.expires_at, UTC)
        return [Problem("quote", "expired", f"{spec.quote} held its prices until {ended:%Y-%m-%d %H:%M:%S} UTC; {again}")]
    return []


def _uncounted_problems(spec: JobSpec, market: Market) -> list[Problem]:
    """Of inputs with a price for each row that is returned, where no rows are counted."""
    why = f"has a price for each row that is returned, and of kind {spec.kind} no rows are counted"
    words = f"{why}; use kind sql, or ask its owner for another price"
    found = [item for item in market.inputs(spec) if charges_rows(item.product)]
    return [Problem(f"inputs.{item.alias}", "uncounted", f"{item.product.name} {words}") for item in found]


def _statement_problems(spec: JobSpec, market: Market) -> list[Problem]:
    try:
        check_statement(spec.sql or "", {item.alias: item.version.columns for item in market.inputs(spec)})
    except StatementError as error:
        return [Problem("sql", "statement", str(error))]
    return []


def _map_problems(step: MapStep, inputs: Sequence[InputData]) -> list[Problem]:
    fault = row_limit_fault(step, [item.version.rows for item in inputs])
    problems = [Problem("map.rows", "too_many", f"{step.rows:,} {fault}")] if fault else []
    for item in inputs:
        known = {column.name for column in item.version.columns}
        for index, name in enumerate(step.columns):
            if name not in known:
                words = f"input {item.alias} has no column {name!r}; it has: {', '.join(sorted(known))}"
                problems.append(Problem(f"map.columns.{index}", "unknown", words))
    return problems


def digest(spec: JobSpec) -> str:
    """What tells a repeated submission from another one under the same idempotency key."""
    # Without defaults, so that a field that a later version adds changes no digest.
    return hashlib.sha256(json.dumps(as_asked(spec).model_dump(mode="json", exclude_defaults=True), sort_keys=True).encode()).hexdigest()


def _admitted(spec: JobSpec) -> str:
    """What the event of an admission says beside that."""
    choice = spec.chosen_engine
    return f"runs on {choice.engine}, {choice.workers} of {choice.asked_workers} workers: {choice.reason}" if choice else ""


def submit_batch(
    tx: Transaction, bells: Bells, offers: Sequence[Offer], *, submitted_by: str, now: float
) -> list[Admitted | ConflictError | InvalidError | RefusedError]:  # fmt: skip
    """Store examined jobs and arrays in their order, as if submitted one after the other, but all in this transaction.

    The answer to each, in the same order; one that is refused takes nothing with it: ConflictError where its key was used for another
    job, InvalidError for a job that it cannot come after, RefusedError where others took what was left of its licence.
    """
    changes, known = Changes(tx.conn), _keys_of(tx.conn, offers)
    reservations = Reservations(tx.conn, [offer.spec for offer in offers], now)
    answers: list[Admitted | ConflictError | InvalidError | RefusedError] = []
    for offer in offers:
        try:
            answers.append(_take(tx, changes, reservations, known, offer, submitted_by, now))
        except (ConflictError, InvalidError, RefusedError) as error:
            answers.append(error)
            if isinstance(error, RefusedError):
                changes.act(acts.refused(offer.spec, error.problems, submitted_by, now))
    changes.write()
    reservations.write()
    if any(isinstance(answer, Admitted) and answer.new for answer in answers):
        tx.after_commit(lambda: bells.ring(CYCLE))
    return answers


def _take(
    tx: Transaction, changes: Changes, reservations: Reservations, known: Keys, offer: Offer, submitted_by: str, now: float
) -> Admitted:  # fmt: skip
    spec, key = offer.spec, offer.key
    mark = digest(spec) if key else None
    if key and (before := _same(known.get((spec.tenant, key)), key, mark)) is not None:
        return Admitted(before, new=False)
    needs = open_predecessors(tx.conn, spec, offer.job_id)
    reservations.take(spec, [offer.job_id] if spec.array is None else task_ids(spec, offer.job_id))
    if spec.quote is not None:
        quotes.use(tx.conn, spec.quote)
    columns, job = _columns(spec, offer.job_id, submitted_by, key, mark, now, offer.document), None
    if spec.array is None:
        job = changes.add_job({**columns, "waiting_for": len(needs)})
        dependencies.add(tx.conn, job.id, needs)
        job = changes.move_job(job, State.QUEUED, Cause.ADMITTED, at=now, message=_admitted(spec), queued_at=now)
    else:
        changes.write()  # What goes before an array gets the smaller sequence numbers.
        store_array(tx, spec, columns, needs)
    if spec.inputs:
        changes.act(acts.admitted(spec, offer.job_id, columns["spec"], submitted_by, now))
    if key:
        known[spec.tenant, key] = offer.job_id, mark
    return Admitted(offer.job_id, new=True, job=job)


def _keys_of(conn: Connection, offers: Iterable[Offer]) -> Keys:
    """What was submitted under the keys of these offers."""
    named: dict[str, set[str]] = defaultdict(set)
    for offer in offers:
        if offer.key:
            named[offer.spec.tenant].add(offer.key)
    found: Keys = {}
    for tenant, keys in sorted(named.items()):
        for job_id, key, mark in (*jobs.under_keys(conn, tenant, keys), *arrays.under_keys(conn, tenant, keys)):
            found[tenant, key] = job_id, mark
    return found


def _same(known: tuple[str, str | None] | None, key: str, mark: str | None) -> str | None:
    if known is not None and known[1] != mark:
        raise ConflictError(f"the idempotency key {key!r} was used for another job ({known[0]})")
    return known[0] if known is not None else None


def _columns(
    spec: JobSpec, job_id: str, submitted_by: str, key: str | None, mark: str | None, now: float, document: dict[str, Any] | None = None
) -> dict[str, Any]:  # fmt: skip
    start_after = spec.start_after_s()
    return {
        "id": job_id, "version": 1, "state": State.SUBMITTED.value, "tenant": spec.tenant, "queue": spec.queue, "rank": spec.rank,
        "name": spec.name, "kind": spec.kind, "spec": document or spec.model_dump(mode="json"), "submitted_by": submitted_by,
        "idempotency_key": key, "idempotency_digest": mark, "attempts": 0, "run_id": None,
        "not_before": start_after if start_after is not None and start_after > now else None,
        "cause": "submitted", "message": "", "blocker": "", "cancel_requested": False, "submitted_at": now,
    }  # fmt: skip


def cancel(tx: Transaction, bells: Bells, job_id: str, now: float, by: str = "") -> JobRecord:
    """Cancel a job: at once when it waits, through its agent when it runs. Again changes nothing. `by` is the token that asks for it."""
    job = jobs.get_job(tx.conn, job_id)
    if State(job.state) in FINAL or job.cancel_requested:
        return job
    if job.spec.get("inputs"):
        audit.append(tx.conn, [acts.withdrawn(job, Cause.CANCELLED_BY_USER, by, now)])
    if job.state in (State.SUBMITTED, State.QUEUED):
        changes = Changes(tx.conn)
        job = changes.move_job(job, State.CANCELLED, Cause.CANCELLED_BY_USER, at=now, finished_at=now, cancel_requested=True)
        if concerned := changes.write():
            ring_after(tx, bells, {CYCLE, *map(job_bell, concerned)})
    else:
        job = jobs.touch_job(tx.conn, job, cancel_requested=True)
        run = jobs.get_run(tx.conn, job.run_id or "")
        if run is not None:
            order_stop(tx.conn, run, "cancelled", now)
            tx.after_commit(lambda: bells.ring(f"agent/{run.cluster}"))
    tx.after_commit(lambda: bells.ring(job_bell(job.id)))
    return job
