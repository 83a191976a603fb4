"""Worth: what free room beside and on devices is worth to the work that is asked for, and what workers would take away of it.

FGD (Weng et al., USENIX ATC 2023) places where fragmentation over the usual work grows least. This is the same idea with a price for
each leftover instead of a count of the work that cannot use it (bid prices and stranding, decision 0008): the policy `cpn` of
`cpn bench placement`, for nodes as the live decision sees them. The mix is what the network was asked for lately. What one
worker takes away is told in devices: 0.2 is the worth of a fifth of a device that the usual work can use. Axes: N nodes, M accelerator
models (the resources from FIRST_ACCELERATOR on), D devices of one model on the best equipped node, K classes of the mix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from scheduler.engine.device_room import is_share, losses, milli_of
from scheduler.engine.devices import DEVICE, FULLNESS, WHOLE, Shapes, empty_nodes
from scheduler.engine.snapshot import CPU, Floats, Ints, Mix, Nodes, Snapshot
from scheduler.engine.stranding import stranded

if TYPE_CHECKING:
    from scheduler.engine.device_scores import Facts

Worth: TypeAlias = "Facts"


def worth_of(snapshot: Snapshot) -> Worth | None:
    """What a mix makes of the network's nodes; None without a mix, or where no device is told apart."""
    nodes, mix = snapshot.nodes, snapshot.mix
    if mix is None or not len(mix.count) or len(nodes.devices) != len(nodes.names) or not (nodes.devices >= 0).any():
        return None
    # Only who has devices needs prices, and the solver is not loaded for anybody else.
    from scheduler.engine.device_scores import facts_of

    node, model = np.nonzero(nodes.devices.max(axis=2, initial=-1) >= 0)
    devices = (nodes.devices[node, model] >= 0).sum(axis=1)
    empty = empty_nodes(_milli(nodes.total[node, CPU]), np.zeros(len(node), dtype=np.int64), devices, model)
    return facts_of(empty, *_shapes(mix, nodes.devices.shape[1]))


def lost(nodes: Nodes, rows: Ints, request: Floats, workers: int, worth: Worth) -> Ints:
    """[rows] What workers of `request[R]`, all on one node, would take away of the worth of its free room, in units of 1 / DEVICE.

    There must be room for them there; workers that share devices are looked at as one.
    """
    devices, wanted = nodes.devices[rows], milli_of(request)
    free, cpu = np.maximum(devices, 0).sum(axis=(1, 2)), _milli(nodes.free[rows, CPU])
    left = free - int(wanted.sum()) * workers
    cores = cpu - int(_milli(request[CPU])) * workers
    # By the devices that it has, a node's cores are dear or plenty.
    strands = stranded(left, cores, worth.need) - stranded(free, cpu, worth.need)
    room = cores / worth.usual_cpu_milli + left / worth.usual_gpu_milli
    whole: Ints = (np.floor(strands * (DEVICE / WHOLE) + 0.5) + np.floor(room * FULLNESS)).astype(np.int64)
    if is_share(wanted):
        return whole + losses(devices, wanted, worth.price)
    # Whole devices are taken from full price to nothing.
    prices = worth.price[:, WHOLE] - worth.price[:, 0]
    return whole + int((prices * (wanted // WHOLE)).sum()) * workers


def least_lost(nodes: Nodes, rows: Ints, request: Floats, workers: int, worth: Worth) -> int | None:
    """Of nodes `rows` with room for so many workers the one where they take least of what its room is worth, the first of equal ones.

    None where that says nothing: there is no such node, none of them has devices, or several workers would share some.
    """
    if not len(rows) or not (nodes.devices[rows] >= 0).any() or (workers > 1 and is_share(milli_of(request))):
        return None
    return int(rows[lost(nodes, rows, request, workers, worth).argmin()])


def _shapes(mix: Mix, models: int) -> tuple[Shapes, Ints]:
    """The classes of a mix as shapes, each once and in one order, and how many workers of each were asked for."""
    allowed = np.zeros((len(mix.count), models), dtype=np.bool_)
    allowed[:, : mix.models.shape[1]] = mix.models[:, :models]
    asked = np.concatenate([_milli(mix.cpu)[:, None], mix.milli[:, None], allowed.astype(np.int64)], axis=1)
    rows, kind = np.unique(asked, axis=0, return_inverse=True)
    count = np.bincount(kind.reshape(-1), weights=mix.count, minlength=len(rows)).astype(np.int64)
    cpu, milli = rows[:, 0], rows[:, 1]
    devices = -(-milli // WHOLE)
    each = np.where(milli >= WHOLE, np.int64(WHOLE), milli)
    return Shapes(cpu, np.zeros(len(rows), dtype=np.int64), devices, each, rows[:, 2:].astype(np.bool_)), count


def _milli(amount: Floats) -> Ints:
    """Thousandths."""
    whole: Ints = np.rint(amount * WHOLE).astype(np.int64)
    return whole
