"""The compiled policies: the same scores as `device_scores`, one node at a time, without an array in between.

What is compiled is what a profile shows: the NumPy form pays a dozen passes over all nodes for each decision, this one a
fraction of a microsecond for each node that changed. `device_scores` is the oracle; both give the same nodes on every world
(tests/property/test_devices.py). All policies have one signature: nodes and one of them, shapes and one of them, facts; the
answer is the score and the device of a share. They are only asked about nodes with room.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from scheduler.engine.devices import DEVICE, FEW, FULLNESS, MANY, ONE, OPENNESS, SHARE, WHOLE
from scheduler.engine.fragmentation import STEPS
from scheduler.engine.stranding import POINTS

RANDOM, DOTPROD, CLUSTERING, PACKING, BESTFIT, FGD, CPN = range(7)
CODES = {"random": RANDOM, "dotprod": DOTPROD, "clustering": CLUSTERING, "packing": PACKING, "bestfit": BESTFIT, "fgd": FGD, "cpn": CPN}
OPEN_MILLI = OPENNESS // WHOLE


@njit(cache=True)
def fits(nodes: Any, node: int, shapes: Any, shape: int) -> bool:
    """Whether one worker has room on a node."""
    if nodes.cpu_milli[node] < shapes.cpu_milli[shape] or nodes.memory_mib[node] < shapes.memory_mib[shape]:
        return False
    wanted = shapes.devices[shape]
    if wanted == 0:
        return True
    if nodes.devices[node] < wanted or not shapes.models[shape, nodes.model[node]]:
        return False
    found = 0
    for device in range(nodes.devices[node]):
        found += nodes.gpu_milli[node, device] >= shapes.gpu_milli[shape]
    return bool(found >= wanted)


@njit(cache=True)
def shares(shapes: Any, shape: int) -> bool:
    """Whether workers of this shape take a part of one device."""
    return bool(shapes.devices[shape] == 1 and shapes.gpu_milli[shape] < WHOLE)


@njit(cache=True)
def kind(shapes: Any, shape: int) -> int:
    """The column of `kinds` that this shape counts in."""
    if shapes.devices[shape] == 1:
        return SHARE if shapes.gpu_milli[shape] < WHOLE else ONE
    return FEW if shapes.devices[shape] <= 4 else MANY


@njit(cache=True)
def free_milli(nodes: Any, node: int) -> int:
    """What is free on all devices of a node together."""
    total = 0
    for device in range(nodes.devices[node]):
        total += nodes.gpu_milli[node, device]
    return total


@njit(cache=True)
def tightest(nodes: Any, node: int, shapes: Any, shape: int) -> int:
    """Of the devices with enough room, the first with the least; -1 for none."""
    best = -1
    for device in range(nodes.devices[node]):
        room = nodes.gpu_milli[node, device]
        if room >= shapes.gpu_milli[shape] and (best < 0 or room < nodes.gpu_milli[node, best]):
            best = device
    return best


@njit(cache=True)
def random(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:  # noqa: ARG001 - one signature
    """All are equal; `choose` draws."""
    return 0.0, -1


@njit(cache=True)
def dotprod(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:
    """Free room along what is asked for."""
    wanted = shapes.devices[shape] * shapes.gpu_milli[shape]
    cpu = (nodes.cpu_milli[node] / facts.usual_cpu_milli) * (shapes.cpu_milli[shape] / facts.usual_cpu_milli)
    gpu = (free_milli(nodes, node) / facts.usual_gpu_milli) * (wanted / facts.usual_gpu_milli)
    return -(cpu + gpu), tightest(nodes, node, shapes, shape)


@njit(cache=True)
def clustering(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:
    """Work of the same kind."""
    if shapes.devices[shape] == 0:
        return 0.0, -1
    kinds = 0
    for column in range(4):
        kinds += nodes.kinds[node, column] > 0
    base = 25.0 if kinds == 0 else 0.0
    if nodes.kinds[node, kind(shapes, shape)] > 0:
        base = 75.0 if kinds == 1 else 50.0
    fullness = (facts.usual_gpu_milli - free_milli(nodes, node)) / facts.usual_gpu_milli
    return base + 25.0 * fullness, tightest(nodes, node, shapes, shape)


@njit(cache=True)
def packing(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:  # noqa: ARG001 - one signature
    """Devices in use, then nodes in use, then small nodes."""
    device = tightest(nodes, node, shapes, shape)
    if shapes.devices[shape] == 0:
        return 0.0, device
    free = 0
    for other in range(nodes.devices[node]):
        free += nodes.gpu_milli[node, other] == WHOLE
    if free == nodes.devices[node]:
        return 33.0 - free, device
    if not shares(shapes, shape):
        return float(max(50 - shapes.devices[shape], 33)), device
    room = nodes.gpu_milli[node, device]
    return (49.0 if room == WHOLE else 100.0 - room / 100.0), device


@njit(cache=True)
def bestfit(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:
    """Least room left."""
    left = free_milli(nodes, node) - shapes.devices[shape] * shapes.gpu_milli[shape]
    cpu = (nodes.cpu_milli[node] - shapes.cpu_milli[shape]) / facts.usual_cpu_milli
    return -(cpu + left / facts.usual_gpu_milli), tightest(nodes, node, shapes, shape)


@njit(cache=True)
def fragmentation(cpu_milli: int, gpu_milli: Any, devices: int, model: int, typical: Any) -> float:
    """What typical requests cannot use of one node."""
    total, lost = 0, 0.0
    for device in range(devices):
        total += gpu_milli[device]
    for request in range(typical.weight.shape[0]):
        count, small = 0, 0
        for device in range(devices):
            if gpu_milli[device] >= typical.gpu_milli[request]:
                count += 1
            else:
                small += gpu_milli[device]
        fitting = cpu_milli >= typical.cpu_milli[request] and typical.models[request, model]
        if fitting and count >= typical.devices[request] and typical.devices[request] > 0:
            lost += typical.weight[request] * small
        else:
            lost += typical.weight[request] * total
    return lost


@njit(cache=True)
def fgd(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:
    """How far fragmentation falls."""
    devices, model, cpu_milli = nodes.devices[node], nodes.model[node], nodes.cpu_milli[node]
    left = nodes.gpu_milli[node].copy()
    before = fragmentation(cpu_milli, left, devices, model, facts.typical)
    cpu_milli -= shapes.cpu_milli[shape]
    best, chosen = -np.inf, -1
    if not shares(shapes, shape):
        rest = shapes.devices[shape]
        for device in range(devices):
            if rest > 0 and left[device] >= shapes.gpu_milli[shape]:
                left[device] -= shapes.gpu_milli[shape]
                rest -= 1
        return score_of_gradient(before - fragmentation(cpu_milli, left, devices, model, facts.typical)), chosen
    for device in range(devices):
        # Devices with the same room give the same gradient: the first is enough.
        if left[device] < shapes.gpu_milli[shape] or same_before(left, device):
            continue
        left[device] -= shapes.gpu_milli[shape]
        gradient = before - fragmentation(cpu_milli, left, devices, model, facts.typical)
        left[device] += shapes.gpu_milli[shape]
        if gradient > best:
            best, chosen = gradient, device
    return score_of_gradient(best), chosen


@njit(cache=True)
def same_before(room: Any, device: int) -> bool:
    """Whether a device before this one has the same room."""
    for other in range(device):  # noqa: SIM110 - the compiler knows no generators
        if room[other] == room[device]:
            return True
    return False


@njit(cache=True)
def score_of_gradient(gradient: float) -> float:
    """The sigmoid in whole percent."""
    return float(np.searchsorted(STEPS, gradient, side="right"))


@njit(cache=True)
def stranded(free: int, cpu_milli: int, need: Any) -> float:
    """Free thousandths of devices that the cores cannot serve."""
    wanted = free * need.per_milli
    place = float(POINTS)
    if wanted > 0:
        place = min(max(cpu_milli * float(POINTS) / wanted, 0.0), float(POINTS))
    below = min(int(place), POINTS - 1)
    beyond = place - below
    served = need.served[below] * (1.0 - beyond) + need.served[below + 1] * beyond
    return float(free * (1.0 - served))


@njit(cache=True)
def price_loss(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[int, int]:
    """How far the prices of the devices fall, and the device of a share."""
    price, milli = facts.price[nodes.model[node]], shapes.gpu_milli[shape]
    loss, chosen, rest = 0, -1, shapes.devices[shape]
    if not shares(shapes, shape):
        for device in range(nodes.devices[node]):
            room = nodes.gpu_milli[node, device]
            if rest > 0 and room >= milli:
                loss += price[room] - price[room - milli]
                rest -= 1
        return loss, chosen
    for device in range(nodes.devices[node]):
        room = nodes.gpu_milli[node, device]
        if room >= milli:
            lost = price[room] - price[room - milli] + room * OPEN_MILLI
            if chosen < 0 or lost < loss:
                loss, chosen = lost, device
    return loss, chosen


@njit(cache=True)
def cpn(nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:
    """What is lost of the worth of free room."""
    loss, chosen = price_loss(nodes, node, shapes, shape, facts)
    free, cpu = free_milli(nodes, node), nodes.cpu_milli[node] - shapes.cpu_milli[shape]
    left = free - shapes.devices[shape] * shapes.gpu_milli[shape]
    strands = stranded(left, cpu, facts.need) - stranded(free, nodes.cpu_milli[node], facts.need)
    room = cpu / facts.usual_cpu_milli + left / facts.usual_gpu_milli
    whole = np.floor(strands * (DEVICE / WHOLE) + 0.5) + np.floor(room * FULLNESS)
    return -(loss + whole), chosen


@njit(cache=True)
def score(policy: int, nodes: Any, node: int, shapes: Any, shape: int, facts: Any) -> tuple[float, int]:
    """The score of a node for a policy, -inf where there is no room, and the device of a share."""
    if not fits(nodes, node, shapes, shape):
        return -np.inf, -1
    if policy == RANDOM:
        return random(nodes, node, shapes, shape, facts)
    if policy == DOTPROD:
        return dotprod(nodes, node, shapes, shape, facts)
    if policy == CLUSTERING:
        return clustering(nodes, node, shapes, shape, facts)
    if policy == PACKING:
        return packing(nodes, node, shapes, shape, facts)
    if policy == BESTFIT:
        return bestfit(nodes, node, shapes, shape, facts)
    if policy == FGD:
        return fgd(nodes, node, shapes, shape, facts)
    return cpn(nodes, node, shapes, shape, facts)
