"""Bid prices: what the room left on a device is worth, given the mix of work that asks for devices.

Room is worth the work that it can still serve. A linear program cuts devices into shares, as mills cut rolls of paper, so that
as much as possible of a mix a little larger than the devices is served. The dual price of each size says what one more request
of it would bring elsewhere; the best set of requests that fits in a leftover gives the leftover's price. Where 810 of 1000 are
asked for often and little is small, 190 are worth nothing and 500 half a device. Placing where the price falls least keeps
leftovers that somebody can use.

Sources: Gilmore and Gomory, "A Linear Programming Approach to the Cutting-Stock Problem", Operations Research 1961 (patterns made
as they are needed); Talluri and van Ryzin, "An Analysis of Bid-Price Controls for Network Revenue Management", Management
Science 1998 (deciding by dual prices).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import linprog

from scheduler.engine.devices import WHOLE
from scheduler.engine.snapshot import Floats, Ints

# The mix that is priced asks for this many times what there is, so that the last device always has somebody who wants it.
OVERLOAD = 1.02
# A pattern that brings less than this above what it costs changes no price that matters; the solver is no more exact than that.
TOLERANCE = 1e-6
# With more sizes than this, they are rounded up to fiftieths of a device: many sizes are priced well enough by like ones.
EXACT_SIZES, GRAIN = 50, WHOLE // 50


def leftover_prices(milli: Ints, demand: Floats) -> Floats:
    """[WHOLE + 1] The price, in served devices, of each amount of free room on one device.

    `milli[T]` are the sizes asked for, `demand[T]` how many requests of each there are; only their proportions matter.
    Without any demand, room is worth its size.
    """
    milli, demand = milli[demand > 0], demand[demand > 0]
    if len(np.unique(milli)) > EXACT_SIZES:
        milli = -(-milli // GRAIN) * GRAIN
    sizes, size = np.unique(milli, return_inverse=True)
    asked = np.bincount(size, weights=demand)
    return _prices(tuple(sizes.tolist()), tuple(asked.tolist())).copy()


@lru_cache(maxsize=64)
def _prices(of_sizes: tuple[int, ...], asked_for: tuple[float, ...]) -> Floats:
    """The same of different sizes. A mix stays for many decisions, and the program takes longer than one of them."""
    sizes, asked = np.array(of_sizes, dtype=np.int64), np.array(asked_for)
    if not len(sizes):
        return np.arange(WHOLE + 1) / WHOLE
    unit = int(np.gcd.reduce([*sizes.tolist(), WHOLE]))
    steps, worth = sizes // unit, sizes / WHOLE
    limits = asked * OVERLOAD / (asked * worth).sum()
    patterns = [_alone(steps, size, WHOLE // unit) for size in range(len(steps))]
    while True:
        prices = _dual_prices(patterns, worth, limits)
        best, last = _knapsack(steps, prices, WHOLE // unit)
        pattern = _pattern(steps, last, WHOLE // unit)
        known = max(float(prices @ found) for found in patterns)
        if best[-1] <= known + TOLERANCE:
            return best[np.arange(WHOLE + 1) // unit]
        patterns.append(pattern)


def _alone(steps: Ints, size: int, room: int) -> Ints:
    """As many requests of one size as a device holds."""
    pattern = np.zeros(len(steps), dtype=np.int64)
    pattern[size] = room // steps[size]
    return pattern


def _dual_prices(patterns: Sequence[Ints], worth: Floats, limits: Floats) -> Floats:
    """[T] What room for one request of each size is worth, when one device is cut by these patterns and demand is limited.

    A pattern need not be used up: what is served of a size is at most what is cut for it.
    """
    cuts = np.array(patterns, dtype=np.float64).T
    sizes, count = cuts.shape
    rows = np.block([[np.eye(sizes), -cuts], [np.zeros((1, sizes)), np.ones((1, count))]])
    bounds = [*((0.0, limit) for limit in limits.tolist()), *[(0.0, None)] * count]
    found = linprog(np.append(-worth, np.zeros(count)), A_ub=rows, b_ub=np.append(np.zeros(sizes), 1.0), bounds=bounds, method="highs")
    prices: Floats = np.maximum(-found.ineqlin.marginals[:sizes], 0.0)
    return prices


def _knapsack(steps: Ints, prices: Floats, room: int) -> tuple[Floats, Ints]:
    """[room + 1] The most that each amount of room can bring, and the request put in last to get it (-1: some room is left free)."""
    best, last = np.zeros(room + 1), np.full(room + 1, -1, dtype=np.int64)
    for free in range(1, room + 1):
        best[free] = best[free - 1]
        fitting = (steps <= free).nonzero()[0]
        if len(fitting):
            brought = best[free - steps[fitting]] + prices[fitting]
            choice = int(brought.argmax())
            if brought[choice] > best[free] + TOLERANCE / 100:
                best[free], last[free] = brought[choice], fitting[choice]
    return best, last


def _pattern(steps: Ints, last: Ints, room: int) -> Ints:
    """The requests that a whole device is cut into for the most that it can bring."""
    pattern, free = np.zeros(len(steps), dtype=np.int64), room
    while free > 0:
        if last[free] < 0:
            free -= 1
        else:
            pattern[last[free]] += 1
            free -= int(steps[last[free]])
    return pattern
