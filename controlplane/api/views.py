"""Stored records as the API's documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from cluster.drivers import RUNS_ONLY, lack_words
from cluster.kube_names import name_of
from cluster.model import together
from cluster.protocol import Preview, ResultFile
from cluster.replicas import CacheState
from controlplane.api import schemas
from controlplane.api.price_schemas import TariffView
from controlplane.api.progress_schemas import JobProgress
from controlplane.api.prose import waiting_words
from controlplane.api.scaling_schemas import NodeTypeView, ScalingView
from controlplane.api.tenant_schemas import ResultPlace
from monitoring.capacity import Capacity, NodeUse, Power
from monitoring.targets import standing
from scheduler.holds import holds
from scheduler.lifecycle import State
from scheduler.store.records import ACTIVE, ArrayRecord, ClusterRecord, EventRecord, JobRecord, NodeRecord, RunRecord, TokenRecord
from scheduler.store.uses import UseRecord
from workloads.catalogue.pricing import Prices, Quote

NO_USE = NodeUse()
# In the order in which a person reads how far an array has come.
SHOWN = (State.FAILED, State.CANCELLED, State.SUCCEEDED, State.RUNNING, State.STARTING, State.PLACED, State.QUEUED, State.SUBMITTED)


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as a UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def clock(moment: datetime) -> str:
    """A time in a sentence."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def maybe_moment(seconds: float | None) -> datetime | None:
    """The same for a time that may be missing."""
    return None if seconds is None else moment(seconds)


def run_view(run: RunRecord) -> schemas.RunView:
    """A run with the size that it has, and that it will have."""
    sizing = run.sizing
    pending = sizing.pending if sizing is not None and run.state in ACTIVE else None
    return schemas.RunView(
        id=run.id, attempt=run.attempt, state=run.state, cause=run.cause, cluster=run.cluster, nodes=run.nodes,
        workers=sizing.workers if sizing is not None else len(run.nodes), resizing_to=pending.workers if pending else None,
        accelerator_model=run.held["accelerator_model"], accelerator_devices=run.held.get("devices", []),
        exit_code=run.exit_code, message=run.message, placed_at=moment(run.placed_at), started_at=maybe_moment(run.started_at),
        finished_at=maybe_moment(run.finished_at),
    )  # fmt: skip


def named(run: schemas.RunView, namespace: str) -> schemas.RunView:
    """The run with what its objects are called in a namespace of Kubernetes, if it has one."""
    return run.model_copy(update={"remote": f"{namespace}/{name_of(run.id)}"}) if namespace else run


def job_view(job: JobRecord, runs: Sequence[RunRecord], now: float, array: ArrayRecord | None = None) -> schemas.JobView:
    """A job with its runs; `runs` are all of this job, in order, `now` is the time by which it is held, `array` that of a task."""
    current = next((run for run in runs if run.id == job.run_id), None)
    placed = current if current is not None and job.state != State.QUEUED else None
    message = job.message
    cause = job.cause
    if held := holds(job, now, array):
        cause, message = held[0].hold.value, "waiting: " + "; ".join(item.message for item in held)
    elif job.state == State.QUEUED and job.blocker:
        cause, message = job.blocker, "; ".join(part for part in (message, waiting_words(job.blocker)) if part)
    return schemas.JobView(
        id=job.id, version=job.version, name=job.name, tenant=job.tenant, queue=job.queue, kind=job.kind, purpose=job.spec["purpose"],
        priority=job.spec["priority"], state=job.state, cause=cause, message=message, attempts=job.attempts, attempts_spared=job.spared,
        cluster=placed.cluster if placed else None, nodes=placed.nodes if placed else [],
        run_id=job.run_id, exit_code=current.exit_code if current else None, submitted_at=moment(job.submitted_at),
        placed_at=maybe_moment(job.placed_at), started_at=maybe_moment(job.started_at), finished_at=maybe_moment(job.finished_at),
        quote=Quote.model_validate(current.quote) if current else None, spec=job.parsed(), runs=[run_view(run) for run in runs],
        array=_array_part(array, job.array_index) if array is not None else None,
    )  # fmt: skip


