"""Devices: what is free on each accelerator of each node, and where a worker fits.

A share lives on one device: 0.5 free on two devices is not one whole device. So room is kept for each device, in
thousandths of one, and a worker that asks for whole devices needs that many that nobody uses. These records are named
tuples because the compiled kernel takes them as they are. Axes: N nodes, D devices of the largest node, M accelerator
models, S shapes (kinds of worker with one and the same request).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler.engine.snapshot import WHOLE as WHOLE
from scheduler.engine.snapshot import Bools, Ints

# The columns of `DeviceNodes.kinds`: workers that share a device, that hold one, two to four, or more.
SHARE, ONE, FEW, MANY = range(4)
# One device in whole numbers, so that equal losses are equal on every machine.
DEVICE = 10**9
# What it costs to use a device with all of it free rather than one that the share just fills: its filling may never come.
OPENNESS = DEVICE // 20
# Breaks ties between nodes, far below what any leftover is worth: the one that is fuller afterwards.
FULLNESS = 10**4


class DeviceNodes(NamedTuple):
    """What is free. `gpu_milli[N, D]` is -1 where the node has no such device; `kinds[N, 4]` counts workers by kind."""

    cpu_milli: Ints
    memory_mib: Ints
    gpu_milli: Ints
    devices: Ints
    model: Ints
    kinds: Ints


class Shapes(NamedTuple):
    """Requests. A worker of shape s needs `devices[s]` devices with `gpu_milli[s]` free on each; `models[S, M]` may serve it."""

    cpu_milli: Ints
    memory_mib: Ints
    devices: Ints
    gpu_milli: Ints
    models: Bools


def empty_nodes(cpu_milli: Ints, memory_mib: Ints, devices: Ints, model: Ints) -> DeviceNodes:
    """Nodes that nobody uses."""
    columns = np.arange(max(int(devices.max(initial=0)), 1))
    gpu_milli = np.where(columns < devices[:, None], np.int64(WHOLE), np.int64(-1))
    kinds = np.zeros((len(devices), 4), dtype=np.int64)
    return DeviceNodes(cpu_milli.copy(), memory_mib.copy(), gpu_milli, devices.copy(), model.copy(), kinds)


def free_milli(nodes: DeviceNodes) -> Ints:
    """[N] What is free on all devices of a node together."""
    total: Ints = np.maximum(nodes.gpu_milli, 0).sum(axis=1)
    return total


def free_devices(nodes: DeviceNodes) -> Ints:
    """[N] Devices that nobody uses."""
    count: Ints = (nodes.gpu_milli == WHOLE).sum(axis=1)
    return count


def shares_device(shapes: Shapes, shape: int) -> bool:
    """Whether workers of this shape take a part of one device."""
    return bool(shapes.devices[shape] == 1 and shapes.gpu_milli[shape] < WHOLE)


def kind_of(shapes: Shapes, shape: int) -> int:
    """The column of `kinds` that a worker of this shape with devices counts in."""
    devices = shapes.devices[shape]
    if devices == 1:
        return SHARE if shapes.gpu_milli[shape] < WHOLE else ONE
    return FEW if devices <= 4 else MANY


def fitting(nodes: DeviceNodes, shapes: Shapes, shape: int) -> Bools:
    """[N] Whether a worker of this shape fits now."""
    room: Bools = (nodes.cpu_milli >= shapes.cpu_milli[shape]) & (nodes.memory_mib >= shapes.memory_mib[shape])
    if shapes.devices[shape] > 0:
        room &= (nodes.gpu_milli >= shapes.gpu_milli[shape]).sum(axis=1) >= shapes.devices[shape]
        room &= shapes.models[shape, nodes.model]
    return room


def tightest_device(nodes: DeviceNodes, shapes: Shapes, shape: int) -> Ints:
    """[N] Of the devices with room for a share, the one with the least room, the first of equal ones; meaningless without any."""
    none = np.iinfo(np.int64).max
    column: Ints = np.where(nodes.gpu_milli >= shapes.gpu_milli[shape], nodes.gpu_milli, none).argmin(axis=1)
    return column


def after(nodes: DeviceNodes, shapes: Shapes, shape: int, device: Ints) -> Ints:
    """[N, D] What would be free on the devices with one more worker there, a share on `device[N]`. Rows without room mean nothing."""
    milli, count = shapes.gpu_milli[shape], shapes.devices[shape]
    if shares_device(shapes, shape):
        taken = np.arange(nodes.gpu_milli.shape[1]) == device[:, None]
    else:
        enough = nodes.gpu_milli >= milli if count else np.zeros_like(nodes.gpu_milli, dtype=np.bool_)
        taken = enough & (np.cumsum(enough, axis=1) <= count)
    left: Ints = nodes.gpu_milli - milli * taken
    return left


def take(nodes: DeviceNodes, shapes: Shapes, shape: int, node: int, device: int) -> None:
    """Book one worker on a node where it fits; a share goes to `device`, whole devices are the first free ones."""
    nodes.cpu_milli[node] -= shapes.cpu_milli[shape]
    nodes.memory_mib[node] -= shapes.memory_mib[shape]
    if not shapes.devices[shape]:
        return
    row = DeviceNodes(*(field[node : node + 1] for field in nodes))
    nodes.gpu_milli[node] = after(row, shapes, shape, np.array([device]))[0]
    nodes.kinds[node, kind_of(shapes, shape)] += 1
