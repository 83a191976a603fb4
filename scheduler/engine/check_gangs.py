"""Check, the part about gangs: workers that must be together are, those to be spread are, and elastic gangs are as large as fits.

Written apart from what made the plan: one placement after the other, and with what is left once the whole plan is carried out.
That suffices, because room only shrinks and what queues hold only grows while a plan is made: what fits at the end did fit before.
"""

from __future__ import annotations

import numpy as np

from scheduler.engine.check_queues import Ledger, placed_by
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Bools, Floats, Ints, Snapshot


def gang_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """What a plan breaks of what holds workers together, and which elastic gangs are smaller than they need be."""
    return [*_apart(snapshot, plan), *_too_few(snapshot, plan), *_crowded(snapshot, plan)]


def _apart(snapshot: Snapshot, plan: Plan) -> list[str]:
    faults = []
    for item in plan.placements:
        level = int(snapshot.jobs.same[item.job])
        if level < 0:
            continue
        groups = {int(snapshot.nodes.group[node, level]) for node in item.nodes}
        if len(groups) > 1:
            faults.append(f"{snapshot.jobs.ids[item.job]}: its workers are in {len(groups)} groups that must be in one")
        if -1 in groups:
            faults.append(f"{snapshot.jobs.ids[item.job]}: a worker is on a node that belongs to no group")
    return faults


def _too_few(snapshot: Snapshot, plan: Plan) -> list[str]:
    jobs = snapshot.jobs
    # Who had others ended gets what it claimed, and no more.
    claimed = set(snapshot.claims.job.tolist())
    short = [item for item in plan.placements if jobs.least[item.job] <= len(item.nodes) < jobs.workers[item.job]]
    short = [item for item in short if item.job not in claimed]
    if not short:
        return []
    left, devices = _left(snapshot, plan)
    # What is free there may be kept for a promised start.
    left[_promised(snapshot, plan)] = 0.0
    ledger, faults = Ledger(snapshot, placed_by(snapshot, plan)), []
    for item in short:
        refused = ledger.refuses(int(jobs.queue[item.job]), jobs.request[item.job])
        if not refused and _largest(snapshot, item, left, devices) > len(item.nodes):
            faults.append(f"{jobs.ids[item.job]} has {len(item.nodes)} workers though there is room for more")
    return faults


def _crowded(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Placements of queues that spread, on fewer or fuller nodes than there was need for; in the order in which they were decided."""
    queues, jobs, faults = snapshot.queues, snapshot.jobs, []
    if not queues.spread.any():
        return []
    shape, claimed = (len(queues.names), len(snapshot.nodes.names)), set(snapshot.claims.job.tolist())
    seats = queues.seats.copy() if queues.seats.size else np.zeros(shape, dtype=np.int64)
    left, devices = _left(snapshot, plan)
    left[_promised(snapshot, plan)] = 0.0
    for item in plan.placements:
        own, used = seats[jobs.queue[item.job]], np.array(item.nodes, dtype=np.int64)
        if queues.spread[jobs.queue[item.job]] and item.job not in claimed:
            open_nodes = _usable(snapshot, item) & (_whole(left, devices, jobs.request[item.job]) > 0)
            open_nodes[used] = False
            twice = len(np.unique(used)) < len(used)
            if (twice and open_nodes.any()) or (own[open_nodes] < own[used].max(initial=0)).any():
                faults.append(f"{jobs.ids[item.job]} is on fewer or fuller nodes than its queue asks for")
        np.add.at(own, used, 1)
    return faults


def _promised(snapshot: Snapshot, plan: Plan) -> list[int]:
    """Nodes on which room may be kept for a promised start, or is claimed."""
    claimed = snapshot.claims.node.tolist()
    return [
        *claimed,
        *(node for item in plan.promises for node in item.nodes),
        *(node for item in snapshot.promised for node in item.nodes.tolist()),
    ]


def _usable(snapshot: Snapshot, item: Placement) -> Bools:
    """[N] Nodes of the same cluster, and of the same group where that counts, that nothing but room stands against."""
    nodes, level = snapshot.nodes, int(snapshot.jobs.same[item.job])
    usable: Bools = _suited(snapshot, item.job) & (nodes.cluster == item.cluster)
    return usable & (nodes.group[:, level] == nodes.group[item.nodes[0], level]) if level >= 0 else usable


def _suited(snapshot: Snapshot, job: int) -> Bools:
    """[N] Nodes that are ready, with the labels and accelerators of a job; one that a window may shut for it is not counted on."""
    nodes = snapshot.nodes
    lacking = ((snapshot.jobs.request[job] > 0) & ~(nodes.total > 0))[:, FIRST_ACCELERATOR:].any(axis=1)
    suited: Bools = nodes.ready & nodes.label_ok[snapshot.jobs.label_class[job]] & ~lacking
    if snapshot.windows is not None:
        suited &= ~(snapshot.windows.covers & ~snapshot.windows.open_to[:, job, None]).any(axis=0)
    return suited


def _left(snapshot: Snapshot, plan: Plan) -> tuple[Floats, Ints]:
    """What is free on nodes `[N, R]` and on devices `[N, M, D]` once the plan is carried out."""
    left, devices = snapshot.nodes.free.copy(), snapshot.nodes.devices.copy()
    for item in plan.placements:
        request = snapshot.jobs.request[item.job]
        np.subtract.at(left, list(item.nodes), request)
        for node, chosen in zip(item.nodes, item.devices, strict=False):
            for row, device in chosen:
                devices[node, row - FIRST_ACCELERATOR, device] -= round(min(float(request[row]), 1.0) * WHOLE)
    return left, devices


def _largest(snapshot: Snapshot, item: Placement, left: Floats, devices: Ints) -> int:
    """With how many workers a placed job could run in one place of one cluster, if its own room were free again."""
    jobs, nodes = snapshot.jobs, snapshot.nodes
    asked, level = jobs.request[item.job], int(jobs.same[item.job])
    rooms = np.bincount(item.nodes, minlength=len(nodes.names)) + _whole(left, devices, asked)
    usable, found = _suited(snapshot, item.job), 0
    for cluster in range(len(snapshot.clusters.names)):
        if jobs.policy[item.job, cluster] != Reason.FITS or not snapshot.clusters.healthy[cluster] or snapshot.clusters.cordoned[cluster]:
            continue
        here = usable & (nodes.cluster == cluster)
        places = (
            [here] if level < 0 else [here & (nodes.group[:, level] == group) for group in set(nodes.group[here, level].tolist()) - {-1}]
        )
        there = max((int(rooms[place].sum()) for place in places), default=0)
        found = max(found, min(there, int(jobs.most[item.job, cluster])))
    return found


def _whole(left: Floats, devices: Ints, asked: Floats) -> Ints:
    """[N] How many workers more fit for certain, roundings aside; a request of nothing is not counted on."""
    wanted = asked > 0
    if not wanted.any():
        return np.zeros(len(left), dtype=np.int64)
    rooms: Ints = np.maximum(np.floor((left[:, wanted] / asked[wanted]).min(axis=1)), 0).astype(np.int64)
    for row in np.flatnonzero(wanted[FIRST_ACCELERATOR:]).tolist() if devices.size else ():
        amount, free = float(asked[FIRST_ACCELERATOR + row]), np.maximum(devices[:, row], 0)
        parts = free // round(amount * WHOLE) if amount < 1 else free == WHOLE
        rooms = np.minimum(rooms, parts.sum(axis=1) // max(round(amount), 1))
    return rooms
