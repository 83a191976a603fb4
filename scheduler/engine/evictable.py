"""Evictable: running work as the choice of victims sees it, and the claims of jobs that room is being made for.

Axes: V runs, W workers of all runs, K claims, T places (what one claim keeps on one node), R resources, as in the snapshot. Both
tables are empty unless somebody may be preempted or a gang may shrink. A run is a gang as a whole; see `parts` for its workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


def _no_numbers() -> Ints:
    return np.zeros(0, dtype=np.int64)


def _no_amounts() -> Floats:
    return np.zeros(0)


def _no_flags() -> Bools:
    return np.zeros(0, dtype=np.bool_)


def _no_devices() -> Ints:
    return np.zeros((0, 4), dtype=np.int64)


def _no_table() -> Floats:
    return np.zeros((0, 0))


class PreemptionPolicy(IntEnum):
    """What a queue's jobs may have ended to make room; each includes the ones before it."""

    NEVER = 0
    LOWER_PRIORITY = 1
    RECLAIM_QUOTA = 2

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class Budget:
    """`runs`: ended in one cycle at most; `restarts`: a job begun again so often is left alone; `looks`: jobs tried in one cycle."""

    runs: int = 16
    restarts: int = 3
    looks: int = 64


@dataclass(frozen=True, eq=False)
class Evictable:
    """Runs that hold capacity. `jobs[V]` are their jobs' ids, `request[V, R]` is what each worker holds, `node[W]` where, `owner[W]` whose.

    `lost_s[V]`: seconds of work that end with the run. `restarts[V]`: attempts before this one. `ending[V]`: it is being stopped
    already. `fixed[V]`: its job may not be begun again. `device[F, 4]`: of each device that a run holds, or a share of: the run,
    the node, the accelerator model (counted from FIRST_ACCELERATOR), and its number there. `past`: (beneficiary, victim) of
    earlier evictions, by jobs' ids.

    A gang may shrink to its first `least[V]` workers, and was granted `own[V]` in its turn; what it has beyond these it has grown into.
    Left out, no run shrinks. `part[V]`: the row is workers that leave a gang, whose end ends no run.
    """

    ids: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    queue: Ints = field(default_factory=_no_numbers)
    rank: Ints = field(default_factory=_no_numbers)
    request: Floats = field(default_factory=_no_table)
    lost_s: Floats = field(default_factory=_no_amounts)
    restarts: Ints = field(default_factory=_no_numbers)
    ending: Bools = field(default_factory=_no_flags)
    fixed: Bools = field(default_factory=_no_flags)
    node: Ints = field(default_factory=_no_numbers)
    owner: Ints = field(default_factory=_no_numbers)
    device: Ints = field(default_factory=_no_devices)
    past: tuple[tuple[str, str], ...] = ()
    part: Bools = field(default_factory=_no_flags)
    least: Ints = field(default_factory=_no_numbers)
    own: Ints = field(default_factory=_no_numbers)

    def __post_init__(self) -> None:
        if len(self.part) != len(self.ids):
            object.__setattr__(self, "part", np.zeros(len(self.ids), dtype=np.bool_))
        for name in ("least", "own"):
            if len(getattr(self, name)) != len(self.ids):
                object.__setattr__(self, name, self.workers())

    def workers(self) -> Ints:
        """[V] How many workers each run has."""
        return np.bincount(self.owner, minlength=len(self.ids))


@dataclass(frozen=True, eq=False)
class Claims:
    """Room that is kept for jobs: place t of claim `owner[T]` is `workers[T]` workers on `node[T]`, in the order of ranks.

    `ids[K]` are the jobs, `job[K]` their rows or -1 where they are not looked at, `queue[K]` their queues, `request[K, R]` what a
    worker asks for, `choice[K]` the way that the job is run by there (see Placement), its first when left out. `pending[T, R]` is
    held there still by runs that are ended for this job.
    """

    ids: tuple[str, ...] = ()
    job: Ints = field(default_factory=_no_numbers)
    queue: Ints = field(default_factory=_no_numbers)
    request: Floats = field(default_factory=_no_table)
    node: Ints = field(default_factory=_no_numbers)
    owner: Ints = field(default_factory=_no_numbers)
    workers: Ints = field(default_factory=_no_numbers)
    pending: Floats = field(default_factory=_no_table)
    choice: Ints = field(default_factory=_no_numbers)

    def __post_init__(self) -> None:
        if len(self.choice) != len(self.ids):
            object.__setattr__(self, "choice", np.zeros(len(self.ids), dtype=np.int64))

    def asked(self) -> Floats:
        """[T, R] What each place is for."""
        asked: Floats = self.request[self.owner] * self.workers[:, None]
        return asked

    def kept(self) -> Floats:
        """[T, R] What each place keeps from others now: all but what its victims still hold there."""
        return np.maximum(self.asked() - self.pending, 0.0)


def on_rows(evictable: Evictable, claims: Claims, queue_rank: Ints, node_rank: Ints) -> tuple[Evictable, Claims]:
    """Both with queues and nodes in other rows; `queue_rank[Q]` and `node_rank[N]` lead from old rows to new ones."""
    if evictable.ids:
        device = evictable.device.copy()
        device[:, 1] = node_rank[device[:, 1]]
        evictable = replace(evictable, queue=queue_rank[evictable.queue], node=node_rank[evictable.node], device=device)
    if claims.ids:
        claims = replace(claims, queue=queue_rank[claims.queue], node=node_rank[claims.node])
    return evictable, claims
