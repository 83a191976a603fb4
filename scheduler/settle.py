"""Settle: a run has ended; what becomes of its job, is it tried again, what does it cost.

Charged is what the buyer's own work used: runs that succeeded, failed by their own doing, hit their time
limit or were cancelled while running. What the network broke is free, and data is charged only when the
result was delivered. No charge exceeds the quote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pydantic_core import from_json, to_json

from cluster.carbon import Carbon
from cluster.model import ClusterSpec
from cluster.protocol import RunFinished, Usage
from scheduler import acts
from scheduler.assess import InputData, is_local
from scheduler.lifecycle import Cause, State
from scheduler.market import Market, read_market
from scheduler.retry import GiveUp, Retry, decide
from scheduler.store import fleet, rates
from scheduler.store import uses as licence_uses
from scheduler.store.changes import Changes
from scheduler.store.ledger import Charge
from scheduler.store.records import JobRecord, RunRecord, Sizing
from scheduler.store.rows import Document, Written, dumps
from scheduler.store.session import Connection
from workloads.catalogue.postings import NO_FEE, postings, product_of
from workloads.catalogue.pricing import DataUse, Prices, Quote, QuoteLine, Receipt, charged_time, settle_run
from workloads.catalogue.rates import QuotedInput
from workloads.resources import EXACT, Resources
from workloads.spec import JobSpec

MOST_REMEMBERED = 1024
CHARGED = frozenset({
    Cause.FINISHED, Cause.EXIT, Cause.MAX_RUNTIME, Cause.STATEMENT, Cause.RUNTIME_ENV, Cause.BEYOND_GRANT, Cause.SCHEMA,
    Cause.MAX_ROWS, Cause.BUDGET,
    Cause.CANCELLED_BY_USER,
})  # fmt: skip


class Terms:
    """Prices and data terms as they are in this transaction, each read once, however many runs are settled by them.

    `fee` is the share of what data costs that the market keeps of its owner's income.
    """

    def __init__(self, conn: Connection, fee: Decimal = NO_FEE) -> None:
        self._conn, self._fee = conn, fee
        self._members: dict[str, ClusterSpec] = {}
        self._markets: dict[tuple[str, frozenset[str]], Market] = {}
        self._charges: dict[tuple[Any, ...], Charge] = {}
        self._months: set[tuple[str, str, str]] = set()  # Subscriptions that this transaction charges: tenant, product, month.

    def prices(self, cluster: str) -> Prices:
        """What a member charges now. Raises NotFoundError."""
        return self._member(cluster).prices

    def carbon(self, cluster: str) -> Carbon | None:
        """What is known of a member's electricity. Raises NotFoundError."""
        return self._member(cluster).carbon

    def _member(self, cluster: str) -> ClusterSpec:
        if cluster not in self._members:
            self._members[cluster] = fleet.get_cluster(self._conn, cluster).spec
        return self._members[cluster]

    def inputs(
        self, spec: JobSpec, cluster: str, months: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None
    ) -> list[QuotedInput]:  # fmt: skip
        """The inputs of a job that ran at a cluster. `months` are those that its quote has for subscriptions, by product, `sources` the
        members that it quotes transfers from, by version."""
        found = []
        for item in self._market(spec).inputs(spec):
            month = (months or {}).get(item.product.name, "")
            paid = month in item.months or (spec.tenant, item.product.name, month) in self._months
            source = (sources or {}).get(item.version.ref, "")
            found.append(QuotedInput(item.product, item.version, is_local(item.version, cluster), month, paid, source))
        return found

    def uses(self, spec: JobSpec, run: RunRecord) -> tuple[DataUse, ...]:
        """The versions that a run has read, each once, and the licences that it did so by."""
        if not spec.inputs:
            return ()
        found = {item.version.ref: item for item in self._market(spec).inputs(spec)}
        licences = self._licences(run, found.values())
        return tuple(DataUse(ref=ref, licence=licences.get(item.product.name)) for ref, item in sorted(found.items()))

    def _licences(self, run: RunRecord, inputs: Iterable[InputData]) -> dict[str, str]:
        """By product the licence that a job has used; it is looked up where there are several."""
        granted = {item.product.name: item.licences for item in inputs if item.product.classification != "public"}
        if all(len(licences) == 1 for licences in granted.values()):
            return {name: licences[0].id for name, licences in granted.items()}
        return {use.product: use.licence_id for use in licence_uses.uses_of(self._conn, [run.job_id]).get(run.job_id, ())}

    def _market(self, spec: JobSpec) -> Market:
        key = spec.tenant, frozenset(spec.inputs.values())
        if key not in self._markets:
            self._markets[key] = read_market(self._conn, [spec])
        return self._markets[key]

    def charge(self, spec: JobSpec, job: JobRecord, run: RunRecord, now: float) -> Charge:
        """The receipt of a run with its postings, as they are stored. Small runs end by the hundred in one report: those of one quote
        and length are alike."""
        if run.sizing is not None or spec.chosen_engine is not None or (spec.inputs and _has_months(run)):
            return self._charge(spec, make_receipt(self, spec, job, run, now))
        of_data = (
            frozenset(spec.inputs.values()),
            spec.purpose,
            job.tenant,
            run.state == State.SUCCEEDED,
            (self.uses(spec, run), rows_of(run)) if spec.inputs else None,
        )
        of_time = run.started_at, run.finished_at, now
        used = run.usage or {}
        moved = to_json(used.get("transfers")), used.get("transferred_bytes")
        of_books = spec.cost_centre, spec.research
        like = run.cluster, _text(run.quote), _text(run.held), len(run.nodes), of_data, of_time, moved, of_books
        if like not in self._charges:
            self._charges[like] = self._charge(spec, make_receipt(self, spec, job, run, now))
        charge = self._charges[like]
        return charge._replace(receipt={**charge.receipt, "job_id": job.id, "run_id": run.id})

    def _charge(self, spec: JobSpec, receipt: Receipt) -> Charge:
        owners = {item.product.name: item.product.owner for item in self._market(spec).inputs(spec)}
        lines = ((line.item, line.detail, line.amount.amount) for line in receipt.lines)
        found = postings(receipt.tenant, receipt.cluster, lines, owners, self._fee)
        entry = Written(dumps({account: f"{amount:f}" for account, amount in found})) if found else None
        months = tuple((product_of(line.detail), month_in(line)) for line in receipt.lines if line.item == "data-month" and line.quantity)
        self._months |= {(receipt.tenant, product, month) for product, month in months}
        return Charge(receipt.model_dump(mode="json"), receipt.total.currency, entry, months)


