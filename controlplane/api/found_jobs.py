"""Looking up what somebody names: a job, a task of an array, or an array as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import HTTPException

from controlplane.api import views
from controlplane.api.explanation_schemas import ExplanationView
from controlplane.api.promises import ahead_words, brought_ahead, promise_of, promise_words, told
from controlplane.api.prose import hold_views, summary, verdict_view
from controlplane.api.scaling import told_scaling
from controlplane.api.schemas import JobView
from controlplane.api.standing import placed_view, waiting_view
from controlplane.api.window_words import told_windows
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.errors import ConflictError, NotFoundError
from scheduler.explain import why_rewritten
from scheduler.holds import predecessors
from scheduler.lifecycle import FINAL, Cause, State
from scheduler.store import access, arrays, evictions, fleet, jobs, removals, uses
from scheduler.store.records import ArrayRecord, EventRecord, JobRecord, RunRecord
from scheduler.store.session import Connection


@dataclass(frozen=True)
class Found:
    """What an id stands for. `job` is the job; of an array as one (`is_array`) it is the first task."""

    job: JobRecord
    runs: list[RunRecord]
    array: ArrayRecord | None
    is_array: bool

    @property
    def version(self) -> int:
        return self.array.version if self.is_array and self.array else self.job.version

    @property
    def state(self) -> State:
        return State(self.array.state if self.is_array and self.array else self.job.state)

    def view(self, now: float) -> JobView:
        """As a document, at a time."""
        if self.is_array and self.array:
            return views.array_view(self.array, self.job, now)
        return views.job_view(self.job, self.runs, now, self.array)


def find(plane: ControlPlane, principal: Principal, job_id: str) -> Found:
    """What an id stands for, as far as this principal may see it. Raises NotFoundError."""
    with plane.store.read() as conn:
        return find_in(conn, principal, job_id)


def find_in(conn: Connection, principal: Principal, job_id: str) -> Found:
    """The same by a connection that is open."""
    found = look_up(conn, job_id)
    if not principal.may_see_tenant(found.job.tenant):
        # Another tenant's job is not to be told from one that does not exist.
        raise NotFoundError(f"there is no job {job_id!r}")
    return found


def look_up(conn: Connection, job_id: str) -> Found:
    """What an id stands for. Raises NotFoundError."""
    try:
        job = jobs.get_job(conn, job_id)
    except NotFoundError:
        array = arrays.get_array(conn, job_id)
        return Found(jobs.get_job(conn, array.first), [], array, True)
    array_of = arrays.get_array(conn, job.array_id) if job.array_id is not None else None
    return Found(job, jobs.runs_of(conn, [job.id]), array_of, False)


def in_full(conn: Connection, found: Found, now: float) -> JobView:
    """What was found as a document that also says how far it is, what its runs are called elsewhere, and what is not kept any more."""
    view = found.view(now)
    if why := why_rewritten(conn, view.spec):
        view = view.model_copy(update={"rewritten": list(why)})
    run_id = found.job.run_id
    if found.is_array:
        return view
    if found.job.spec["inputs"]:
        view = view.model_copy(update={"licences": views.use_views(uses.uses_of(conn, [found.job.id]).get(found.job.id, ()))})
    if run_id is None:
        return view
    namespaces = {name: _namespace(conn, name) for name in {run.cluster for run in found.runs}}
    gone = removals.removed(conn, run_id) if found.state in FINAL else {}
    last = jobs.last_progress(conn, run_id) if found.job.kind == "map" else None
    update: dict[str, object] = {f"{what}_removed_at": views.moment(seconds) for what, seconds in gone.items()}
    if last is not None:
        update["progress"] = views.progress_view(*last)
    if any(namespaces.values()):
        update["runs"] = [views.named(run, namespaces[run.cluster]) for run in view.runs]
    return view.model_copy(update=update) if update else view


def _namespace(conn: Connection, cluster: str) -> str:
    """The namespace of a member's runs; empty where it has none, or is no member any more."""
    try:
        return fleet.get_cluster(conn, cluster).driver.namespace
    except NotFoundError:
        return ""


