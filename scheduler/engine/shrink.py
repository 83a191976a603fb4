"""Shrink: gangs that give workers up for jobs that found no room; tried before any run is ended, because no work is lost by it.

What a gang was granted in its turn is its own. Room that it grew into was nobody's, and is as good as free to whoever waits, by whatever
policy; so that a gang that grows stands in nobody's way. Below what is its own a gang shrinks, never under its least, where the
policy of the job's queue would let it end the run (`reclaim`). For each job, in the order of their turns: 1. does it fit once what
is ending anyway has ended? then it waits; 2. in each place, take workers, the highest rank first and grown room first, until the
job fits; 3. give back what turns out not to be needed; 4. of all places the one where least is taken, and least of what is owned. A job
that may be run in several ways is asked about in each of them, as by `preempt`.

Room is made for as many workers as a job needs at least, and by shrinking alone: who would need runs ended as well is left to `preempt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.parts import by_worker
from scheduler.engine.plan import Placement, Promise, Shrink
from scheduler.engine.preempt import Cover, Ground, Search
from scheduler.engine.snapshot import Ints, Snapshot

GROWN_ROOM = "grown-room"


class _Taken(NamedTuple):
    """A part that a gang gives up, by its row, and by which right: NEVER for room that it had grown into."""

    row: int
    right: PreemptionPolicy


class _Offer(NamedTuple):
    """What is taken for a job to fit on some nodes in one of its ways, of which so many workers are owned by their gangs."""

    row: int
    owned: int
    nodes: Ints
    taken: tuple[_Taken, ...]


def shrink(
    snapshot: Snapshot, ground: Ground, blocked: Sequence[int], placements: Sequence[Placement], promises: Sequence[Promise]
) -> tuple[Shrink, ...]:
    """Which gangs give up workers for which of the `blocked` jobs, as in `evict`."""
    running = snapshot.evictable
    if not running.ids or not ((running.least < running.workers()) & ~running.ending).any():
        return ()
    search, found, looks = _Shrinking(snapshot, ground, placements, promises), [], snapshot.budget.looks
    for job in blocked:
        if looks <= 0:
            break
        if search.may_ask(job):
            looks -= 1
            item = search.look(job)
            found += [item] if item is not None else []
    return tuple(found)


class _Shrinking:
    """The state of one plan's choice of workers that leave."""

    def __init__(self, snapshot: Snapshot, ground: Ground, placements: Sequence[Placement], promises: Sequence[Promise]) -> None:
        running = snapshot.evictable
        floors = np.where(running.ending, running.workers(), running.least)
        self._parts = by_worker(running, floors)
        self._snapshot = replace(snapshot, evictable=self._parts.evictable)
        self._search = Search(self._snapshot, ground, placements, promises)
        self._runs, self._floors = running, floors
        # How many workers each gang has left while the plan is made.
        self._kept = running.workers()
        self._hopeless: set[tuple[object, ...]] = set()

    def may_ask(self, job: int) -> bool:
        """Whether it makes sense to look for room for a job."""
        return self._search.may_claim(job) and self._search.kind(job) not in self._hopeless

    def look(self, job: int) -> Shrink | None:
        """The least that is taken for a job, booked; None when it needs nothing or finds nothing."""
        search, usable = self._search, {row: self._search.usable(row) for row in self._search.ways[job]}
        if search.waits_for_ends(job, usable):
            return None
        found = [
            offer for row, there in usable.items() for nodes in search.together(row, there) if (offer := self._take(row, nodes)) is not None
        ]
        if not found:
            self._hopeless.add(search.kind(job))
            return None
        least = min((offer.owned, len(offer.taken)) for offer in found)
        cheapest = [(offer.row, offer.nodes, offer) for offer in found if (offer.owned, len(offer.taken)) == least]
        best = search.preferred(job, cheapest)[0][2]
        rows, rights = tuple(item.row for item in best.taken), tuple(item.right for item in best.taken)
        seats = search.book(best.row, Cover((0, 0.0, 0, 0), rows, rights, best.nodes))
        gangs: dict[int, tuple[int, PreemptionPolicy]] = {}
        for item in best.taken:
            gang = int(self._parts.gang[item.row])
            kept, right = gangs.get(gang, (int(self._kept[gang]), PreemptionPolicy.NEVER))
            gangs[gang] = min(kept, int(self._parts.rank[item.row])), max(right, item.right)
        for gang, (kept, _) in gangs.items():
            self._kept[gang] = kept
        cluster = int(self._snapshot.nodes.cluster[seats[0]])
        # Whose own workers leave in the order in which they do, because what is given up on the way changes what is lent.
        owned = [int(self._parts.gang[item.row]) for item in best.taken if item.right > PreemptionPolicy.NEVER]
        order = list(dict.fromkeys([*owned, *sorted(gangs, key=self._runs.ids.__getitem__)]))
        words = tuple(gangs[gang][1].label if gangs[gang][1] else GROWN_ROOM for gang in order)
        pairs = tuple((gang, gangs[gang][0]) for gang in order)
        return Shrink(job, cluster, tuple(seats.tolist()), pairs, words, search.ways[job].index(best.row))

    def _take(self, job: int, nodes: Ints) -> _Offer | None:
        """What gangs give up so that a job fits on some nodes in a way, which is given by its row; None if it never does."""
        search, holdings, taken = self._search, self._search.holdings, list[_Taken]()
        fits = False
        for item in self._offers(job, nodes):
            taken.append(item)
            holdings.release(item.row)
            if fits := search.suffices(job, nodes, [one.row for one in taken]):
                break
        if fits:
            taken = self._without_need(job, nodes, taken)
        for item in taken:
            holdings.release(item.row, -1)
        if not fits or not self._are_due(job, taken) or not search.is_left(job, nodes, [item.row for item in taken]):
            return None
        return _Offer(job, sum(item.right > PreemptionPolicy.NEVER for item in taken), nodes, tuple(taken))

    def _offers(self, job: int, nodes: Ints) -> Iterator[_Taken]:
        """Parts in the order in which they are taken: what gangs have grown into, then what is theirs, where the job has a right to it.

        Whoever has lower priority and has grown most comes first. What is released on the way changes rights.
        """
        search, limited = self._search, self._search.holdings.is_limited(job)
        useful = [gang for gang in range(len(self._runs.ids)) if self._floors[gang] < self._kept[gang]]
        if not limited:
            useful = [gang for gang in useful if any(np.isin(search.seats(row), nodes).any() for row in self._open(gang))]
        grown = np.maximum(self._kept - np.maximum(self._runs.own, self._floors), 0)
        useful.sort(key=lambda gang: (int(self._runs.rank[gang]), -int(grown[gang]), self._runs.ids[gang]))
        for owned in (False, True):
            for gang in useful:
                for row in self._open(gang):
                    is_own = self._parts.rank[row] < self._runs.own[gang]
                    if is_own != owned:
                        continue
                    right = search.holdings.may_end(job, row) if is_own else PreemptionPolicy.NEVER
                    if is_own and right == PreemptionPolicy.NEVER:
                        break
                    yield _Taken(row, right)

    def _open(self, gang: int) -> list[int]:
        """The parts that a gang may give up still, the highest rank first."""
        rows = self._parts.rows(gang, int(self._floors[gang]))
        return [row for row in rows if 0 < self._parts.rank[row] < self._kept[gang]]

    def _without_need(self, job: int, nodes: Ints, taken: list[_Taken]) -> list[_Taken]:
        """Without what is not needed, from what was taken last on; each gang gets back its lower ranks first."""
        for gang in dict.fromkeys(int(self._parts.gang[item.row]) for item in reversed(taken)):
            while mine := [item for item in taken if self._parts.gang[item.row] == gang]:
                rest = [item for item in taken if item is not mine[-1]]
                self._search.holdings.release(mine[-1].row, -1)
                if not self._search.suffices(job, nodes, [item.row for item in rest]):
                    self._search.holdings.release(mine[-1].row)
                    break
                taken = rest
        return taken

    def _are_due(self, job: int, taken: list[_Taken]) -> bool:
        """Whether each may be taken by its right still, when those that were given back are not taken before it."""
        due, holdings = True, self._search.holdings
        for item in taken:
            due = due and (item.right == PreemptionPolicy.NEVER or holdings.may_end(job, item.row) >= item.right)
            holdings.release(item.row)
        for item in taken:
            holdings.release(item.row, -1)
        return due
