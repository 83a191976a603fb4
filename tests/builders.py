"""Worlds in few words, so that a test of the scheduler reads like a picture of nodes and jobs.

An amount is written `8` (cores), `8:64` (cores and GiB of memory), `8+4H200` (and accelerators). Memory that is not
written is 4 GiB for each core, on nodes and in requests alike, so it never decides. A node is written as its amount,
with what is free before a slash where it is not all: `2/8+1/4H200` has 2 of 8 cores and 1 of 4 accelerators free.
`8+1,.5,0H200` has three accelerators with all, half and nothing of them free; then devices are told apart in the whole world.
`8!` is not ready, `8@gold` carries the label `gold`, `8#a` stands in zone a and `8#a.1` there in rack 1. A cluster is its
nodes in a row, named n1, n2, …:

    world(cluster("sh", "4 0/8"), cluster("gz", "16!"), jobs=[job("a", "4"), job("b", "2", workers=3)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scheduler.engine.check import check
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import WHOLE, Clusters, Floats, Further, Ints, Jobs, Nodes, Prefer, Queues, Snapshot, Weights
from scheduler.topology import Topology

GIB = 1024**3
USUAL_GIB_PER_CORE = 4.0
AMOUNT = "0123456789./,"


@dataclass(frozen=True)
class Amount:
    """Cores, GiB of memory, and accelerators by model."""

    cpu: float
    gib: float
    accelerators: Mapping[str, float] = field(default_factory=dict)

    def row(self, resources: Sequence[str]) -> list[float]:
        """The amount over the resources of a snapshot."""
        return [self.cpu, self.gib * GIB, *(self.accelerators.get(model, 0.0) for model in resources[2:])]


@dataclass(frozen=True)
class DrawnNode:
    """A node before it becomes a row."""

    name: str
    total: Amount
    free: Amount
    ready: bool = True
    labels: frozenset[str] = frozenset()
    devices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    zone: str = ""
    rack: str = ""


@dataclass(frozen=True)
class DrawnCluster:
    """A cluster before it becomes a row."""

    name: str
    nodes: tuple[DrawnNode, ...]
    healthy: bool = True
    cordoned: bool = False
    wait_s: float = 1.0


@dataclass(frozen=True)
class DrawnQueue:
    """A queue before it becomes a row."""

    name: str
    weight: float = 1.0
    held: Amount = Amount(0.0, 0.0)
    running: int = 0
    limit: int | None = None
    below: str = ""
    quota: Amount = Amount(0.0, 0.0)
    ceiling: Amount | None = None
    kept: Amount = Amount(0.0, 0.0)
    used: Amount = Amount(0.0, 0.0)
    strict: bool = False
    spread: bool = False
    on: str = ""
    preemption: PreemptionPolicy = PreemptionPolicy.NEVER


@dataclass(frozen=True)
class DrawnJob:
    """A job before it becomes a row; clusters that a mapping leaves out have the usual value."""

    name: str
    size: Amount
    workers: int = 1
    queue: str = "default"
    rank: int = 0
    sequence: int | None = None
    labels: frozenset[str] = frozenset()
    refused: Mapping[str, Reason] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    transfer_s: Mapping[str, float] = field(default_factory=dict)
    prefer: Prefer = Prefer.BALANCED
    same: str = ""
    least: int = 1
    paid: Mapping[str, int] = field(default_factory=dict)
    longer_s: float = 0.0
    carbon: Mapping[str, float] = field(default_factory=dict)
    further: tuple[DrawnJob, ...] = ()


def cluster(name: str, nodes: str = "8", *, healthy: bool = True, cordoned: bool = False, wait_s: float = 1.0) -> DrawnCluster:
    """A cluster from its nodes in words."""
    drawn = tuple(_node(f"n{place}", word) for place, word in enumerate(nodes.split(), start=1))
    return DrawnCluster(name, drawn, healthy, cordoned, wait_s)


def queue(
    name: str,
    weight: float = 1.0,
    *,
    held: str = "0",
    running: int = 0,
    limit: int | None = None,
    below: str = "",
    quota: str = "0",
    ceiling: str = "",
    kept: str = "0",
    used: str = "0",
    strict: bool = False,
    spread: bool = False,
    on: str = "",
    preemption: PreemptionPolicy = PreemptionPolicy.NEVER,
) -> DrawnQueue:
    """A queue and what its runs hold. A ceiling limits the resources that it names, `quota="8"` guarantees cores and their memory.

    `on="sh.n1 sh.n1"` are the nodes of the workers of its runs, which count where it is to `spread`.
    """
    top, amounts = _amount(ceiling) if ceiling else None, (_amount(quota), _amount(kept), _amount(used))
    return DrawnQueue(name, weight, _amount(held), running, limit, below, amounts[0], top, *amounts[1:], strict, spread, on, preemption)


def job(
    name: str,
    size: str = "1",
    *,
    workers: int | tuple[int, int] = 1,
    queue: str = "default",
    rank: int = 0,
    sequence: int | None = None,
    labels: str = "",
    refused: Mapping[str, Reason] | None = None,
    cost: Mapping[str, float] | None = None,
    transfer_s: Mapping[str, float] | None = None,
    prefer: str = "balanced",
    same: str = "",
    paid: Mapping[str, int] | None = None,
    carbon: Mapping[str, float] | None = None,
) -> DrawnJob:
    """A job from what each of its workers asks for; `workers=(2, 8)` is elastic. Without a sequence, jobs are as old as their place.

    `paid` is the most workers that its budget pays for, by cluster; at a cluster that `carbon` leaves out nobody knows it.
    """
    wanted, (least, most) = frozenset(labels.split()), workers if isinstance(workers, tuple) else (workers, workers)
    return DrawnJob(
        name,
        _amount(size),
        most,
        queue,
        rank,
        sequence,
        wanted,
        refused or {},
        cost or {},
        transfer_s or {},
        Prefer[prefer.upper()],
        same,
        least,
        paid or {},
        carbon=carbon or {},
    )


def or_else(first: DrawnJob, size: str, longer_s: float = 0.0, **changes: Any) -> DrawnJob:
    """A job with a further way to run it, that asks for something else; `cost` and `refused` may differ too."""
    other = replace(first, size=_amount(size), longer_s=longer_s, further=(), **changes)
    return replace(first, further=(*first.further, other))


def world(
    *clusters: DrawnCluster, jobs: Sequence[DrawnJob] = (), queues: Sequence[DrawnQueue] = (), weights: Weights | None = None
) -> Snapshot:
    """The snapshot of what was drawn. Queues that only jobs name are made with weight 1."""
    drawn_queues = list(queues)
    for missing in dict.fromkeys(item.queue for item in jobs):
        if missing not in {known.name for known in drawn_queues}:
            drawn_queues.append(DrawnQueue(missing))
    # A further way is as old as its job.
    others = [(row, replace(other, sequence=other.sequence or row)) for row, item in enumerate(jobs) for other in item.further]
    amounts = [item.size for item in [*jobs, *(other for _, other in others)]] + [
        node.total for member in clusters for node in member.nodes
    ]
    resources = ("cpu", "memory", *sorted({model for amount in amounts for model in amount.accelerators}))
    classes = sorted({item.labels for item in jobs}, key=sorted)
    return Snapshot(
        resources=resources,
        clusters=Clusters(
            names=tuple(member.name for member in clusters),
            healthy=np.array([member.healthy for member in clusters], dtype=np.bool_),
            cordoned=np.array([member.cordoned for member in clusters], dtype=np.bool_),
            wait_s=np.array([member.wait_s for member in clusters], dtype=np.float64),
        ),
        nodes=_nodes(clusters, resources, classes),
        queues=_queues(drawn_queues, resources, [f"{member.name}.{node.name}" for member in clusters for node in member.nodes]),
        jobs=_jobs(jobs, clusters, drawn_queues, resources, classes),
        weights=weights or Weights(),
        further=_further(others, lambda drawn: _jobs(drawn, clusters, drawn_queues, resources, classes)),
    )


def decided(snapshot: Snapshot) -> dict[str, str]:
    """What a checked plan says of each job: `sh n1 n2` where it goes, else why it waits, like `node_busy`."""
    plan = place(snapshot)
    check(snapshot, plan)
    return shown(snapshot, plan)


def where(snapshot: Snapshot, cluster: int, nodes: Iterable[int]) -> str:
    """A cluster and nodes of it by their names: `sh n1 n2`."""
    return " ".join([snapshot.clusters.names[cluster], *(snapshot.nodes.names[node] for node in nodes)])


def shown(snapshot: Snapshot, plan: Plan) -> dict[str, str]:
    """A plan in words."""
    found = {}
    for item in plan.placements:
        found[snapshot.jobs.ids[item.job]] = where(snapshot, item.cluster, item.nodes)
    for waiting in plan.unplaced:
        found[snapshot.jobs.ids[waiting.job]] = waiting.blocker.label
    return found


def _amount(words: str) -> Amount:
    return _totals(words)[1]


def _node(name: str, words: str) -> DrawnNode:
    words, _, place = words.partition("#")
    zone, _, rack = place.partition(".")
    words, *labels = words.split("@")
    free, total = _totals(words.removesuffix("!"))
    return DrawnNode(name, total, free, not words.endswith("!"), frozenset(labels), _devices(words.removesuffix("!")), zone, rack)


def _devices(words: str) -> dict[str, tuple[float, ...]]:
    """Of the models whose devices are told apart, what is free on each."""
    found = {device.lstrip(AMOUNT): device[: len(device) - len(device.lstrip(AMOUNT))] for device in words.split("+")[1:]}
    return {model: tuple(float(part) for part in amount.split(",")) for model, amount in found.items() if "," in amount}


def _totals(words: str) -> tuple[Amount, Amount]:
    """What is free and what there is."""
    compute, *devices = words.split("+")
    cores, _, memory = compute.partition(":")
    cpu = _share(cores)
    gib = _share(memory) if memory else (cpu[0] * USUAL_GIB_PER_CORE, cpu[1] * USUAL_GIB_PER_CORE)
    models = {model: _share(device.removesuffix(model)) for device in devices for model in [device.lstrip(AMOUNT)]}
    free, total = (Amount(cpu[i], gib[i], {model: share[i] for model, share in models.items()}) for i in (0, 1))
    return free, total


def _share(words: str) -> tuple[float, float]:
    """`2/8` → 2 of 8, `8` → 8 of 8, `1,.5,0` → 1.5 of 3."""
    if "," in words:
        return sum(float(part) for part in words.split(",")), float(len(words.split(",")))
    free, _, total = words.partition("/")
    return float(free), float(total or free)


def _rows(amounts: Sequence[Amount], resources: Sequence[str]) -> Floats:
    return np.array([amount.row(resources) for amount in amounts], dtype=np.float64).reshape(len(amounts), len(resources))


def _nodes(clusters: Sequence[DrawnCluster], resources: tuple[str, ...], classes: Sequence[frozenset[str]]) -> Nodes:
    nodes = [node for member in clusters for node in member.nodes]
    homes = [row for row, member in enumerate(clusters) for _ in member.nodes]
    carried = np.array([[wanted <= node.labels for node in nodes] for wanted in classes], dtype=np.bool_)
    return Nodes(
        names=tuple(node.name for node in nodes),
        cluster=np.array(homes, dtype=np.int64),
        ready=np.array([node.ready for node in nodes], dtype=np.bool_),
        total=_rows([node.total for node in nodes], resources),
        free=_rows([node.free for node in nodes], resources),
        label_ok=carried.reshape(len(classes), len(nodes)),
        group=Topology(("zone",), ("rack",)).groups(homes, [_place(node) for node in nodes]),
        devices=_device_table(nodes, resources[2:]),
    )


def _device_table(nodes: Sequence[DrawnNode], models: Sequence[str]) -> Ints:
    """[N, M, D] where some node's devices are told apart; of others the first ones are in use."""
    if not any(node.devices for node in nodes):
        return np.zeros((0, 0, 0), dtype=np.int64)
    most = int(max(node.total.accelerators.get(model, 0.0) for node in nodes for model in models))
    table = np.full((len(nodes), len(models), most), -1, dtype=np.int64)
    for row, node in enumerate(nodes):
        for column, model in enumerate(models):
            total, free = (int(amount.accelerators.get(model, 0.0)) for amount in (node.total, node.free))
            parts = node.devices.get(model, (0.0,) * (total - free) + (1.0,) * free)
            table[row, column, :total] = [round(part * WHOLE) for part in parts]
    return table