def check_kept(plane: ControlPlane, job: JobRecord, what: removals.What) -> None:
    """Raises an HTTP 410 when the result or the log of a job's current run was removed."""
    with plane.store.read() as conn:
        at = removals.removed(conn, job.run_id or "").get(what)
        tenant = access.get_tenant(conn, job.tenant)
    if at is None:
        return
    setting = f"as the operator set by CPN_KEEP_{what.upper()}S_DAYS or CPN_KEEP_{what.upper()}S_BYTES"
    if what == "result" and (tenant.keep_results_days, tenant.keep_results_bytes) != (None, None):
        setting = f"as is set for the tenant {tenant.name} (`cpn tenant show {tenant.name}`)"
    when = views.clock(views.moment(at))
    raise HTTPException(410, f"the {what} of {job.id} was removed on {when}, {setting}; submit the job again to have a new one")


def load(plane: ControlPlane, principal: Principal, job_id: str) -> tuple[JobRecord, list[RunRecord]]:
    """A job, or a task, with its runs. Raises NotFoundError, and ConflictError for an array as one, which has no runs of its own."""
    found = find(plane, principal, job_id)
    if found.is_array and found.array:
        raise ConflictError(
            f"{job_id} is an array of {found.array.size:,} tasks; name one of them, like {found.array.first} "
            f"(`cpn job list --array {job_id}` lists them)"
        )
    return found.job, found.runs


def page_views(conn: Connection, shown: list[JobRecord], now: float, *, tasks: bool) -> list[JobView]:
    """Jobs as documents; the first task of an array stands for all of it, unless it is `tasks` that are shown."""
    known = arrays.arrays_of(conn, (job.array_id for job in shown if job.array_id is not None))
    runs: dict[str, list[RunRecord]] = {}
    for run in jobs.runs_of(conn, [job.id for job in shown]):
        runs.setdefault(run.job_id, []).append(run)
    found = [Found(job, runs.get(job.id, []), known.get(job.array_id or ""), job.array_id is not None and not tasks) for job in shown]
    return [item.view(now) for item in found]


def _claim_words(conn: Connection, job: JobRecord, events: Sequence[EventRecord], now: float) -> str:
    """What is said of a job that others are ended for, while room is kept for it."""
    made = next((item for item in reversed(events) if item.cause == Cause.CLAIMED), None)
    return f"; {made.message}" if made and any(item.job_id == job.id for item in evictions.claims_of(conn, now)) else ""


def explanation(plane: ControlPlane, principal: Principal, job_id: str) -> ExplanationView:
    """Where a job stands at every cluster now, and how it came there; of an array, where the first task stands that has not ended."""
    found, kept, now = find(plane, principal, job_id), plane.cycle.kept(), plane.clock.now()
    with plane.store.read() as conn:
        job = found.job
        if found.is_array:
            job = arrays.first_open_task(conn, job_id) or job
        spec, told_of = job.parsed(), plane.explain(conn, job, kept)
        held = hold_views(job, predecessors(conn, job), now, found.array)
        events, runs = (jobs.events_of(conn, job.id), found.runs) if not found.is_array else ([], jobs.runs_of(conn, [job.id]))
        claimed = _claim_words(conn, job, events, now)
    shown = [verdict_view(verdict, told_of.candidate.ways[verdict.choice], spec) for verdict in told_of.verdicts]
    alone = replace(told_of.frozen, candidates=(told_of.candidate,))
    shown, promise = told_windows(told(shown, kept, principal, alone), alone), promise_of(kept, job.id)
    if job.state == State.QUEUED:
        shown = told_scaling(shown, alone, plane.waits.snapshot())
    ahead = told_of.waiting.ahead if told_of.waiting else 0
    coming = brought_ahead(plane.prefetch.of(job.id)) if job.state == State.QUEUED else []
    words = summary(job.state, shown, ahead, job.message, held) + promise_words(promise) + claimed + ahead_words(coming)
    if found.is_array:
        words = f"{found.view(now).message}; {job.id}: {words}"
    return ExplanationView(
        job_id=job_id, state=found.state.value, summary=words, ahead_in_queue=ahead, promise=promise,
        waiting=waiting_view(job, told_of, principal, held), placed=placed_view(job, runs), brought_ahead=coming,
        verdicts=shown, events=[views.event_view(event) for event in events], holds=held,
    )  # fmt: skip
