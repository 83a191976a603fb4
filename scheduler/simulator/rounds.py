"""Jobs that may be stopped: machines are dealt out anew in rounds, on a virtual clock.

At the begin of a round a rule deals all machines; who ran and gets none is stopped, and goes on later from where it was. Within a
round nobody is stopped: what ends leaves its machines to those who wait. While everybody runs on machines that are all alike, a
new round would change nothing, and the clock jumps on.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from scheduler.engine.rooms import COUNT, IDLE, MASK, SPAN, SPAN_END, deal, empty_seats, hold
from scheduler.engine.snapshot import Floats, Ints
from scheduler.engine.throughput import least_makespan
from scheduler.simulator.dealing import RULES, SLACK, Active, Deal
from scheduler.simulator.outcome import Outcome
from scheduler.simulator.policies import Dealt
from scheduler.simulator.world import World
from scheduler.traces.trace import WHOLE

ROUND_S = 360.0
# What is left of a job's work may be off by so much, as a part of it.
ROUNDING = 1e-9
Progress = Callable[[int], None]


class Rounds:
    """One simulation. `run()` may be called once."""

    def __init__(self, world: World, policy: Dealt, round_s: float = ROUND_S) -> None:
        jobs = len(world.trace)
        self.world, self.rule, self.round_s = world, RULES[policy.rule], round_s
        self.outcome = Outcome.empty(jobs)
        self.room = world.room.copy()
        self.remaining, self.attained = world.trace.work.copy(), np.zeros(jobs)
        self.owed = np.zeros((jobs, len(world.models)))
        self.model = np.full(jobs, -1, dtype=np.int64)
        self.arrivals = np.flatnonzero(world.fits)
        self.came, self.now, self.round_end_s, self.deadline_s = 0, 0.0, 0.0, 0.0
        self.active = np.zeros(0, dtype=np.int64)
        self._speed = world.asks.speed[world.trace.kind]
        self._devices = world.size / WHOLE
        self.parts = np.zeros_like(self.owed)
        self._scratch = empty_seats(len(world.seats))

    @property
    def _capacity(self) -> Floats:
        return self.world.capacities / WHOLE

    def run(self, progress: Progress = lambda _done: None) -> Outcome:
        """All jobs, to the end of the last."""
        began = perf_counter()
        while self.came < len(self.arrivals) or len(self.active):
            self._arrive()
            if len(self.active):
                self._decide()
            self._advance(self._next_event())
            if self.outcome.cycles % 256 == 0:
                progress(self.came - len(self.active))
        progress(self.came)
        self.outcome.wall_s = perf_counter() - began
        return self.outcome

    def _arrive(self) -> None:
        submit_s = self.world.trace.submit_s[self.arrivals]
        until = int(np.searchsorted(submit_s, self.now, side="right"))
        if until == self.came:
            return
        self.active = np.concatenate([self.active, self.arrivals[self.came : until]])
        self.came = until
        if self.rule is RULES["cpn"]:
            _, least_s = least_makespan(self._speed[self.active], self._devices[self.active], self._capacity, self.remaining[self.active])
            self.deadline_s = self.now + least_s * SLACK

    def _decide(self) -> None:
        """Those who wait take what is free; if some still wait, or models differ, and the round is over, all is dealt anew."""
        began = perf_counter()
        over = self.now >= self.round_end_s
        if not over or not self.world.is_mixed:
            self._fill()
        if over and (self.world.is_mixed or bool((self.model[self.active] < 0).any())):
            self._deal_all(self.rule(self._view()))
            self.round_end_s = self.now + self.round_s
        self.outcome.decision_s += perf_counter() - began
        self.outcome.cycles += 1

    def _view(self) -> Active:
        jobs = self.active
        return Active(
            self.now, self.round_s, self.remaining[jobs], self.attained[jobs], self._devices[jobs], self._speed[jobs],
            self._prefer(jobs), self.owed[jobs], self._capacity, self.deadline_s,
        )  # fmt: skip

    def _prefer(self, jobs: Ints) -> Ints:
        """[A, M] Models by speed; of equally fast ones, the one that a job runs on comes first."""
        speed, model = self._speed[jobs], self.model[jobs]
        here = np.arange(speed.shape[1]) == model[:, None]
        order = np.lexsort((~here, -speed), axis=1)
        return np.where(np.take_along_axis(speed, order, axis=1) > 0, order, -1)

    def _deal_all(self, dealt: Deal) -> None:
        """Deal everything anew; who runs on, on the model that it has, keeps its seats."""
        asks, jobs, before, seats = self.world.asks, self.active[dealt.jobs], self.model.copy(), self.world.seats.copy()
        chosen = np.full(len(before), -1, dtype=np.int64)
        deal(self.world.room.copy(), asks, self._scratch, jobs, dealt.models, chosen)
        for job in self.active[(before[self.active] >= 0) & (before[self.active] != chosen[self.active])].tolist():
            self._leave(job)
        wanted = chosen[jobs] == dealt.models
        self._deal_to(jobs[wanted], dealt.models[wanted])
        if (self.model[self.active] != chosen[self.active]).any():
            # On nodes, what is free may be scattered, so everybody moves to where the deal put them.
            for job in self.active[self.model[self.active] >= 0].tolist():
                self._leave(job)
            self._deal_to(jobs, dealt.models)
        ran = self.active[before[self.active] >= 0]
        self.outcome.preemptions += sum(bool(self.model[job] != before[job] or self._moved(job, seats)) for job in ran.tolist())
        if dealt.parts is not None:
            self.parts[self.active] = dealt.parts

    def _moved(self, job: int, before: Ints) -> bool:
        """Whether a job has other seats than before, on whichever devices."""
        first, last = self.world.asks.job[job, [SPAN, SPAN_END]]
        now, then = self.world.seats[first:last, :MASK], before[first:last, :MASK]
        return not np.array_equal(now[: _taken(now)], then[: _taken(then)])

    def _fill(self) -> None:
        """Those who wait take what is free, and nobody is stopped."""
        if (self.model[self.active] < 0).any() and self.room[:, IDLE].any():
            dealt = self.rule(self._view())
            self._deal_to(self.active[dealt.jobs], dealt.models)

    def _deal_to(self, jobs: Ints, models: Ints) -> None:
        deal(self.room, self.world.asks, self.world.seats, jobs, models, self.model)
        new = self.active[(self.model[self.active] >= 0) & (self.outcome.start_s[self.active] < 0)]
        self.outcome.start_s[new] = self.now
        self.outcome.model[self.active] = self.model[self.active]

    def _leave(self, job: int) -> None:
        hold(self.room, self.world.asks, job, self.world.seats, -1)
        self.model[job] = -1

    def _next_event(self) -> float:
        """When the next job comes or ends, or the round does."""
        arrivals, submit_s = self.arrivals, self.world.trace.submit_s
        times = [float(submit_s[arrivals[self.came]])] if self.came < len(arrivals) else []
        running = self.active[self.model[self.active] >= 0]
        if len(running):
            times.append(self.now + float((self.remaining[running] / self._speed[running, self.model[running]]).min()))
        if len(self.active) and (len(running) < len(self.active) or self.world.is_mixed):
            times.append(self.round_end_s)
        return min(times)

    def _advance(self, until: float) -> None:
        """Running jobs do their work until then; those that end leave."""
        seconds, running = until - self.now, self.active[self.model[self.active] >= 0]
        self.now = until
        speed = self._speed[running, self.model[running]]
        self.remaining[running] -= speed * seconds
        self.attained[running] += self._devices[running] * seconds
        self.outcome.ran_s[running] += seconds
        self.outcome.busy += float(self.world.size[running].sum() * seconds)
        self.owed[self.active] += self.parts[self.active] * seconds
        self.owed[running, self.model[running]] -= seconds
        over = running[self.remaining[running] <= ROUNDING * self.world.trace.work[running]]
        for job in over.tolist():
            self._leave(job)
        if len(over):
            self.outcome.end_s[over] = self.now
            self.active = self.active[self.outcome.end_s[self.active] < 0]


def _taken(seats: Ints) -> int:
    """How many seats of a span are taken."""
    empty = np.flatnonzero(seats[:, COUNT] == 0)
    return int(empty[0]) if len(empty) else len(seats)
