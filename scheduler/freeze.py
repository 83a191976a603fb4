"""Freeze: from stored rows to the arrays that the engine decides on.

The world (members, nodes, queues, what is held) is read once; jobs are judged by class: those of one tenant
that ask for the same thing share one judgement per cluster, however many wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cluster.health import Health
from scheduler.assess import Assessment
from scheduler.device_books import device_table
from scheduler.disclosure import Disclosed, disclosed, is_limited, with_disclosure
from scheduler.engine.aftermath import chosen_jobs, only_ways, with_resources
from scheduler.engine.alternatives import joined_jobs, joined_ways
from scheduler.engine.snapshot import Bools, Clusters, Floats, Further, Jobs, Nodes, Prefer, Queues, Snapshot, Windows
from scheduler.engine.speeds import Rate
from scheduler.market import Market, read_market
from scheduler.past import Past
from scheduler.quotas import HALF_LIVES, ceiling, kept, layout, preemption_of, recent_use
from scheduler.residency import ANYWHERE, NO_TERMS, DataTerms, Residence, residences, terms_of
from scheduler.store import arrays, catalogue, evictions, fleet, jobs
from scheduler.store.records import ClaimRecord, ClusterRecord, JobRecord, NodeRecord, QueueRecord, RunRecord, WindowRecord
from scheduler.store.session import Connection
from scheduler.store.windows import list_windows
from scheduler.topology import LEVELS, USUAL_TOPOLOGY, Topology
from scheduler.ways import Way, class_of, judged
from scheduler.windows import lines_of, window_arrays
from workloads.programs import program_hash
from workloads.resources import Resources
from workloads.spec import JobSpec

USUAL_START_S = 1.0


@dataclass(frozen=True)
class World:
    """Everything but the waiting jobs, as read in one transaction."""

    now: float
    generation: int
    clusters: tuple[ClusterRecord, ...]
    nodes: tuple[NodeRecord, ...]
    queues: tuple[QueueRecord, ...]
    runs: tuple[RunRecord, ...]
    windows: tuple[WindowRecord, ...] = ()
    past: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # What queues used lately, by queue and resource.
    claims: tuple[ClaimRecord, ...] = ()  # Room that is kept for jobs.


@dataclass(frozen=True)
class Candidate:
    """A job that waits for a decision, or one that somebody asks about, in each way to run it, at least one."""

    id: str
    sequence: int
    spec: JobSpec
    ways: tuple[Way, ...]
    array: tuple[str, int] | None = None  # The array whose limit holds for it, and how many more of its tasks may start now.
    rates: tuple[Rate, ...] = ()  # How fast like jobs were, by which its ways were judged.
    disclosed: Disclosed | None = None  # What becomes of its statement, where an input's terms limit what is disclosed.
    terms: DataTerms = NO_TERMS  # What its data asks for.


@dataclass(frozen=True)
class Frozen:
    """A snapshot with what its indices stand for."""

    world: World
    snapshot: Snapshot
    candidates: tuple[Candidate, ...]
    label_classes: tuple[tuple[tuple[str, str], ...], ...] = ()
    topology: Topology = USUAL_TOPOLOGY
    residence_classes: tuple[Residence, ...] = ()


def read_world(conn: Connection, now: float, half_life_s: float | None = None) -> World:
    """Read the world in the connection's transaction; with a half-life, also what queues used lately."""
    runs = tuple(jobs.active_runs(conn))
    ended = jobs.ended_runs(conn, now - HALF_LIVES * half_life_s) if half_life_s else []
    return World(
        claims=tuple(evictions.claims_of(conn, now)),
        now=now, generation=catalogue.generation(conn), clusters=tuple(fleet.list_clusters(conn)), nodes=tuple(fleet.list_nodes(conn)),
        queues=tuple(fleet.list_queues(conn)), runs=runs, windows=tuple(list_windows(conn, now)),
        past=recent_use([*runs, *ended], now, half_life_s) if half_life_s else {},
    )  # fmt: skip


