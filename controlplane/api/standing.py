"""Where a job stands, in words: the engine's precedents, reasons, estimates and proposals as sentences.

Buyers are told of other tenants' jobs only that they are there: no id, no name, no tenant, and nothing that is one job's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controlplane.api.explanation_schemas import AheadView, ChangeView, ExpectedView, PlacedView, ProposalView, WaitingView, WaitsForView
from controlplane.api.prose import reason_words
from controlplane.api.schemas import Obstacle
from controlplane.tokens import Principal
from scheduler.engine.plan import Unplaced
from scheduler.engine.position import Before
from scheduler.explain import Ahead, Explanation, Waiting
from scheduler.holds import Hold
from scheduler.lifecycle import State
from scheduler.outlook import Expected
from scheduler.proposals import Proposal
from scheduler.store.records import JobRecord, RunRecord
from workloads.resources import format_duration
from workloads.spec import PRIORITIES

UNFORESEEN = "jobs that are submitted later and go first, members that come or go"


def waiting_view(job: JobRecord, explanation: Explanation, principal: Principal, held: Sequence[Obstacle]) -> WaitingView | None:
    """Where a waiting job stands, `held` being what keeps it from being looked at; None for one that does not wait."""
    found = explanation.waiting
    if found is None:
        return None
    as_of = datetime.fromtimestamp(explanation.frozen.world.now, UTC)
    return WaitingView(
        queue=job.queue, queue_position=found.ahead + 1, queue_length=max(found.length, found.ahead + 1),
        position=found.ahead_overall + 1, position_known=found.overall_known, waiting=max(found.waiting, found.ahead_overall + 1),
        ahead=[_ahead(item, job, principal) for item in found.nearest],
        waits_for=_waits_for(job, found, held, explanation.frozen.world.now),
        expected=_expected(job, found.expected, held, as_of), sooner=[_proposal(item) for item in found.proposals], as_of=as_of,
    )  # fmt: skip


def placed_view(job: JobRecord, runs: Sequence[RunRecord]) -> PlacedView | None:
    """Where the job's current run was placed; None while the job waits."""
    run = next((run for run in runs if run.id == job.run_id), None)
    if run is None or job.state == State.QUEUED:
        return None
    return PlacedView(cluster=run.cluster, nodes=run.nodes, score=run.score, at=datetime.fromtimestamp(run.placed_at, UTC))


def _ahead(item: Ahead, job: JobRecord, principal: Principal) -> AheadView:
    other, may_see = item.job, principal.may_see_tenant(item.job.tenant)
    return AheadView(
        job_id=other.id if may_see else None, name=other.name if may_see else None, tenant=other.tenant if may_see else None,
        queue=other.queue, why=item.precedent.why.value, message=_why(item, job, may_see=may_see),
    )  # fmt: skip


def _why(item: Ahead, job: JobRecord, *, may_see: bool) -> str:
    found = item.precedent
    if found.why is Before.PRIORITY:
        return f"its priority is higher ({_priority(item.job)} against {_priority(job)})" if may_see else "its priority is higher"
    if found.why is Before.AGE:
        older = job.submitted_at - item.job.submitted_at
        return f"it was submitted {format_duration(max(older, 0.0))} earlier" if may_see else "it was submitted earlier"
    if found.why is Before.HEIR:
        return f"what waits in {item.job.queue} itself goes before what waits in queues below it"
    shares = f"{item.queue} holds {_percent(found.queue_share)} for its weight, {item.own_queue} {_percent(found.own_share)}"
    if found.why is Before.QUOTA:
        return f"{item.queue} is within its guaranteed quota, {item.own_queue} would go beyond its own ({shares})"
    if found.queue_share < found.own_share:
        return f"{item.queue} has had less than its fair share: {shares}"
    return f"turns go by fair share, and with those before it {item.queue} gets one first: {shares}"


def _priority(job: JobRecord) -> str:
    return next((name for name, rank in PRIORITIES.items() if rank == job.rank), str(job.rank))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 1e6 else "more than any weight allows"


def _waits_for(job: JobRecord, found: Waiting, held: Sequence[Obstacle], now: float) -> WaitsForView:
    if held:
        return WaitsForView(reason=held[0].reason, message=held[0].message, remedy=held[0].remedy, nodes={})
    if job.not_before is not None and job.not_before > now:
        moment = datetime.fromtimestamp(job.not_before, UTC)
        return WaitsForView(reason="not_before", message=f"it is not tried before {moment:%Y-%m-%d %H:%M:%S} UTC", remedy="", nodes={})
    if found.outside:
        message = f"a cycle looks at the first {found.per_queue} jobs of a queue, and {found.ahead} go before it"
        return WaitsForView(reason="per_queue", message=message, remedy="wait, use another queue, or raise its priority", nodes={})
    if found.unplaced is None:
        return WaitsForView(reason="next_cycle", message="it fits now, and the next cycle will place it", remedy="", nodes={})
    message, remedy = reason_words(found.unplaced.blocker)
    nodes = {reason.label: count for reason, count in found.unplaced.nodes}
    return WaitsForView(reason=found.unplaced.blocker.label, message=message + _node_words(found.unplaced), remedy=remedy, nodes=nodes)


def _node_words(unplaced: Unplaced) -> str:
    """The nodes of permitted clusters by what stands against them, the most common first."""
    if not unplaced.nodes:
        return ""
    total = sum(count for _, count in unplaced.nodes)
    parts = sorted(unplaced.nodes, key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{count} {reason.label.removeprefix('node_').replace('_', ' ')}" for reason, count in parts)
    return f" (of {total} nodes: {words})"


def _expected(job: JobRecord, found: Expected, held: Sequence[Obstacle], as_of: datetime) -> ExpectedView:
    basis, unknown = [f"the expected ends of {found.runs} runs"], [UNFORESEEN]
    if found.unknown_runs:
        unknown.insert(0, f"how long {found.unknown_runs} of the runs take: no like run has ended, so they count as long as they may last")
    if found.before > found.walked:
        basis.append(f"the first {found.walked} of {found.before} jobs before it, whose pace stands for the others")
    elif found.before:
        basis.append(f"{found.before} waiting before it that may go where it may")
    if found.made:
        basis = ["others are told to end to make room for it"]
    if any(item.reason in (Hold.DEPENDENCY, Hold.ARRAY_LIMIT) for item in held):
        found = replace(found, p50_s=None, p90_s=None)
        unknown.insert(0, "when the jobs end that it waits for")
    elif found.p50_s is None:
        unknown.insert(0, "no end of a run that is known makes room for it")
    least = max((job.not_before or 0.0) - as_of.timestamp(), 0.0)
    p50 = None if found.p50_s is None else max(found.p50_s, least)
    p90 = None if found.p90_s is None else max(found.p90_s, least)
    return ExpectedView(
        p50_s=p50, p90_s=p90, p50_at=None if p50 is None else as_of + timedelta(seconds=p50),
        p90_at=None if p90 is None else as_of + timedelta(seconds=p90), basis=basis, unknown=unknown,
    )  # fmt: skip


def _proposal(item: Proposal) -> ProposalView:
    changes = [ChangeView(path=change.path, old=change.old, new=change.new) for change in item.changes]
    return ProposalView(
        changes=changes, cluster=item.cluster, start_s=item.start_s, price=item.quote.total,
        message=f"would start now at {item.cluster}, for {item.quote.total} at most",
    )  # fmt: skip
