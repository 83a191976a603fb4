"""Claims: the room that is being made for a job is kept from others until the job is there.

Between the order to end a victim and the end of it lie seconds in which smaller jobs could slip in, and the victim would have been
ended in vain. So a job that others are ended for claims its seats. What of them is free already is taken off what others see; what
the victims still hold is nobody's yet. Once all of it is free, the job is seated there before anybody's turn.

A claim is for one of the ways to run its job, the one that others are ended for: it holds devices of that model and of no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from scheduler.engine.alternatives import ways_of, with_alternatives
from scheduler.engine.snapshot import Floats, Ints, Snapshot
from scheduler.engine.tree import Amounts, capacity_of, free_of, grow

# Of each worker: (row of the resource, number of the device among those of its model on the node).
Devices: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True, eq=False)
class Seated:
    """A job whose claim has come true, with the node of each of its workers `nodes[W]`, and the devices of each.

    `choice` is the way that it is run by (see Placement).
    """

    job: int
    nodes: Ints
    devices: Devices
    choice: int = 0


def seat(
    snapshot: Snapshot, free: Floats, usable: Callable[[int], Ints], take_devices: Callable[[int, int, Ints], Devices | None]
) -> tuple[Seated, ...]:
    """Jobs that take the room that they have claimed. `free[N, R]` is changed to what is left for all others.

    `usable(row)` are the nodes that nothing stands against but room, for a way to run a job by its row in `with_alternatives`. A claim on
    others waits, and keeps its room; so does one for which `take_devices(job, row, nodes)`, which books devices for the workers on
    these nodes, finds too few.
    """
    claims, queues = snapshot.claims, snapshot.queues
    if not claims.ids:
        return ()
    jobs, ways = with_alternatives(snapshot).jobs, ways_of(snapshot)
    kept, asked = claims.kept(), claims.asked()
    seated: list[Seated] = []
    np.subtract.at(free, claims.node, kept)
    tree = Amounts(grow(queues, snapshot.weights.history, capacity_of(snapshot), free_of(snapshot)))
    for claim in sorted(range(len(claims.ids)), key=claims.ids.__getitem__):
        job, choice, places = int(claims.job[claim]), int(claims.choice[claim]), np.flatnonzero(claims.owner == claim)
        if job < 0:
            continue
        row, nodes = ways[job][choice], claims.node[places]
        if not np.isin(nodes, usable(row)).all() or not _together(snapshot, job, nodes) or _waits_behind(snapshot, job, seated):
            continue
        queue, grant = int(jobs.queue[job]), (jobs.request[row] * jobs.least[row]).tolist()
        room = free[nodes] + kept[places] - asked[places]
        if not (room >= 0.0).all() or tree.is_full(queue) or not tree.may_hold(queue, grant):
            continue
        seats = np.repeat(nodes, claims.workers[places])
        devices = take_devices(job, row, seats)
        if devices is not None:
            free[nodes] = room
            tree.hold(queue, grant)
            seated.append(Seated(job, seats, devices, choice))
    np.maximum(free, 0.0, out=free)
    return tuple(seated)


def _together(snapshot: Snapshot, job: int, nodes: Ints) -> bool:
    """Whether nodes are of one group, where a job's workers must be."""
    level = int(snapshot.jobs.same[job])
    groups = snapshot.nodes.group[nodes, level] if level >= 0 else np.zeros(1, dtype=np.int64)
    return bool(groups[0] >= 0 and (groups == groups[0]).all())


def _waits_behind(snapshot: Snapshot, job: int, seated: Sequence[Seated]) -> bool:
    """Whether somebody waits ahead of a job in its queue, where that is a strict one."""
    jobs, done = snapshot.jobs, {item.job for item in seated}
    queue = int(jobs.queue[job])
    if not snapshot.queues.strict[queue]:
        return False

    def place(row: int) -> tuple[int, int, str]:
        return -int(jobs.rank[row]), int(jobs.sequence[row]), jobs.ids[row]

    return any(place(row) < place(job) for row in np.flatnonzero(jobs.queue == queue).tolist() if row not in done)


def holding(snapshot: Snapshot, seated: Sequence[Seated]) -> Snapshot:
    """The world in which these jobs hold their places, in what queues hold and in what is free."""
    if not seated:
        return snapshot
    jobs, ways, free = with_alternatives(snapshot).jobs, ways_of(snapshot), snapshot.nodes.free.copy()
    held, running = snapshot.queues.held.copy(), snapshot.queues.running.copy()
    for item in seated:
        request = jobs.request[ways[item.job][item.choice]]
        held[jobs.queue[item.job]] += request * len(item.nodes)
        running[jobs.queue[item.job]] += 1
        np.subtract.at(free, item.nodes, request)
    return replace(snapshot, queues=replace(snapshot.queues, held=held, running=running), nodes=replace(snapshot.nodes, free=free))
