"""Preempt: which runs are ended to make room for jobs that found none, at the least cost and never more than needed.

Jobs that found no room are looked at in the order of their turns, then those that their queues hold back, in the order that theirs would
have without limits. For each:
1. does it fit once what is ending anyway has ended? then it waits, and nobody who comes later is helped to that room; 2. whom may it
have ended (`reclaim`)? what was lent comes first, lower priorities only where that does not suffice; 3. at each cluster, for one
worker on each node, take victims from the cheapest on until the job fits; 4. give back, from the dearest on, each that turns out
unneeded; 5. of all places the cheapest is chosen: there the job claims its seats. The cost of a victim is its priority first, then the
work that is lost, by what it holds and how often it began again.

A job that may be run in several ways is asked about in each of them: it waits if any of them suffices once what is ending has ended, and of
the victims that are found for each way the cheapest are taken. Where they cost the same, the job's preference decides, then the order of
its ways. For an elastic job room is made for as many workers as it needs at least.

No circle: each eviction points from a beneficiary to a victim, and a job may not have one ended that had itself ended before, directly
or through others. So the arrows of all evictions never close, whatever happens between two plans.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from scheduler.engine.alternatives import ways_of, with_alternatives
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.freed_devices import FreedDevices
from scheduler.engine.gang import pack, workers_per_node
from scheduler.engine.plan import Eviction, Placement, Promise
from scheduler.engine.reclaim import Holdings
from scheduler.engine.scores import joint_totals
from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Snapshot
from scheduler.engine.tree import capacity_of, free_of, per_unit

T = TypeVar("T")
# What ending a run and beginning it again costs besides the work that is lost.
AGAIN_S = 30.0


@dataclass(frozen=True, eq=False)
class Ground:
    """What `place` knows: `usable(row)` are the nodes that nothing stands against but room, `share[N, R]` as in `pack`.

    Rows are those of `with_alternatives`.
    """

    usable: Callable[[int], Ints]
    share: Floats


@dataclass(frozen=True)
class Cover:
    """Victims that suffice at some nodes, with the right by which each is ended."""

    key: tuple[int, float, int, int]
    runs: tuple[int, ...]
    rights: tuple[PreemptionPolicy, ...]
    nodes: Ints


def evict(
    snapshot: Snapshot, ground: Ground, blocked: Sequence[int], placements: Sequence[Placement], promises: Sequence[Promise]
) -> tuple[Eviction, ...]:
    """Whom to end for which of the `blocked` jobs, which come in the order in which they are helped; the snapshot comes from `by_name`.

    In it placed jobs ask for what they were given. Nobody claims room on nodes on which another job is promised a start.
    """
    if not snapshot.evictable.ids or not (snapshot.queues.preemption > PreemptionPolicy.NEVER).any():
        return ()
    search, found, looks = Search(snapshot, ground, placements, promises), [], snapshot.budget.looks
    for job in blocked:
        if search.left <= 0 or looks <= 0:
            break
        if not search.may_benefit(job):
            continue
        looks -= 1
        eviction = search.look(job)
        if eviction is not None:
            found.append(eviction)
    return tuple(found)


class Search:
    """The state of one plan's choice of victims. A `row` is that of one of the `ways[job]` to run a job, as in `with_alternatives`."""

    def __init__(self, snapshot: Snapshot, ground: Ground, placements: Sequence[Placement], promises: Sequence[Promise]) -> None:
        self.ways = ways_of(snapshot)
        self._job_of = list(range(len(self.ways))) + ([] if snapshot.further is None else snapshot.further.of.tolist())
        snapshot = with_alternatives(snapshot)
        running, jobs, claims = snapshot.evictable, snapshot.jobs, snapshot.claims
        self._snapshot, self._ground = snapshot, ground
        self.holdings = Holdings(snapshot, placements)
        self.left = snapshot.budget.runs
        self._promised = {item.job: item.nodes for item in promises}
        self._reserved = [np.array(item.nodes, dtype=np.int64) for item in snapshot.promised]
        self._claimed = set(claims.job.tolist())
        self._of_array: Counter[int] = Counter()
        for job in {*(item.job for item in placements), *self._claimed} - {-1}:
            self._of_array[int(jobs.array[job])] += 1
        self._hopeless: set[tuple[object, ...]] = set()
        self._devices = FreedDevices(snapshot, placements)
        # [N, R] What jobs that were looked at wait for, of what is ending: theirs before anybody's whose turn is later.
        self._awaited = np.zeros_like(snapshot.nodes.free)
        self._room = snapshot.nodes.free + ROUNDING * snapshot.nodes.total
        for item in placements:
            np.subtract.at(self._room, np.array(item.nodes, dtype=np.int64), jobs.request[item.job])
        if claims.ids:
            waits = ~np.isin(claims.job, [item.job for item in placements])[claims.owner]
            np.subtract.at(self._room, claims.node[waits], claims.asked()[waits])
        ending = running.ending[running.owner]
        np.add.at(self._room, running.node[ending], running.request[running.owner[ending]])
        shares = (self.holdings.total * per_unit(capacity_of(snapshot))).max(axis=1, initial=0.0)
        self._cost = (AGAIN_S + running.lost_s) * (1 + running.restarts) * shares
        self._open = ~running.ending & ~running.fixed & (running.restarts < snapshot.budget.restarts)
        by_run = np.argsort(running.owner, kind="stable")
        self._seats: list[Ints] = np.split(running.node[by_run], np.cumsum(running.workers())[:-1])
        self._nodes = [tuple(dict.fromkeys(seats.tolist())) for seats in self._seats]
        self._order = sorted(range(len(running.ids)), key=self._rank_and_cost)
        self._ended_by: dict[str, set[str]] = defaultdict(set)
        for beneficiary, victim in running.past:
            self._ended_by[victim].add(beneficiary)

    def may_benefit(self, job: int) -> bool:
        """Whether it makes sense to look for victims for a job."""
        allowed = self._snapshot.queues.preemption[self._snapshot.jobs.queue[job]] > PreemptionPolicy.NEVER
        return bool(allowed) and self.may_claim(job) and self.kind(job) not in self._hopeless

    def may_claim(self, job: int) -> bool:
        """Whether a job has claimed nothing, and its array would let it start."""
        array = int(self._snapshot.jobs.array[job])
        may_start = array < 0 or self._of_array[array] < int(self._snapshot.jobs.array_left[job])
        return may_start and job not in self._claimed

    def seats(self, run: int) -> Ints:
        """The node of each worker of a run, by rank."""
        return self._seats[run]

    def look(self, job: int) -> Eviction | None:
        """The cheapest victims for a job, booked; None when it needs none or finds none."""
        usable = {row: self.usable(row) for row in self.ways[job]}
        if self.waits_for_ends(job, usable):
            return None
        covers = self._covers(usable, PreemptionPolicy.RECLAIM_QUOTA) or self._covers(usable, PreemptionPolicy.LOWER_PRIORITY)
        found = [(row, trimmed) for row, cover in covers if (trimmed := self._trimmed(row, usable[row], cover)) is not None]
        if not found:
            self._hopeless.add(self.kind(job))
            return None
        least = min(cover.key[:3] for _, cover in found)
        row, _, best = self.preferred(job, [(row, cover.nodes, cover) for row, cover in found if cover.key[:3] == least])[0]
        seats = self.book(row, best)
        self.left -= len(best.runs)
        for run in best.runs:
            self._open[run] = False
            self._ended_by[self._snapshot.evictable.jobs[run]].add(self._snapshot.jobs.ids[job])
        cluster = int(self._snapshot.nodes.cluster[seats[0]])
        rights = tuple(right.label for right in best.rights)
        return Eviction(job, cluster, tuple(seats.tolist()), best.runs, rights, self.ways[job].index(row))

    def _covers(self, usable: Mapping[int, Ints], right: PreemptionPolicy) -> list[tuple[int, Cover]]:
        """The cheapest victims by this right or a stronger one for each way to run a job for which there are any."""
        return [(row, cover) for row, nodes in usable.items() if (cover := self._cheapest(row, nodes, right)) is not None]

    def waits_for_ends(self, job: int, usable: Mapping[int, Ints]) -> bool:
        """Whether a job fits in one of its ways once what is ending has ended; if so, it waits for that room.

        `usable` are the nodes that it may use in each of its ways.
        """
        enough = [
            (row, nodes, None) for row, there in usable.items() for nodes in self.together(row, there) if self.suffices(row, nodes, ())
        ]
        if job not in self._promised:
            # What is promised is kept already. Else it is the first place where those before the job leave enough.
            left = (place for place in self.preferred(job, enough) if self.is_left(place[0], place[1], ()))
            for row, nodes, _ in islice(left, 1):
                self._await(row, nodes)
        return bool(enough)

    def preferred(self, job: int, places: list[tuple[int, Ints, T]]) -> list[tuple[int, Ints, T]]:
        """Places, each a way's row, some nodes of a cluster, and anything, in the order in which a job prefers its ways there."""
        ways, home = self.ways[job], self._snapshot.nodes.cluster
        if len(ways) == 1 or len(places) < 2:
            return places
        pairs = [(ways.index(row), int(home[nodes[0]])) for row, nodes, _ in places]
        candidates = np.zeros((len(ways), len(self._snapshot.clusters.names)), dtype=np.bool_)
        candidates[tuple(zip(*pairs, strict=True))] = True
        scores = joint_totals(self._snapshot, ways, candidates)
        order = sorted(range(len(places)), key=lambda place: (float(scores[pairs[place]]), pairs[place][0], place))
        return [places[place] for place in order]

    def _cheapest(self, row: int, usable: Ints, right: PreemptionPolicy) -> Cover | None:
        """The cheapest victims of all places that the job might take, ended by this right or a stronger one."""
        candidates = self._candidates(row, right)
        ordered = [run for run in self._order if candidates[run]]
        on_node: dict[int, list[int]] = defaultdict(list)
        for run in ordered:
            for node in self._nodes[run]:
                on_node[node].append(run)
        scopes = []
        for nodes in self._scopes(row, usable, candidates):
            there = set().union(*(on_node[node] for node in nodes.tolist()))
            here = on_node[int(nodes[0])] if len(nodes) == 1 else [run for run in ordered if run in there]
            if here:
                scopes.append((self._rank_and_cost(here[0])[:2], int(nodes[0]), nodes, here))
        best: Cover | None = None
        for least, _, nodes, here in sorted(scopes, key=lambda scope: scope[:2]):
            if best is not None and best.key[:2] < least:
                break  # Nothing can cost less than the cheapest run there.
            best = self._cheaper(best, self._cover(row, nodes, here, right))
        if ordered and best is None and self.holdings.is_limited(row):
            # Its queue may be full rather than the nodes: then a victim elsewhere helps too.
            for nodes in self.together(row, usable):
                best = self._cheaper(best, self._cover(row, nodes, ordered, right))
        return best

    def _trimmed(self, row: int, usable: Ints, cover: Cover) -> Cover | None:
        """Without victims that are not needed once the job may go anywhere at the cluster: one may free a place in a full queue too."""
        rights = dict(zip(cover.runs, cover.rights, strict=True))
        runs, nodes, home = list(cover.runs), cover.nodes, self._snapshot.nodes.cluster
        places = [place for place in self.together(row, usable) if home[place[0]] == home[nodes[0]]]
        for run in sorted(cover.runs, key=self._rank_and_cost, reverse=True):
            rest = [other for other in runs if other != run]
            there = next((place for place in places if self._suffice(row, place, rest)), None)
            if there is not None:
                runs, nodes = rest, there
        found = Cover(self._key(runs, nodes), tuple(runs), tuple(rights[run] for run in runs), nodes)
        return found if self._are_due(row, runs, rights) and self.is_left(row, nodes, runs) else None

    def _cheaper(self, best: Cover | None, other: Cover | None) -> Cover | None:
        if other is None or len(other.runs) > self.left:
            return best
        return other if best is None or other.key < best.key else best

    def _candidates(self, row: int, right: PreemptionPolicy) -> Bools:
        """[V] Runs that the job may have ended by this right or a stronger one, if nobody else was ended before."""
        found: Bools = self._open & (self.holdings.rights(row) >= right)
        above = self._above(self._snapshot.jobs.ids[row])
        for run in np.flatnonzero(found).tolist() if above else ():
            found[run] = self._snapshot.evictable.jobs[run] not in above
        return found

    def _scopes(self, row: int, usable: Ints, candidates: Bools) -> Iterator[Ints]:
        """Nodes that may suffice together once all candidates on them have ended: single ones for one worker, else a cluster's."""
        jobs, running = self._snapshot.jobs, self._snapshot.evictable
        room, theirs = self._room.copy(), candidates[running.owner]
        np.add.at(room, running.node[theirs], running.request[running.owner[theirs]])
        rooms = workers_per_node(room[usable], jobs.request[row])
        if jobs.least[row] == 1:
            touched = np.isin(usable, running.node[theirs])
            yield from usable[touched & (rooms > 0)][:, None]
            return
        for nodes in self.together(row, usable):
            if rooms[np.isin(usable, nodes)].sum() >= jobs.least[row]:
                yield nodes

    def _cover(self, row: int, nodes: Ints, candidates: Sequence[int], right: PreemptionPolicy) -> Cover | None:
        """From the cheapest on until the job fits on these nodes, then without those that are not needed."""
        chosen: list[int] = []
        rights: dict[int, PreemptionPolicy] = {}
        fits = False
        for run in candidates:
            # What is ended on the way changes what is lent still.
            rights[run] = self.holdings.may_end(row, run)
            if rights[run] < right:
                continue
            chosen.append(run)
            self.holdings.release(run)
            if fits := self.suffices(row, nodes, chosen):
                break
        for run in sorted(chosen, key=self._rank_and_cost, reverse=True) if fits else ():
            rest = [other for other in chosen if other != run]
            self.holdings.release(run, -1)
            if self.suffices(row, nodes, rest):
                chosen = rest
            else:
                self.holdings.release(run)
        for run in chosen:
            self.holdings.release(run, -1)
        if not fits or not self._are_due(row, chosen, rights) or not self.is_left(row, nodes, chosen):
            return None
        return Cover(self._key(chosen, nodes), tuple(chosen), tuple(rights[run] for run in chosen), nodes)

    def _key(self, runs: Sequence[int], nodes: Ints) -> tuple[int, float, int, int]:
        """What decides between sets of victims: the highest priority, what is lost, how many they are, and where."""
        return max(self._rank_and_cost(run)[0] for run in runs), float(self._cost[list(runs)].sum()), len(runs), int(nodes[0])

    def _are_due(self, row: int, chosen: Sequence[int], rights: dict[int, PreemptionPolicy]) -> bool:
        """Whether each may be ended by its right still, when those that were given back are not ended before it."""
        due = True
        for run in chosen:
            due = due and self.holdings.may_end(row, run) >= rights[run]
            self.holdings.release(run)
        for run in chosen:
            self.holdings.release(run, -1)
        return due

    def _await(self, row: int, nodes: Ints) -> None:
        """Keep room on these nodes for a job that waits for it."""
        jobs = self._snapshot.jobs
        left = self._room[nodes] - self._awaited[nodes]
        rooms = self._devices.limit(row, nodes, workers_per_node(left, jobs.request[row]))
        seats = nodes[pack(rooms, left, jobs.request[row], self._ground.share[nodes], int(jobs.least[row]))]
        np.add.at(self._awaited, seats, jobs.request[row])

    def is_left(self, row: int, nodes: Ints, runs: Sequence[int]) -> bool:
        """Whether what `suffices` asks holds beside what those before wait for, for runs that count for their queues still."""
        if not self._awaited[nodes].any():
            return True
        room, self._room = self._room, self._room - self._awaited
        fits = self._suffice(row, nodes, runs)
        self._room = room
        return fits

    def _suffice(self, row: int, nodes: Ints, runs: Sequence[int]) -> bool:
        for run in runs:
            self.holdings.release(run)
        fits = self.suffices(row, nodes, runs)
        for run in runs:
            self.holdings.release(run, -1)
        return fits

    def suffices(self, row: int, nodes: Ints, runs: Sequence[int]) -> bool:
        """Whether all workers fit on these nodes, which are in order, once these runs have ended, and the queue may hold them."""
        jobs, room = self._snapshot.jobs, self._room[nodes]
        for run in runs:
            seats = self._seats[run]
            at = np.minimum(np.searchsorted(nodes, seats), len(nodes) - 1)
            np.add.at(room, at[nodes[at] == seats], self._snapshot.evictable.request[run])
        rooms = self._devices.limit(row, nodes, workers_per_node(room, jobs.request[row]), runs)
        fits = int(rooms.sum()) >= int(jobs.least[row])
        return fits and (not self.holdings.is_limited(row) or self.holdings.may_hold(row, self._free(runs)))

    def _free(self, runs: Sequence[int]) -> Floats:
        """[R] What is free in the network once these runs have ended."""
        room = self._room.copy()
        for run in runs:
            np.add.at(room, self._seats[run], self._snapshot.evictable.request[run])
        return free_of(replace(self._snapshot, nodes=replace(self._snapshot.nodes, free=room)))

    def book(self, row: int, cover: Cover) -> Ints:
        """[W] Seat a job in the room that its victims leave."""
        jobs, nodes = self._snapshot.jobs, cover.nodes
        for run in cover.runs:
            np.add.at(self._room, self._seats[run], self._snapshot.evictable.request[run])
            self.holdings.release(run)
            self._devices.release(run)
        left = self._room[nodes] - self._awaited[nodes]
        rooms = self._devices.limit(row, nodes, workers_per_node(left, jobs.request[row]))
        seats = nodes[pack(rooms, left, jobs.request[row], self._ground.share[nodes], int(jobs.least[row]))]
        np.subtract.at(self._room, seats, jobs.request[row])
        self._devices.seat(row, seats)
        self.holdings.hold(row)
        self._of_array[int(jobs.array[row])] += 1
        return seats

    def usable(self, row: int) -> Ints:
        """The nodes that a job may use and that are promised to nobody else, and of a group where its workers must be in one."""
        usable, level = self._ground.usable(row), int(self._snapshot.jobs.same[row])
        others = [np.array(nodes, dtype=np.int64) for other, nodes in self._promised.items() if other != self._job_of[row]] + self._reserved
        if others:
            usable = usable[~np.isin(usable, np.concatenate(others))]
        return usable if level < 0 else usable[self._snapshot.nodes.group[usable, level] >= 0]

    def together(self, row: int, usable: Ints) -> Iterator[Ints]:
        """Usable nodes on which workers may be together: those of a cluster, or of a group of it; rows are in the order of clusters."""
        nodes, level = self._snapshot.nodes, int(self._snapshot.jobs.same[row])
        for part in np.split(usable, np.flatnonzero(np.diff(nodes.cluster[usable])) + 1):
            if level < 0 and part.size:
                yield part
            elif level >= 0:
                group = nodes.group[part, level]
                yield from (part[group == number] for number in dict.fromkeys(group.tolist()))

    def _rank_and_cost(self, run: int) -> tuple[int, float, str]:
        return int(self._snapshot.evictable.rank[run]), float(self._cost[run]), self._snapshot.evictable.ids[run]

    def _above(self, job_id: str) -> frozenset[str]:
        """The jobs that had this one ended, those that had these ended, and so on."""
        found: set[str] = set()
        ahead = list(self._ended_by.get(job_id, ()))
        while ahead:
            other = ahead.pop()
            if other not in found:
                found.add(other)
                ahead.extend(self._ended_by.get(other, ()))
        return frozenset(found)

    def kind(self, job: int) -> tuple[object, ...]:
        """Jobs of one kind find the same victims, or none."""
        jobs = self._snapshot.jobs
        ways = [
            part for row in self.ways[job] for part in (jobs.request[row].tobytes(), jobs.policy[row].tobytes(), self.usable(row).tobytes())
        ]
        return (
            int(jobs.queue[job]), int(jobs.rank[job]), int(jobs.least[job]), int(jobs.label_class[job]), int(jobs.same[job]),
            self._above(jobs.ids[job]), *ways,
        )  # fmt: skip
