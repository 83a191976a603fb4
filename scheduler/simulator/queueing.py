"""Jobs that run to their end once they start: events on a virtual clock, a decision after each.

Nothing happens between two events, so the clock jumps from one to the next: jobs arrive, runs end, restraint ends. All events
of one time come before its decision, ends before arrivals. What a policy may know is what was asked for; how long a job
really takes is known to the clock alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from time import perf_counter

import numpy as np

from scheduler.engine.backfill_kernel import pass_by, start_in_order
from scheduler.engine.estimates import History
from scheduler.engine.restraint import LOOK_AGAIN_S, MEMORY, free_for_all, held_until, pressure
from scheduler.engine.rooms import hold
from scheduler.engine.snapshot import Bools, Ints
from scheduler.simulator.line import Line
from scheduler.simulator.outcome import Outcome
from scheduler.simulator.policies import Ordered
from scheduler.simulator.promises import Promises
from scheduler.simulator.running import Running
from scheduler.simulator.world import World
from scheduler.traces.trace import WHOLE

Progress = Callable[[int], None]


class Queueing:
    """One simulation. `run()` may be called once."""

    def __init__(self, world: World, policy: Ordered, backfill: str) -> None:
        self.world, self.policy, self.backfill = world, policy, backfill
        self.room = world.room.copy()
        self.line, self.running, self.history = Line(world, policy), Running(), History()
        self.promises = Promises(world, self.line, self.running) if backfill == "conservative" else None
        self.outcome = Outcome.empty(len(world.trace))
        self.arrivals = np.flatnonzero(world.fits)
        self.came, self.now, self.wake_s = 0, 0.0, np.inf
        self._ends: list[tuple[float, int]] = []
        self._started, self._models = (np.zeros(len(self.arrivals), dtype=np.int64) for _ in range(2))
        self._units = np.ceil(world.size / WHOLE).astype(np.int64)
        self._speed, self._idle = world.asks.speed, int(world.capacity // WHOLE)

    def run(self, progress: Progress = lambda _done: None) -> Outcome:
        """All jobs, to the end of the last."""
        began, submit_s = perf_counter(), self.world.trace.submit_s[self.arrivals]
        ended = 0
        while self.came < len(self.arrivals) or self._ends or len(self.line):
            next_s = submit_s[self.came] if self.came < len(submit_s) else np.inf
            self.now = min(float(next_s), self._ends[0][0] if self._ends else np.inf, self.wake_s)
            ended += self._end()
            if next_s <= self.now:
                self._arrive(int(np.searchsorted(submit_s, self.now, side="right")))
            if len(self.line):
                self._decide()
            if self.outcome.cycles % 1024 == 0:
                progress(ended)
        progress(ended)
        self.outcome.wall_s = perf_counter() - began
        return self.outcome

    def _end(self) -> int:
        """Runs that end now give back what they held."""
        count, world = 0, self.world
        while self._ends and self._ends[0][0] <= self.now:
            job = heapq.heappop(self._ends)[1]
            hold(self.room, world.asks, job, world.seats, -1)
            self.running.remove(job)
            self._idle += int(self._units[job])
            self.line.held[world.trace.group[job]] -= world.share[job]
            self.history.note(self._owner(job), float(world.trace.work[job] / world.trace.limit[job]))
            if self.promises is not None:
                self.promises.end(self.now, job)
            count += 1
        return count

    def _owner(self, job: int) -> int:
        group = int(self.world.trace.group[job])
        return group if self.world.trace.groups[group] else -1

    def _arrive(self, until: int) -> None:
        jobs = self.arrivals[self.came : until]
        self.came = until
        if self.policy.restrained:
            owners = np.array([self._owner(job) for job in jobs.tolist()])
            self.line.length_s[jobs] = self.history.expected(owners, self.world.limit_s[jobs])
            self.line.rank(jobs)
        self.line.add(jobs)

    def _decide(self) -> None:
        """Order the line, start what may start, and note it."""
        began = perf_counter()
        order, self.wake_s = self.line.order(self.now), np.inf
        if self.policy.restrained:
            order = order[self._free_to_start(order)]
        if self.promises is not None:
            count, self.wake_s = self.promises.start(self.now, order, self.room, self._started, self._models, self.wake_s)
            self._note(count)
        else:
            self._start(order)
        self.outcome.decision_s += perf_counter() - began
        self.outcome.cycles += 1

    def _start(self, order: Ints) -> None:
        """Jobs in order, and with EASY those behind the first that is blocked."""
        asks, seats, started, models = self.world.asks, self.world.seats, self._started, self._models
        count = start_in_order(order, self.room, asks, seats, started, models)
        self._note(count)
        if self.backfill == "easy" and count + 1 < len(order):
            running, ends = self.running.by_end(self.now)
            self._note(pass_by(self.now, order[count:], self.room, asks, seats, running, ends, started, models))

    def _free_to_start(self, order: Ints) -> Bools:
        """[Q] Jobs that are not held back; the clock is set to look again at the others."""
        world, line = self.world, self.line
        last = self.arrivals[max(self.came - MEMORY, 0) : self.came]
        capacity = int(world.capacity // WHOLE)
        if free_for_all(self._idle - int(self._units[order].sum()), self._units[last]):
            return np.ones(len(order), dtype=np.bool_)
        weights = pressure(self.now, world.trace.submit_s[last], self._units[last], line.length_s[last], capacity)
        jobs = self.running.jobs
        times, free = self.running.profile(self.now, self._idle, self._units[jobs])
        until = np.empty(len(order))
        held_until(self.now, world.trace.submit_s[order], self._units[order], line.length_s[order], times, free, weights, until)
        held = until > self.now
        if held.any():
            self.wake_s = min(float(until[held].min()), self.now + LOOK_AGAIN_S)
        return ~held

    def _note(self, count: int) -> None:
        """Runs begin: the clock learns when they really end, the running list when they are due."""
        if not count:
            return
        jobs, models = self._started[:count], self._models[:count]
        world, outcome, line, now = self.world, self.outcome, self.line, self.now
        for job, model in zip(jobs.tolist(), models.tolist(), strict=True):
            speed = float(self._speed[world.trace.kind[job], model])
            ran_s, limit_s = float(world.trace.work[job]) / speed, float(world.trace.limit[job]) / speed
            outcome.start_s[job], outcome.end_s[job], outcome.ran_s[job], outcome.model[job] = now, now + ran_s, ran_s, model
            self._idle -= int(self._units[job])
            outcome.busy += ran_s * float(world.size[job])
            heapq.heappush(self._ends, (now + ran_s, job))
            self.running.add(job, now + limit_s, now + limit_s * min(float(line.length_s[job] / world.limit_s[job]), 1.0))
            line.held[world.trace.group[job]] += world.share[job]
        if len(jobs) == len(line):
            line.remove(np.ones(len(line), dtype=np.bool_))
        else:
            line.remove(np.isin(line.jobs, jobs) if len(jobs) > 1 else line.jobs == jobs[0])
