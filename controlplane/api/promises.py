"""Promised starts in words: when a blocked job is expected to start, and for whom room is kept that another could use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from controlplane.api.price_schemas import FlexiblePlan, PromiseView, SavingView, StartPrice
from controlplane.api.schemas import ClusterVerdict, Obstacle
from controlplane.api.views import clock, moment
from controlplane.tokens import Principal
from scheduler.engine.later import cost_at, turning_points
from scheduler.engine.reasons import Reason
from scheduler.explain import Planned
from scheduler.forecast import Kept, Saving, StandingPromise
from scheduler.freeze import Frozen
from workloads.resources import MONEY_QUANTUM, Money

NAMED, MOST_STARTS = 3, 48


def promise_of(kept: Kept, job_id: str) -> PromiseView | None:
    """What the latest cycle promised a job."""
    return next((promise_view(item) for item in kept.promises if item.job_id == job_id), None)


def promise_view(item: StandingPromise) -> PromiseView:
    """A promise as a document."""
    end_at = moment(item.end_at) if math.isfinite(item.end_at) else None
    saving = _saving(item.saving) if item.saving is not None else None
    model = next((name for name in item.request if name not in ("cpu", "memory") and item.request[name] > 0), None)
    return PromiseView(
        cluster=item.cluster, nodes=list(item.nodes), start_at=moment(item.start_at), end_at=end_at, accelerator_model=model, saving=saving
    )  # fmt: skip


def _saving(found: Saving) -> SavingView:
    now, then = _money(found.cost_now, found.currency), _money(found.cost_then, found.currency)
    saved = Money(amount=now.amount - then.amount, currency=found.currency)
    part = float(saved.amount / now.amount) if now.amount else 0.0
    return SavingView(cost_now=now, cost_then=then, saved=saved, part=part, latest_start=moment(found.latest_at))


def _money(amount: float, currency: str) -> Money:
    return Money(amount=Decimal(amount).quantize(MONEY_QUANTUM, ROUND_HALF_UP), currency=currency)


def flexible_plan(planned: Planned) -> FlexiblePlan | None:
    """What a flexible job that was asked about costs by the hour, and what it would wait for."""
    frozen = planned.frozen
    if not frozen.snapshot.later:
        return None
    clusters = frozen.world.clusters
    # By each model that the job may use, at each cluster.
    places = [(later, row) for later in frozen.snapshot.later for row in range(len(clusters))]
    at_s = sorted({0.0, *(at for later, row in places for at in turning_points(later, row).tolist())})
    starts = []
    for at in at_s[:MOST_STARTS]:
        there = [(way, row) for way, row in places if (at == 0 and way.latest_s[row] > -math.inf) or at <= way.latest_s[row]]
        if there:
            price, row = min((float(cost_at(way, row, np.array([at]))[0]), row) for way, row in there)
            spec = clusters[row].spec
            starts.append(StartPrice(at=moment(frozen.world.now + at), cluster=spec.name, price=_money(price, spec.prices.currency)))
    return FlexiblePlan(waits_for=promise_view(planned.cheaper) if planned.cheaper else None, starts=starts)


def promise_words(promise: PromiseView | None) -> str:
    """What is added to a job's summary."""
    if promise is None:
        return ""
    if promise.saving is not None:
        saved = f"saves {promise.saving.saved} ({promise.saving.part:.0%}), latest start {clock(promise.saving.latest_start)}"
        return f"; it waits for a cheaper hour: starts at about {clock(promise.start_at)} on {promise.cluster}, {saved}"
    return f"; it is expected to start on {promise.cluster} at {clock(promise.start_at)}, and nothing is placed that would delay it"


def told(verdicts: Sequence[ClusterVerdict], kept: Kept, principal: Principal, frozen: Frozen) -> list[ClusterVerdict]:
    """The same verdicts; where room is kept for others, with for whom, from when and until when.

    Jobs of other tenants are not named to a buyer.
    """
    return [_told(verdict, kept, principal, frozen) for verdict in verdicts]


def _told(verdict: ClusterVerdict, kept: Kept, principal: Principal, frozen: Frozen) -> ClusterVerdict:
    label, spec = Reason.RESERVED_FOR_ANOTHER.label, frozen.candidates[0].spec
    ends_at = frozen.world.now + spec.max_runtime + verdict.transfer_s
    there = [item for item in kept.promises if item.cluster == verdict.cluster and item.job_id != frozen.candidates[0].id]
    there = sorted((item for item in there if item.start_at < ends_at), key=lambda item: item.start_at)
    if not there or all(item.reason != label for item in verdict.obstacles):
        return verdict
    words = "; ".join(_for_whom(item, principal) for item in there[:NAMED])
    more = f"; and for {len(there) - NAMED} more" if len(there) > NAMED else ""
    obstacles = [
        Obstacle(reason=label, message=f"there is room, but it is kept for {words}{more}", remedy=item.remedy)
        if item.reason == label
        else item
        for item in verdict.obstacles
    ]
    return verdict.model_copy(update={"obstacles": obstacles})


def _for_whom(item: StandingPromise, principal: Principal) -> str:
    whose = f"job {item.job_id}" if principal.may_see_tenant(item.tenant) else "a job of another tenant"
    until = f" and to end by {clock(moment(item.end_at))}" if math.isfinite(item.end_at) else ""
    return f"{whose}, which is expected to start at {clock(moment(item.start_at))}{until}"
