"""Check, the part about preemption: every victim may be ended, each is needed, and no claim is broken.

Written apart from what chose the victims, from the words of the rules: sums over all runs instead of one booking after the other,
and the victims of a job are tried without each of them anew. Shared with it are the books of devices, of what queues may hold, and
of windows, so a fault in those is not found here. Evictions are taken in the order of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from scheduler.engine.check_alternatives import Ways
from scheduler.engine.check_queues import with_all_below
from scheduler.engine.freed_devices import FreedDevices
from scheduler.engine.plan import Eviction, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, ROUNDING, Bools, Floats, Ints, Snapshot
from scheduler.engine.tree import Amounts, capacity_of, grow
from scheduler.engine.windows import shut

NOBODY = -1
NEVER, LOWER_PRIORITY, RECLAIM_QUOTA = 0, 1, 2
RIGHTS = {"lower-priority": LOWER_PRIORITY, "reclaim-quota": RECLAIM_QUOTA}


def preemption_faults(ways: Ways, plan: Plan) -> list[str]:
    """What a plan breaks of the rules of preemption, in the world in which its gangs are shrinking and jobs ask for what they are given."""
    snapshot = ways.snapshot
    if not plan.evictions:
        return []
    unknown = _unknown(snapshot, plan)
    if unknown:
        return unknown
    faults = [*_victims(snapshot, plan), *_circles(snapshot, plan), *_behind_others(snapshot, plan)]
    world = World(ways, plan)
    for eviction in plan.evictions:
        faults += [*_rights(world, eviction), *_needs(world, eviction)]
        world.carry_out(eviction)
    return faults


def _behind_others(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    """In a strict queue room is made for the first waiting job alone: no other could take it."""
    jobs = snapshot.jobs
    place = list(zip((-jobs.rank).tolist(), jobs.sequence.tolist(), jobs.ids, strict=True))
    for item in plan.evictions:
        queue = int(jobs.queue[item.job])
        ahead = [other.job for other in plan.unplaced if jobs.queue[other.job] == queue and place[other.job] < place[item.job]]
        if snapshot.queues.strict[queue] and ahead:
            first = jobs.ids[min(ahead, key=place.__getitem__)]
            yield f"{jobs.ids[item.job]} waits behind {first} in its strict queue, and others are ended for it"


def _unknown(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Rows that are not there, and beneficiaries that are none."""
    waiting, claimed = {item.job for item in plan.unplaced}, set(snapshot.claims.job.tolist())
    runs, nodes, faults = range(len(snapshot.evictable.ids)), range(len(snapshot.nodes.names)), []
    for job, count in Counter(item.job for item in plan.evictions).items():
        if job not in waiting or count > 1 or job in claimed:
            faults.append(f"room is made for job row {job}, which does not wait, or has a claim already")
    for item in plan.evictions:
        bad = [run for run in item.runs if run not in runs] + [node for node in item.nodes if node not in nodes]
        if bad or not item.runs or len(item.rights) != len(item.runs) or not set(item.rights) <= RIGHTS.keys():
            faults.append(f"the eviction for job row {item.job} names rows or rights that are not there")
        elif len(item.nodes) != snapshot.jobs.least[item.job] or any(snapshot.nodes.cluster[node] != item.cluster for node in item.nodes):
            faults.append(f"the eviction for {snapshot.jobs.ids[item.job]} does not seat all its workers at one cluster")
    return faults


