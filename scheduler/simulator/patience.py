"""Patience: what jobs of a trace cost and emit by the hour of the virtual clock, so that flexible ones wait as they do on a server.

The server's rules hold (`scheduler/flexible.py`, `scheduler/engine/later.py`): a flexible job waits for a better hour only while it is
promised a start in time for its deadline, and so many of them at a time as its default says. A trace knows no budgets, no transfers and
no usual wait for a start, so a job's latest start leaves its time limit and the margin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cluster.carbon import CORE, Carbon
from scheduler.engine.board import Classes
from scheduler.engine.rooms import KIND
from scheduler.engine.snapshot import Floats, Ints, Jobs, Later, Prefer
from scheduler.flexible import HORIZON_S, LEAST_MARGIN_S, MARGIN_PART
from scheduler.simulator.calendar_hours import Passed
from scheduler.simulator.world import World
from workloads.hours import WEEK_S, Week

# How many jobs wait for a better hour at a time: as on a server of the usual settings.
WAITS = 16
HOUR_S, LONGEST_S = 3600.0, 4 * WEEK_S
PREFERS = {"cheapest": Prefer.CHEAPEST, "cleanest": Prefer.CLEANEST}


class Patience:
    """Prices and CO2 by the hour of a world's jobs, which are of the kinds `kind[J]`; `site[M]` is the cluster of each row of `models`."""

    def __init__(self, world: World, classes: Classes, kind: Ints, site: Ints) -> None:
        self._world, self._classes, self._kind, self._site = world, classes, kind, site
        rows = [int(np.flatnonzero(site == cluster)[0]) for cluster in range(int(site.max()) + 1)]
        tariffs = world.machines.tariffs or (None,) * len(site)
        self._tariffs = [None if (found := tariffs[row]) is None else found.week for row in rows]
        self._carbon = [(world.machines.carbon or (None,) * len(site))[row] for row in rows]
        self._passed: dict[Week[Any], tuple[float, Passed]] = {}

    def priced(self, jobs: Jobs, numbers: Ints, now: float) -> Jobs:
        """The waiting jobs with what they cost at each cluster if they start now, and what flexible ones go by."""
        lengths, cost = self._lengths(numbers), jobs.cost.copy()
        for cluster, week in enumerate(self._tariffs):
            hours = lengths if week is None else self._between(week, np.full(len(numbers), now), now + lengths)
            cost[:, cluster] *= hours / HOUR_S
        prefer, carbon_g = jobs.prefer.copy(), jobs.carbon_g.copy()
        for row, number in enumerate(numbers.tolist()):
            asked = self._world.trace.flexible.get(number)
            if asked is not None:
                prefer[row] = PREFERS[asked.by]
                carbon_g[row] = [self._grams(number, cluster, now, float(lengths[row])) for cluster in range(len(self._carbon))]
        return replace(jobs, cost=cost, prefer=prefer, carbon_g=carbon_g)

    def later(self, jobs: Jobs, numbers: Ints, now: float) -> tuple[Later, ...]:
        """What flexible ones of the waiting jobs cost or emit at other times, those that have time left."""
        found = []
        for row, number in enumerate(numbers.tolist()):
            asked = self._world.trace.flexible.get(number)
            limit_s = float(self._world.limit_s[number])
            if asked is None:
                continue
            latest_s = min(asked.deadline_s - now - limit_s - max(LEAST_MARGIN_S, MARGIN_PART * limit_s), HORIZON_S)
            if latest_s > 0:
                found.append(self._later(jobs.ids[row], number, asked.by == "cleanest", now, latest_s))
        return tuple(found)

    def _later(self, name: str, number: int, cleaner: bool, now: float, latest_s: float) -> Later:
        length_s, rows = float(self._lengths(np.array([number]))[0]), list[tuple[float, Floats, Floats]]()
        permitted = np.bincount(self._site, weights=self._world.asks.speed[self._world.asks.job[number, KIND]] > 0) > 0
        for cluster in range(len(self._carbon)):
            week, an_hour = self._hourly(number, cluster, cleaner)
            there = bool(permitted[cluster]) and not np.isnan(an_hour)
            times = np.array([0.0, latest_s]) if week is None or not there else self._turns(week, now, latest_s, length_s)
            hours = np.full(len(times), length_s) if week is None else self._between(week, now + times, now + times + length_s)
            rows.append((latest_s if there else -np.inf, times, hours / HOUR_S * an_hour if there else np.zeros(len(times))))
        width = max(len(times) for _, times, _ in rows)

        def table(columns: list[Floats]) -> Floats:
            return np.array([np.pad(column, (0, width - len(column)), mode="edge") for column in columns], dtype=np.float64)

        at_s, cost = table([times for _, times, _ in rows]), table([amounts for _, _, amounts in rows])
        return Later(name, at_s, cost, np.array([latest for latest, _, _ in rows]), cleaner=cleaner)

    def _hourly(self, number: int, cluster: int, cleaner: bool) -> tuple[Week[Any] | None, float]:
        """By which hours, and what an hour of the job there costs at factor 1, or emits at one gram for a kilowatt-hour."""
        if not cleaner:
            return self._tariffs[cluster], float(self._classes.cost[self._kind[number], cluster])
        declared = self._carbon[cluster]
        return (None, np.nan) if declared is None else (declared.week, self._kilowatts(number, cluster, declared))

    def _kilowatts(self, number: int, cluster: int, declared: Carbon) -> float:
        """What the job draws there, on the cheapest of the models that it may use; NaN where nobody knows."""
        request, workers = self._classes.request[kind := self._kind[number]], float(self._classes.workers[kind])
        core, devices = declared.watts.get(CORE, np.nan), float(request[2])
        watts = float(request[0]) * core
        if devices:
            speed, machines = self._world.asks.speed[self._world.asks.job[number, KIND]], self._world.machines
            rows = [row for row in np.flatnonzero((self._site == cluster) & (speed > 0)).tolist() if machines.accelerators[row]]
            row = min(rows, key=lambda one: (machines.price[one], one), default=None)
            known = None if row is None else declared.watts_of_device(machines.models[row].partition("/")[2])
            watts += np.nan if known is None else devices * known
        return watts * workers * declared.overhead / 1000.0

    def _grams(self, number: int, cluster: int, now: float, length_s: float) -> float:
        week, an_hour = self._hourly(number, cluster, cleaner=True)
        return np.nan if week is None else an_hour * float(self._between(week, np.array([now]), np.array([now + length_s]))[0]) / HOUR_S

    def _turns(self, week: Week[Any], now: float, latest_s: float, length_s: float) -> Floats:
        """Now, the latest start, and the starts in between at which the job's beginning or end meets a change of the hours."""
        changes = self._clock(week, now + latest_s + length_s).changes(now, now + latest_s + length_s)
        turns = np.concatenate([changes, changes - length_s]) - now
        times: Floats = np.unique(np.concatenate([[0.0, latest_s], turns[(turns > 0) & (turns < latest_s)]]))
        return times

    def _lengths(self, numbers: Ints) -> Floats:
        """Time limits, of jobs without end so long that every hour of the week counts alike."""
        lengths: Floats = np.minimum(self._world.limit_s[numbers], LONGEST_S)
        return lengths

    def _between(self, week: Week[Any], begin_s: Floats, end_s: Floats) -> Floats:
        return self._clock(week, float(end_s.max(initial=0.0))).between(begin_s, end_s)

    def _clock(self, week: Week[Any], until_s: float) -> Passed:
        known = self._passed.get(week)
        if known is None or known[0] < until_s:
            # Some weeks more each time, so that it is not made anew for each decision.
            until_s = 2 * until_s + LONGEST_S
            known = self._passed[week] = until_s, Passed(week, self._world.trace.begins_at, until_s)
        return known[1]
