"""Device books: which accelerators of which nodes runs hold, between what is stored with a run and the engine's arrays.

A run's `held` names the devices of each of its workers by number, in the order of its nodes; numbers count the devices of one model on
one node from 0. A run from before devices were told apart has no numbers; it is counted on whole devices that no other run names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scheduler.engine.plan import Placement
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Ints
from scheduler.store.records import NodeRecord, RunRecord


def with_devices(held: Mapping[str, Any], placement: Placement) -> dict[str, Any]:
    """What each worker of a run holds, with the devices of each."""
    return {**held, "devices": [[device for _, device in devices] for devices in placement.devices]}


def devices_of(held: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The devices of each worker, by rank; empty where none is named."""
    return tuple(tuple(devices) for devices in held.get("devices", ()))


def device_rows(runs: Sequence[RunRecord], nodes: Mapping[tuple[str, str], int], resources: tuple[str, ...]) -> Ints:
    """[F, 4] Run, node, model and number of each device that is named by those that hold it; `nodes` are rows by cluster and name."""
    found = [
        (row, nodes[run.cluster, name], resources.index(run.held["accelerator_model"]) - FIRST_ACCELERATOR, number)
        for row, run in enumerate(runs)
        for name, numbers in zip(run.nodes, devices_of(run.held), strict=False)
        for number in numbers
        if (run.cluster, name) in nodes and run.held["accelerator_model"] in resources
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def device_table(rows: Sequence[NodeRecord], runs: Sequence[RunRecord], resources: tuple[str, ...]) -> Ints:
    """[N, M, D] Thousandths free on each device, -1 where there is none; empty when no node has any accelerator."""
    models = resources[FIRST_ACCELERATOR:]
    counts = np.zeros((len(rows), len(models)), dtype=np.int64)
    for row, record in enumerate(rows):
        for item in record.node.accelerators:
            counts[row, models.index(item.model)] += item.count
    most = int(counts.max(initial=0))
    free = np.where(np.arange(most) < counts[:, :, None], np.int64(WHOLE), np.int64(-1))
    index = {(record.cluster, record.node.name): row for row, record in enumerate(rows)}
    unnamed: list[tuple[Ints, int]] = []
    for devices, numbers, amount in _held_devices(runs, index, models, free):
        if numbers is None:
            unnamed.append((devices, round(amount)))
        for number in numbers or ():
            # A node may have come back with fewer devices.
            if number < len(devices) and devices[number] >= 0:
                devices[number] = max(devices[number] - round(min(amount, 1.0) * WHOLE), 0)
    for devices, count in unnamed:
        devices[np.flatnonzero(devices == WHOLE)[:count]] = 0
    return free


def _held_devices(
    runs: Sequence[RunRecord], index: Mapping[tuple[str, str], int], models: Sequence[str], free: Ints
) -> Iterator[tuple[Ints, tuple[int, ...] | None, float]]:
    """Of each worker with devices: what is free on those of its node, the numbers of its own, and how much of each or how many."""
    for run in runs:
        model, amount = run.held["accelerator_model"], run.held["accelerator_count"]
        if not amount or model not in models:
            continue
        named = devices_of(run.held)
        for rank, name in enumerate(run.nodes):
            row = index.get((run.cluster, name))
            if row is not None:
                yield free[row, models.index(model)], named[rank] if rank < len(named) else None, amount
