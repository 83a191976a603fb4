"""Device room: what is free on each accelerator of each node while a plan is made, and which of them a worker gets.

A share lives on one device, and whole devices are those that nobody uses: 0.5 free on two of them is not one whole. So a node's
room for workers is counted device by device. Among nodes, a share goes where least is lost of what the free room is worth to
the work that waits (bid prices, see `bid_prices.py`); on the node it goes to the tightest device, because that is the rule by
which Ray assigns devices too, and both must mean the same one. Axes: N nodes, M accelerator models (the resources from
FIRST_ACCELERATOR on), D devices of one model on the best equipped node. Amounts are thousandths of a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from scheduler.engine.devices import DEVICE, OPENNESS
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Floats, Ints, Snapshot

FAR = np.iinfo(np.int64).max

# Of one worker: (row of the resource, number of the device among those of its model on the node).
Chosen: TypeAlias = tuple[tuple[int, int], ...]


def milli_of(request: Floats) -> Ints:
    """[…, M] Thousandths of accelerators asked for in `request[…, R]`."""
    milli: Ints = np.rint(request[..., FIRST_ACCELERATOR:] * WHOLE).astype(np.int64)
    return milli


def rooms_on(devices: Ints, milli: Ints) -> Ints:
    """[N] How many workers find devices in `devices[N, M, D]`, each asking for `milli[M]`; the most there can be without a request."""
    rooms = np.full(len(devices), FAR)
    for model in milli.nonzero()[0].tolist():
        free, asked = devices[:, model], int(milli[model])
        # Of shares, several fit on a device.
        workers = np.maximum(free, 0) // asked if asked < WHOLE else free == WHOLE
        rooms = np.minimum(rooms, workers.sum(axis=1) // max(asked // WHOLE, 1))
    return rooms


def choose(devices: Ints, milli: Ints) -> Chosen:
    """The devices of one worker on a node with `devices[M, D]`: a share on the tightest one, whole ones from the first on.

    There must be room for the worker.
    """
    chosen: list[tuple[int, int]] = []
    for model in milli.nonzero()[0].tolist():
        free, asked = devices[model], int(milli[model])
        if asked < WHOLE:
            columns = [int(np.where(free >= asked, free, FAR).argmin())]
        else:
            columns = (free == WHOLE).nonzero()[0][: asked // WHOLE].tolist()
        chosen += [(model + FIRST_ACCELERATOR, column) for column in columns]
    return tuple(chosen)


def hold(devices: Ints, nodes: Sequence[int], milli: Ints) -> tuple[Chosen, ...]:
    """Choose devices for one worker after the other on these nodes of `devices[N, M, D]`, and take them off."""
    workers = []
    for node in nodes:
        chosen = choose(devices[node], milli)
        for resource, column in chosen:
            model = resource - FIRST_ACCELERATOR
            devices[node, model, column] -= min(int(milli[model]), WHOLE)
        workers.append(chosen)
    return tuple(workers)


def is_share(milli: Ints) -> bool:
    """Whether a worker takes a part of some device."""
    return bool(((milli > 0) & (milli < WHOLE)).any())


def losses(devices: Ints, milli: Ints, prices: Ints) -> Ints:
    """[N] What a worker's shares cost the free room of its tightest devices, by `prices[M, WHOLE + 1]`. There must be room."""
    lost = np.zeros(len(devices), dtype=np.int64)
    for model in ((milli > 0) & (milli < WHOLE)).nonzero()[0].tolist():
        free, asked = devices[:, model], int(milli[model])
        tightest = np.where(free >= asked, free, FAR).min(axis=1)
        before = np.minimum(tightest, WHOLE)
        lost += prices[model, before] - prices[model, before - asked] + before * (OPENNESS // WHOLE)
    return lost


def completing(devices: Ints, rows: Ints, milli: Ints, prices: Ints) -> Ints:
    """Of nodes `rows` with room for a share, those where it costs the least of what their free room is worth."""
    lost = losses(devices[rows], milli, prices)
    best: Ints = rows[lost == lost.min()]
    return best


def room_prices(snapshot: Snapshot) -> Ints:
    """[M, WHOLE + 1] What free room on one device is worth to the jobs that wait, in units of DEVICE to one device."""
    # Only shares need prices, and the solver is not loaded for anybody else.
    from scheduler.engine.bid_prices import leftover_prices

    milli, workers = milli_of(snapshot.jobs.request), snapshot.jobs.workers
    rows = []
    for model in range(milli.shape[1]):
        asked = milli[:, model]
        devices = np.maximum(asked // WHOLE, 1) * workers * (asked > 0)
        rows.append(leftover_prices(np.minimum(asked, WHOLE), devices.astype(np.float64)))
    return np.rint(np.array(rows).reshape(-1, WHOLE + 1) * DEVICE).astype(np.int64)


def faults_of(snapshot: Snapshot) -> list[str]:
    """What makes a world one that shares cannot be placed in."""
    milli = milli_of(snapshot.jobs.request)
    shares = (milli > 0) & (milli % WHOLE != 0)
    # Where no node has any device there is a table without columns.
    told_apart = len(snapshot.nodes.devices) == len(snapshot.nodes.names)
    return [f"{snapshot.jobs.ids[job]} asks for a share, and devices are not told apart" for job in shares.any(axis=1).nonzero()[0].tolist()
            if not told_apart]  # fmt: skip
