"""Precedence: which waiting job comes first. One policy, one small function, one signature; the smallest key goes first.

These are the orders that the literature compares: first come first served, shortest and smallest first, WFP3 and UNICEP (Tang,
Lan, Desai, Buettner, Cluster 2009), F1 (Carastan-Santos, de Camargo, SC 2017), and dominant shares (Ghodsi et al., NSDI 2011).
Equal keys keep the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scheduler.engine.snapshot import Floats, Ints

TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Waiting:
    """Jobs [Q] in the order of arrival: when they came, the time that they asked for, and how many processors or devices.

    `ahead[Q]` is what a job's group holds and, in front of the job, waits for, as a share of everything.
    """

    now: float
    submit_s: Floats
    limit_s: Floats
    size: Floats
    ahead: Floats

    @property
    def wait_s(self) -> Floats:
        """[Q] Seconds since they came."""
        waited: Floats = self.now - self.submit_s
        return waited


Precedence: TypeAlias = Callable[[Waiting], Floats]


def fifo(waiting: Waiting) -> Floats:
    """First come, first served."""
    return waiting.submit_s


def sjf(waiting: Waiting) -> Floats:
    """The shortest job first, by the time it asked for."""
    return waiting.limit_s


def saf(waiting: Waiting) -> Floats:
    """The smallest area first: time asked for, times processors."""
    area: Floats = waiting.limit_s * waiting.size
    return area


def wfp3(waiting: Waiting) -> Floats:
    """Large and short jobs that waited long: - (wait / time)³ x processors."""
    key: Floats = -((waiting.wait_s / waiting.limit_s) ** 3) * waiting.size
    return key


def unicep(waiting: Waiting) -> Floats:
    """Small and short jobs that waited long: - wait / (log2(processors) x time)."""
    key: Floats = -waiting.wait_s / (np.maximum(np.log2(waiting.size), TINY) * waiting.limit_s)
    return key


def f1(waiting: Waiting) -> Floats:
    """Learned by regression: log10(time) x processors + 870 x log10(submission)."""
    key: Floats = np.log10(waiting.limit_s) * waiting.size + 870 * np.log10(np.maximum(waiting.submit_s, 1.0))
    return key


def drf(waiting: Waiting) -> Floats:
    """The group with the smallest dominant share first."""
    return waiting.ahead


# Policies whose keys do not change while a job waits; their queue stays sorted.
LASTING: tuple[Precedence, ...] = (fifo, sjf, saf, f1)


def shares_ahead(group: Ints, share: Floats, held: Floats) -> Floats:
    """[Q] What each job's group has once all its jobs in front are granted: `held[G]`, plus their `share[Q]`."""
    order = np.argsort(group, kind="stable")
    grouped, shares = group[order], share[order]
    before = np.cumsum(shares) - shares
    first = np.searchsorted(grouped, grouped)
    ahead = np.empty(len(group))
    ahead[order] = held[grouped] + before - before[first]
    return ahead
