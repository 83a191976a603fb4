"""Place: who goes where. One pure pass, job by job, each seeing what the ones before it left.

1. who has claimed room that is free now? 2. whose turn is it? 3. where is room for all its workers? 4. which of these clusters is
best? 5. on which nodes? 6. book them. 7. which gangs could shrink (`shrink`), and who could be ended (`preempt`), for those that found
no room? 8. which gangs could grow into what is left (`growth`)? Jobs of one class (the same
request, workers, labels, group and rights) ask the same question of every cluster and node, so what filters answer is kept for the class,
and once a class finds no room none of its jobs is looked at again: room only shrinks while a plan is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from scheduler.engine.alternatives import as_placed
from scheduler.engine.array_limits import ArrayLimits
from scheduler.engine.claims import holding, seat
from scheduler.engine.device_room import Chosen
from scheduler.engine.filters import Against
from scheduler.engine.growth import grow
from scheduler.engine.order import Named, Turns, by_name, without_limits
from scheduler.engine.parts import shrunk
from scheduler.engine.plan import Eviction, Placement, Plan, Promise, Shrink, Unplaced
from scheduler.engine.preempt import Ground, evict
from scheduler.engine.reasons import Reason
from scheduler.engine.seating import Best, Room
from scheduler.engine.shrink import shrink
from scheduler.engine.snapshot import Ints, Snapshot
from scheduler.engine.terms import within_terms


def place(snapshot: Snapshot) -> Plan:
    """Decide on the jobs that wait, then on the gangs that may grow into what is left."""
    snapshot = within_terms(snapshot)
    plan = _placed(snapshot)
    return replace(plan, growths=grow(snapshot, plan, _placed)) if snapshot.elastic is not None else plan


def _placed(snapshot: Snapshot) -> Plan:
    """Decide on the jobs that wait, whatever the order of their rows; ties break by name, jobs by sequence."""
    named = by_name(snapshot)
    room, limits = Room(named.snapshot), ArrayLimits(snapshot.jobs)
    turns, placements = _seat_claims(named.snapshot, room, limits)
    hopeless: set[tuple[int, ...]] = set()
    refused, later = dict[int, frozenset[int]](), dict[int, Reason]()
    blocked: list[int] = []
    while (job := turns.next()) is not None:
        if not limits.may_start(job):
            turns.pass_over(job)
            continue
        rows = turns.ways(job)
        classes = tuple(room.classes[row] for row in rows)
        best = None if classes in hopeless else room.best(rows, [turns.most(job, row) for row in rows])
        if (waits := room.waits(job, rows, best)) is not Reason.FITS:
            later[job] = waits
            turns.pass_over(job)
        elif best is None:
            hopeless.add(classes)
            refused[job] = frozenset(room.ways[job]).difference(rows)
            pass_over(room, turns, job, rows)
            blocked.append(job)
        else:
            placements.append(start(room, turns, limits, job, best))
    placed = {placement.job for placement in placements}
    waiting = [job for job in range(len(snapshot.jobs.ids)) if job not in placed]
    by_queue = dict.fromkeys(turns.held_back(), Reason.QUEUE_LIMIT) | dict.fromkeys(turns.over_quota(), Reason.QUEUE_QUOTA)
    if snapshot.evictable.ids:
        # Whom a limit holds back may be helped too, once somebody of its own queue has ended.
        blocked += without_limits(named.snapshot, by_queue, placements)
    by_queue |= dict.fromkeys(turns.behind(), Reason.QUEUE_ORDER) | dict.fromkeys(limits.held_back(), Reason.ARRAY_LIMIT) | later
    promises = room.foresight.promises
    ground = Ground(lambda row: room.standing(row).usable, room.share)
    world = as_placed(named.snapshot, placements)
    shrinks = shrink(world, ground, blocked, placements, promises)
    helped = {item.job for item in shrinks}
    evictions = evict(shrunk(world, shrinks), ground, [job for job in blocked if job not in helped], placements, promises)
    return Plan(
        tuple(replace(item, **_back(named, item)) for item in placements),
        _unplaced(room, named, waiting, by_queue, refused),
        tuple(replace(item, **_back(named, item)) for item in promises),
        tuple(replace(item, **_back(named, item)) for item in evictions),
        tuple(replace(item, **_back(named, item)) for item in shrinks),
    )


def start(room: Room, turns: Turns, limits: ArrayLimits, job: int, best: Best) -> Placement:
    """Start the job whose turn it is in the best way."""
    nodes = room.seat(best.row, best.cluster, best.rooms, best.workers)
    devices = room.take(best.row, best.cluster, nodes)
    turns.grant(job, len(nodes), best.row)
    limits.grant(job)
    return Placement(job, best.cluster, tuple(nodes.tolist()), best.score, devices, room.ways[job].index(best.row))


def pass_over(room: Room, turns: Turns, job: int, rows: tuple[int, ...]) -> None:
    """Let the job whose turn it is wait, which found no room by any of the `rows` that its queue may hold."""
    # What its queue may not hold is promised to nobody.
    room.promise(job, rows)
    turns.pass_over(job)


def _seat_claims(snapshot: Snapshot, room: Room, limits: ArrayLimits) -> tuple[Turns, list[Placement]]:
    """Seat the jobs whose claimed room is free now; the turns of all others."""
    seated = seat(snapshot, room.snapshot.nodes.free, lambda row: room.standing(row).usable, partial(_claimed, room, limits))
    placements = []
    for item in seated:
        cluster = int(snapshot.nodes.cluster[item.nodes[0]])
        room.note(room.ways[item.job][item.choice], cluster, item.nodes, item.devices)
        placements.append(Placement(item.job, cluster, tuple(item.nodes.tolist()), 0.0, item.devices, item.choice))
    return Turns(holding(snapshot, seated), frozenset(item.job for item in seated)), placements


def _claimed(room: Room, limits: ArrayLimits, job: int, row: int, nodes: Ints) -> tuple[Chosen, ...] | None:
    """Book devices for a way to run a job on the nodes that it has claimed, if there are enough and its array lets it start."""
    devices = room.take_devices(row, nodes) if limits.may_start(job) else None
    if devices is not None:
        limits.grant(job)
    return devices


def _back(named: Named, item: Placement | Promise | Eviction | Shrink) -> dict[str, Any]:
    """Where it goes, in the rows of the snapshot that was given."""
    return {"cluster": int(named.clusters[item.cluster]), "nodes": tuple(named.nodes[list(item.nodes)].tolist())}


def _unplaced(
    room: Room, named: Named, jobs: list[int], by_queue: Mapping[int, Reason], refused: Mapping[int, frozenset[int]]
) -> tuple[Unplaced, ...]:
    """Why jobs wait, found once for each class of them.

    `by_queue` are those that their queue holds back, and why; `refused` are the ways of others that their queue may not hold.
    """
    back = np.argsort(named.clusters)
    known: dict[tuple[object, ...], tuple[Reason, tuple[Reason, ...], tuple[tuple[Reason, int], ...]]] = {}
    found = []
    for job in jobs:
        reason = by_queue.get(job, Reason.FITS)
        over = refused.get(job, frozenset())
        key = tuple((room.classes[row], row in over) for row in room.ways[job]), reason
        if key not in known:
            against = Against.closest([_against(room, row, reason, over=row in over) for row in room.ways[job]])
            clusters = tuple(Reason(reason) for reason in against.clusters[back].tolist())
            known[key] = (max(clusters, default=Reason.CLUSTER_UNHEALTHY), clusters, against.nodes)
        found.append(Unplaced(job, *known[key]))
    return tuple(found)


def _against(room: Room, row: int, reason: Reason, *, over: bool) -> Against:
    """What stands against a way to run a job that is held back for a reason, or, if that is FITS, whose queue may not hold it if `over`."""
    found = Against(room.standing(row, unpaid=reason is Reason.AFFORDABLE_LATER).clusters, ()) if reason else room.against(row)
    instead = reason or (Reason.QUEUE_QUOTA if over else Reason.FITS)
    return replace(found, clusters=np.where(found.clusters == Reason.FITS, np.int64(instead), found.clusters))
