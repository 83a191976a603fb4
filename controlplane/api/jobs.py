"""Jobs: plan, submit, follow, cancel, explain, receipt."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from controlplane.api import direct, views
from controlplane.api.auth import Buyer, Plane, Reader
from controlplane.api.explanation_schemas import ExplanationView
from controlplane.api.found_jobs import Found, explanation, find, find_in, in_full, load, look_up, page_views
from controlplane.api.job_ids import new_job_id
from controlplane.api.looking import look
from controlplane.api.paging import Cursor, Limit, decode_number, encode
from controlplane.api.promises import flexible_plan, told
from controlplane.api.prose import deprecations, verdict_view
from controlplane.api.scaling import told_scaling
from controlplane.api.schemas import EventView, JobView, Page, PlanView, ProgressView
from controlplane.api.window_words import told_windows
from controlplane.submissions import Submission, refused
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.admission import cancel, examine, settle_engine
from scheduler.arrays import cancel_array, examine_size
from scheduler.bells import job_bell
from scheduler.errors import InvalidError, Problem, RefusedError
from scheduler.explain import plan_for
from scheduler.lifecycle import FINAL, State
from scheduler.store import audit, catalogue, jobs, ledger, quotes
from scheduler.store.quotes import HeldQuote
from scheduler.store.records import JobRecord
from scheduler.store.session import Transaction
from workloads.catalogue.held import HeldPrices
from workloads.catalogue.pricing import Receipt
from workloads.programs import program_hash
from workloads.spec import JobSpec, split_ref

router = APIRouter(tags=["jobs"])
Wait = Annotated[float, Query(ge=0, le=60, description="seconds to wait for news")]
KEY = re.compile(r"^[\x21-\x7e]{1,200}$")
REPEATED: dict[int | str, dict[str, Any]] = {200: {"model": JobView, "description": "The first job under this Idempotency-Key"}}


def own_tenant(principal: Principal, spec: JobSpec) -> None:
    """A buyer acts for its own tenant only."""
    if not principal.may_see_tenant(spec.tenant):
        raise InvalidError((Problem("tenant", "forbidden", f"your token is bound to the tenant {principal.tenant!r}"),))


@router.post("/jobs:plan")
async def plan(spec: JobSpec, principal: Buyer, plane: Plane) -> PlanView:
    """Every cluster with its verdict, start estimate, transfer and itemised quote, whose prices are held for a time."""
    own_tenant(principal, spec)
    examine_size(spec, plane.settings.max_array, plane.settings.max_files_bytes)

    def work() -> tuple[PlanView, HeldPrices]:
        with plane.store.read() as conn:
            kept = plane.cycle.kept()
            settled = settle_engine(conn, spec, plane.settings.sql_one_worker_s, told=True)
            now, waits, may_wait = plane.clock.now(), plane.waits.snapshot(), plane.settings.flexible_waits > 0
            planned = plan_for(conn, settled, now, waits, plane.topology, kept, may_wait=may_wait)
            products = catalogue.products_named(conn, {split_ref(ref)[0] for ref in spec.inputs.values()})
            warnings = deprecations(conn, spec)
        frozen = planned.frozen
        shown = [verdict_view(verdict, frozen.candidates[0].ways[verdict.choice], settled) for verdict in planned.verdicts]
        shown = told_scaling(told_windows(told(shown, kept, principal, frozen), frozen), frozen, waits)
        chosen = next((item.cluster for item in shown if item.verdict == "chosen"), None)
        view = PlanView(
            name=spec.name, chosen=chosen, verdicts=shown, engine=settled.chosen_engine, flexible=flexible_plan(planned),
            program=program_hash(spec), rewritten=list(planned.why_rewritten), warnings=warnings,
        )  # fmt: skip
        clusters = {cluster.name: cluster.spec.prices for cluster in frozen.world.clusters}
        return view, HeldPrices(clusters=clusters, products={name: product.price for name, product in products.items()})

    view, prices = await run_in_threadpool(work)
    return await _held(plane, spec, view, prices)


async def _held(plane: ControlPlane, spec: JobSpec, view: PlanView, prices: HeldPrices) -> PlanView:
    """The plan with a quote that holds its prices; without one where the job has one, cannot have one, or none are held here."""
    if spec.quote is not None or spec.flexible is not None or not plane.settings.quote_validity_s:
        return view
    now = plane.clock.now()
    quote = HeldQuote(f"quote-{secrets.token_hex(8)}", spec.tenant, now + plane.settings.quote_validity_s)
    await asyncio.wrap_future(plane.write(lambda tx: quotes.add(tx.conn, quote, prices, now)))
    return view.model_copy(update={"quote_id": quote.id, "quote_expires_at": views.moment(quote.expires_at)})


@direct.post(router, "/jobs", status_code=201, responses=REPEATED, response_model=JobView)
async def submit_job(
    spec: JobSpec, principal: Buyer, plane: Plane,
    idempotency_key: Annotated[str | None, Header(max_length=200, description="a repeated submission under it gives the first job")] = None,
) -> Response:  # fmt: skip
    """Submit a job. It is durable when this answers."""
    own_tenant(principal, spec)
    if idempotency_key is not None and not KEY.match(idempotency_key):
        raise InvalidError((Problem("Idempotency-Key", "pattern", "use 1 to 200 visible ASCII characters"),))
    examine_size(spec, plane.settings.max_array, plane.settings.max_files_bytes)
    try:
        if spec.kind == "sql":
            # To prove a statement takes time in another process, for which the store's writer must not wait.
            spec = await run_in_threadpool(_examine, plane, spec, principal.token_id, plane.clock.now())
        offered = Submission(spec, new_job_id(), idempotency_key, principal.token_id, examined=spec.kind == "sql")
        admitted = await asyncio.wrap_future(plane.submissions.put(offered))
    except RefusedError as error:
        plane.metrics.saw_refusal(error.problems[0].reason)
        raise
    job = admitted.job
    found = Found(job, [], None, False) if job is not None else await run_in_threadpool(_look_up, plane, admitted.id)
    if admitted.new:
        plane.metrics.saw_submission(found.array.size if found.array else 1)
    view = found.view(plane.clock.now())
    status, headers = 201 if admitted.new else 200, {"Location": f"/v1/jobs/{view.id}"}
    return Response(view.model_dump_json(), status_code=status, media_type=direct.JSON, headers=headers)


def _examine(plane: ControlPlane, spec: JobSpec, by: str, now: float) -> JobSpec:
    """The examined job, with the engine of its statement; that one is refused is written down."""
    with plane.store.read() as conn:
        settled = settle_engine(conn, spec, plane.settings.sql_one_worker_s)
        try:
            examine(conn, settled, now, may_wait=plane.settings.flexible_waits > 0)
            return settled
        except RefusedError as error:
            entries = refused(settled, error, by, now)
            refusal = error
    plane.store.write(lambda tx: audit.append(tx.conn, entries))
    raise refusal


def _look_up(plane: ControlPlane, job_id: str) -> Found:
    with plane.store.read() as conn:
        return look_up(conn, job_id)


@router.get("/jobs")
async def list_jobs(
    principal: Reader, plane: Plane, state: State | None = None, tenant: str | None = None, queue: str | None = None,
    array: str | None = None, cursor: Cursor = None, limit: Limit = 100,
) -> Page[JobView]:  # fmt: skip
    """Jobs, newest first; a buyer sees its tenant's. An array is one item; `array` lists its tasks instead, the first one first."""
    wanted = principal.tenant if principal.role == "buyer" else tenant
    before = decode_number(cursor)

    def work() -> Page[JobView]:
        with plane.store.read() as conn:
            found = jobs.list_jobs(
                conn, tenant=wanted, state=state.value if state else None, queue=queue, array=array, before=before, limit=limit + 1
            )
            shown = found[:limit]
            items = page_views(conn, shown, plane.clock.now(), tasks=array is not None)
        return Page(items=items, next_cursor=encode(str(shown[-1].sequence)) if len(found) > limit else None)

    return await run_in_threadpool(work)


