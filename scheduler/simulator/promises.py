"""Conservative backfilling: every waiting job is promised a time, and no later one delays it.

Promises live in a profile of what is free in time: the units of each pool, or of nodes the cores, memory and devices of each
model in total. A job gets the earliest place at which it will be done soonest. When a run ends before its time, promises are made
anew one by one in the order of their times, each while all others stand, so that none becomes later (Mu'alem & Feitelson, 2001).
On nodes a promise may come due while what is free is scattered; the job then starts as soon as it fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.engine.backfill import Profile
from scheduler.engine.rooms import DEVICES, IDLE, KIND, MILLI, NEEDS_CPU, NEEDS_MEMORY, WORKERS, empty_seats, hold, seat_on
from scheduler.engine.snapshot import Floats, Ints
from scheduler.simulator.line import Line
from scheduler.simulator.running import Running
from scheduler.simulator.world import World

# How much longer a run that took more than it asked for is expected to take.
OVERTIME_S = 600.0


@dataclass(frozen=True, eq=False)
class Promise:
    """A place in time on the machines of one model."""

    start_s: float
    end_s: float
    model: int
    demand: Floats


class Promises:
    """The promises of one simulation. `line` and `running` are read, never changed."""

    def __init__(self, world: World, line: Line, running: Running) -> None:
        self._world, self._line, self._running = world, line, running
        self._capacity = _totals(world)
        self._profile = Profile(0.0, self._capacity)
        self._loose = False
        self._scratch = empty_seats(len(world.seats))
        self._possible: dict[tuple[int, ...], bool] = {}
        self._held: dict[int, Promise] = {}
        self.promised: dict[int, Promise] = {}

    def end(self, now: float, job: int) -> None:
        """A run ended; what it had still been promised is free."""
        held = self._held.pop(job)
        if held.end_s > now:
            self._profile.add(now, held.end_s, held.demand)
            self._loose = True

    def start(self, now: float, order: Ints, room: Ints, started: Ints, models: Ints, wake_s: float) -> tuple[int, float]:
        """Start what is due, and return how many jobs, with `started` and `models`, and when to look again."""
        self._profile.advance(now)
        late = [job for job, held in self._held.items() if held.end_s <= now]
        if late:
            self._extend(now, late)
        elif self._loose:
            self._renew()
        self._loose = False
        for job in order.tolist():
            if job not in self.promised:
                self._promise(job)
        count = 0
        for job in [job for job in order.tolist() if self.promised[job].start_s <= now]:
            promise = self.promised[job]
            if self._seat(job, promise.model, room):
                started[count], models[count] = job, promise.model
                count += 1
                self._held[job] = self.promised.pop(job)
        future = [promise.start_s for promise in self.promised.values() if promise.start_s > now]
        return count, min([wake_s, *future])

    def _seat(self, job: int, model: int, room: Ints) -> bool:
        asks, seats = self._world.asks, self._world.seats
        if not seat_on(room, asks, job, model, seats):
            return False
        hold(room, asks, job, seats, 1)
        return True

    def _promise(self, job: int) -> None:
        """The place at which the job is done first; of equal ones on the model that it prefers."""
        asks, best = self._world.asks, None
        for model in asks.prefer[asks.job[job, KIND]].tolist():
            if model < 0:
                break
            if not self._is_possible(job, model):
                continue
            demand, length_s = self._demand(job, model), float(asks.limit[job] / asks.speed[asks.job[job, KIND], model])
            start_s = self._profile.earliest(demand, length_s)
            if np.isfinite(start_s) and (best is None or start_s + length_s < best.end_s):
                best = Promise(start_s, start_s + length_s, model, demand)
        assert best is not None, "a job that fits on empty machines has a place at the end of the profile"
        self._profile.add(best.start_s, best.end_s, -best.demand)
        self.promised[job] = best

    def _is_possible(self, job: int, model: int) -> bool:
        """Whether a job fits there on empty machines. Enough in all may still be too little on each node."""
        key = (*self._world.asks.job[job, : KIND + 1].tolist(), model)
        if key not in self._possible:
            self._possible[key] = bool(seat_on(self._world.room, self._world.asks, job, model, self._scratch))
        return self._possible[key]

    def _renew(self) -> None:
        """Make each promise anew, the first one first."""
        for job in sorted(self.promised, key=lambda job: (self.promised[job].start_s, job)):
            old = self.promised[job]
            self._profile.add(old.start_s, old.end_s, old.demand)
            self._promise(job)

    def _extend(self, now: float, late: list[int]) -> None:
        """Runs take longer than they asked for, so promises that stood on their end are made anew."""
        for job in late:
            held = self._held[job]
            self._held[job] = Promise(held.start_s, now + OVERTIME_S, held.model, held.demand)
        self._profile = Profile(now, self._capacity)
        for held in self._held.values():
            self._profile.add(now, held.end_s, -held.demand)
        order = sorted(self.promised, key=lambda job: (self.promised[job].start_s, job))
        self.promised.clear()
        for job in order:
            self._promise(job)

    def _demand(self, job: int, model: int) -> Floats:
        wanted, demand = self._world.asks.job[job], np.zeros_like(self._capacity)
        each = np.array([wanted[NEEDS_CPU], wanted[NEEDS_MEMORY], wanted[DEVICES] * wanted[MILLI]]) * float(wanted[WORKERS])
        demand[:3] = each
        # Without a device any node will do.
        if wanted[DEVICES]:
            demand[3 * (model + 1) : 3 * (model + 2)] = each
        return demand


def _totals(world: World) -> Floats:
    """[3 + 3M] Cores, memory and thousandths of devices: of all nodes, then of the nodes of each model."""
    first = world.asks.first
    columns = world.room[:, : IDLE + 1].astype(np.float64) * (1.0, 1.0, 1000.0)
    parts = [columns[first[model] : first[model + 1]].sum(axis=0) for model in range(len(world.models))]
    return np.concatenate([columns.sum(axis=0), *parts])
