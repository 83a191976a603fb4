"""Check, the part about sizes: gangs shrink no further than they may and no further than is needed, and grow into what is free.

Shrinks are taken in the order of the plan and tried anew, from the words of the rules: each worker that leaves by a right, and the
job that it leaves for fits with all of them, and not with one of any gang's fewer. Shared with what chose them are the parts that
gangs are cut into, and the books of devices. What joins is added up here over the whole plan; that each joins where it may is
proved by checking it as a placement in the world that the plan leaves (`growth_world`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from scheduler.engine.check_alternatives import Ways
from scheduler.engine.check_preempt import RIGHTS, World, is_taken_back, sisters, way_up
from scheduler.engine.parts import Parts, by_worker
from scheduler.engine.plan import Eviction, Plan, Shrink
from scheduler.engine.snapshot import FIRST_ACCELERATOR, ROUNDING, WHOLE, Floats, Ints, Snapshot

GROWN_ROOM = "grown-room"


def size_faults(ways: Ways, plan: Plan) -> list[str]:
    """What a plan breaks of the rules by which gangs shrink and grow, in the world in which jobs ask for what they are given."""
    faults = _unknown(ways.snapshot, plan)
    return faults or [*_shrinks(ways, plan), *_joins(ways.snapshot, plan)]


def _unknown(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Rows that are not there, gangs that are named twice, and jobs that room is made for without need."""
    running, elastic, nodes = snapshot.evictable, snapshot.elastic, range(len(snapshot.nodes.names))
    gangs, faults, claimed = len(elastic.ids) if elastic else 0, [], set(snapshot.claims.job.tolist())
    waiting, evicting = {item.job for item in plan.unplaced}, {item.job for item in plan.evictions}
    for job, times in Counter(item.job for item in plan.shrinks).items():
        if job not in waiting or times > 1 or job in claimed or job in evicting:
            faults.append(f"gangs shrink for job row {job}, which does not wait for it, or gets room in another way")
    for item in plan.shrinks:
        bad = [run for run, _ in item.gangs if run not in range(len(running.ids))] + [node for node in item.nodes if node not in nodes]
        if bad or not item.gangs or len(item.rights) != len(item.gangs) or not set(item.rights) <= {GROWN_ROOM, *RIGHTS}:
            faults.append(f"the shrinking for job row {item.job} names rows or rights that are not there")
        elif len(item.nodes) != snapshot.jobs.least[item.job] or any(snapshot.nodes.cluster[node] != item.cluster for node in item.nodes):
            faults.append(f"the shrinking for {snapshot.jobs.ids[item.job]} does not seat all its workers at one cluster")
    for gang, times in Counter(item.gang for item in plan.growths).items():
        if gang not in range(gangs) or times > 1:
            faults.append(f"gang row {gang} grows, which is not there, or grows {times} times")
    faults += [f"gang row {item.gang} grows on a node that is not there" for item in plan.growths if set(item.nodes) - set(nodes)]
    return faults


def _shrinks(ways: Ways, plan: Plan) -> Iterator[str]:
    if not plan.shrinks:
        return
    running = ways.snapshot.evictable
    parts = by_worker(running, np.where(running.ending, running.workers(), running.least))
    world, kept = World(replace(ways, snapshot=replace(ways.snapshot, evictable=parts.evictable)), plan), running.workers()
    for item in plan.shrinks:
        for run, count in item.gangs:
            if not running.least[run] <= count < kept[run] or running.ending[run]:
                yield f"{running.ids[run]} shrinks from {kept[run]} to {count} workers, of at least {running.least[run]}"
        rows = {run: [row for row in parts.rows(run, count) if parts.rank[row] < kept[run]] for run, count in item.gangs}
        yield from _rights(world, parts, running.own, item, rows)
        yield from _needs(world, item, rows)
        leaving = tuple(row for found in rows.values() for row in found)
        world.carry_out(Eviction(item.job, item.cluster, item.nodes, leaving, ()))
        for run, count in item.gangs:
            kept[run] = count