def end_run(
    changes: Changes, terms: Terms, job: JobRecord, run: RunRecord, finish: State, cause: Cause, *,
    now: float, message: str = "", event: RunFinished | None = None, spared: bool = False,
) -> JobRecord:  # fmt: skip
    """End a run and settle the job: final, or back in the queue. An attempt that is spared costs the job none of those it may make."""
    charged = cause in CHARGED
    if job.cancel_requested and finish is not State.SUCCEEDED:
        # However the run came to its end, its buyer wanted it ended.
        finish, cause = State.CANCELLED, Cause.CANCELLED_BY_USER
    columns: dict[str, Any] = {"finished_at": now, "message": message}
    if event is not None:
        columns |= {
            "exit_code": event.exit_code, "usage": event.usage.model_dump(mode="json"),
            "preview": event.preview.model_dump(mode="json") if event.preview else None,
            "files": [file.model_dump(mode="json") for file in event.files],
        }  # fmt: skip
    run = changes.move_run(run, finish, cause, **columns)
    job = changes.move_job(job, finish, cause, at=now, message=message, finished_at=now)
    _note_rate(changes, job, run, now)
    spec = job.parsed()
    if spec.inputs:
        _note_acts(changes, job, spec, run, event, now)
    if finish not in (State.SUCCEEDED, State.CANCELLED):
        if spared:
            job = changes.touch_job(job, spared=job.spared + 1)
        verdict = decide(finish, cause, job.attempts - job.spared, spec.retry.attempts, frozenset(spec.retry.on))
        if isinstance(verdict, Retry):
            return requeue(changes, job, now, verdict.delay_s, spared=message if spared else "")
        job = _give_up(changes, job, verdict, finish, cause, now, message)
    if charged and run.started_at is not None:
        changes.charge(job, run.id, terms.charge(spec, job, run, now), now)
    return job


def _note_acts(changes: Changes, job: JobRecord, spec: JobSpec, run: RunRecord, event: RunFinished | None, now: float) -> None:
    """What the audit log says of an end: what the agent told of it, or that its run was given up."""
    if event is not None and event.usage.transfers:
        changes.act(acts.moved(job, spec, run, event.usage.transfers, now))
    for entry in acts.ended(job, spec, run, acts.agent_of(run.cluster) if event is not None else acts.SERVER, now):
        changes.act(entry)


def _note_rate(changes: Changes, job: JobRecord, run: RunRecord, now: float) -> None:
    """Keep how fast a run on accelerators was, if it had as many all the time; how long it took, if it did all of the work."""
    model = run.held["accelerator_model"]
    if model is None or run.started_at is None or (run.sizing is not None and run.sizing.past):
        return
    steps = rates.steps_per_s(changes.conn, run.id)
    whole = run.state == State.SUCCEEDED and run.attempt == 1 and now > run.started_at
    if steps is not None or whole:
        changes.note_rate({
            "run_id": run.id, "tenant": job.tenant, "kind": job.kind, "name": job.name, "model": model,
            "devices": float(run.held["accelerator_count"] * len(run.nodes)), "steps_per_s": steps,
            "seconds": now - run.started_at if whole else None, "at": now,
        })  # fmt: skip


def requeue(changes: Changes, job: JobRecord, now: float, delay_s: float, *, spared: str = "") -> JobRecord:
    """Back to the queue for the next attempt, in its old place. `spared` says why the last one does not count, where it does not."""
    why = f"{job.cause}, which does not count: {spared}" if spared else job.cause
    message = f"attempt {job.attempts} ended ({why}); trying again"
    not_before = now + delay_s if delay_s > 0 else None
    return changes.move_job(
        job, State.QUEUED, Cause.RETRY, at=now, message=message,
        not_before=not_before, queued_at=now, started_at=None, finished_at=None, blocker="",
    )  # fmt: skip


