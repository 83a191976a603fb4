"""Aftermath: the world once a plan is carried out, for questions about the jobs that it left waiting.

Room, queues and limits only shrink while a plan is made, so whatever the plan left waiting still finds nothing in this world,
and a job that fits here would start now, whoever waits before it. That is why a question about one changed job can be asked of
this world with that job alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from scheduler.engine.alternatives import chosen_rows, with_alternatives
from scheduler.engine.evictable import Claims, Evictable
from scheduler.engine.foresight import holds_s
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Floats, Further, Jobs, Running, Snapshot


def carried_out(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world after the plan: what it placed holds nodes and queues, and the rest waits, in the order of the snapshot.

    Room that is kept for jobs which others are ended for is held there, and nobody is ended for a question.
    """
    nodes, queues, jobs = snapshot.nodes, snapshot.queues, snapshot.jobs
    free, held, running = nodes.free.copy(), queues.held.copy(), queues.running.copy()
    devices, seats = nodes.devices.copy(), queues.seats.copy()
    requests = with_alternatives(snapshot).jobs.request[chosen_rows(snapshot, plan.placements)]
    for placement, request in zip(plan.placements, requests, strict=True):
        queue = jobs.queue[placement.job]
        np.subtract.at(free, np.array(placement.nodes, dtype=np.int64), request)
        held[queue] += request * len(placement.nodes)
        running[queue] += 1
        if seats.size:
            np.add.at(seats[queue], list(placement.nodes), 1)
        for node, chosen in zip(placement.nodes, placement.devices, strict=False):
            for resource, number in chosen:
                devices[node, resource - FIRST_ACCELERATOR, number] -= min(int(np.rint(request[resource] * WHOLE)), WHOLE)
    for node, amount in _kept(snapshot, plan):
        free[node] -= amount
    after = replace(
        snapshot, nodes=replace(nodes, free=np.maximum(free, 0.0), devices=devices),
        queues=replace(queues, held=held, running=running, seats=seats),
        jobs=_after_arrays(jobs, plan), running=_running_too(snapshot, plan), evictable=Evictable(), claims=Claims(),
        elastic=None,
    )  # fmt: skip
    return only_jobs(after, [item.job for item in plan.unplaced])


def _kept(snapshot: Snapshot, plan: Plan) -> Iterator[tuple[int, Floats]]:
    """What is kept on nodes for jobs that others are ended for, all but what these hold there still."""
    claims, running, requests = snapshot.claims, snapshot.evictable, with_alternatives(snapshot).jobs.request
    placed = {item.job for item in plan.placements}
    if claims.ids:
        waits = [int(claims.job[owner]) not in placed for owner in claims.owner]
        yield from zip(claims.node[waits].tolist(), claims.kept()[waits], strict=True)
    for eviction, row in zip(plan.evictions, chosen_rows(snapshot, plan.evictions), strict=True):
        for node, workers in Counter(eviction.nodes).items():
            there = np.isin(running.owner, eviction.runs) & (running.node == node)
            held = running.request[running.owner[there]].sum(axis=0)
            yield node, np.maximum(requests[row] * workers - held, 0.0)


def _after_arrays(jobs: Jobs, plan: Plan) -> Jobs:
    """The jobs, with as many tasks fewer of each array that may start as the plan has started."""
    placed = jobs.array[[item.job for item in plan.placements]]
    started = np.bincount(placed[placed >= 0], minlength=int(jobs.array.max(initial=-1)) + 1)
    left = jobs.array_left - np.where(jobs.array >= 0, np.append(started, 0)[jobs.array], 0)
    return replace(jobs, array_left=np.maximum(left, 0))


