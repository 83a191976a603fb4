"""Inquiry: where one more job would start now, in a world in which others wait.

The answer is the one that `place` gives when it is asked about that job together with those that go before it (a property test holds
both against each other), at a fraction of the price. Nothing is found out about the others but what the job in question depends on,
and that once for all questions to a world: in one that a plan left, those before it find no room, so their turns leave nothing
behind but promised starts, which are remembered by the turns that led to them. Where one of them does start, nothing is
remembered from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scheduler.engine.aftermath import only_jobs
from scheduler.engine.alternatives import ways_of
from scheduler.engine.array_limits import ArrayLimits
from scheduler.engine.foresight import Foresight
from scheduler.engine.order import Turns, by_name, with_jobs
from scheduler.engine.place import pass_over, start
from scheduler.engine.seating import Room
from scheduler.engine.snapshot import Floats, Snapshot


@dataclass(frozen=True)
class Start:
    """Where a job would start now: the row of the cluster, those of its workers' nodes, the score (0 is best), and by which way."""

    cluster: int
    nodes: tuple[int, ...]
    score: float
    choice: int = 0


@dataclass(frozen=True, eq=False)
class _Known:
    """What is promised once some jobs had their turns, and the next of these turns: by the job and those of its ways that it may use."""

    foresight: Foresight
    then: dict[tuple[int, tuple[int, ...]], _Known] = field(default_factory=dict)


class Inquiry:
    """Questions to one world, each about one more job. It may be asked by several threads at once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._named = by_name(only_jobs(snapshot, ()))
        self._room = Room(self._named.snapshot)
        self._begin = _Known(self._room.foresight)

    def start(self, asked: Snapshot, before: Sequence[int]) -> Start | None:
        """Where the last job of a world would start now; None where it waits.

        `asked` is the world of this inquiry with other jobs, and labels and groups of nodes that they ask for: the last is the one in
        question, the others are rows `before[J - 1]` of the inquiry's own jobs.
        """
        turn = _Turn(self._room, self._begin, with_jobs(self._named, asked), before)
        best = turn.room.best(turn.ways, [turn.turns.most(turn.job, way) for way in turn.ways]) if turn.ways else None
        if best is None:
            return None
        nodes = self._named.nodes[turn.room.seat(best.row, best.cluster, best.rooms, best.workers)]
        choice = turn.room.ways[turn.job].index(best.row)
        return Start(int(self._named.clusters[best.cluster]), tuple(nodes.tolist()), best.score, choice)

    def spare(self, asked: Snapshot, before: Sequence[int]) -> Floats:
        """[N, R] What the last job of a world may take on each node when its turn comes, without delaying whom a start is promised."""
        turn = _Turn(self._room, self._begin, with_jobs(self._named, asked), before)
        spare = turn.room.foresight.spare(turn.job)
        found = np.empty_like(spare)
        found[self._named.nodes] = spare
        return found


class _Turn:
    """The turn of the last job of a world: the room that there is then, and those `ways` to run it that its queue lets it use.

    There are none where its turn never comes.
    """

    def __init__(self, base: Room, begin: _Known, world: Snapshot, before: Sequence[int]) -> None:
        self.job, self.turns = len(before), Turns(world)
        limits, ways = ArrayLimits(world.jobs), ways_of(world)
        known: _Known | None = begin
        # Made when it is needed, because what is known needs none; where somebody starts there is one of its own.
        room: Room | None = None
        while (job := self.turns.next()) is not None and job != self.job:
            if not limits.may_start(job):
                self.turns.pass_over(job)
                continue
            rows = self.turns.ways(job)
            turn = before[job], tuple(ways[job].index(row) for row in rows)
            if known is not None and turn in known.then:
                known, room = known.then[turn], None
                self.turns.pass_over(job)
                continue
            if room is None:
                assert known is not None
                room = base.beside(world, known.foresight)
            best = room.best(rows, [self.turns.most(job, row) for row in rows])
            if room.waits(job, rows, best):
                self.turns.pass_over(job)
            elif best is not None:
                room, known = room if known is None else room.beside(world, room.foresight, apart=True), None
                start(room, self.turns, limits, job, best)
                continue
            else:
                pass_over(room, self.turns, job, rows)
            if known is not None:
                known.then[turn] = _Known(room.foresight.again(room.snapshot))
                known = known.then[turn]
        if room is None:
            assert known is not None
            room = base.beside(world, known.foresight)
        self.room = room
        self.ways = self.turns.ways(self.job) if job == self.job and limits.may_start(job) else ()