def judge_jobs(conn: Connection, world: World, waiting: Sequence[JobRecord], past: Past) -> tuple[Candidate, ...]:
    """Judge waiting jobs at every cluster, once for each class of like jobs."""
    specs = {job.id: job.parsed() for job in waiting}
    market = read_market(conn, list(specs.values()), (job_id for job_id, spec in specs.items() if spec.inputs))
    known: dict[str, tuple[tuple[Way, ...], tuple[Rate, ...], Disclosed | None, DataTerms]] = {}
    left = _array_limits(conn, waiting)
    candidates = []
    for job in waiting:
        spec = specs[job.id]
        limited = is_limited(spec, market.products)
        told = spec.sql if limited else program_hash(spec) if market.tells_programs(spec) else None
        key = class_of(job.spec, spec, told, market.reserved.get(job.id, ()))
        if key not in known:
            rates = past.rates(conn, spec)
            found = disclosed(spec, market.inputs(spec)) if limited else None
            terms = terms_of(spec, market.inputs(spec), world.now)
            known[key] = judge_at(spec, market, world.clusters, world.now, rates, job.id), rates, found, terms
        ways, rates, found, terms = known[key]
        candidates.append(Candidate(job.id, job.sequence, spec, ways, left.get(job.array_id or ""), rates, found, terms))
    return tuple(candidates)


def _array_limits(conn: Connection, waiting: Sequence[JobRecord]) -> dict[str, tuple[str, int]]:
    """Of each array that limits its tasks how many more may start now, counted from the tasks themselves."""
    found = arrays.arrays_of(conn, (job.array_id for job in waiting if job.array_id is not None))
    limits = {array.id: array.at_most for array in found.values() if array.at_most is not None}
    running = arrays.active(conn, limits)
    return {array_id: (array_id, max(limit - running.get(array_id, 0), 0)) for array_id, limit in limits.items()}


def judge_spec(spec: JobSpec, market: Market, world: World, rates: Sequence[Rate] = ()) -> tuple[Way, ...]:
    """Each way to run one job at every cluster, in the order of `world.clusters`."""
    return judge_at(spec, market, world.clusters, world.now, rates)


def judge_at(
    spec: JobSpec, market: Market, clusters: Sequence[ClusterRecord], now: float, rates: Sequence[Rate] = (), job_id: str = ""
) -> tuple[Way, ...]:  # fmt: skip
    """Each way to run one job, that of an id where it is stored, at some clusters, in their order; `rates` are those of like jobs."""
    inputs = market.inputs(spec, job_id)
    ways = judged(spec, inputs, clusters, now, rates, market.held.get(spec.quote or ""))
    return with_disclosure(ways, disclosed(spec, inputs)) if is_limited(spec, market.products) else ways


def freeze(world: World, candidates: Sequence[Candidate], waits: Mapping[str, float], *, topology: Topology = USUAL_TOPOLOGY) -> Frozen:
    """Arrays from rows. `waits[cluster]`: usual seconds from placement to start. `topology` says which nodes stand together."""
    models = {item.model for node in world.nodes for item in node.node.accelerators}
    resources = ("cpu", "memory", *sorted(models | _models(candidates)))
    label_classes = sorted({_labels(job.spec) for job in candidates})
    wanted = topology if any(job.spec.placement.same for job in candidates) else None
    homes = tuple(sorted({job.terms.residence for job in candidates} - {ANYWHERE}))

    def rows(ways: list[tuple[Candidate, Way]]) -> Jobs:
        return _jobs(world, ways, resources, label_classes, homes)

    snapshot = Snapshot(
        resources=resources,
        clusters=_clusters(world, waits),
        nodes=_nodes(world, resources, label_classes, wanted),
        queues=_queues(world, resources),
        jobs=rows([(job, job.ways[0]) for job in candidates]),
        further=_further(candidates, rows),
        windows=_windows(world, candidates),
        residences=residences(homes, [cluster.spec for cluster in world.clusters]),
    )
    return Frozen(world, _with_arrays(snapshot, candidates), tuple(candidates), tuple(label_classes), topology, homes)