def _rights(world: World, parts: Parts, own: Ints, item: Shrink, rows: dict[int, list[int]]) -> Iterator[str]:
    """Whether each worker that is its gang's own may be taken when all that was only grown into is given up."""
    snapshot, job = world.snapshot, item.job
    running, jobs, queues = snapshot.evictable, snapshot.jobs, snapshot.queues
    held, asked, queue = world.together(), jobs.request[job] * jobs.least[job], int(jobs.queue[job])
    owned = [row for found in rows.values() for row in found if parts.rank[row] < own[parts.gang[row]]]
    for row in [row for found in rows.values() for row in found if row not in owned]:
        for at in way_up(queues.parent, int(running.queue[row])):
            held[at] -= world.total[row]
    rights = dict(zip((run for run, _ in item.gangs), item.rights, strict=True))
    for gang, right in rights.items():
        if (right == GROWN_ROOM) == any(parts.gang[row] == gang for row in owned):
            yield f"{running.ids[gang]} shrinks by {right}, which is not by what it gives up"
    policy = int(queues.preemption[queue])
    taken_back = [row for row in owned if policy >= RIGHTS["reclaim-quota"] and running.queue[row] != queue]
    for row in owned:
        other = int(running.queue[row])
        if row in taken_back:
            allowed = is_taken_back(queues.quota, held, *sisters(queues.parent, queue, other), asked, world.total[row])
        else:
            allowed = policy >= RIGHTS["lower-priority"] and queue == other and running.rank[row] < jobs.rank[job]
        if not allowed:
            yield f"{running.ids[row]} may not be taken for {jobs.ids[job]}"
        for at in way_up(queues.parent, other):
            held[at] -= world.total[row]


def _needs(world: World, item: Shrink, rows: dict[int, list[int]]) -> Iterator[str]:
    """That the job goes nowhere without these workers leaving, goes there with them, and not with one of any gang's fewer."""
    snapshot, job = world.snapshot, item.job
    name, leaving = snapshot.jobs.ids[job], tuple(row for found in rows.values() for row in found)
    if world.needs_nothing(job):
        yield f"gangs shrink for {name} though it needs none of it"
    if not world.takes(job, item.cluster, leaving):
        yield f"{name} does not fit though gangs shrink for it"
    for run, found in rows.items():
        if found and world.takes(job, item.cluster, tuple(row for row in leaving if row != found[-1]), slack=1.5 * ROUNDING):
            yield f"{snapshot.evictable.ids[run]} shrinks further for {name} than is needed"
    level, seats = int(snapshot.jobs.same[job]), list(item.nodes)
    groups = {0} if level < 0 else set(snapshot.nodes.group[seats, level].tolist())
    if not world.suitable(job, item.cluster)[seats].all() or len(groups) > 1 or -1 in groups:
        yield f"{name} may not use a node that it claims"
    room = world.room.copy()
    for row in leaving:
        np.add.at(room, snapshot.evictable.node[snapshot.evictable.owner == row], snapshot.evictable.request[row])
    np.subtract.at(room, seats, snapshot.jobs.request[job])
    if not (room[seats] >= 0).all():
        yield f"{name} claims more than is freed on its nodes"


def _joins(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    """That placements and workers that join fit together, on nodes and on devices, and no gang becomes larger than it may."""
    elastic, nodes = snapshot.elastic, snapshot.nodes
    if not plan.growths or elastic is None:
        return
    used, milli = np.zeros_like(nodes.free), np.zeros_like(nodes.devices)
    for item in plan.placements:
        # What a job asks for that may run in several ways is the one that was chosen: `check` sees to that before.
        _add(used, milli, snapshot.jobs.request[item.job], item.nodes, item.devices)
    for growth in plan.growths:
        gang, home = growth.gang, int(elastic.cluster[growth.gang])
        _add(used, milli, elastic.jobs.request[gang], growth.nodes, growth.devices)
        now, most = int(elastic.workers[gang]), int(elastic.jobs.most[gang, home])
        if not growth.nodes or now + len(growth.nodes) > most:
            yield f"{elastic.ids[gang]} grows from {now} by {len(growth.nodes)}, of at most {most}"
    for node, resource in np.argwhere(~(used <= nodes.free + 2 * ROUNDING * nodes.total)).tolist():
        what = f"{used[node, resource]:g} of {nodes.free[node, resource]:g} {snapshot.resources[resource]}"
        yield f"{nodes.names[node]}: {what} with what joins"
    if (milli > np.maximum(nodes.devices, 0)).any():
        yield "what joins holds devices that are not free"


def _add(used: Floats, milli: Ints, request: Floats, nodes: Sequence[int], devices: Sequence[Sequence[tuple[int, int]]]) -> None:
    np.add.at(used, list(nodes), request)
    for node, chosen in zip(nodes, devices, strict=False):
        for resource, number in chosen:
            milli[node, resource - FIRST_ACCELERATOR, number] += min(round(float(request[resource]) * WHOLE), WHOLE)