def _give_up(changes: Changes, job: JobRecord, why: GiveUp, finish: State, cause: Cause, now: float, message: str) -> JobRecord:
    if finish not in (State.LOST, State.PREEMPTED):
        return job
    reason = f"no attempt is left after {job.attempts - job.spared}" if why.exhausted else "retry.on does not cover it"
    return changes.move_job(job, State.FAILED, cause, at=now, message=f"{message}; {reason}".strip("; "))


def make_receipt(terms: Terms, spec: JobSpec, job: JobRecord, run: RunRecord, now: float) -> Receipt:
    """What the run used, line by line, never over its quote."""
    quote = _read_quote(_text(run.quote))
    began, ended = run.started_at or now, run.finished_at or now
    wall_s = ended - began
    delivered = run.state == State.SUCCEEDED
    resources, prices = held_resources(spec, run), terms.prices(run.cluster)
    seconds = _as_at_its_peak(run.sizing, quote, prices, began, ended) if run.sizing else None
    months = {product_of(line.detail): month_in(line) for line in quote.lines if line.item == "data-month"}
    sources = {line.detail: line.source for line in quote.lines if line.item == "transfer"}
    inputs = terms.inputs(spec, run.cluster, months, sources)
    lines = settle_run(
        quote,
        resources,
        inputs,
        prices,
        wall_s,
        started_at=began,
        delivered=delivered,
        moved=bytes_of_versions(run.usage, inputs),
        seconds=seconds,
        rows=rows_of(run),
    )
    spans = run.sizing.spans(began, ended) if run.sizing else [(began, ended, resources.most)]
    return Receipt.of(
        quote, lines, job_id=job.id, run_id=run.id, tenant=job.tenant, purpose=spec.purpose, wall_s=wall_s, issued_at=now,
        hours=charged_time(quote, prices, wall_s, began).hours,
        cost_centre=spec.cost_centre, research=spec.research, uses=terms.uses(spec, run) if delivered else (),
        engine=spec.chosen_engine, carbon_g=_grams(terms.carbon(run.cluster), resources, run.held["accelerator_model"], spans),
    )  # fmt: skip


def rows_of(run: RunRecord) -> int:
    """How many rows a run returned; none where it told of none."""
    return run.preview["total_rows"] if run.preview else 0


def month_in(line: QuoteLine) -> str:
    """The month of a line for a subscription."""
    return line.detail.rpartition(" ")[2]


def _has_months(run: RunRecord) -> bool:
    return any(line["item"] == "data-month" for line in run.quote["lines"])


def bytes_of_versions(usage: dict[str, Any] | None, inputs: Sequence[QuotedInput]) -> dict[str, int]:
    """The bytes that were brought in for each version, by its name: of those that were told, each is put down to one."""
    told = Usage.model_validate(usage or {})
    left: Counter[str] = Counter()
    for one in told.transfers:
        left[one.sha256] += one.size_bytes
    # What was not told of any link belongs to no version that could be named.
    left[""] += max(told.transferred_bytes - left.total(), 0)
    moved = dict[str, int]()
    for version in {item.version.ref: item.version for item in inputs}.values():
        moved[version.ref] = 0
        for whose in (version.sha256, ""):
            part = min(left[whose], version.size_bytes - moved[version.ref])
            moved[version.ref] += part
            left[whose] -= part
    return moved


def _grams(carbon: Carbon | None, resources: Resources, model: str | None, spans: Sequence[tuple[float, float, int]]) -> float | None:
    """The estimated grams of CO2 of all times (begin, end) with so many workers; None where nothing is declared to go by."""
    if carbon is None:
        return None
    found = [carbon.grams(resources.with_workers(count), model, begin_s, max(end_s - begin_s, 0.0)) for begin_s, end_s, count in spans]
    return None if None in found else sum(item for item in found if item is not None)


def _as_at_its_peak(sizing: Sizing, quote: Quote, prices: Prices, began: float, ended: float) -> Decimal:
    """The time that the most workers that a gang had, which its quote is for, are charged for what it had in all."""
    spans = [(count, charged_time(quote, prices, end_s - begin_s, begin_s).seconds) for begin_s, end_s, count in sizing.spans(began, ended)]
    return EXACT.divide(sum((seconds * count for count, seconds in spans), Decimal(0)), Decimal(sizing.peak))


def _text(document: dict[str, Any]) -> str | bytes:
    return document.text if isinstance(document, Document) else to_json(document)


@lru_cache(maxsize=MOST_REMEMBERED)
def _read_quote(text: str | bytes) -> Quote:
    """A quote as it was stored; like runs have like quotes."""
    return Quote.model_validate(from_json(text))


def held_resources(spec: JobSpec, run: RunRecord) -> Resources:
    """What a run held: its workers, the most that it had at once, and of the accelerator models that it might use its own."""
    model, granted = run.held["accelerator_model"], spec.resources.with_workers(run.sizing.peak if run.sizing else len(run.nodes))
    return granted.on(model) if model else granted