def refreeze(frozen: Frozen, asked: Sequence[Candidate], keep: Sequence[int] = ()) -> Frozen:
    """The world of a frozen one with some of its jobs, the rows `keep`, and behind them other jobs.

    Nothing is read and no node looked at, but for labels that no frozen job asked for; so a question about a changed job costs
    little in a network of any size.
    """
    world = frozen.world
    snapshot = with_resources(frozen.snapshot, sorted(_models(asked) - set(frozen.snapshot.resources)))
    nodes, fresh = snapshot.nodes, sorted({_labels(job.spec) for job in asked} - set(frozen.label_classes))
    together = any(job.spec.placement.same for job in asked) and not nodes.group.shape[1]
    if fresh or together:
        homes, labels = nodes.cluster.tolist(), _labels_of_nodes(world)
        label_ok = np.concatenate([nodes.label_ok, _carried(labels, fresh)]) if fresh else nodes.label_ok
        nodes = replace(nodes, label_ok=label_ok, group=frozen.topology.groups(homes, labels) if together else nodes.group)
    label_classes = (*frozen.label_classes, *fresh)
    homes = (*frozen.residence_classes, *sorted({job.terms.residence for job in asked} - {ANYWHERE, *frozen.residence_classes}))
    candidates = (*(frozen.candidates[row] for row in keep), *asked)

    def rows(ways: list[tuple[Candidate, Way]]) -> Jobs:
        return _jobs(world, ways, snapshot.resources, label_classes, homes)

    jobs = joined_jobs(chosen_jobs(snapshot.jobs, keep), rows([(job, job.ways[0]) for job in asked]))
    further = joined_ways(only_ways(snapshot.further, keep), _further(asked, rows), len(keep))
    windows = _windows(world, candidates) if snapshot.windows else None
    snapshot = _with_arrays(replace(snapshot, nodes=nodes, jobs=jobs, further=further, windows=windows, elastic=None), candidates)
    if len(homes) > len(frozen.residence_classes):
        snapshot = replace(snapshot, residences=residences(homes, [cluster.spec for cluster in world.clusters]))
    return replace(frozen, snapshot=snapshot, candidates=candidates, label_classes=label_classes, residence_classes=homes)


def node_rows(snapshot: Snapshot) -> dict[tuple[str, str], int]:
    """The rows of nodes by the names of their cluster and their own."""
    names, nodes = snapshot.clusters.names, snapshot.nodes
    return {(names[home], name): row for row, (home, name) in enumerate(zip(nodes.cluster.tolist(), nodes.names, strict=True))}


def _labels_of_nodes(world: World) -> list[dict[str, str]]:
    clusters = {cluster.name: cluster for cluster in world.clusters}
    # A node carries its cluster's labels too; its own win.
    return [{**clusters[row.cluster].spec.labels, **row.node.labels} for row in world.nodes if row.cluster in clusters]


def _carried(labels: Sequence[Mapping[str, str]], label_classes: Sequence[tuple[tuple[str, str], ...]]) -> Bools:
    """[L, N] Which nodes carry all labels of each class."""
    found: Bools = np.array([[set(wanted) <= carried.items() for carried in labels] for wanted in label_classes], dtype=np.bool_)
    return found.reshape(len(label_classes), len(labels))


def _windows(world: World, candidates: Sequence[Candidate]) -> Windows | None:
    members = {cluster.name for cluster in world.clusters}
    nodes = [(row.cluster, row.node.name) for row in world.nodes if row.cluster in members]
    return window_arrays(world.windows, world.now, nodes, [job.spec for job in candidates], lines_of(world.queues))


def _labels(spec: JobSpec) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(spec.placement.labels.items()))


def _clusters(world: World, waits: Mapping[str, float]) -> Clusters:
    return Clusters(
        names=tuple(cluster.name for cluster in world.clusters),
        healthy=np.array([cluster.health is Health.HEALTHY for cluster in world.clusters], dtype=np.bool_),
        cordoned=np.array([cluster.cordon != "open" for cluster in world.clusters], dtype=np.bool_),
        wait_s=np.array([waits.get(cluster.name, USUAL_START_S) for cluster in world.clusters], dtype=np.float64),
        level=np.array([cluster.spec.security_level for cluster in world.clusters], dtype=np.int64),
    )