def _place(node: DrawnNode) -> dict[str, str]:
    return {level: name for level, name in (("zone", node.zone), ("rack", node.rack)) if name}


def _queues(queues: Sequence[DrawnQueue], resources: tuple[str, ...], nodes: Sequence[str]) -> Queues:
    names = tuple(item.name for item in queues)
    return Queues(
        names=names,
        weight=np.array([item.weight for item in queues], dtype=np.float64),
        held=_rows([item.held for item in queues], resources),
        running=np.array([item.running for item in queues], dtype=np.int64),
        max_running=np.array([-1 if item.limit is None else item.limit for item in queues], dtype=np.int64),
        parent=np.array([names.index(item.below) if item.below else -1 for item in queues], dtype=np.int64),
        quota=_rows([item.quota for item in queues], resources),
        ceiling=np.array([_limits(item.ceiling, resources) for item in queues]).reshape(len(queues), len(resources)),
        kept=_rows([item.kept for item in queues], resources),
        used=_rows([item.used for item in queues], resources),
        strict=np.array([item.strict for item in queues], dtype=np.bool_),
        spread=np.array([item.spread for item in queues], dtype=np.bool_),
        seats=np.array([[item.on.split().count(name) for name in nodes] for item in queues], dtype=np.int64).reshape(
            len(queues), len(nodes)
        ),
        preemption=np.array([item.preemption for item in queues], dtype=np.int64),
    )


