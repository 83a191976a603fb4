"""Explain: where a job would go or why it waits, by asking the same judgement and the same engine.

A job that waits is looked at in the world that the latest decision left (`outlook`): all who go before it have had their turn there,
with what queues hold and used lately. What the decision has not seen yet, and jobs that do not wait, are asked alone of the world
as it is stored now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scheduler.admission import validate
from scheduler.disclosure import disclosed, is_limited
from scheduler.engine.lengths import Parts
from scheduler.engine.place import place
from scheduler.engine.plan import Plan, Unplaced, Verdict
from scheduler.engine.position import Before, Precedent, precedent
from scheduler.engine.reasons import Reason
from scheduler.engine.verdicts import verdicts
from scheduler.errors import NotFoundError
from scheduler.flexible import with_later
from scheduler.forecast import NO_PROMISES, Kept, StandingPromise, look_ahead, promises_of, with_forecast, with_promises
from scheduler.freeze import Candidate, Frozen, World, freeze, judge_jobs, judge_spec, read_world
from scheduler.holds import open_predecessors
from scheduler.lifecycle import State
from scheduler.market import read_market
from scheduler.outlook import Decision, Expected, Outlook
from scheduler.past import Past
from scheduler.preemption import with_claims
from scheduler.proposals import Proposal, proposals
from scheduler.store import jobs
from scheduler.store.line import just_before, waiting_by_queue
from scheduler.store.records import JobRecord
from scheduler.store.session import Connection
from scheduler.topology import USUAL_TOPOLOGY, Topology
from workloads.spec import JobSpec

NEAREST = 3


@dataclass(frozen=True)
class Ahead:
    """A waiting job whose turn comes earlier, and why; queues are named where two of them compete."""

    job: JobRecord
    precedent: Precedent
    queue: str = ""
    own_queue: str = ""


@dataclass(frozen=True)
class Waiting:
    """Where a job stands that waits.

    `ahead` jobs of its queue's `length` go before it, `ahead_overall` of all `waiting` ones (at least so many unless
    `overall_known`); `nearest` are those right before it, the nearest last. `outside` says that a cycle does not look that far
    down its queue, `unplaced` why it waits, None when it fits now.
    """

    ahead: int
    length: int
    ahead_overall: int
    overall_known: bool
    waiting: int
    nearest: tuple[Ahead, ...]
    unplaced: Unplaced | None
    outside: bool
    per_queue: int
    expected: Expected
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True)
class Explanation:
    """A job at every cluster, in the order of the frozen world's; `frozen.world.now` is when that was so."""

    frozen: Frozen
    candidate: Candidate
    verdicts: tuple[Verdict, ...]
    waiting: Waiting | None


@dataclass(frozen=True)
class Planned:
    """A job that was only asked about, at every cluster in the order of the frozen world's, the hour that it would wait for, and why
    another statement would run in place of its own."""

    frozen: Frozen
    verdicts: tuple[Verdict, ...]
    cheaper: StandingPromise | None
    why_rewritten: tuple[str, ...] = ()


def explain(
    conn: Connection, job: JobRecord, *, now: float, waits: Mapping[str, float], decision: Decision | None, kept: Kept, per_queue: int,
    topology: Topology = USUAL_TOPOLOGY,
) -> Explanation:  # fmt: skip
    """Where a stored job stands. `decision` is the latest one, None when nobody waited for it, and `kept` what it promised.

    `per_queue` is as in `Cycle`.
    """
    spec = job.parsed()
    if job.state != State.QUEUED:
        return _alone(conn, job, spec, now, waits, topology, Kept(NO_PROMISES, kept.past, kept.scoring))
    ahead, counts, held = jobs.ahead(conn, job, now), waiting_by_queue(conn, now), job.waiting_for > 0 or (job.not_before or 0.0) > now
    outside, seen = ahead >= per_queue, decision is not None and job.id in decision.waiting
    market = read_market(conn, [spec], [job.id])
    if decision is None or not (seen or outside or held):
        # Nobody waited, or this job came after the decision: it may be out of date for it.
        fresh = kept.scoring.on(conn, with_claims(conn, freeze(read_world(conn, now), [], waits, topology=topology)))
        frozen, parts = _kept_in_mind(conn, fresh, kept, job.id)
        decision = Decision(frozen, Plan((), ()), per_queue, parts)
    outlook = decision.outlook
    if not seen:
        outlook = outlook.with_job(judge_jobs(conn, outlook.world, [job], kept.past)[0])
    row = outlook.row(job.id)
    unplaced, standing = _standing(outlook, row, seen=seen)
    before = outlook.before(row)
    known = before is not None and not outside and not _cut_off(outlook, before.tolist(), counts, job.queue)
    waiting = Waiting(
        ahead=ahead, length=counts.get(job.queue, 0), waiting=sum(counts.values()),
        ahead_overall=max(len(outlook.turns) if before is None else len(before), ahead), overall_known=known,
        nearest=_nearest(conn, job, outlook, row), unplaced=unplaced, outside=outside, per_queue=per_queue,
        expected=outlook.expected(conn, kept.past, row, ahead),
        proposals=() if outside or held or _of_its_own_will(unplaced) else proposals(outlook, row, market),
    )  # fmt: skip
    return Explanation(outlook.after, outlook.after.candidates[row], standing, waiting)


def _standing(outlook: Outlook, row: int, *, seen: bool) -> tuple[Unplaced | None, tuple[Verdict, ...]]:
    """Why a job waits, None when it does not have to, and each cluster's verdict."""
    company = [] if seen else outlook.company(row)
    asked = outlook.asked([outlook.after.candidates[row]], company).snapshot
    # What the decision said of a job holds, with all that it looked at.
    plan = Plan((), (replace(outlook.unplaced(row), job=0),)) if seen else place(asked)
    unplaced = next((item for item in plan.unplaced if item.job == len(company)), None)
    return unplaced, verdicts(asked, len(company), plan)