def _nodes(
    world: World, resources: tuple[str, ...], label_classes: Sequence[tuple[tuple[str, str], ...]], topology: Topology | None
) -> Nodes:
    cluster_index = {cluster.name: index for index, cluster in enumerate(world.clusters)}
    rows = [node for node in world.nodes if node.cluster in cluster_index]
    index = {(row.cluster, row.node.name): position for position, row in enumerate(rows)}
    total = np.zeros((len(rows), len(resources)))
    for position, row in enumerate(rows):
        total[position, 0], total[position, 1] = row.node.cpu, row.node.memory_bytes
        for item in row.node.accelerators:
            total[position, resources.index(item.model)] += item.count
    free = total.copy()
    for run in world.runs:
        for name in run.nodes:
            found = index.get((run.cluster, name))
            if found is not None:
                free[found] -= held_vector(run.held, resources)
    carried = _labels_of_nodes(world)
    homes = [cluster_index[row.cluster] for row in rows]
    return Nodes(
        names=tuple(row.node.name for row in rows),
        cluster=np.array(homes, dtype=np.int64),
        ready=np.array([row.node.ready for row in rows], dtype=np.bool_),
        total=total,
        free=np.maximum(free, 0.0),
        label_ok=_carried(carried, label_classes),
        group=topology.groups(homes, carried) if topology else np.zeros((len(rows), 0), dtype=np.int64),
        devices=device_table(rows, world.runs, resources),
    )


