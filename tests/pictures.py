"""Nodes with devices, and what asks for them, written as one reads them.

A node is `"T4 96  1000 530"`: its model, free cores, and what is free on each device, in thousandths; a request is `"4  470"`
(cores, and a share of one device), `"4  2x1000"`, `"4"` (no device) or `"4  1000 T4|P100"` (these models alone).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.engine.device_scores import Facts, facts_of
from scheduler.engine.devices import FEW, ONE, SHARE, DeviceNodes, Shapes, empty_nodes

MEMORY = 1 << 20
MODELS = ("G2", "P100", "T4")


def nodes(*pictures: str) -> DeviceNodes:
    """Nodes as they are drawn. What is taken on a device counts as shares, or as one whole device where nothing is left."""
    words = [picture.split() for picture in pictures]
    free = [np.array([int(text) for text in row[2:]], dtype=np.int64) for row in words]
    count = np.array([len(row) for row in free], dtype=np.int64)
    cores = np.array([1000 * int(row[1]) for row in words], dtype=np.int64)
    model = np.array([MODELS.index(row[0]) for row in words], dtype=np.int64)
    found = empty_nodes(cores, np.full(len(words), MEMORY, dtype=np.int64), count, model)
    for node, row in enumerate(free):
        found.gpu_milli[node, : len(row)] = row
        found.kinds[node, SHARE] = np.count_nonzero((row > 0) & (row < 1000))
        found.kinds[node, ONE] = np.count_nonzero(row == 0)
    return found


def shapes(*pictures: str) -> Shapes:
    """Requests as they are written."""
    rows = [_shape(picture) for picture in pictures]
    columns = [np.array(column, dtype=np.int64) for column in list(zip(*rows, strict=True))[:4]]
    return Shapes(columns[0], columns[1], columns[2], columns[3], np.array([row[4] for row in rows]))


def _shape(picture: str) -> tuple[int, int, int, int, list[bool]]:
    cores, *rest = picture.split()
    count, milli = (0, 0) if not rest else (1, int(rest[0])) if "x" not in rest[0] else map(int, rest[0].split("x"))
    models = rest[1].split("|") if len(rest) > 1 else MODELS
    return 1000 * int(cores), 1, count, milli, [model in models for model in MODELS]


def facts(world: DeviceNodes, asks: Shapes, mix: Sequence[int] | None = None) -> Facts:
    """What policies know when the mix is so many of each request, one of each if nothing is said."""
    empty = empty_nodes(world.cpu_milli, world.memory_mib, world.devices, world.model)
    return facts_of(empty, asks, np.array(mix if mix is not None else [1] * len(asks.devices)))


def holding(world: DeviceNodes, node: int, *kinds: int) -> DeviceNodes:
    """The same nodes, one of which runs work of these kinds alone."""
    world.kinds[node] = [int(kind in kinds) for kind in range(4)]
    return world


__all__ = ["FEW", "MODELS", "ONE", "SHARE", "facts", "holding", "nodes", "shapes"]
