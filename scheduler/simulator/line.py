"""The line of waiting jobs, in the order of a policy, kept sorted where keys do not change."""

from __future__ import annotations

import numpy as np

from scheduler.engine import precedence
from scheduler.engine.precedence import LASTING, Waiting, shares_ahead
from scheduler.engine.snapshot import Bools, Floats, Ints
from scheduler.simulator.policies import Ordered
from scheduler.simulator.world import World
from scheduler.traces.trace import WHOLE


class Line:
    """Waiting jobs, by their rows of the trace. Equal keys keep the order of submission.

    `length_s[J]` is how long jobs are expected to run; it may be set for jobs until they are added.
    """

    def __init__(self, world: World, policy: Ordered) -> None:
        self._world, self._policy = world, policy
        self._sorted = policy.precedence in LASTING
        self.jobs = np.zeros(0, dtype=np.int64)
        self.held = np.zeros(len(world.trace.groups))
        self.length_s = world.limit_s.copy()
        self._key = np.zeros(len(world.trace))
        if self._sorted:
            self.rank(np.arange(len(world.trace)))

    def __len__(self) -> int:
        return len(self.jobs)

    def rank(self, jobs: Ints) -> None:
        """Work out the lasting keys of jobs that do not wait yet."""
        self._key[jobs] = self._policy.precedence(self._waiting(0.0, jobs))

    def add(self, jobs: Ints) -> None:
        """Jobs begin to wait, in the order of submission."""
        if not self._sorted:
            self.jobs = np.concatenate([self.jobs, jobs])
        elif len(self.jobs) == 0:
            self.jobs = jobs[np.argsort(self._key[jobs], kind="stable")]
        else:
            for job in jobs.tolist():
                at = int(np.searchsorted(self._key[self.jobs], self._key[job], side="right"))
                self.jobs = np.concatenate([self.jobs[:at], [job], self.jobs[at:]])

    def remove(self, gone: Bools) -> None:
        """Take out jobs, by their places."""
        self.jobs = self.jobs[~gone]

    def order(self, now: float) -> Ints:
        """[Q] All waiting jobs, the first first."""
        if self._sorted or len(self.jobs) < 2:
            return self.jobs
        order: Ints = self.jobs[np.argsort(self._policy.precedence(self._waiting(now, self.jobs)), kind="stable")]
        return order

    def _waiting(self, now: float, jobs: Ints) -> Waiting:
        world = self._world
        ahead: Floats = np.zeros(len(jobs))
        if self._policy.precedence is precedence.drf:
            ahead = shares_ahead(world.trace.group[jobs], world.share[jobs], self.held)
        return Waiting(now, world.trace.submit_s[jobs], self.length_s[jobs], world.size[jobs] / WHOLE, ahead)