def held_vector(held: Mapping[str, Any], resources: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What one worker of a run holds, as a row over `resources`; models that no node has any more are left out."""
    vector = np.zeros(len(resources))
    vector[0], vector[1] = held["cpu"], held["memory_bytes"]
    if held["accelerator_count"] and held["accelerator_model"] in resources:
        vector[resources.index(held["accelerator_model"])] += held["accelerator_count"]
    return vector


def _queues(world: World, resources: tuple[str, ...]) -> Queues:
    index, by_name = {queue.name: position for position, queue in enumerate(world.queues)}, {queue.name: queue for queue in world.queues}
    held, running = np.zeros((len(world.queues), len(resources))), np.zeros(len(world.queues), dtype=np.int64)
    for run in world.runs:
        held[index[run.queue]] += held_vector(run.held, resources) * len(run.nodes)
        running[index[run.queue]] += 1

    def table(amount: Callable[[QueueRecord, str], float]) -> Floats:
        cells = [[amount(queue, resource) for resource in resources] for queue in world.queues]
        return np.array(cells, dtype=np.float64).reshape(held.shape)

    return Queues(
        names=tuple(queue.name for queue in world.queues),
        weight=np.array([queue.weight for queue in world.queues], dtype=np.float64),
        held=held,
        running=running,
        max_running=np.array([-1 if queue.max_running is None else queue.max_running for queue in world.queues], dtype=np.int64),
        parent=np.array([-1 if queue.parent is None else index[queue.parent] for queue in world.queues], dtype=np.int64),
        quota=table(lambda queue, resource: queue.quota.get(resource, 0.0)),
        ceiling=table(ceiling),
        kept=table(kept),
        used=table(lambda queue, resource: world.past.get(queue.name, {}).get(resource, 0.0)),
        strict=np.array([queue.order == "strict" for queue in world.queues], dtype=np.bool_),
        **_layouts(world, index),
        preemption=np.array([preemption_of(queue, by_name) for queue in world.queues], dtype=np.int64),
    )


def _layouts(world: World, index: Mapping[str, int]) -> dict[str, Any]:
    """Which queues spread, and, where one does, how many workers of each are on each node."""
    by_name = {queue.name: queue for queue in world.queues}
    spread = np.array([layout(queue, by_name) == "spread" for queue in world.queues], dtype=np.bool_)
    if not spread.any():
        return {"spread": spread}
    members = {cluster.name for cluster in world.clusters}
    nodes = [(row.cluster, row.node.name) for row in world.nodes if row.cluster in members]
    place = {name: row for row, name in enumerate(nodes)}
    seats = np.zeros((len(world.queues), len(nodes)), dtype=np.int64)
    for run in world.runs:
        for name in run.nodes:
            if (run.cluster, name) in place:
                seats[index[run.queue], place[run.cluster, name]] += 1
    return {"spread": spread, "seats": seats}


def _jobs(
    world: World, ways: Sequence[tuple[Candidate, Way]], resources: tuple[str, ...],
    label_classes: Sequence[tuple[tuple[str, str], ...]], homes: Sequence[Residence],
) -> Jobs:  # fmt: skip
    """A row for each of these ways to run jobs."""
    home_index = {home: position for position, home in enumerate(homes)}
    queue_index = {queue.name: position for position, queue in enumerate(world.queues)}
    class_index = {labels: position for position, labels in enumerate(label_classes)}
    shape = (len(ways), len(world.clusters))
    table = [[_numbers(item) for item in way.assessments] for _, way in ways]
    numbers = np.array(table, dtype=np.float64).reshape(*shape, 4)
    return Jobs(
        ids=tuple(job.id for job, _ in ways),
        queue=np.array([queue_index[job.spec.queue] for job, _ in ways], dtype=np.int64),
        rank=np.array([job.spec.rank for job, _ in ways], dtype=np.int64),
        sequence=np.array([job.sequence for job, _ in ways], dtype=np.int64),
        workers=np.array([job.spec.resources.most for job, _ in ways], dtype=np.int64),
        request=np.array([held_vector(held_of(way.resources), resources) for _, way in ways]).reshape(len(ways), len(resources)),
        label_class=np.array([class_index[_labels(job.spec)] for job, _ in ways], dtype=np.int64),
        policy=numbers[:, :, 0].astype(np.int64),
        transfer_s=numbers[:, :, 1].copy(),
        cost=numbers[:, :, 2].copy(),
        carbon_g=numbers[:, :, 3].copy(),
        prefer=np.array([Prefer[job.spec.preference.upper()] for job, _ in ways], dtype=np.int64),
        least=np.array([job.spec.resources.fewest for job, _ in ways], dtype=np.int64),
        most=np.array([[item.workers for item in way.assessments] for _, way in ways], dtype=np.int64).reshape(shape),
        same=np.array([-1 if (level := job.spec.placement.same) is None else LEVELS.index(level) for job, _ in ways], dtype=np.int64),
        longer_s=np.array([job.spec.max_runtime * (way.slowdown - 1.0) for job, way in ways], dtype=np.float64),
        limit_s=np.array([job.spec.max_runtime for job, _ in ways], dtype=np.float64),
        level=np.array([job.terms.level for job, _ in ways], dtype=np.int64),
        residence=np.array([home_index.get(job.terms.residence, -1) for job, _ in ways], dtype=np.int64),
        classification=np.array([job.terms.classification for job, _ in ways], dtype=np.int64),
        cleared=np.array([job.terms.cleared for job, _ in ways], dtype=np.int64),
    )


def _further(candidates: Sequence[Candidate], rows: Callable[[list[tuple[Candidate, Way]]], Jobs]) -> Further | None:
    """The ways behind the first of each job, where there are any."""
    found = [(row, job, way) for row, job in enumerate(candidates) for way in job.ways[1:]]
    if not found:
        return None
    return Further(of=np.array([row for row, _, _ in found], dtype=np.int64), jobs=rows([(job, way) for _, job, way in found]))


def _with_arrays(snapshot: Snapshot, candidates: Sequence[Candidate]) -> Snapshot:
    """With the number of each job's array, -1 for none, and how many more of its tasks may start."""
    numbers = {name: number for number, name in enumerate(sorted({job.array[0] for job in candidates if job.array}))}
    array = np.array([numbers[job.array[0]] if job.array else -1 for job in candidates], dtype=np.int64)
    left = np.array([job.array[1] if job.array else 0 for job in candidates], dtype=np.int64)
    jobs, further = replace(snapshot.jobs, array=array, array_left=left), snapshot.further
    if further is not None:
        further = replace(further, jobs=replace(further.jobs, array=array[further.of], array_left=left[further.of]))
    return replace(snapshot, jobs=jobs, further=further)


def _models(candidates: Sequence[Candidate]) -> set[str]:
    """The accelerator models that some jobs may use."""
    return {choice.model for job in candidates if job.spec.resources.accelerator for choice in job.spec.resources.accelerator.choices}


def _numbers(item: Assessment) -> tuple[float, float, float, float]:
    return float(item.reason), item.transfer_s, item.cost, np.nan if item.carbon_g is None else item.carbon_g


def held_by(spec: JobSpec) -> dict[str, Any]:
    """What one worker of a job holds in the first way to run it."""
    return held_of(spec.resources)


def held_of(resources: Resources) -> dict[str, Any]:
    """What one worker holds, as stored with its run."""
    accelerator = resources.accelerator
    return {
        "cpu": resources.cpu, "memory_bytes": resources.memory,
        "accelerator_model": accelerator.choices[0].model if accelerator else None,
        "accelerator_count": accelerator.amount if accelerator else 0,
    }  # fmt: skip