@router.get("/jobs/{job_id}", response_model=JobView)
async def get_job(
    job_id: str, principal: Reader, plane: Plane, wait_s: Wait = 0.0, after_version: int = 0, after_cause: str | None = None
) -> Response:
    """One job; with `wait_s`, as soon as its version is past `after_version`, it has ended, or its cause is not `after_cause`."""
    deadline = time.monotonic() + wait_s
    with plane.bells.listen_async(job_bell(job_id)) as rung:
        while True:
            rung.clear()
            left = deadline - time.monotonic()
            ends = left <= 0 or plane.stopping.is_set()
            if (text := await look(plane, _news_of, plane, principal, job_id, after_version, after_cause, ends)) is not None:
                return Response(text, media_type=direct.JSON)
            await _until(rung, left)


def _news_of(plane: ControlPlane, principal: Principal, job_id: str, after_version: int, after_cause: str | None, ends: bool) -> str | None:
    """A job as JSON, where there is news of it, or the wait ends anyhow."""
    now = plane.clock.now()
    with plane.store.read() as conn:
        found = find_in(conn, principal, job_id)
        # Why a job waits may change while the job does not.
        if ends or found.version > after_version or found.state in FINAL:
            return in_full(conn, found, now).model_dump_json()
    if after_cause is not None and (view := found.view(now)).cause != after_cause:
        return view.model_dump_json()
    return None


