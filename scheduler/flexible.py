"""Flexible: what jobs that may wait for a cheaper or cleaner hour would cost or emit at each start, as arrays for a decision.

A job that is flexible may wait until there is just time enough for it before its deadline: its inputs brought in, the usual
wait for a start, all of `max_runtime`, and a margin. What it costs at a start is what is charged by the hour, at the tariffs of those
hours, and what is charged once; what it emits is its energy at the intensity of those hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from cluster import carbon
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Floats, Later
from scheduler.freeze import Candidate, Frozen
from scheduler.store.records import ClusterRecord
from workloads.catalogue.pricing import Quote, total_at
from workloads.catalogue.tariffs import LONGEST_S, weigh
from workloads.hours import WEEK_S, Week
from workloads.spec import JobSpec

# What is kept free before a deadline: this part of max_runtime, and at least so many seconds.
MARGIN_PART, LEAST_MARGIN_S = 0.05, 300.0
# Nobody waits for longer. Tariffs repeat from week to week, so it would save nothing more, but for a change of the clocks.
HORIZON_S = WEEK_S + 86_400.0
NEVER = -np.inf
# Times within a budget that are shorter than this might be missed.
LEAST_STRETCH_S = 10.0
Stretches: TypeAlias = tuple[tuple[float, float], ...]
ALWAYS: Stretches = ((0.0, np.inf),)


def margin_s(spec: JobSpec) -> float:
    """How much time is kept free before the deadline of a job."""
    return max(LEAST_MARGIN_S, MARGIN_PART * spec.max_runtime)


def with_later(frozen: Frozen, most: int) -> Frozen:
    """The same frozen world with what flexible jobs cost at other times, of which at most so many may wait for one."""
    if most <= 0 or not any(candidate.spec.flexible for candidate in frozen.candidates):
        return frozen
    courses = Courses.of(frozen)
    known: dict[tuple[int, float | None, str], tuple[Later, ...]] = {}
    found = list[Later]()
    for candidate in frozen.candidates:
        if candidate.spec.flexible is None:
            continue
        # Like jobs were judged once and share the ways to run them.
        key = (id(candidate.ways), candidate.spec.deadline_s(), candidate.spec.flexible)
        if key not in known:
            known[key] = tuple(_later(courses, candidate, choice) for choice in range(len(candidate.ways)))
        found += [replace(item, job=candidate.id) for item in known[key]]
    return replace(frozen, snapshot=replace(frozen.snapshot, later=tuple(found), waits=most))


@dataclass(frozen=True, eq=False)
class Course:
    """What a job costs or emits by when it is placed at a cluster: at some times, in seconds from now and the first of them now, and on a
    line in between."""

    times: tuple[float, ...]
    amounts: tuple[float, ...]

    def at(self, start_s: float) -> float:
        """The amount for a placement at a time."""
        return float(np.interp(start_s, self.times, self.amounts))


class Courses:
    """What jobs cost and emit by when they are placed at a cluster, a row of `clusters`; `choice` is the way to run one.

    `now` is when they were judged, in seconds since the epoch, and `waits_s` the usual wait for a start at each cluster.
    """

    def __init__(self, now: float, clusters: Sequence[ClusterRecord], waits_s: Sequence[float]) -> None:
        self._now, self._clusters, self._waits_s = now, clusters, waits_s
        self._clocks = dict[tuple[Week[Any], float], _Clock]()

    @classmethod
    def of(cls, frozen: Frozen) -> Courses:
        """Those of the jobs of a frozen world."""
        return cls(frozen.world.now, frozen.world.clusters, frozen.snapshot.clusters.wait_s.tolist())

    def latest_s(self, candidate: Candidate, cluster: int, choice: int = 0) -> float:
        """When the job has to be placed there at the latest, in seconds from now; -inf where it may not go."""
        assessment, deadline = candidate.ways[choice].assessments[cluster], candidate.spec.deadline_s()
        if assessment.reason not in (Reason.FITS, Reason.OVER_BUDGET) or assessment.quote is None or deadline is None:
            return NEVER
        needs = candidate.spec.max_runtime + assessment.transfer_s + margin_s(candidate.spec)
        latest = deadline - self._now - needs - self._waits_s[cluster]
        return min(latest, HORIZON_S)

    def price(self, candidate: Candidate, cluster: int, choice: int = 0) -> Course:
        """What it costs, as clusters are compared by, until its latest start; nothing where it has no quote."""
        assessment, spec = candidate.ways[choice].assessments[cluster], candidate.spec
        quote, tariffs = assessment.quote, self._clusters[cluster].spec.prices.tariffs
        if quote is None:
            return Course((0.0,), (0.0,))
        total = assessment.cost
        once = sum(float(line.amount.amount) for line in quote.lines if not line.unit.endswith("-hour"))
        hourly, length_s = total - once, min(spec.max_runtime, float(LONGEST_S))
        if tariffs is None or hourly <= 0 or (found := self._weighed(candidate, cluster, choice, tariffs.week, length_s)) is None:
            return Course((0.0,), (total,))
        times, weighed = found
        # As prices are compared everywhere, the hours of a slower model count for as much longer. A quote counts from the whole second
        # and rounds its amounts; what is made of them does not, or a cheaper hour would seem to cost a little more than it will.
        longer = hourly / (float(quote.total.amount) - once)
        begin_s = self._now + assessment.transfer_s
        a_second = longer * _hourly(quote) / float(weigh(tariffs, begin_s, Decimal(repr(length_s))).seconds)
        return Course(tuple(times.tolist()), tuple((once + a_second * weighed).tolist()))

    def grams(self, candidate: Candidate, cluster: int, choice: int = 0) -> Course | None:
        """Grams of CO2 that it is estimated to emit, until its latest start; None where a part of them is unknown."""
        way, declared = candidate.ways[choice], self._clusters[cluster].spec.carbon
        now_g, seconds = way.assessments[cluster].carbon_g, candidate.spec.max_runtime
        energy = None if declared is None else declared.kilowatt_hours(way.resources, way.model, seconds)
        if now_g is None or declared is None or energy is None:
            return None
        length_s = min(seconds, carbon.LONGEST_S)
        if declared.week.is_flat or (found := self._weighed(candidate, cluster, choice, declared.week, length_s)) is None:
            return Course((0.0,), (now_g,))
        times, weighed = found
        return Course(tuple(times.tolist()), tuple((energy * way.slowdown / length_s * weighed).tolist()))

    def within(self, candidate: Candidate, cluster: int, choice: int = 0) -> Stretches:
        """The times, from and until when in seconds from now, at which its budget pays for a start there, until its latest start."""
        assessment, budget = candidate.ways[choice].assessments[cluster], candidate.spec.budget
        paid = ALWAYS if assessment.reason is Reason.FITS else ()
        found = self.totals(candidate, cluster, choice)
        if budget is None or len(found) < 2:
            return paid
        begin_s = self._now + assessment.transfer_s
        return tuple(_paid(found, budget.amount, begin_s))

    def totals(self, candidate: Candidate, cluster: int, choice: int = 0) -> list[tuple[float, Decimal]]:
        """What it would be quoted there at the times at which that turns, with the fewest workers; the first is now.

        Unlike prices that are compared, these are amounts of money as quotes round them.
        """
        way, prices = candidate.ways[choice], self._clusters[cluster].spec.prices
        assessment = way.assessments[cluster]
        quote = assessment.least_quote or assessment.quote
        if quote is None:
            return []
        tariffs = prices.tariffs
        length_s = min(candidate.spec.max_runtime, float(LONGEST_S))
        if tariffs is None or (found := self._weighed(candidate, cluster, choice, tariffs.week, length_s)) is None:
            return [(0.0, quote.total.amount)]
        fewest, begin_s = way.resources.with_workers(way.resources.fewest), self._now + assessment.transfer_s
        return [
            (at, total_at(quote, fewest, prices, candidate.spec.max_runtime, begin_s + at).amount) for at in found[0].tolist()
        ]  # fmt: skip

    def _weighed(self, candidate: Candidate, cluster: int, choice: int, week: Week[Any], length_s: float) -> tuple[Floats, Floats] | None:
        """Times at which the job may be placed, and its seconds from then on, weighed; None where it may not wait."""
        latest_s, transfer_s = self.latest_s(candidate, cluster, choice), candidate.ways[choice].assessments[cluster].transfer_s
        if latest_s <= 0:
            return None
        begin_s = self._now + transfer_s
        clock = self._clock(week, length_s + transfer_s)
        # Where the beginning or the end of a run meets a change of the tariff.
        turns = np.concatenate([clock.times, clock.times - length_s]) - begin_s
        times = np.unique(np.concatenate([[0.0, latest_s], turns[(turns > 0) & (turns < latest_s)]]))
        return times, clock.passing(begin_s + times, length_s)

    def _clock(self, week: Week[Any], beyond_s: float) -> _Clock:
        key = (week, beyond_s)
        if key not in self._clocks:
            now = self._now
            pieces = week.pieces(now, now + HORIZON_S + beyond_s)
            times = [pieces[0].begin_s, *(piece.end_s for piece in pieces)]
            lengths = [(piece.end_s - piece.begin_s) * float(piece.value) for piece in pieces]
            self._clocks[key] = _Clock(np.array(times), np.concatenate([[0.0], np.cumsum(lengths)]))
        return self._clocks[key]


@dataclass(frozen=True, eq=False)
class _Clock:
    """Weighed seconds that have passed at a cluster at some times (seconds since the epoch), on a line in between."""

    times: Floats
    passed: Floats

    def passing(self, begins: Floats, length_s: float) -> Floats:
        ends: Floats = np.interp(begins + length_s, self.times, self.passed) - np.interp(begins, self.times, self.passed)
        return ends


def unrated(candidate: Candidate) -> tuple[str, ...]:
    """The clusters where a job may go and nobody knows what it would emit by any model; for its cleaner hours it goes to none of them."""
    standings = zip(*(way.assessments for way in candidate.ways), strict=True)
    permitted = [[item for item in ways if item.reason is Reason.FITS] for ways in standings]
    return tuple(ways[0].cluster for ways in permitted if ways and all(item.carbon_g is None for item in ways))


def _paid(totals: Sequence[tuple[float, Decimal]], budget: Decimal, begin_s: float) -> Iterator[tuple[float, float]]:
    """The stretches of time in which the total, on a line between these times, is within a budget; `begin_s` is when a start now begins.

    Quotes count whole seconds, so where the line crosses the budget a second is left out. What is too short to be met is none.
    """
    since: float | None = None
    for (at, total), (after, following) in pairwise((*totals, (np.inf, totals[-1][1]))):
        if total <= budget and since is None:
            since = at
        if (total <= budget) is (following <= budget):
            continue
        crossing = begin_s + at + (after - at) * float((total - budget) / (total - following))
        if total > budget:
            since = min(math.ceil(crossing) + 1 - begin_s, after)
        elif since is not None:
            until, begun, since = max(math.floor(crossing) - 1 - begin_s, at), since, None
            if begun == 0 or until - begun >= LEAST_STRETCH_S:
                yield begun, until
    if since is not None:
        yield since, np.inf


def _later(courses: Courses, candidate: Candidate, choice: int) -> Later:
    """What one job costs, or emits, in one of its ways at each cluster by the time at which it is placed."""
    cleaner, found = candidate.spec.flexible == "cleanest", list[tuple[float, Course]]()
    for row in range(len(candidate.ways[choice].assessments)):
        course = (courses.grams if cleaner else courses.price)(candidate, row, choice)
        found.append((NEVER, Course((0.0,), (0.0,))) if course is None else (courses.latest_s(candidate, row, choice), course))
    paid = [courses.within(candidate, row, choice) for row in range(len(found))]
    stretches = max(map(len, paid), default=0)
    width = max((len(course.times) for _, course in found), default=1)

    def table(rows: list[tuple[float, ...]]) -> Floats:
        return np.array([[*row, *[row[-1]] * (width - len(row))] for row in rows], dtype=np.float64).reshape(len(rows), width)

    return Later(
        job=candidate.id, at_s=table([course.times for _, course in found]), cost=table([course.amounts for _, course in found]),
        latest_s=np.array([latest for latest, _ in found], dtype=np.float64), choice=choice, cleaner=cleaner,
        within_s=np.array([[*spans, *[(np.inf, -np.inf)] * (stretches - len(spans))] for spans in paid]).reshape(len(paid), stretches, 2),
    )  # fmt: skip


def _hourly(quote: Quote) -> float:
    """What of a quote is for time, before its amounts were rounded."""
    return sum(float(line.quantity) * float(line.unit_price.amount) for line in quote.lines if line.unit.endswith("-hour"))