def use_views(uses: Iterable[UseRecord]) -> list[schemas.UseView]:
    """Under which licences a job reads its data."""
    return [
        schemas.UseView(product=use.product, licence=use.licence_id, state=use.state, size_bytes=use.bytes)  # type: ignore[arg-type]
        for use in uses
    ]


def array_view(array: ArrayRecord, first: JobRecord, now: float) -> schemas.JobView:
    """An array as one job: its first task without what is that task's own, the standing of all, and how many are in each state."""
    view = job_view(first, [], now, array)
    counted = ", ".join(f"{array.counts[state.value]} {state}" for state in SHOWN if array.counts.get(state.value))
    waits = view.message if array.state == State.QUEUED and first.waiting_for else ""
    return view.model_copy(update={
        "id": array.id, "version": array.version, "state": array.state, "cause": view.cause if waits else "array",
        "message": "; ".join(part for part in (counted, waits) if part), "attempts": 0, "attempts_spared": 0, "cluster": None, "nodes": [],
        "run_id": None, "exit_code": None, "quote": None, "started_at": view.started_at,
        "finished_at": maybe_moment(array.finished_at), "array": _array_part(array, None),
    })  # fmt: skip


def _array_part(array: ArrayRecord, index: int | None) -> schemas.ArrayView:
    return schemas.ArrayView(id=array.id, size=array.size, at_most=array.at_most, index=index, first=array.first, counts=array.counts)


def progress_view(metrics: Mapping[str, float], at: float) -> JobProgress:
    """What the driver of a job of kind map reported last."""
    return JobProgress(
        partitions_done=int(metrics["partitions_done"]), partitions=int(metrics["partitions"]), rows=int(metrics["rows"]),
        rows_per_s=metrics.get("rows_per_s"), left_s=metrics.get("left_s"), at=moment(at),
    )  # fmt: skip


def event_view(event: EventRecord) -> schemas.EventView:
    return schemas.EventView(
        at=moment(event.at), run_id=event.run_id, start=event.start, finish=event.finish, cause=event.cause, message=event.message
    )


def result_view(job: JobRecord, run: RunRecord, place: ResultPlace) -> schemas.ResultView:
    """What the current run of a job delivered."""
    preview = Preview.model_validate(run.preview) if run.preview else None
    return schemas.ResultView(
        job_id=job.id, run_id=run.id, preview=preview, files=[ResultFile.model_validate(file) for file in run.files or []], place=place
    )


def node_view(row: NodeRecord, use: NodeUse) -> schemas.NodeView:
    """A node with what runs hold of it."""
    node = row.node
    return schemas.NodeView(
        cluster=row.cluster, name=node.name, ready=node.ready, trouble=node.trouble, cpu=node.cpu, cpu_used=use.cpu,
        memory_bytes=node.memory_bytes, memory_used_bytes=use.memory_bytes, labels=dict(node.labels), seen_at=moment(row.seen_at),
        accelerators=[
            schemas.AcceleratorUse(model=item.model, total=item.count, used=use.accelerator(item.model)) for item in node.accelerators
        ],
        others=node.others, object_store_bytes=node.object_store_bytes,
    )  # fmt: skip


def flops(powers: Sequence[Power]) -> list[schemas.Flops]:
    return [schemas.Flops.model_validate(vars(power)) for power in powers]


def tariff_view(prices: Prices, now: float) -> TariffView | None:
    """The tariff at a time, where there are tariffs."""
    if prices.tariffs is None:
        return None
    week = prices.tariffs.week
    following = week.next_change(now)
    return TariffView(
        factor=float(week.at(now)), changes_at=moment(following.begin_s) if following else None,
        next_factor=float(following.value) if following else None,
    )  # fmt: skip


def _cache_view(copies: CacheState) -> schemas.CacheView:
    return schemas.CacheView.model_validate(copies.model_dump(include=set(schemas.CacheView.model_fields)))