async def _until(rung: asyncio.Event, seconds: float) -> None:
    # A look every few seconds covers what another server did.
    with suppress(TimeoutError):
        async with asyncio.timeout(min(seconds, 5.0)):
            await rung.wait()


@router.post("/jobs/{job_id}:cancel")
async def cancel_job(job_id: str, principal: Buyer, plane: Plane) -> JobView:
    """Cancel a job, or what has not ended of an array; what has ended stays as it is."""
    found = await run_in_threadpool(find, plane, principal, job_id)
    now = plane.clock.now()

    def work(tx: Transaction) -> None:
        if found.is_array:
            cancel_array(tx, plane.bells, job_id, now, principal.token_id)
        else:
            cancel(tx, plane.bells, job_id, now, principal.token_id)

    await asyncio.wrap_future(plane.write(work))
    return (await run_in_threadpool(find, plane, principal, job_id)).view(plane.clock.now())


@router.get("/jobs/{job_id}/events")
async def job_events(job_id: str, principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 1000) -> Page[EventView]:
    """Every move of the job, oldest first."""
    after = decode_number(cursor) or 0

    def work() -> Page[EventView]:
        job, _ = load(plane, principal, job_id)
        with plane.store.read() as conn:
            found = jobs.events_of(conn, job.id, after, limit + 1)
        more = encode(str(found[limit - 1].sequence)) if len(found) > limit else None
        return Page(items=[views.event_view(event) for event in found[:limit]], next_cursor=more)

    return await run_in_threadpool(work)


@router.get("/jobs/{job_id}/explanation")
async def explain_job(job_id: str, principal: Reader, plane: Plane) -> ExplanationView:
    """Where the job stands: its place in the line, when it is expected to start and what would start it sooner, each cluster's
    verdict, and how it came there."""
    return await run_in_threadpool(explanation, plane, principal, job_id)


@router.get("/jobs/{job_id}/metrics")
async def job_metrics(
    job_id: str, principal: Reader, plane: Plane, after: Annotated[int, Query(ge=-1)] = -1, wait_s: Wait = 0.0, limit: Limit = 1000
) -> Page[ProgressView]:
    """What the current run reported, in order; `next_cursor` is the `after` of the next call."""
    deadline = time.monotonic() + wait_s

    def read() -> tuple[JobRecord, list[tuple[int, int, dict[str, float], float]]]:
        job, _ = load(plane, principal, job_id)
        with plane.store.read() as conn:
            return job, jobs.progress_of(conn, job.run_id or "", after, limit)

    with plane.bells.listen_async(job_bell(job_id)) as rung:
        while True:
            rung.clear()
            job, found = await run_in_threadpool(read)
            left = deadline - time.monotonic()
            if found or left <= 0 or State(job.state) in FINAL or plane.stopping.is_set():
                break
            await _until(rung, left)
    items = [ProgressView(step=step, metrics=metrics, at=views.moment(at)) for _, step, metrics, at in found]
    return Page(items=items, next_cursor=str(found[-1][0]) if found else None)


@router.get("/jobs/{job_id}/receipt")
async def job_receipt(job_id: str, principal: Buyer, plane: Plane) -> Receipt:
    """What the job was charged, line by line."""

    def work() -> Receipt:
        job, _ = load(plane, principal, job_id)
        with plane.store.read() as conn:
            return Receipt.model_validate(ledger.get_receipt(conn, job.id))

    return await run_in_threadpool(work)
