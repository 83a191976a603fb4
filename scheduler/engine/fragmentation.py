"""Fragmentation: free devices that the usual work cannot use, and the policy that lets it grow least.

For each typical request, what is free on a node is lost when the request does not fit there, and otherwise lost as far as
single devices are too small for it. A node's fragmentation is what is lost on average over the typical requests. The policy
places where fragmentation falls most or grows least, and sees it through a sigmoid in whole percent, as its authors' program does.

Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler.engine.devices import DeviceNodes, Shapes
from scheduler.engine.snapshot import Bools, Floats, Ints

# Typical are the most common requests that make up this share of all.
COMMON = 0.95
# The gradient, in thousandths of a device, at which the sigmoid 100 / (1 + exp(-g / 1000)) reaches 1, 2 … 99. Comparing with
# these gives the same whole number as computing it, on every machine.
STEPS: Floats = -1000.0 * np.log(100.0 / np.arange(1, 100) - 1.0)


class Typical(NamedTuple):
    """The usual requests: cores, devices, room on each, permitted models, and how common each is; weights sum to 1."""

    cpu_milli: Ints
    devices: Ints
    gpu_milli: Ints
    models: Bools
    weight: Floats


def typical_requests(shapes: Shapes, count: Ints) -> Typical:
    """The most common requests of a mix of `count[S]` workers of each shape; memory is not looked at."""
    columns = (shapes.cpu_milli[:, None], shapes.devices[:, None], shapes.gpu_milli[:, None], shapes.models)
    rows, first, kind = np.unique(np.hstack(columns), axis=0, return_index=True, return_inverse=True)
    common = np.bincount(kind.reshape(-1), weights=count, minlength=len(rows))
    order = np.argsort(-common, kind="stable")
    upto = int(np.searchsorted(np.cumsum(common[order]), COMMON * common.sum())) + 1
    chosen = order[:upto]
    rest = first[chosen]
    weight = common[chosen] / common[chosen].sum()
    return Typical(shapes.cpu_milli[rest], shapes.devices[rest], shapes.gpu_milli[rest], shapes.models[rest], weight)


def fragmentation(nodes: DeviceNodes, typical: Typical) -> Floats:
    """[N] Free thousandths of devices that a typical request cannot use, on average."""
    free = np.maximum(nodes.gpu_milli, 0)
    total, lost = free.sum(axis=1), np.zeros(len(free))
    for request in range(len(typical.weight)):
        large = nodes.gpu_milli >= typical.gpu_milli[request]
        fits = (nodes.cpu_milli >= typical.cpu_milli[request]) & typical.models[request, nodes.model]
        fits &= large.sum(axis=1) >= typical.devices[request]
        # Work without devices uses none: all is lost for it everywhere.
        fits &= typical.devices[request] > 0
        lost += typical.weight[request] * np.where(fits, np.where(large, 0, free).sum(axis=1), total)
    return lost


def gradient_score(gradient: Floats) -> Floats:
    """[N] The sigmoid of how much fragmentation falls, 0 to 99, in whole numbers."""
    return np.searchsorted(STEPS, gradient, side="right").astype(np.float64)
