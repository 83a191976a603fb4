"""Flexible: what jobs that may wait for a cheaper hour would cost at each start, as arrays for a decision.

A job with `flexible: cheapest` may wait until there is just time enough for it before its deadline: its inputs brought in, the usual
wait for a start, all of `max_runtime`, and a margin. What it costs at a start is what is charged by the hour, at the tariffs of those
hours, and what is charged once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from scheduler.assess import Assessment
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Floats, Later
from scheduler.freeze import Candidate, Frozen
from workloads.catalogue.pricing import Quote
from workloads.catalogue.tariffs import LONGEST_S, Tariffs, weigh
from workloads.hours import WEEK_S
from workloads.spec import JobSpec

# What is kept free before a deadline: this part of max_runtime, and at least so many seconds.
MARGIN_PART, LEAST_MARGIN_S = 0.05, 300.0
# Nobody waits for longer. Tariffs repeat from week to week, so it would save nothing more, but for a change of the clocks.
HORIZON_S = WEEK_S + 86_400.0
NEVER = -np.inf


def margin_s(spec: JobSpec) -> float:
    """How much time is kept free before the deadline of a job."""
    return max(LEAST_MARGIN_S, MARGIN_PART * spec.max_runtime)


def with_later(frozen: Frozen, most: int) -> Frozen:
    """The same frozen world with what flexible jobs cost at other times, of which at most so many may wait for one."""
    if most <= 0 or not any(candidate.spec.flexible for candidate in frozen.candidates):
        return frozen
    prices = _Prices(frozen)
    known: dict[tuple[int, float | None], tuple[Later, ...]] = {}
    found = list[Later]()
    for candidate in frozen.candidates:
        if candidate.spec.flexible is None:
            continue
        # Like jobs were judged once and share the ways to run them.
        key = (id(candidate.ways), candidate.spec.deadline_s())
        if key not in known:
            known[key] = tuple(prices.later(candidate, choice) for choice in range(len(candidate.ways)))
        found += [replace(item, job=candidate.id) for item in known[key]]
    return replace(frozen, snapshot=replace(frozen.snapshot, later=tuple(found), waits=most))


@dataclass(frozen=True, eq=False)
class _Clock:
    """Weighed seconds that have passed at a cluster at some times (seconds since the epoch), on a line in between."""

    times: Floats
    passed: Floats

    def cost(self, begins: Floats, length_s: float) -> Floats:
        ends: Floats = np.interp(begins + length_s, self.times, self.passed) - np.interp(begins, self.times, self.passed)
        return ends


class _Prices:
    def __init__(self, frozen: Frozen) -> None:
        self._frozen, self._clocks = frozen, dict[tuple[Tariffs, float], _Clock]()

    def later(self, candidate: Candidate, choice: int) -> Later:
        """What one job costs in one of its ways at each cluster by the time at which it is placed."""
        now, waits = self._frozen.world.now, self._frozen.snapshot.clusters.wait_s.tolist()
        deadline = candidate.spec.deadline_s()
        found = []
        for cluster, assessment, wait_s in zip(self._frozen.world.clusters, candidate.ways[choice].assessments, waits, strict=True):
            latest = NEVER
            if assessment.reason is Reason.FITS and assessment.quote is not None and deadline is not None:
                latest = deadline - now - candidate.spec.max_runtime - assessment.transfer_s - wait_s - margin_s(candidate.spec)
            latest = min(latest, HORIZON_S)
            found.append((latest, *self._costs(candidate.spec, assessment, cluster.spec.prices.tariffs, latest)))
        width = max((len(times) for _, times, _ in found), default=1)
        return Later(
            job=candidate.id,
            at_s=np.array([_padded(times, width) for _, times, _ in found], dtype=np.float64).reshape(len(found), width),
            cost=np.array([_padded(costs, width) for _, _, costs in found], dtype=np.float64).reshape(len(found), width),
            latest_s=np.array([latest for latest, _, _ in found], dtype=np.float64),
            choice=choice,
        )

    def _costs(self, spec: JobSpec, assessment: Assessment, tariffs: Tariffs | None, latest_s: float) -> tuple[list[float], list[float]]:
        """Times at which the job may be placed, the first of them now, and what it costs then."""
        quote, now = assessment.quote, self._frozen.world.now
        if quote is None:
            return [0.0], [0.0]
        total = assessment.cost
        once = sum(float(line.amount.amount) for line in quote.lines if not line.unit.endswith("-hour"))
        hourly = total - once
        if tariffs is None or latest_s <= 0 or hourly <= 0:
            return [0.0], [total]
        begin, length_s = now + assessment.transfer_s, min(spec.max_runtime, float(LONGEST_S))
        clock = self._clock(tariffs, length_s + assessment.transfer_s)
        # Where the beginning or the end of a run meets a change of the tariff.
        turns = np.concatenate([clock.times, clock.times - length_s]) - begin
        times = np.unique(np.concatenate([[0.0, latest_s], turns[(turns > 0) & (turns < latest_s)]]))
        weighed = clock.cost(begin + times, length_s)
        # As prices are compared everywhere, the hours of a slower model count for as much longer. A quote counts from the whole second
        # and rounds its amounts; what is made of them does not, or a cheaper hour would seem to cost a little more than it will.
        longer = hourly / (float(quote.total.amount) - once)
        a_second = longer * _hourly(quote) / float(weigh(tariffs, begin, Decimal(repr(length_s))).seconds)
        return times.tolist(), (once + a_second * weighed).tolist()

    def _clock(self, tariffs: Tariffs, beyond_s: float) -> _Clock:
        key = (tariffs, beyond_s)
        if key not in self._clocks:
            now = self._frozen.world.now
            pieces = tariffs.week.pieces(now, now + HORIZON_S + beyond_s)
            times = [pieces[0].begin_s, *(piece.end_s for piece in pieces)]
            lengths = [(piece.end_s - piece.begin_s) * float(piece.value) for piece in pieces]
            self._clocks[key] = _Clock(np.array(times), np.concatenate([[0.0], np.cumsum(lengths)]))
        return self._clocks[key]


def _hourly(quote: Quote) -> float:
    """What of a quote is for time, before its amounts were rounded."""
    return sum(float(line.quantity) * float(line.unit_price.amount) for line in quote.lines if line.unit.endswith("-hour"))


def _padded(values: Sequence[float], width: int) -> list[float]:
    """The values, the last of them repeated."""
    return [*values, *[values[-1]] * (width - len(values))]
