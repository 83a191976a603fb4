"""Restraint: how long a job that could start is held back, because of whom it would stand in the way of.

A long job on most of the machines makes every short one that comes meanwhile wait many times its own length. Nothing that
only orders the queue can help: the short ones are not there yet. So the harm of a start is estimated, and a job starts once
its own slowdown has grown to that harm, as one rents until the rent paid equals the price (Karlin et al., Algorithmica 1988,
for the argument). Harm is counted in slowdowns: jobs are taken to arrive as the last ones did, of the same sizes and lengths,
and each waits until enough is free. When few arrive, at night, harm is small and the long ones run. Nobody is held back for
more than `LONGEST` times its own length, so that nothing starves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from scheduler.engine.snapshot import Ints

# Slowdowns are bounded: what is shorter than this counts as this long.
SHORTEST_S = 10.0
LONGEST = 20.0
# How many past arrivals stand for those to come, how few of them may show that fewer come now, and after how many times the
# longest gap between them nobody is expected any more.
MEMORY, FEW, DRY = 64, 8, 4.0
# Harm changes while nothing happens, because nobody arrives; so jobs held back are looked at again.
LOOK_AGAIN_S = 600.0


@njit(cache=True)
def arrival_rate(now: float, submit_s: Any) -> float:
    """Jobs a second, from the last arrivals `submit_s[A]`, oldest first: the lowest rate that some of the latest of them show.

    None at all once nobody came for several times the longest gap between two of them.
    """
    count = submit_s.shape[0]
    longest = 0.0
    for row in range(1, count):
        longest = max(longest, submit_s[row] - submit_s[row - 1])
    if count > FEW and now - submit_s[count - 1] > DRY * longest:
        return 0.0
    rate = count / max(now - submit_s[0], 1.0)
    few = FEW
    while few < count:
        rate = min(rate, (few + 1) / max(now - submit_s[count - few], 1.0))
        few *= 2
    return float(rate)


@njit(cache=True)
def pressure(now: float, submit_s: Any, size: Any, length_s: Any, largest: int) -> Any:
    """[B] Slowdowns that each second of waiting costs the jobs to come, by size: up to 1, 2, 4, … `largest` units.

    `submit_s[A]`, `size[A]`, `length_s[A]` are the last arrivals.
    """
    bins = 1
    while 1 << (bins - 1) < largest:
        bins += 1
    weights = np.zeros(bins)
    if submit_s.shape[0] == 0:
        return weights
    rate = arrival_rate(now, submit_s)
    for row in range(submit_s.shape[0]):
        fit = 0
        while fit + 1 < bins and 1 << fit < size[row]:
            fit += 1
        weights[fit] += rate / submit_s.shape[0] / max(length_s[row], SHORTEST_S)
    return weights


def free_for_all(left: int, size: Ints) -> bool:
    """Whether so many units left over are room for the largest of the last arrivals `size[A]`; then a start harms nobody."""
    return left >= 1 << (int(size.max(initial=1)) - 1).bit_length()


@njit(cache=True)
def harm(now: float, size: int, length_s: float, times: Any, free: Any, weights: Any) -> float:
    """Slowdowns that a job inflicts on those to come if it starts as soon as it fits.

    `free[T]` units are free from `times[T]` on, and ever more of them; `times[0]` is now. Who arrives at a time within a blocked
    stretch waits to its end, so a stretch of c seconds costs c²/2 for each arrival a second.
    """
    fits = int(np.searchsorted(free, size))
    begins = times[min(fits, times.shape[0] - 1)]
    ends = begins + length_s
    total = 0.0
    for bin_row in range(weights.shape[0]):
        if weights[bin_row] == 0.0:
            continue
        need = min(1 << bin_row, free[-1])
        without = times[np.searchsorted(free, need)]
        beside = int(np.searchsorted(free, need + size))
        clears = ends if beside == times.shape[0] else min(ends, max(times[beside], begins))
        if clears <= begins:
            continue
        if without >= begins:
            total += weights[bin_row] * ((max(clears, without) - now) ** 2 - (without - now) ** 2) / 2
        else:
            total += weights[bin_row] * (clears - begins) ** 2 / 2
    return total


@njit(cache=True)
def held_until(now: float, submit_s: Any, size: Any, length_s: Any, times: Any, free: Any, weights: Any, until: Any) -> None:
    """Write when each waiting job [Q] may start at the earliest: when its slowdown equals its harm, or at its longest restraint."""
    for row in range(submit_s.shape[0]):
        length = max(length_s[row], SHORTEST_S)
        until[row] = submit_s[row] + LONGEST * length
        if now < until[row]:
            cost = harm(now, size[row], length_s[row], times, free, weights)
            until[row] = submit_s[row] + min(LONGEST, cost) * length
