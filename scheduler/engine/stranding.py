"""Stranding: devices that no longer have the cores beside them that their work needs.

Work differs in how many cores it wants for each device. Cores that are left beside free devices serve the modest work
first, so the first cores are worth most: half of the cores that the mix wants on average serve more than half of the devices.
`served[K + 1]` is that curve, from no cores (0) to the average (1); devices beyond it are stranded. It is concave, so
losing cores hurts most where they are few, and work without devices goes to where cores are plenty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler.engine.devices import Shapes
from scheduler.engine.snapshot import Floats, Ints

POINTS = 256


class CoreNeed(NamedTuple):
    """How many thousandths of a core the mix wants for each thousandth of a device, and the share that fewer of them serve."""

    per_milli: float
    served: Floats


def core_need(shapes: Shapes, count: Ints) -> CoreNeed:
    """The need of a mix of `count[S]` workers of each shape."""
    devices = (shapes.devices * shapes.gpu_milli * count).astype(np.float64)
    asking = devices > 0
    cores = (shapes.cpu_milli * count).astype(np.float64)[asking]
    devices = devices[asking]
    if not cores.sum():
        return CoreNeed(0.0, np.ones(POINTS + 1))
    modest_first = np.argsort(cores / devices, kind="stable")
    used = np.append(0.0, np.cumsum(cores[modest_first])) / cores.sum()
    reached = np.append(0.0, np.cumsum(devices[modest_first])) / devices.sum()
    return CoreNeed(float(cores.sum() / devices.sum()), np.interp(np.linspace(0.0, 1.0, POINTS + 1), used, reached))


def stranded(free_milli: Ints, cpu_milli: Ints, need: CoreNeed) -> Floats:
    """[N] Thousandths of free devices that the cores beside them cannot serve."""
    wanted = free_milli * need.per_milli
    place = np.divide(cpu_milli * float(POINTS), wanted, out=np.full(len(wanted), float(POINTS)), where=wanted > 0)
    place = np.clip(place, 0.0, float(POINTS))
    below = np.minimum(place.astype(np.int64), POINTS - 1)
    beyond = place - below
    served = need.served[below] * (1.0 - beyond) + need.served[below + 1] * beyond
    lost: Floats = free_milli * (1.0 - served)
    return lost
