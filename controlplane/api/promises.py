"""Promised starts in words: when a blocked job is expected to start, and for whom room is kept that another could use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import numpy as np

from cluster.protocol import AheadFile
from controlplane.api.explanation_schemas import BroughtAheadView
from controlplane.api.price_schemas import FlexiblePlan, PromiseView, SavingView, StartPrice
from controlplane.api.schemas import ClusterVerdict, Obstacle
from controlplane.api.views import clock, moment
from controlplane.tokens import Principal
from scheduler.engine.later import cost_at, pays, turning_points
from scheduler.engine.reasons import Reason
from scheduler.explain import Planned
from scheduler.flexible import Courses, unrated
from scheduler.forecast import Kept, Saving, StandingPromise
from scheduler.freeze import Frozen
from workloads.resources import MONEY_QUANTUM, Money
from workloads.sizes import size

NAMED, MOST_STARTS = 3, 48
_KINDS: dict[Reason, Literal["cheaper", "cleaner", "affordable"]] = {
    Reason.CHEAPER_LATER: "cheaper", Reason.CLEANER_LATER: "cleaner", Reason.AFFORDABLE_LATER: "affordable",
}  # fmt: skip


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
    saved = Money(amount=max(now.amount - then.amount, Decimal(0)), currency=found.currency)
    part = float(saved.amount / now.amount) if now.amount else 0.0
    return SavingView(
        waits_for=_KINDS[found.reason], cost_now=now, cost_then=then, saved=saved, part=part,
        carbon_g_now=found.carbon_g_now, carbon_g_then=found.carbon_g_then, carbon_part=_avoided(found),
        latest_start=moment(found.latest_at),
    )  # fmt: skip


def _avoided(found: Saving) -> float | None:
    if found.carbon_g_now is None or found.carbon_g_then is None:
        return None
    return 1.0 - found.carbon_g_then / found.carbon_g_now if found.carbon_g_now else 0.0


def _money(amount: float, currency: str) -> Money:
    return Money(amount=Decimal(amount).quantize(MONEY_QUANTUM, ROUND_HALF_UP), currency=currency)


def flexible_plan(planned: Planned) -> FlexiblePlan | None:
    """What a flexible job that was asked about costs and emits by the hour, and what it would wait for."""
    frozen = planned.frozen
    if not frozen.snapshot.later:
        return None
    clusters, [candidate], courses = frozen.world.clusters, frozen.candidates, Courses.of(frozen)
    # By each model that the job may use, at each cluster.
    places = [(later, row) for later in frozen.snapshot.later for row in range(len(clusters))]
    at_s = sorted({0.0, *(at for later, row in places for at in turning_points(later, row).tolist())})
    starts = []
    for at in at_s[:MOST_STARTS]:
        there = [(way, row) for way, row in places if (at == 0 and way.latest_s[row] > -math.inf) or at <= way.latest_s[row]]
        if there:
            when = np.array([at])
            paid = [(way, row) for way, row in there if pays(way, row, when)[0]]
            _, row, choice = min((float(cost_at(way, row, when)[0]), row, way.choice) for way, row in paid or there)
            price, grams = courses.price(candidate, row, choice).at(at), courses.grams(candidate, row, choice)
            starts.append(StartPrice(
                at=moment(frozen.world.now + at), cluster=clusters[row].name, price=_money(price, clusters[row].spec.prices.currency),
                carbon_g=grams.at(at) if grams else None, within_budget=bool(paid),
            ))  # fmt: skip
    cleanest = candidate.spec.flexible == "cleanest"
    return FlexiblePlan(
        by="cleanest" if cleanest else "cheapest", waits_for=promise_view(planned.cheaper) if planned.cheaper else None,
        starts=starts, unrated=list(unrated(candidate)) if cleanest else [],
    )  # fmt: skip


def promise_words(promise: PromiseView | None) -> str:
    """What is added to a job's summary."""
    if promise is None:
        return ""
    if promise.saving is not None:
        gain, latest = promise.saving.gain, f"latest start {clock(promise.saving.latest_start)}"
        return f"; it waits for {promise.saving.hour}: starts at about {clock(promise.start_at)} on {promise.cluster}, {gain}, {latest}"
    return f"; it is expected to start on {promise.cluster} at {clock(promise.start_at)}, and nothing is placed that would delay it"


def brought_ahead(found: Sequence[tuple[str, AheadFile]]) -> list[BroughtAheadView]:
    """What is brought to a cluster for a job that waits."""
    files = [(cluster, one.file) for cluster, one in found]
    return [BroughtAheadView(ref=file.ref, cluster=name, source=file.source, size_bytes=file.size_bytes) for name, file in files]


def ahead_words(found: Sequence[BroughtAheadView]) -> str:
    """What is added to a job's summary."""
    if not found:
        return ""
    named = ", ".join(f"{item.ref} ({size(item.size_bytes)})" for item in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"; meanwhile its data is brought to {found[0].cluster}: {named}{more}"


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