def _limits(ceiling: Amount | None, resources: tuple[str, ...]) -> list[float]:
    """A ceiling over the resources; models that it does not name are not limited."""
    if ceiling is None:
        return [np.inf] * len(resources)
    return [ceiling.cpu, ceiling.gib * GIB, *(ceiling.accelerators.get(model, np.inf) for model in resources[2:])]


def _further(others: Sequence[tuple[int, DrawnJob]], rows: Callable[[list[DrawnJob]], Jobs]) -> Further | None:
    if not others:
        return None
    return Further(np.array([row for row, _ in others], dtype=np.int64), rows([other for _, other in others]))


def _jobs(
    jobs: Sequence[DrawnJob],
    clusters: Sequence[DrawnCluster],
    queues: Sequence[DrawnQueue],
    resources: tuple[str, ...],
    classes: Sequence[frozenset[str]],
) -> Jobs:
    queue_rows, shape = {item.name: row for row, item in enumerate(queues)}, (len(jobs), len(clusters))
    names = [member.name for member in clusters]
    return Jobs(
        ids=tuple(item.name for item in jobs),
        queue=np.array([queue_rows[item.queue] for item in jobs], dtype=np.int64),
        rank=np.array([item.rank for item in jobs], dtype=np.int64),
        sequence=np.array([row if item.sequence is None else item.sequence for row, item in enumerate(jobs)], dtype=np.int64),
        workers=np.array([item.workers for item in jobs], dtype=np.int64),
        request=_rows([item.size for item in jobs], resources),
        label_class=np.array([classes.index(item.labels) for item in jobs], dtype=np.int64),
        policy=np.array([[item.refused.get(name, Reason.FITS) for name in names] for item in jobs], dtype=np.int64).reshape(shape),
        transfer_s=np.array([[item.transfer_s.get(name, 0.0) for name in names] for item in jobs], dtype=np.float64).reshape(shape),
        cost=np.array([[item.cost.get(name, 1.0) for name in names] for item in jobs], dtype=np.float64).reshape(shape),
        prefer=np.array([item.prefer for item in jobs], dtype=np.int64),
        least=np.array([item.least for item in jobs], dtype=np.int64),
        most=np.array([[item.paid.get(name, item.workers) for name in names] for item in jobs], dtype=np.int64).reshape(shape),
        longer_s=np.array([item.longer_s for item in jobs], dtype=np.float64),
        carbon_g=np.array([[item.carbon.get(name, np.nan) for name in names] for item in jobs], dtype=np.float64).reshape(shape),
        same=np.array([("", "zone", "rack").index(item.same) - 1 for item in jobs], dtype=np.int64),
    )
