"""Every decision by `place`, on a snapshot that is frozen anew: what the board does, for worlds that the board does not know.

It takes the same changes as `scheduler.engine.board.Board` and gives the same plans, only slower: the time of a decision grows with
everything that waits. It also promises starts to blocked jobs, from the same estimates as the server's: the parts of their limits
that the last jobs of the same group used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scheduler.engine.board import Classes, Placed
from scheduler.engine.lengths import LONG, USUAL, lasting_s, lengths_s
from scheduler.engine.place import place
from scheduler.engine.reasons import LATER
from scheduler.engine.snapshot import Floats, Ints, Jobs, Running, Snapshot
from scheduler.simulator.patience import WAITS, Patience

# So many of the last jobs of a group tell how long its next one lasts, as on the server.
OF_GROUP = 20


class Pace:
    """How long jobs may run, `limit_s[J]`, how long they do, `length_s[J]`, and what is known of that when they have ended.

    `group[J]` are jobs that are alike. The parts of their limits that the last ones of each group used are kept, newest first.
    """

    def __init__(self, limit_s: Floats, length_s: Floats, group: Ints) -> None:
        self._limit_s, self._length_s, self._group = limit_s, length_s, group
        self._parts: dict[str, list[float]] = {}

    def note(self, job: int) -> None:
        """A job has ended."""
        of_group = self._parts.setdefault(self._name(job), [])
        of_group.insert(0, min(float(self._length_s[job] / self._limit_s[job]), 1.0))
        del of_group[OF_GROUP:]

    def waiting_s(self, jobs: Ints) -> Floats:
        """[W] Seconds that jobs will run from their start."""
        return lengths_s(self._parts, [self._name(job) for job in jobs.tolist()], self._limit_s[jobs].tolist(), LONG)

    def left_s(self, job: int, elapsed_s: float) -> float:
        """Seconds until a job ends that has run for some."""
        return lasting_s(self._parts, self._name(job), float(self._limit_s[job]), USUAL, elapsed_s)

    def _name(self, job: int) -> str:
        return str(self._group[job])


class FrozenBoard:
    """A world in the order of names, without jobs, and the kinds of job in it. With `world.heads` it needs a pace, and may be patient."""

    def __init__(self, world: Snapshot, classes: Classes, pace: Pace | None = None, patience: Patience | None = None) -> None:
        self._world, self._classes, self._pace, self._patience = world, classes, pace, patience
        # When the next job starts that waits for a better hour, if nothing comes between; inf where none waits.
        self.due_s = np.inf
        self._now, self._began = 0.0, dict[int, float]()
        self._free, self._held, self._count = world.nodes.free.copy(), world.queues.held.copy(), world.queues.running.copy()
        # Columns: number, queue, rank, sequence, kind.
        self._waiting = np.zeros((0, 5), dtype=np.int64)
        self._runs: dict[int, tuple[int, int, Ints]] = {}

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def arrive(self, numbers: Ints, queue: Ints, rank: Ints, sequence: Ints, kind: Ints) -> None:
        """Jobs begin to wait."""
        self._waiting = np.concatenate([self._waiting, np.stack([numbers, queue, rank, sequence, kind], axis=1)])

    def finish(self, numbers: Sequence[int]) -> None:
        """Runs have ended; what they held is free."""
        for number in numbers:
            self._book(*self._runs.pop(number), sign=-1)
            del self._began[number]
            if self._pace is not None:
                self._pace.note(number)

    def at(self, now: float) -> None:
        """What follows happens at this time, in seconds."""
        self._now = now

    def decide(self) -> Placed:
        """Place what fits. The placed wait no longer."""
        plan = place(self.snapshot())
        patient = {item.job for item in plan.unplaced if item.blocker in LATER}
        self.due_s = self._now + min((item.start_s for item in plan.promises if item.job in patient), default=np.inf)
        numbers, ends = [], []
        nodes: list[int] = []
        for item in plan.placements:
            number, queue, _, _, kind = self._waiting[item.job].tolist()
            self._runs[number], self._began[number] = (kind, queue, np.array(item.nodes, dtype=np.int64)), self._now
            self._book(*self._runs[number], sign=1)
            numbers.append(number)
            nodes.extend(item.nodes)
            ends.append(len(nodes))
        stay = np.ones(len(self._waiting), dtype=np.bool_)
        stay[[item.job for item in plan.placements]] = False
        self._waiting = self._waiting[stay]
        clusters, scores = [item.cluster for item in plan.placements], [item.score for item in plan.placements]
        return Placed(_rows(numbers), _rows(clusters), np.array(scores, dtype=np.float64), _rows(ends), _rows(nodes))

    def snapshot(self) -> Snapshot:
        """The world as it is now, with the jobs that wait."""
        world, classes = self._world, self._classes
        number, queue, rank, sequence, kind = self._waiting.T
        jobs = Jobs(
            ids=tuple(f"job-{one}" for one in number.tolist()), queue=queue, rank=rank, sequence=sequence, workers=classes.workers[kind],
            request=classes.request[kind], label_class=classes.label_class[kind], policy=classes.policy[kind],
            transfer_s=classes.transfer_s[kind], cost=classes.cost[kind],
        )  # fmt: skip
        nodes, queues = replace(world.nodes, free=self._free), replace(world.queues, held=self._held, running=self._count)
        if self._pace is None or not world.heads:
            return replace(world, nodes=nodes, queues=queues, jobs=jobs)
        jobs = replace(jobs, length_s=self._pace.waiting_s(number))
        if self._patience is not None:
            jobs = self._patience.priced(jobs, number, self._now)
            world = replace(world, later=self._patience.later(jobs, number, self._now), waits=WAITS)
        return replace(world, nodes=nodes, queues=queues, jobs=jobs, running=self._running_on(self._pace))

    def _running_on(self, pace: Pace) -> Running:
        runs, classes = list(self._runs.items()), self._classes
        seats = [(row, node) for row, (_, (_, _, nodes)) in enumerate(runs) for node in nodes.tolist()]
        return Running(
            ids=tuple(f"run-{number}" for number, _ in runs), request=classes.request[[kind for _, (kind, _, _) in runs]],
            ends_s=np.array([pace.left_s(number, self._now - self._began[number]) for number, _ in runs], dtype=np.float64),
            run=_rows([row for row, _ in seats]), node=_rows([node for _, node in seats]),
        )  # fmt: skip

    def _book(self, kind: int, queue: int, nodes: Ints, sign: int) -> None:
        request = self._classes.request[kind]
        np.subtract.at(self._free, nodes, sign * request)
        self._held[queue] += sign * request * len(nodes)
        self._count[queue] += sign


def _rows(numbers: list[int]) -> Ints:
    return np.array(numbers, dtype=np.int64)