def _victims(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    running, counts = snapshot.evictable, Counter(run for item in plan.evictions for run in item.runs)
    if counts.total() > snapshot.budget.runs:
        yield f"{counts.total()} runs are ended of at most {snapshot.budget.runs} in one plan"
    for run, count in sorted(counts.items()):
        if count > 1:
            yield f"{running.ids[run]} is ended {count} times"
        if running.ending[run] or running.fixed[run]:
            yield f"{running.ids[run]} is ending already, or may not be begun again"
        if running.restarts[run] >= snapshot.budget.restarts:
            yield f"{running.ids[run]} was begun again {running.restarts[run]} times and has to be left alone"


def _circles(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Whether the arrows from beneficiaries to victims, old and new, close: those without an arrow to them are taken off in turns."""
    new = [(snapshot.jobs.ids[item.job], snapshot.evictable.jobs[run]) for item in plan.evictions for run in item.runs]
    arrows = {*snapshot.evictable.past, *new}
    while arrows:
        left = {arrow for arrow in arrows if arrow[0] in {victim for _, victim in arrows}}
        if left == arrows:
            return [f"evictions go round in a circle: {', '.join(f'{a} ends {b}' for a, b in sorted(arrows))}"]
        arrows = left
    return []


class World:
    """What there is as the evictions before have left it: room on nodes, what queues hold, and the runs that go on.

    Jobs are asked about by their rows, which are those of the ways that were chosen, and by those of their other ways.
    """

    def __init__(self, ways: Ways, plan: Plan) -> None:
        self.ways, self.snapshot = ways, ways.snapshot
        snapshot = ways.snapshot
        running, claims, placed = snapshot.evictable, snapshot.claims, {item.job for item in plan.placements}
        self.total: Floats = running.request * np.bincount(running.owner, minlength=len(running.ids))[:, None]
        self.room = snapshot.nodes.free + 2 * ROUNDING * snapshot.nodes.total
        self.held, self.count = snapshot.queues.held.copy(), snapshot.queues.running.copy()
        for run in np.flatnonzero(running.ending).tolist():
            self._move_run(run)
        for item in plan.placements:
            self._seat(item.job, item.nodes)
        for place, claim in enumerate(claims.owner.tolist()):
            if int(claims.job[claim]) not in placed:
                amount = claims.request[claim] * claims.workers[place]
                self.room[claims.node[place]] -= amount
                self.held[claims.queue[claim]] += amount
        for claim in range(len(claims.ids)):
            self.count[claims.queue[claim]] += int(claims.job[claim]) not in placed
        self.devices = FreedDevices(snapshot, plan.placements)
        self.promised = [(item.job, item.nodes) for item in plan.promises]
        self.promised += [(NOBODY, tuple(item.nodes.tolist())) for item in snapshot.promised]

    def _move_run(self, run: int, sign: int = 1) -> None:
        running = self.snapshot.evictable
        for node in running.node[running.owner == run].tolist():
            self.room[node] += sign * running.request[run]
        self.held[running.queue[run]] -= sign * self.total[run]
        self.count[running.queue[run]] -= 0 if running.part[run] else sign

    def _seat(self, job: int, nodes: tuple[int, ...]) -> None:
        jobs = self.snapshot.jobs
        for node in nodes:
            self.room[node] -= jobs.request[job]
        self.held[jobs.queue[job]] += jobs.request[job] * len(nodes)
        self.count[jobs.queue[job]] += 1

    def carry_out(self, eviction: Eviction) -> None:
        """End the victims, and give the room to whom it is for."""
        for run in eviction.runs:
            self._move_run(run)
            self.devices.release(run)
        self._seat(eviction.job, eviction.nodes)
        self.devices.seat(eviction.job, np.array(eviction.nodes, dtype=np.int64))

    def together(self) -> Floats:
        """[Q, R] What each queue holds with all below it."""
        return with_all_below(self.snapshot.queues.parent, self.held)

    def needs_nothing(self, job: int) -> bool:
        """Whether a job finds room in one of its ways, by a margin, though nobody ends for it."""
        clusters = range(len(self.snapshot.clusters.names))
        return any(self.takes(row, cluster, slack=1.5 * ROUNDING) for row in self.ways.rows(job) for cluster in clusters)

    def takes(self, job: int, cluster: int, without: tuple[int, ...] = (), slack: float = 0.0) -> bool:
        """Whether a cluster has room for a job, and its queue may hold it, once these runs have ended.

        What is missing by a rounding is there; `slack` is how much of that is left out, so that what does not fit does not by a margin.
        """
        for run in without:
            self._move_run(run)
        fits = self._room_at(job, cluster, slack, without) and self._may_hold(job)
        for run in without:
            self._move_run(run, -1)
        return fits

    def _room_at(self, job: int, cluster: int, slack: float, without: tuple[int, ...]) -> bool:
        jobs, nodes = self.snapshot.jobs, self.snapshot.nodes
        where, asked = self.suitable(job, cluster), jobs.request[job] > 0
        there = np.maximum(self.room[where] - slack * nodes.total[where], 0.0)[:, asked]
        most, level = np.iinfo(np.int64).max // 2, int(jobs.same[job])
        workers = np.minimum(np.floor(there / jobs.request[job][asked]).min(axis=1, initial=np.inf), most).astype(np.int64)
        workers = np.minimum(self.devices.limit(job, np.flatnonzero(where), workers, without), int(jobs.least[job]))
        groups = np.zeros(len(workers), dtype=np.int64) if level < 0 else nodes.group[where, level]
        return any(workers[groups == number].sum() >= jobs.least[job] for number in set(groups.tolist()) - {-1})

    def suitable(self, job: int, cluster: int) -> Bools:
        """[N] The nodes of a cluster that a job may use, room aside, and on which no other one is promised a start."""
        found = _suitable(self.snapshot, job, cluster)
        found[[node for other, nodes in self.promised if other != self.ways.of[job] for node in nodes]] = False
        return found

    def _may_hold(self, job: int) -> bool:
        snapshot = self.snapshot
        usable = snapshot.nodes.ready & (snapshot.clusters.healthy & ~snapshot.clusters.cordoned)[snapshot.nodes.cluster]
        queues = replace(snapshot.queues, held=np.maximum(self.held, 0.0), running=self.count)
        tree = Amounts(grow(queues, 0.0, capacity_of(snapshot), self.room[usable].sum(axis=0)))
        queue, grant = int(snapshot.jobs.queue[job]), snapshot.jobs.request[job] * snapshot.jobs.least[job]
        return tree.may_hold(queue, grant.tolist()) and not tree.is_full(queue)


def _suitable(snapshot: Snapshot, job: int, cluster: int) -> Bools:
    """[N] The nodes of a cluster that a job may use, room aside."""
    nodes, jobs, clusters = snapshot.nodes, snapshot.jobs, snapshot.clusters
    if jobs.policy[job, cluster] != Reason.FITS or not clusters.healthy[cluster] or clusters.cordoned[cluster]:
        return np.zeros(len(nodes.names), dtype=np.bool_)
    models = jobs.request[job, FIRST_ACCELERATOR:] > 0
    has_models = (nodes.total[:, FIRST_ACCELERATOR:][:, models] > 0).all(axis=1)
    found: Bools = (nodes.cluster == cluster) & nodes.ready & nodes.label_ok[jobs.label_class[job]] & has_models
    # A node may have shrunk under what runs there.
    found &= (nodes.total * (1 + ROUNDING) >= jobs.request[job]).all(axis=1) & ~shut(snapshot, job).any(axis=0)
    return found


def _rights(world: World, eviction: Eviction) -> Iterator[str]:
    """Whether the policy of the job's queue allows each victim when its turn comes."""
    snapshot, job = world.snapshot, eviction.job
    running, jobs, queues = snapshot.evictable, snapshot.jobs, snapshot.queues
    held, asked = world.together(), jobs.request[job] * jobs.least[job]
    for run, right in zip(eviction.runs, eviction.rights, strict=True):
        queue, other = int(jobs.queue[job]), int(running.queue[run])
        allowed = int(queues.preemption[queue]) >= RIGHTS[right]
        if right == "lower-priority":
            allowed = allowed and queue == other and running.rank[run] < jobs.rank[job]
        else:
            allowed = allowed and is_taken_back(queues.quota, held, *sisters(queues.parent, queue, other), asked, world.total[run])
        if not allowed:
            yield f"{jobs.ids[job]} may not have {running.ids[run]} ended by {right}"
        for at in way_up(queues.parent, other):
            held[at] -= world.total[run]


def is_taken_back(quota: Floats, held: Floats, mine: int, other: int, asked: Floats, freed: Floats) -> bool:
    """Whether the branch `mine` stays within its quota with what is asked for, and `other` gives back what it was lent of it."""
    if mine < 0 or other < 0:
        return False
    due = (asked > 0) & (quota[mine] > 0)
    within = held[mine] + asked <= quota[mine] * (1 + 2 * ROUNDING)
    lent = held[other] > quota[other]
    return bool(due.any() and within[due].all() and (due & lent & (freed > 0)).any())


def way_up(parent: Ints, queue: int) -> list[int]:
    return [queue, *way_up(parent, int(parent[queue]))] if queue >= 0 else []


def sisters(parent: Ints, one: int, other: int) -> tuple[int, int]:
    """The branches below the lowest queue (or the top) that both are below; -1 where one of them is on the other's way up."""
    ways = way_up(parent, one), way_up(parent, other)
    mine, theirs = ([at for at in way if at not in ways[1 - side]] for side, way in enumerate(ways))
    return (mine[-1] if mine else -1), (theirs[-1] if theirs else -1)


def _needs(world: World, eviction: Eviction) -> Iterator[str]:
    """That the job goes nowhere without victims in any of its ways, goes there in this one with them, and would not without any of them."""
    snapshot, job, runs = world.snapshot, eviction.job, eviction.runs
    name = snapshot.jobs.ids[job]
    if world.needs_nothing(job):
        yield f"runs are ended for {name} though it needs none of it"
    if not world.takes(job, eviction.cluster, runs):
        yield f"{name} does not fit though runs are ended for it"
    for run in runs:
        if world.takes(job, eviction.cluster, tuple(other for other in runs if other != run), slack=1.5 * ROUNDING):
            yield f"{snapshot.evictable.ids[run]} is ended for {name} without need"
    suitable = world.suitable(job, eviction.cluster)
    level = int(snapshot.jobs.same[job])
    groups = {0} if level < 0 else set(snapshot.nodes.group[list(eviction.nodes), level].tolist())
    if not suitable[list(eviction.nodes)].all() or len(groups) > 1 or -1 in groups:
        yield f"{name} may not use a node that it claims"
    room = world.room.copy()
    for run in runs:
        np.add.at(room, snapshot.evictable.node[snapshot.evictable.owner == run], snapshot.evictable.request[run])
    np.subtract.at(room, list(eviction.nodes), snapshot.jobs.request[job])
    if not (room[list(eviction.nodes)] >= 0).all():
        yield f"{name} claims more than is freed on its nodes"


def claim_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Room that a job has claimed before this plan and that others are placed in."""
    claims, jobs, nodes = snapshot.claims, snapshot.jobs, snapshot.nodes
    if not claims.ids:
        return []
    seats = {item.job: (item.choice, Counter(item.nodes)) for item in plan.placements}
    kept, used = np.zeros_like(nodes.free), np.zeros_like(nodes.free)
    for item in plan.placements:
        for node in item.nodes:
            used[node] += jobs.request[item.job]
    for claim, job in enumerate(claims.job.tolist()):
        places = np.flatnonzero(claims.owner == claim)
        where = Counter(dict(zip(claims.node[places].tolist(), claims.workers[places].tolist(), strict=True)))
        if seats.get(job) != (int(claims.choice[claim]), where):
            for place in places.tolist():
                amount = claims.request[claim] * claims.workers[place] - claims.pending[place]
                kept[claims.node[place]] += np.maximum(amount, 0.0)
    left = np.maximum(nodes.free - kept, 0.0)
    over = np.argwhere(~(used <= left + 4 * ROUNDING * nodes.total) & (kept > 0))
    return [
        f"{nodes.names[node]}: {used[node, row]:g} are placed where only {left[node, row]:g} are unclaimed" for node, row in over.tolist()
    ]
