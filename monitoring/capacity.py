"""Computing power of the network: rated, available and allocated FLOP/s by class and precision.

Rated is what the data sheets say of everything registered; available leaves out what cannot be used now;
allocated is the rated share of what running work holds. Hardware without a rating is counted beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.computing_power import NodeRating, Rating, rate_node
from cluster.health import Health
from cluster.model import Node
from scheduler.store.records import ClusterRecord, NodeRecord, RunRecord

Key = tuple[str, str]


@dataclass(frozen=True)
class Power:
    """FLOP/s of one class at one precision."""

    compute_class: str
    precision: str
    rated: float
    available: float
    allocated: float


@dataclass(frozen=True)
class UnratedHardware:
    """Hardware that no rating is known for."""

    cluster: str
    what: str
    count: int


@dataclass(frozen=True)
class NodeUse:
    """What runs hold of one node."""

    cpu: float = 0.0
    memory_bytes: int = 0
    accelerators: tuple[tuple[str, float], ...] = ()

    def accelerator(self, model: str) -> float:
        return sum(count for name, count in self.accelerators if name == model)


@dataclass(frozen=True)
class Capacity:
    """The network's computing power, in all and by cluster."""

    total: tuple[Power, ...]
    by_cluster: dict[str, tuple[Power, ...]]
    unrated: tuple[UnratedHardware, ...]
    rated_share: float


def use_by_node(runs: Iterable[RunRecord]) -> dict[tuple[str, str], NodeUse]:
    """What placed and running work holds, by (cluster, node)."""
    cpu: dict[tuple[str, str], float] = defaultdict(float)
    memory: dict[tuple[str, str], int] = defaultdict(int)
    devices: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for run in runs:
        for name in run.nodes:
            key = (run.cluster, name)
            cpu[key] += run.held["cpu"]
            memory[key] += run.held["memory_bytes"]
            if run.held["accelerator_count"]:
                devices[key][run.held["accelerator_model"]] += run.held["accelerator_count"]
    return {key: NodeUse(cpu[key], memory[key], tuple(sorted(devices[key].items()))) for key in sorted(cpu)}


def measure(clusters: Sequence[ClusterRecord], nodes: Sequence[NodeRecord], runs: Sequence[RunRecord]) -> Capacity:
    """Add up the network."""
    usable = {cluster.name for cluster in clusters if cluster.health is Health.HEALTHY and cluster.cordon == "open"}
    use = use_by_node(runs)
    sums: dict[str, dict[Key, list[float]]] = {cluster.name: defaultdict(lambda: [0.0, 0.0, 0.0]) for cluster in clusters}
    missing: dict[tuple[str, str], int] = defaultdict(int)
    rated_parts = all_parts = 0
    for row in nodes:
        if row.cluster not in sums:
            continue
        rating = rate_node(row.node)
        available = row.cluster in usable and row.node.ready
        _add_node(sums[row.cluster], row.node, rating, available, use.get((row.cluster, row.node.name), NodeUse()))
        parts, unrated = {part.what for part in rating.parts}, set(rating.unrated)
        for what in unrated:
            missing[row.cluster, what] += _count(row.node, what)
        rated_parts += len(parts)
        all_parts += len(parts) + len(unrated)
    return Capacity(
        total=_powers(_merged(sums.values())),
        by_cluster={name: _powers(found) for name, found in sorted(sums.items())},
        unrated=tuple(UnratedHardware(cluster, what, count) for (cluster, what), count in sorted(missing.items())),
        rated_share=rated_parts / all_parts if all_parts else 0.0,
    )


def _count(node: Node, what: str) -> int:
    return sum(item.count for item in node.accelerators if item.model == what) or 1


def _add_node(sums: dict[Key, list[float]], node: Node, rating: NodeRating, available: bool, use: NodeUse) -> None:
    for part in rating.parts:
        entry = sums[part.compute_class, part.precision]
        entry[0] += part.flops
        entry[1] += part.flops if available else 0.0
        entry[2] += part.flops * _held_share(part, node, use)


def _held_share(part: Rating, node: Node, use: NodeUse) -> float:
    total = sum(item.count for item in node.accelerators if item.model == part.what)
    if total:
        return min(use.accelerator(part.what) / total, 1.0)
    return min(use.cpu / node.cpu, 1.0) if node.cpu else 0.0


def _merged(parts: Iterable[dict[Key, list[float]]]) -> dict[Key, list[float]]:
    merged: dict[Key, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for part in parts:
        for key, values in part.items():
            merged[key] = [a + b for a, b in zip(merged[key], values, strict=True)]
    return merged


def _powers(sums: dict[Key, list[float]]) -> tuple[Power, ...]:
    return tuple(Power(key[0], key[1], *values) for key, values in sorted(sums.items()))
