"""Check of devices: no device is given out beyond what is free on it, and no share is split over two.

Written apart from the rules that chose them, with plain sums over (node, accelerator, device).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from scheduler.engine.plan import Placement, Plan
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Snapshot


def device_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Every broken rule about devices; rows of jobs and nodes are proved before."""
    faults = [fault for item in plan.placements for fault in _shape_faults(snapshot, item)]
    return faults or _overcommitted(snapshot, plan)


def _shape_faults(snapshot: Snapshot, placement: Placement) -> Iterator[str]:
    """Whether each worker has just the devices that it asks for."""
    name, asked = snapshot.jobs.ids[placement.job], snapshot.jobs.request[placement.job].tolist()
    wanted = {row: amount for row, amount in enumerate(asked) if row >= FIRST_ACCELERATOR and amount > 0}
    told_apart = snapshot.nodes.devices.size > 0
    if not told_apart or not wanted:
        if any(placement.devices):
            yield f"{name} is given devices that it does not ask for, or that are not told apart"
        if any(amount != int(amount) for amount in wanted.values()):
            yield f"{name} asks for a part of a device, and devices are not told apart"
        return
    if len(placement.devices) != len(placement.nodes):
        yield f"{name} has devices for {len(placement.devices)} of {len(placement.nodes)} workers"
        return
    for node, devices in zip(placement.nodes, placement.devices, strict=True):
        counts = Counter(row for row, _ in devices)
        if counts != {row: 1 if amount < 1 else round(amount) for row, amount in wanted.items()} or len(set(devices)) != len(devices):
            yield f"{name} is split over devices, or has more or fewer than it asks for, on {snapshot.nodes.names[node]}"
        for row, device in devices:
            if not _is_there(snapshot, node, row, device):
                yield f"{name} is given device {device} of {snapshot.nodes.names[node]}, which is not there"


def _is_there(snapshot: Snapshot, node: int, row: int, device: int) -> bool:
    _, models, most = snapshot.nodes.devices.shape
    inside = 0 <= row - FIRST_ACCELERATOR < models and 0 <= device < most
    return inside and bool(snapshot.nodes.devices[node, row - FIRST_ACCELERATOR, device] >= 0)


def _overcommitted(snapshot: Snapshot, plan: Plan) -> list[str]:
    taken: Counter[tuple[int, int, int]] = Counter()
    for placement in plan.placements:
        for node, devices in zip(placement.nodes, placement.devices, strict=False):
            for row, device in devices:
                amount = float(snapshot.jobs.request[placement.job, row])
                taken[node, row, device] += round(min(amount, 1.0) * WHOLE)
    free = snapshot.nodes.devices
    return [
        f"{snapshot.nodes.names[node]}: {used} of {free[node, row - FIRST_ACCELERATOR, device]} thousandths of "
        f"{snapshot.resources[row]} {device}"
        for (node, row, device), used in sorted(taken.items())
        if used > free[node, row - FIRST_ACCELERATOR, device]
    ]
