"""Which node takes a worker: one policy, one small function, one signature. This NumPy form is the compiled kernel's oracle.

A score tells each node's merit for one worker, higher is better, and on which device a share goes. The best node with room
takes the worker; of equal ones the first, so that the same world gives the same answer everywhere. Only `random` draws among
the best: its scores are all equal.

Baselines: DotProd after Grandl et al., "Multi-Resource Packing for Cluster Schedulers", SIGCOMM 2014; Clustering and Packing after
Xiao et al., "Gandiva", OSDI 2018, and Weng et al., "MLaaS in the Wild", NSDI 2022, in the form in which Weng et al., USENIX ATC
2023, compare them. `cpn` is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from scheduler.engine.bid_prices import leftover_prices
from scheduler.engine.devices import (
    DEVICE,
    FULLNESS,
    OPENNESS,
    WHOLE,
    DeviceNodes,
    Shapes,
    after,
    fitting,
    free_devices,
    free_milli,
    kind_of,
    shares_device,
    take,
    tightest_device,
)
from scheduler.engine.fragmentation import Typical, fragmentation, gradient_score, typical_requests
from scheduler.engine.snapshot import Floats, Ints
from scheduler.engine.stranding import CoreNeed, core_need, stranded


class Facts(NamedTuple):
    """What policies know beyond the nodes: the usual node with devices, and the usual mix of work.

    `price[M, WHOLE + 1]` is what free room on one device of a model is worth, in units of DEVICE to one device.
    """

    usual_cpu_milli: float
    usual_gpu_milli: float
    typical: Typical
    need: CoreNeed
    price: Ints


Scored: TypeAlias = tuple[Floats, Ints]
Policy: TypeAlias = Callable[[DeviceNodes, Shapes, int, Facts], Scored]


def random(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:  # noqa: ARG001 - one signature for all
    """Every node with room is as good as any other; the device of a share is drawn too."""
    return np.zeros(len(nodes.devices)), np.full(len(nodes.devices), -1)


def dotprod(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:
    """The node whose free room is smallest along what the worker asks for."""
    wanted = shapes.devices[shape] * shapes.gpu_milli[shape]
    cpu = (nodes.cpu_milli / facts.usual_cpu_milli) * (shapes.cpu_milli[shape] / facts.usual_cpu_milli)
    gpu = (free_milli(nodes) / facts.usual_gpu_milli) * (wanted / facts.usual_gpu_milli)
    return -(cpu + gpu), tightest_device(nodes, shapes, shape)


def clustering(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:
    """A node with work of the same kind, best with nothing else; then an unused one. Fuller nodes first among those."""
    if not shapes.devices[shape]:
        return np.zeros(len(nodes.devices)), np.full(len(nodes.devices), -1)
    kinds = (nodes.kinds > 0).sum(axis=1)
    same = nodes.kinds[:, kind_of(shapes, shape)] > 0
    base = np.where(same, np.where(kinds == 1, 75.0, 50.0), np.where(kinds == 0, 25.0, 0.0))
    fullness = (facts.usual_gpu_milli - free_milli(nodes)) / facts.usual_gpu_milli
    return base + 25.0 * fullness, tightest_device(nodes, shapes, shape)


def packing(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:  # noqa: ARG001 - one signature for all
    """A device in use with little room left, then a device of a node in use, then an unused node with few devices."""
    device, wanted = tightest_device(nodes, shapes, shape), shapes.devices[shape]
    if not wanted:
        return np.zeros(len(device)), device
    free = free_devices(nodes)
    if shares_device(shapes, shape):
        room = nodes.gpu_milli[np.arange(len(device)), device]
        used = np.where(room == WHOLE, 49.0, 100.0 - room / 100.0)
    else:
        used = np.full(len(device), float(max(50 - wanted, 33)))
    return np.where(free == nodes.devices, 33.0 - free, used), device


def bestfit(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:
    """The node with the least room left afterwards, cores and devices alike."""
    left = free_milli(nodes) - shapes.devices[shape] * shapes.gpu_milli[shape]
    cpu = (nodes.cpu_milli - shapes.cpu_milli[shape]) / facts.usual_cpu_milli
    return -(cpu + left / facts.usual_gpu_milli), tightest_device(nodes, shapes, shape)


def fgd(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:
    """The node and device on which fragmentation falls most."""
    before = fragmentation(nodes, facts.typical)
    cpu = nodes.cpu_milli - shapes.cpu_milli[shape]
    best, chosen = np.full(len(before), -np.inf), np.full(len(before), -1)
    for device in range(nodes.gpu_milli.shape[1] if shares_device(shapes, shape) else 1):
        on_it = np.full(len(before), device)
        left = after(nodes, shapes, shape, on_it)
        gradient = before - fragmentation(nodes._replace(cpu_milli=cpu, gpu_milli=left), facts.typical)
        room = nodes.gpu_milli[:, device] >= shapes.gpu_milli[shape]
        better = (room | (not shares_device(shapes, shape))) & (gradient > best)
        best, chosen = np.where(better, gradient, best), np.where(better, on_it, chosen)
    return gradient_score(best), chosen


def cpn(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> Scored:
    """The node and device where least is lost of what free room is worth, stranded devices counted as lost."""
    wanted = shapes.devices[shape] * shapes.gpu_milli[shape]
    loss, chosen = _price_loss(nodes, shapes, shape, facts)
    free, cpu = free_milli(nodes), nodes.cpu_milli - shapes.cpu_milli[shape]
    strands = stranded(free - wanted, cpu, facts.need) - stranded(free, nodes.cpu_milli, facts.need)
    room = cpu / facts.usual_cpu_milli + (free - wanted) / facts.usual_gpu_milli
    whole = np.floor(strands * (DEVICE / WHOLE) + 0.5) + np.floor(room * FULLNESS)
    return -(loss + whole), chosen


def _price_loss(nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts) -> tuple[Floats, Ints]:
    """[N] How far the prices of the devices fall, and the device of a share; rows without room mean nothing."""
    price = np.where(nodes.gpu_milli >= 0, facts.price[nodes.model[:, None], nodes.gpu_milli], 0)
    if not shares_device(shapes, shape):
        left = np.maximum(after(nodes, shapes, shape, np.full(len(price), -1)), 0)
        lost = price - np.where(nodes.gpu_milli >= 0, facts.price[nodes.model[:, None], left], 0)
        return lost.sum(axis=1).astype(np.float64), np.full(len(price), -1)
    left = np.maximum(nodes.gpu_milli - shapes.gpu_milli[shape], 0)
    loss = price - facts.price[nodes.model[:, None], left] + nodes.gpu_milli * (OPENNESS // WHOLE)
    loss = np.where(nodes.gpu_milli >= shapes.gpu_milli[shape], loss, np.iinfo(np.int64).max)
    chosen = loss.argmin(axis=1)
    return loss[np.arange(len(loss)), chosen].astype(np.float64), chosen


POLICIES: dict[str, Policy] = {
    "random": random, "dotprod": dotprod, "clustering": clustering, "packing": packing, "bestfit": bestfit, "fgd": fgd, "cpn": cpn,
}  # fmt: skip


def facts_of(nodes: DeviceNodes, shapes: Shapes, count: Ints) -> Facts:
    """What policies may know of empty nodes and a mix of `count[S]` workers of each shape."""
    asked = shapes.devices > 0
    prices = leftover_prices(shapes.gpu_milli[asked], (count * shapes.devices)[asked].astype(np.float64))
    price = np.outer(_wanted_by_model(nodes, shapes, count), prices)
    return Facts(
        usual_cpu_milli=_usual(nodes.cpu_milli[nodes.devices > 0]),
        usual_gpu_milli=_usual(nodes.devices[nodes.devices > 0] * WHOLE),
        typical=typical_requests(shapes, count),
        need=core_need(shapes, count),
        price=np.rint(price * DEVICE).astype(np.int64),
    )


def _usual(values: Ints) -> float:
    return max(float(np.median(values)), 1.0) if len(values) else 1.0


def _wanted_by_model(nodes: DeviceNodes, shapes: Shapes, count: Ints) -> Floats:
    """[M] How much of the mix falls on a device of each model, on average 1, when each shape spreads evenly over those it may use."""
    there = np.bincount(nodes.model, weights=nodes.devices, minlength=shapes.models.shape[1])
    demand = (shapes.devices * shapes.gpu_milli * count).astype(np.float64)
    usable = shapes.models @ there
    served = (demand > 0) & (usable > 0)
    if not served.any():
        return np.ones(len(there))
    density = (demand[served] / usable[served]) @ shapes.models[served]
    scaled: Floats = density * there.sum() / demand[served].sum()
    return scaled


def choose(policy: str, nodes: DeviceNodes, shapes: Shapes, shape: int, facts: Facts, draw: tuple[float, float]) -> tuple[int, int]:
    """The node and the device of one worker, or -1 and -1 where it fits nowhere. `draw` are two numbers of 0 ≤ x < 1."""
    fits = fitting(nodes, shapes, shape)
    if not fits.any():
        return -1, -1
    scores, device = POLICIES[policy](nodes, shapes, shape, facts)
    scores = np.where(fits, scores, -np.inf)
    if policy != "random":
        node = int(scores.argmax())
        return node, int(device[node])
    best = np.flatnonzero(fits)
    node = int(best[int(draw[0] * len(best))])
    room = np.flatnonzero(nodes.gpu_milli[node] >= shapes.gpu_milli[shape])
    return node, int(room[int(draw[1] * len(room))]) if shares_device(shapes, shape) else -1


def place(policy: str, nodes: DeviceNodes, shapes: Shapes, facts: Facts, queue: Ints, draws: Floats) -> Ints:
    """[P] The node of each worker of `queue[P]` (rows of shapes), decided one after the other; -1 where it fits nowhere."""
    chosen = np.full(len(queue), -1, dtype=np.int64)
    for turn, shape in enumerate(queue.tolist()):
        node, device = choose(policy, nodes, shapes, shape, facts, (float(draws[turn, 0]), float(draws[turn, 1])))
        if node >= 0:
            take(nodes, shapes, shape, node, device)
            chosen[turn] = node
    return chosen
