"""Verdicts: every cluster's standing for one job, for `job plan` and `explain`. The same rules that placed it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scheduler.engine.alternatives import ways_of, with_alternatives
from scheduler.engine.order import by_name
from scheduler.engine.plan import Plan, Unplaced, Verdict
from scheduler.engine.reasons import Reason
from scheduler.engine.scores import joint_totals, score_parts
from scheduler.engine.seating import Room
from scheduler.engine.snapshot import WHOLE, Ints, Snapshot


def verdicts(snapshot: Snapshot, job: int, plan: Plan) -> tuple[Verdict, ...]:
    """One verdict for each cluster of the snapshot, in its order; `plan` is the snapshot's.

    A job that waits has the plan's reasons. For one that is placed, each cluster is judged with the room that the
    snapshot has: `possible` clusters would have taken it, had the chosen one not been better.
    """
    waiting = next((item for item in plan.unplaced if item.job == job), None)
    if waiting is not None:
        return _waiting(snapshot, job, waiting)
    placement = next(placement for placement in plan.placements if placement.job == job)
    named = by_name(snapshot)
    room, back = Room(named.snapshot), np.argsort(named.clusters)
    rows = room.ways[job]
    against = np.array([room.against(row).clusters for row in rows])[:, back]
    rooms = [room.on_nodes(row) for row in rows]
    workers = np.array([room.granted(row, there) for row, there in zip(rows, rooms, strict=True)])
    seen = room.seen(rows, rooms, workers > 0)
    scores = joint_totals(room.snapshot, rows, workers > 0, seen)[:, back]
    parts = score_parts(room.snapshot, rows, workers > 0, seen)
    start_s = snapshot.clusters.wait_s + snapshot.jobs.transfer_s[job]
    found = []
    for cluster in range(len(back)):
        chosen, fits = cluster == placement.cluster, (against[:, cluster] == Reason.FITS).any()
        # The way that the plan took, else the best with room, else the one that came closest.
        closest = scores[:, cluster].argmin() if fits else against[:, cluster].argmax()
        way = placement.choice if chosen else int(closest)
        found.append(
            Verdict(
                cluster,
                Reason(int(against[way, cluster])),
                chosen,
                float(scores[way, cluster]) if fits else None,
                float(start_s[cluster]) if fits else None,
                parts.get((way, int(back[cluster])), ()),
                int(workers[way, back[cluster]]) if fits else None,
                choice=way,
            )
        )
    return tuple(found)


def _waiting(snapshot: Snapshot, job: int, waiting: Unplaced) -> tuple[Verdict, ...]:
    """The plan's reasons, and for a gang that lacks room how much there is with what the snapshot has free."""
    short, found = {Reason.GANG_DOES_NOT_FIT, Reason.GROUP_DOES_NOT_FIT}, []
    now, empty = _rooms(snapshot, job) if short & set(waiting.clusters) else ([], [])
    for cluster, reason in enumerate(waiting.clusters):
        rooms = (now[cluster], empty[cluster]) if reason in short else (None, None)
        choice = _allowed(snapshot, job, cluster)
        found.append(Verdict(cluster, reason, False, None, None, room=rooms[0], room_empty=rooms[1], choice=choice))
    return tuple(found)


def _rooms(snapshot: Snapshot, job: int) -> tuple[list[int], list[int]]:
    """[C] How many workers of a job fit together at each cluster now, and if nothing ran."""
    named = by_name(snapshot)
    nodes = named.snapshot.nodes
    unused = np.where(nodes.devices >= 0, np.int64(WHOLE), nodes.devices)
    emptied = replace(named.snapshot, nodes=replace(nodes, free=nodes.total, devices=unused))
    back = np.argsort(named.clusters)
    now, empty = (_largest(Room(world), job)[back].tolist() for world in (named.snapshot, emptied))
    return now, empty


def _largest(room: Room, job: int) -> Ints:
    """[C] The same by the way that has most room."""
    largest: Ints = np.max([room.largest(row) for row in room.ways[job]], axis=0)
    return largest


def _allowed(snapshot: Snapshot, job: int, cluster: int) -> int:
    """The first way to run a job that no right and no price stands against at a cluster, else the first."""
    rows, policy = ways_of(snapshot)[job], with_alternatives(snapshot).jobs.policy
    return next((choice for choice, row in enumerate(rows) if policy[row, cluster] == Reason.FITS), 0)