def _running_too(snapshot: Snapshot, plan: Plan) -> Running | None:
    """What runs, with what the plan placed."""
    running, placed = snapshot.running, plan.placements
    if running is None or not placed:
        return running
    every, first, rows = with_alternatives(snapshot), len(running.ids), chosen_rows(snapshot, placed)
    holds = holds_s(every)
    held = [
        (first + row, node, resource - FIRST_ACCELERATOR, number)
        for row, item in enumerate(placed)
        for node, chosen in zip(item.nodes, item.devices, strict=False)
        for resource, number in chosen
    ]
    return Running(
        ids=(*running.ids, *(snapshot.jobs.ids[item.job] for item in placed)),
        request=np.concatenate([running.request, every.jobs.request[rows]]),
        ends_s=np.concatenate([running.ends_s, [holds[row, item.cluster] for row, item in zip(rows, placed, strict=True)]]),
        run=np.concatenate([running.run, [first + row for row, item in enumerate(placed) for _ in item.nodes]]),
        node=np.concatenate([running.node, [node for item in placed for node in item.nodes]]),
        device=np.concatenate([running.device, np.array(held, dtype=np.int64).reshape(-1, 4)]),
    )


def chosen_jobs(jobs: Jobs, rows: Iterable[int]) -> Jobs:
    """Some rows of the jobs, in this order; columns that are not given for every job stay as they are."""
    at, count = np.array(list(rows), dtype=np.int64), len(jobs.ids)
    return Jobs(**{item.name: _rows(getattr(jobs, item.name), at, count) for item in fields(jobs)})


def only_jobs(snapshot: Snapshot, rows: Sequence[int]) -> Snapshot:
    """The world with some rows of its jobs alone, in this order."""
    windows = snapshot.windows
    windows = replace(windows, open_to=windows.open_to[:, list(rows)]) if windows else None
    return replace(snapshot, jobs=chosen_jobs(snapshot.jobs, rows), further=only_ways(snapshot.further, rows), windows=windows)


def only_ways(further: Further | None, rows: Sequence[int]) -> Further | None:
    """The further ways to run some jobs alone, of which these are the rows, as they are counted in `only_jobs`."""
    if further is None:
        return None
    place = {job: row for row, job in enumerate(rows)}
    ways = [(way, place[job]) for way, job in enumerate(further.of.tolist()) if job in place]
    if not ways:
        return None
    return Further(of=np.array([job for _, job in ways], dtype=np.int64), jobs=chosen_jobs(further.jobs, [way for way, _ in ways]))


def with_resources(snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
    """The same world with further resources, which no node has and no job asks for yet."""
    if not names:
        return snapshot
    nodes, queues, jobs, further = snapshot.nodes, snapshot.queues, snapshot.jobs, snapshot.further

    def wider(table: Floats, value: float = 0.0) -> Floats:
        return np.pad(table, ((0, 0), (0, len(names))), constant_values=value)

    # Of the new ones no node has a device, -1.
    devices = np.pad(nodes.devices, ((0, 0), (0, len(names)), (0, 0)), constant_values=-1) if nodes.devices.size else nodes.devices
    return replace(
        snapshot, resources=(*snapshot.resources, *names),
        nodes=replace(nodes, total=wider(nodes.total), free=wider(nodes.free), devices=devices),
        queues=replace(
            queues, held=wider(queues.held), quota=wider(queues.quota), ceiling=wider(queues.ceiling, np.inf), kept=wider(queues.kept),
            used=wider(queues.used),
        ),
        jobs=replace(jobs, request=wider(jobs.request)),
        further=further and replace(further, jobs=replace(further.jobs, request=wider(further.jobs.request))),
        running=None if snapshot.running is None else replace(snapshot.running, request=wider(snapshot.running.request)),
        promised=tuple(replace(item, request=np.pad(item.request, (0, len(names)))) for item in snapshot.promised),
        mix=snapshot.mix and replace(snapshot.mix, models=np.pad(snapshot.mix.models, ((0, 0), (0, len(names))))),
    )  # fmt: skip


def placement_of(plan: Plan, job: int) -> Placement | None:
    """Where the plan puts a job; None when it waits."""
    return next((placement for placement in plan.placements if placement.job == job), None)


def _rows(column: Any, at: np.ndarray, count: int) -> Any:
    if len(column) != count:
        return column
    return tuple(column[row] for row in at.tolist()) if isinstance(column, tuple) else column[at]
