"""Backfill: what is free in time, and which jobs may go before others without delaying them.

A profile says how much of each column (the processors of a pool, or a resource of all nodes of one model) is free from one
time to the next, if running jobs take as long as they asked for. Conservative backfilling promises every waiting job the
earliest place in the profile; EASY promises one to the first job that is blocked (Mu'alem & Feitelson, IEEE TPDS 2001).
Plans here are made of plain arrays; the compiled form of EASY, for nodes as well, is `backfill_kernel`.
"""

from __future__ import annotations

import numpy as np

from scheduler.engine.snapshot import Bools, Floats

ENDLESS = float("inf")


class Profile:
    """`free[T, C]` from `times[T]` until the next of them, the last without end."""

    def __init__(self, now: float, free: Floats) -> None:
        self.times, self.free = np.array([now]), free.reshape(1, -1).astype(np.float64)

    def earliest(self, demand: Floats, length_s: float, not_before: float = -ENDLESS) -> float:
        """When so much is free for so long, at the earliest; endless if never."""
        enough: Bools = np.all(self.free >= demand, axis=1)
        short = np.flatnonzero(~enough)
        starts = self.times[np.minimum(np.concatenate([[0], short + 1]), len(self.times) - 1)]
        ends = np.concatenate([self.times[short], [ENDLESS if enough[-1] else self.times[-1]]])
        starts = np.maximum(starts, not_before)
        fits = np.flatnonzero((ends - starts >= length_s) & (ends > starts))
        return float(starts[fits[0]]) if len(fits) else ENDLESS

    def add(self, begin: float, end: float, amount: Floats) -> None:
        """So much more is free from one time until another; a negative amount is taken."""
        first = self._cut(max(begin, float(self.times[0])))
        last = self._cut(end) if end < ENDLESS else len(self.times)
        if last > first:
            self.free[first:last] += amount

    def _cut(self, at: float) -> int:
        """The row that begins at a time, made where there is none; 0 for what has passed."""
        row = int(np.searchsorted(self.times, at))
        if row == len(self.times) or self.times[row] != at:
            if row == 0:
                return 0
            self.times = np.insert(self.times, row, at)
            self.free = np.insert(self.free, row, self.free[row - 1], axis=0)
        return row

    def advance(self, now: float) -> None:
        """Forget what has passed."""
        row = max(int(np.searchsorted(self.times, now, side="right")) - 1, 0)
        self.times, self.free = self.times[row:].copy(), self.free[row:].copy()
        self.times[0] = now


def easy(now: float, free: float, queue: list[tuple[float, float]], running: list[tuple[float, float]]) -> list[int]:
    """Rows of a queue [(size, length)] that start now on one pool with `free` units, in their order; `running` is [(size, end)].

    The textbook algorithm without a thought for speed: the oracle of the compiled one.
    """
    started: list[int] = []
    while len(started) < len(queue) and queue[len(started)][0] <= free:
        size, length_s = queue[len(started)]
        running = [*running, (size, now + length_s)]
        free -= size
        started.append(len(started))
    head = len(started)
    if head == len(queue):
        return started
    shadow_s, extra = _shadow(now, free, queue[head][0], running)
    for row in range(head + 1, len(queue)):
        size, length_s = queue[row]
        if size > free or (now + length_s > shadow_s and size > extra):
            continue
        if now + length_s > shadow_s:
            extra -= size
        free -= size
        started.append(row)
    return started


def _shadow(now: float, free: float, size: float, running: list[tuple[float, float]]) -> tuple[float, float]:
    """When a blocked job will fit, and how many units it will leave then."""
    ends = sorted((max(end, now), units) for units, end in running)
    for end, _ in ends:
        there = free + sum(units for when, units in ends if when <= end)
        if there >= size:
            return end, there - size
    raise ValueError("the job is larger than everything")