def cluster_view(
    cluster: ClusterRecord, nodes: Sequence[NodeRecord], use: dict[tuple[str, str], NodeUse], runs: int, capacity: Capacity, now: float
) -> schemas.ClusterView:
    """A member with its nodes added up."""
    views = [node_view(row, use.get((row.cluster, row.node.name), NO_USE)) for row in nodes]
    devices: dict[str, schemas.AcceleratorUse] = {}
    for item in (item for view in views for item in view.accelerators):
        known = devices.setdefault(item.model, schemas.AcceleratorUse(model=item.model, total=0, used=0.0))
        known.total, known.used = known.total + item.total, known.used + item.used
    spec = cluster.spec
    return schemas.ClusterView(
        name=spec.name, backend=spec.backend, mode=spec.mode, jurisdiction=spec.jurisdiction, labels=dict(spec.labels), prices=spec.prices,
        on_lease_lost=spec.on_lease_lost, carbon=spec.carbon, ray_jobs=spec.ray_jobs, tariff=tariff_view(spec.prices, now),
        result_store=spec.result_store,
        cache=_cache_view(cluster.copies) if cluster.copies else None,
        inbound_bandwidth_mib_s=spec.inbound_bandwidth_mib_s, health=cluster.health.value, cordon=cluster.cordon,  # type: ignore[arg-type]
        detail=cluster.detail, backend_version=cluster.backend_version, remote_id=cluster.remote_id,
        scaling=scaling_view(cluster), driver=cluster.driver, runs_only=RUNS_ONLY[cluster.driver.way],
        lacks=["; ".join(lack_words(lack, cluster.driver.queue)) for lack in cluster.driver.lacks],
        heard_at=maybe_moment(cluster.heard_at), security_level=spec.security_level,
        created_at=moment(cluster.created_at), nodes=len(views), nodes_ready=sum(view.ready for view in views), runs=runs,
        cpu=sum(view.cpu for view in views), cpu_used=sum(view.cpu_used for view in views),
        memory_bytes=sum(view.memory_bytes for view in views), memory_used_bytes=sum(view.memory_used_bytes for view in views),
        others=together([view.others for view in views if view.others]), object_store_bytes=sum(view.object_store_bytes for view in views),
        accelerators=[devices[model] for model in sorted(devices)], flops=flops(capacity.by_cluster.get(spec.name, ())),
        unrated=[schemas.Unrated.model_validate(vars(item)) for item in capacity.unrated if item.cluster == spec.name],
    )  # fmt: skip


def scaling_view(cluster: ClusterRecord) -> ScalingView | None:
    """What a member's autoscaler could bring, and what it is asked for."""
    if cluster.scaling is None:
        return None
    wishes = {wish.node_type: wish for wish in cluster.wishes}
    types = []
    for kind in cluster.scaling.types:
        wish = wishes.get(kind.name)
        rests_until = maybe_moment(wish.rests_until) if wish and wish.rests_until else None
        types.append(NodeTypeView(**kind.model_dump(), wanted=wish.count if wish else 0, rests_until=rests_until))
    return ScalingView(types=types, trouble=cluster.scaling.trouble)


def token_view(token: TokenRecord) -> schemas.TokenView:
    return schemas.TokenView.model_validate(token_fields(token))


def token_fields(token: TokenRecord) -> dict[str, object]:
    """A token's fields without its hash."""
    return {
        "id": token.id, "role": token.role, "tenant": token.tenant, "cluster": token.cluster, "created_at": moment(token.created_at),
        "expires_at": maybe_moment(token.expires_at), "revoked_at": maybe_moment(token.revoked_at),
    }  # fmt: skip


def target_view(request: schemas.TargetRequest, total: Sequence[Power]) -> schemas.TargetView:
    """A target with the network's standing, from the total computing power."""
    now = standing(request.baseline, request.multiple, request.compute_class, request.precision, total)
    return schemas.TargetView(
        name=request.name, compute_class=request.compute_class, precision=request.precision, baseline_flops=request.baseline,
        baseline_date=request.baseline_date, multiple=request.multiple, due=request.due, scope=request.scope, source=request.source,
        target_flops=now.target_flops, rated_flops=now.rated_flops, ratio_to_baseline=now.ratio_to_baseline,
        missing_flops=now.missing_flops, met=now.met,
    )  # fmt: skip
