"""The part of `check` that proves promised starts: they are possible, and nothing that is placed delays them.

Written apart from `foresight` on purpose: it keeps what is left at promised starts, here all that happens on a node is played
through in time, from one end or start to the next, and nothing may be held that is not there.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np

from scheduler.engine.check_later import heads_and_waiting, later_faults
from scheduler.engine.plan import Plan, Promise
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, ROUNDING, WHOLE, Floats, Ints, Snapshot

# Something becomes free or is taken on a node: when, and how much.
Change = tuple[float, Floats]
# The same of a device: when, its model (counted from FIRST_ACCELERATOR) and number, and thousandths.
DeviceChange = tuple[float, int, int, int]
FOR_ROOM = frozenset({Reason.NODE_BUSY, Reason.GANG_DOES_NOT_FIT, Reason.GROUP_DOES_NOT_FIT, Reason.RESERVED_FOR_ANOTHER})


def promise_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """What is wrong with the promises of a plan whose placements have been proved to be there."""
    ids, waiting = snapshot.jobs.ids, {item.job: item for item in plan.unplaced}
    reserved = [item.job for item in plan.unplaced if Reason.RESERVED_FOR_ANOTHER in item.clusters]
    if not plan.promises and not snapshot.promised:
        faults = [f"{ids[job]} waits for what is reserved, and nothing is" for job in reserved]
        return faults + _forgotten(snapshot, plan) + later_faults(snapshot, plan)
    faults = [f"job row {item.job} is promised a start and does not wait" for item in plan.promises if item.job not in waiting]
    faults += [f"{ids[job]} is promised {count} starts" for job, count in Counter(item.job for item in plan.promises).items() if count > 1]
    heads, later = heads_and_waiting(plan)
    if len(heads) > snapshot.heads or len(later) > snapshot.waits:
        faults.append(f"{len(heads)} and {len(later)} starts are promised where {snapshot.heads} and {snapshot.waits} may be")
    faults = faults or [
        *(fault for item in heads for fault in _seat_faults(snapshot, item, (Reason.FITS,))),
        *(fault for item in later for fault in _seat_faults(snapshot, item, (Reason.FITS, Reason.OVER_BUDGET))),
    ]
    if not faults:
        faults = [*_delays(snapshot, plan), *_device_delays(snapshot, plan), *_forgotten(snapshot, plan), *later_faults(snapshot, plan)]
    return faults


def _seat_faults(snapshot: Snapshot, item: Promise, policies: tuple[Reason, ...]) -> list[str]:
    jobs, nodes, job = snapshot.jobs, snapshot.nodes, item.job
    name = f"the start promised to {jobs.ids[job]}"
    if item.cluster not in range(len(snapshot.clusters.names)) or not all(node in range(len(nodes.names)) for node in item.nodes):
        return [f"{name} names a row that is not there"]
    seats = np.array(item.nodes, dtype=np.int64)
    asked = jobs.request[job, FIRST_ACCELERATOR:] > 0
    held_s = jobs.length_s[job] + jobs.transfer_s[job, item.cluster] + snapshot.clusters.wait_s[item.cluster]
    rules = (
        (jobs.policy[job, item.cluster] in policies, "is where policy forbids it"),
        (bool(snapshot.clusters.healthy[item.cluster]) and not snapshot.clusters.cordoned[item.cluster], "is at a cluster not in use"),
        (len(seats) == jobs.least[job], "has not one node for each worker"),
        (bool(np.all(nodes.cluster[seats] == item.cluster)), "is on nodes of another cluster"),
        (bool(np.all(nodes.ready[seats] & nodes.label_ok[jobs.label_class[job], seats])), "is on nodes that it may not use"),
        (bool(np.all(nodes.total[seats, FIRST_ACCELERATOR:][:, asked] > 0)), "is on nodes without the accelerator model"),
        (_together(snapshot, item.job, item.nodes), "is on nodes of several groups, or of none"),
        (0 < item.start_s < math.inf, "is at no time to come"),
        (math.isclose(item.end_s - item.start_s, held_s) or item.end_s == held_s == math.inf, "does not last as long as the job"),
    )
    return [f"{name} {fault}" for kept, fault in rules if not kept]


def _together(snapshot: Snapshot, job: int, nodes: tuple[int, ...]) -> bool:
    level = int(snapshot.jobs.same[job])
    groups = {int(snapshot.nodes.group[node, level]) for node in nodes} if level >= 0 else {0}
    return len(groups) == 1 and -1 not in groups


def _delays(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Nodes on which more would be held at some time than is there, if everything takes as long as is expected."""
    changes, faults = _changes(snapshot, plan), []
    for node in sorted({node for item in plan.promises for node in item.nodes}):
        free, slack = snapshot.nodes.free[node].copy(), 4 * ROUNDING * snapshot.nodes.total[node]
        # What ends at a time is free for what starts at it.
        for at, amount in sorted(changes[node], key=lambda change: (change[0], -float(change[1].max()))):
            free = free + amount
            if at > 0 and not np.all(free >= -slack):
                faults.append(f"{snapshot.nodes.names[node]}: a promised start is delayed, {at:g} s from now")
                break
    return faults