def _of_its_own_will(unplaced: Unplaced | None) -> bool:
    """Whether a job waits because it wants to, for a cheaper or cleaner hour, though it could start."""
    return unplaced is not None and unplaced.blocker in (Reason.CHEAPER_LATER, Reason.CLEANER_LATER)


def _cut_off(outlook: Outlook, before: list[int], counts: Mapping[str, int], own: str) -> bool:
    """Whether of another queue all that the decision looked at go first, and more wait there."""
    candidates = outlook.after.candidates
    seen, first = dict[str, int](), dict[str, int]()
    for candidate in candidates:
        seen[candidate.spec.queue] = seen.get(candidate.spec.queue, 0) + 1
    for row in before:
        first[candidates[row].spec.queue] = first.get(candidates[row].spec.queue, 0) + 1
    return any(queue != own and count > seen.get(queue, 0) == first.get(queue, 0) for queue, count in counts.items())


def _nearest(conn: Connection, job: JobRecord, outlook: Outlook, row: int) -> tuple[Ahead, ...]:
    """The jobs right before this one overall, and the one right before it in its queue."""
    before, found = outlook.before(row), []
    queues = outlook.snapshot.queues.names
    for other in [] if before is None else before[-NEAREST:].tolist():
        try:
            record = jobs.get_job(conn, outlook.after.candidates[other].id)
        except NotFoundError:
            continue
        why = precedent(outlook.snapshot, row, other)
        found.append(Ahead(record, why, queues[why.queue] if why.queue >= 0 else "", queues[why.own] if why.own >= 0 else ""))
    last = just_before(conn, job, outlook.world.now)
    if last is not None and last.id not in {item.job.id for item in found}:
        found.insert(0, Ahead(last, Precedent(-1, Before.PRIORITY if last.rank != job.rank else Before.AGE)))
    return tuple(found)


def _alone(
    conn: Connection, job: JobRecord, spec: JobSpec, now: float, waits: Mapping[str, float], topology: Topology, kept: Kept
) -> Explanation:
    """A job that does not wait, as if it were decided now; what it holds itself counts as free."""
    world = read_world(conn, now)
    world = replace(world, runs=tuple(run for run in world.runs if run.job_id != job.id))
    asked = Candidate(job.id, job.sequence, spec, (), rates=kept.past.rates(conn, spec))
    frozen, plan = _judged(conn, world, asked, waits, topology, kept)
    return Explanation(frozen, frozen.candidates[0], verdicts(frozen.snapshot, 0, plan), None)


def _kept_in_mind(conn: Connection, frozen: Frozen, kept: Kept, job_id: str) -> tuple[Frozen, Parts]:
    """A frozen world with what the latest cycle promised others, and the parts of their limits that groups of jobs used."""
    others = [item for item in kept.promises if item.job_id != job_id]
    if not others:
        return frozen, {}
    forecast = look_ahead(conn, frozen.world, kept.past)
    return with_promises(with_forecast(frozen, forecast, heads=0), others), forecast.parts


def _judged(
    conn: Connection, world: World, asked: Candidate, waits: Mapping[str, float], topology: Topology, kept: Kept,
    *, may_wait: bool = False,
) -> tuple[Frozen, Plan]:  # fmt: skip
    """One job alone against a world.

    A job that would delay what is promised to others waits, as it does in a cycle; with `may_wait` also for a cheaper or
    cleaner hour, where it is flexible.
    """
    judged = replace(asked, ways=judge_spec(asked.spec, read_market(conn, [asked.spec]), world, asked.rates))
    frozen = kept.scoring.on(conn, with_claims(conn, freeze(world, [judged], waits, topology=topology)))
    frozen, _ = _kept_in_mind(conn, frozen, kept, asked.id)
    if may_wait and asked.spec.flexible:
        promised = frozen.snapshot.promised
        frozen = with_later(with_forecast(frozen, look_ahead(conn, world, kept.past), heads=0), 1)
        frozen = replace(frozen, snapshot=replace(frozen.snapshot, promised=promised))
    return frozen, place(frozen.snapshot)


def plan_for(
    conn: Connection, spec: JobSpec, now: float, waits: Mapping[str, float], topology: Topology = USUAL_TOPOLOGY, kept: Kept | None = None,
    *, may_wait: bool = False,
) -> Planned:  # fmt: skip
    """The answer before the run. Raises InvalidError for what is wrong whatever the rights; refusals are verdicts.

    `may_wait`: flexible jobs wait for cheaper or cleaner hours.
    """
    validate(conn, spec, now)
    open_predecessors(conn, spec)
    kept = kept or Kept(NO_PROMISES, Past())
    asked = Candidate("", 0, spec, (), rates=kept.past.rates(conn, spec))
    frozen, plan = _judged(conn, read_world(conn, now), asked, waits, topology, kept, may_wait=may_wait)
    why = why_rewritten(conn, spec)
    return Planned(frozen, verdicts(frozen.snapshot, 0, plan), next(iter(promises_of(frozen, plan)), None), why)


def why_rewritten(conn: Connection, spec: JobSpec) -> tuple[str, ...]:
    """Why another statement runs in place of a job's own, by the terms of now; nothing where its own runs, or none may."""
    if spec.kind != "sql" or not spec.inputs:
        return ()
    market = read_market(conn, [spec])
    return disclosed(spec, market.inputs(spec)).why if is_limited(spec, market.products) else ()