def _changes(snapshot: Snapshot, plan: Plan) -> dict[int, list[Change]]:
    changes: dict[int, list[Change]] = defaultdict(list)
    jobs, running = snapshot.jobs, snapshot.running
    if running is not None:
        for run, node in zip(running.run.tolist(), running.node.tolist(), strict=True):
            changes[node].append((max(float(running.ends_s[run]), 1.0), running.request[run]))
    for placement in plan.placements:
        job, cluster = placement.job, placement.cluster
        end_s = float(jobs.length_s[job] + jobs.transfer_s[job, cluster] + snapshot.clusters.wait_s[cluster])
        for node in placement.nodes:
            changes[node] += [(0.0, -jobs.request[job]), (end_s, jobs.request[job])]
    spans = [(item.nodes, jobs.request[item.job], item.start_s, item.end_s) for item in plan.promises]
    spans += [(tuple(item.nodes.tolist()), item.request, item.start_s, item.end_s) for item in snapshot.promised]
    for nodes, request, start_s, end_s in spans:
        for node in nodes:
            changes[node] += [(start_s, -request), (end_s, request)]
    return {node: [change for change in found if change[0] < math.inf] for node, found in changes.items()}


def _device_delays(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Nodes on which a promised worker would find no device at its time; a share takes the tightest one, whole ones the first free."""
    if not snapshot.nodes.devices.size:
        return []
    asks: dict[int, list[tuple[float, float, list[int]]]] = defaultdict(list)
    spans = [(item.nodes.tolist(), item.request, item.start_s, item.end_s) for item in snapshot.promised]
    spans += [(list(item.nodes), snapshot.jobs.request[item.job], item.start_s, item.end_s) for item in plan.promises]
    for nodes, request, start_s, end_s in spans:
        milli = np.rint(request[FIRST_ACCELERATOR:] * WHOLE).astype(np.int64).tolist()
        for node in nodes if any(milli) else ():
            asks[node].append((start_s, end_s, milli))
    back, free = _devices_over_time(snapshot, plan)
    promised = {node for item in plan.promises for node in item.nodes}
    return [
        f"{snapshot.nodes.names[node]}: a promised start finds its devices in use"
        for node in sorted(promised & asks.keys())
        if not _all_find_devices([list(row) for row in free[node].tolist()], back[node], asks[node])
    ]


def _devices_over_time(snapshot: Snapshot, plan: Plan) -> tuple[dict[int, list[DeviceChange]], Ints]:
    """What comes back on devices of nodes and when, and what is free [N, M, D] beside what is placed."""
    back, free = defaultdict[int, list[DeviceChange]](list), snapshot.nodes.devices.copy()
    jobs, running = snapshot.jobs, snapshot.running
    if running is not None:
        for run, node, model, number in running.device.tolist():
            part = min(round(float(running.request[run, FIRST_ACCELERATOR + model]) * WHOLE), WHOLE)
            back[node].append((max(float(running.ends_s[run]), 1.0), model, number, part))
    for item in plan.placements:
        end_s = float(jobs.length_s[item.job] + jobs.transfer_s[item.job, item.cluster] + snapshot.clusters.wait_s[item.cluster])
        for node, devices in zip(item.nodes, item.devices, strict=False):
            for resource, number in devices:
                part = min(round(float(jobs.request[item.job, resource]) * WHOLE), WHOLE)
                free[node, resource - FIRST_ACCELERATOR, number] -= part
                back[node].append((end_s, resource - FIRST_ACCELERATOR, number, part))
    return back, free


def _all_find_devices(free: list[list[int]], back: list[DeviceChange], asks: list[tuple[float, float, list[int]]]) -> bool:
    waiting = list(back)
    for start_s, end_s, milli in sorted(asks, key=lambda ask: ask[0]):
        for _, model, number, part in sorted(change for change in waiting if change[0] <= start_s):
            if number < len(free[model]) and free[model][number] >= 0:
                free[model][number] = min(free[model][number] + part, WHOLE)
        waiting = [change for change in waiting if change[0] > start_s]
        for model, asked in enumerate(milli):
            part, wanted = min(asked, WHOLE), max(asked // WHOLE, 1) if asked else 0
            fitting = sorted((have, number) for number, have in enumerate(free[model]) if have >= part)
            if len(fitting) < wanted:
                return False
            for _, number in fitting[:wanted]:
                free[model][number] -= part
                waiting.append((end_s, model, number, part))
    return True


def _forgotten(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Jobs that wait for room without a promise though one could be made: all their cluster has, once all that runs has ended."""
    if len(heads_and_waiting(plan)[0]) >= snapshot.heads or snapshot.running is None:
        return []
    promised = {item.job for item in plan.promises}
    jobs, nodes, at_last = snapshot.jobs, snapshot.nodes, snapshot.nodes.free.copy()
    if snapshot.claims.ids:
        # What is kept for others by a claim is not there for anybody else.
        np.subtract.at(at_last, snapshot.claims.node, snapshot.claims.kept())
    ends = np.isfinite(snapshot.running.ends_s)[snapshot.running.run]
    np.add.at(at_last, snapshot.running.node[ends], snapshot.running.request[snapshot.running.run[ends]])
    at_last = np.minimum(at_last, nodes.total)  # A node may have shrunk under what runs there.
    endless = np.any(~np.isfinite(jobs.length_s))  # What is placed or promised without an end may be in the way for ever.
    apart, faults = bool(nodes.devices.size), []
    # Their reasons are those of the way that came closest, and promises are for the first.
    choosing = frozenset(snapshot.further.of.tolist()) if snapshot.further is not None else frozenset[int]()
    for item in plan.unplaced:
        if apart and jobs.request[item.job, FIRST_ACCELERATOR:].any():
            continue  # What is free of devices is not told by the sum over them.
        if endless or item.job in promised or item.job in choosing or not FOR_ROOM & set(item.clusters):
            continue
        for cluster in [row for row, reason in enumerate(item.clusters) if reason in FOR_ROOM]:
            usable = (nodes.cluster == cluster) & nodes.ready & nodes.label_ok[jobs.label_class[item.job]]
            asked = jobs.request[item.job] > 0
            rooms = np.floor((at_last[usable][:, asked] / jobs.request[item.job][asked]).min(axis=1, initial=math.inf))
            level = int(jobs.same[item.job])
            groups = nodes.group[usable, level] if level >= 0 else np.zeros(len(rooms), dtype=np.int64)
            if any(rooms[groups == group].sum() >= jobs.least[item.job] for group in np.unique(groups[groups >= 0])):
                faults.append(f"{jobs.ids[item.job]} is promised no start, though one is possible")
                break
    return faults
