"""The frozen world that one decision is made on: arrays, indices and nothing else.

Axes: C clusters, N nodes, J jobs, Q queues, R resources (0 cpu in cores, 1 memory in bytes, then one
accelerator model each), L label classes, T levels of the topology. Rows are sorted by name (jobs by sequence), so equal worlds
give equal arrays. A label class is one distinct set of required node labels; `label_ok[L, N]` says who carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from scheduler.engine.evictable import Budget, Claims, Evictable

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

CPU, MEMORY, FIRST_ACCELERATOR = 0, 1, 2

# How far sums of fractions may be off, as a share of a node's total: 0.1 + 0.2 cores fit in 0.3.
ROUNDING = 1e-9
# Thousandths that make one whole device.
WHOLE = 1000


class Prefer(IntEnum):
    """By what a job chooses between clusters that have room for it."""

    BALANCED = 0
    SOONEST = 1
    CHEAPEST = 2
    CLEANEST = 3


@dataclass(frozen=True, eq=False)
class Clusters:
    """Members. `wait_s[C]`: usual time from placement to start there. `level[C]`: how far each is secured, 0 when left out."""

    names: tuple[str, ...]
    healthy: Bools
    cordoned: Bools
    wait_s: Floats
    level: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.level) != len(self.names):
            object.__setattr__(self, "level", np.zeros(len(self.names), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Nodes:
    """Machines. `total[N, R]` and `free[N, R]`; capacity in flight is already taken off `free`.

    `cluster[N]` is the row of the node's cluster; names are unique within a cluster. `group[N, T]` numbers the nodes that stand
    together at each level, -1 where a node belongs to no group; left out, there are no levels. `devices[N, M, D]` are the thousandths
    free on device d of accelerator model m (resource FIRST_ACCELERATOR + m), -1 where the node has no such device. Left out,
    devices are not told apart: whole ones are counted, and nobody may ask for a part of one.
    """

    names: tuple[str, ...]
    cluster: Ints
    ready: Bools
    total: Floats
    free: Floats
    label_ok: Bools
    group: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    devices: Ints = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.group) != len(self.cluster):
            object.__setattr__(self, "group", np.zeros((len(self.cluster), 0), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Queues:
    """Queues, as a tree. `held[Q, R]` and `running[Q]` are what their own runs hold now, without those of the queues below.

    `max_running[Q]` is -1 for no limit, `parent[Q]` the row of the queue above or -1. `quota[Q, R]` is guaranteed (0: nothing
    is), `ceiling[Q, R]` the most that may be held (inf: no limit), `kept[Q, R]` the part of the quota that is not lent even
    while it is unused. `used[Q, R]` is what own runs held lately, older use counting less. Limits, quotas and ceilings hold for
    a queue with all below it. In a queue that is `strict[Q]` no job starts before those ahead of it. One with `spread[Q]`
    lays its work out over as many nodes as it can; `seats[Q, N]` are the workers of its own runs on each node (none when left out).
    `preemption[Q]` is a PreemptionPolicy.
    Left out, the queues stand side by side, nothing is guaranteed or limited, jobs may overtake one that does not fit, and are packed,
    and nobody is preempted.
    """

    names: tuple[str, ...]
    weight: Floats
    held: Floats
    running: Ints
    max_running: Ints
    parent: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    quota: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    ceiling: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    kept: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    used: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    strict: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    spread: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    seats: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    preemption: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.spread) != len(self.names):
            object.__setattr__(self, "spread", np.zeros(len(self.names), dtype=np.bool_))
        if len(self.parent) != len(self.names):
            object.__setattr__(self, "parent", np.full(len(self.names), -1, dtype=np.int64))
        if len(self.strict) != len(self.names):
            object.__setattr__(self, "strict", np.zeros(len(self.names), dtype=np.bool_))
        if len(self.preemption) != len(self.names):
            object.__setattr__(self, "preemption", np.zeros(len(self.names), dtype=np.int64))
        for name, value in (("quota", 0.0), ("ceiling", np.inf), ("kept", 0.0), ("used", 0.0)):
            if getattr(self, name).shape != self.held.shape:
                object.__setattr__(self, name, np.full(self.held.shape, value))


@dataclass(frozen=True, eq=False)
class Jobs:
    """Waiting jobs. `request[J, R]` is what each of at most `workers[J]` workers holds, `length_s[J]` how long it is expected to run,
    `limit_s[J]` how long it may.

    An elastic job starts with `least[J]` workers at least, and is granted no more than `most[J, C]` at a cluster (what its budget
    pays for); left out, both are `workers`.

    `policy[J, C]` holds a Reason (0 = allowed), decided from licences, residency, budget and currency before the
    freeze. `transfer_s[J, C]` is the time to bring the inputs there, `cost[J, C]` the quoted price (comparable within
    one job only). `prefer[J]` holds a Prefer; left out, all jobs are balanced. `same[J]` is the level of which all
    workers must be in one group, -1 (also when left out) where it does not matter. `array[J]` is the number of the array whose
    task a job is, -1 for none, and `array_left[J]` how many more tasks of it may start now; left out, there is no such limit.
    `longer_s[J]` is how much longer the work is expected to take than on the fastest model that the job may use. `carbon_g[J, C]` are
    the grams of CO2 that it is estimated to emit there, NaN (also when left out) where nobody knows.

    Terms of its data, from which plans are proved apart from `policy` (left out, there are none): `level[J]` is the least level of
    security, `residence[J]` the row of the snapshot's `residences` that admits its clusters, -1 for any, `classification[J]` the greatest
    class of its inputs, and `cleared[J]` the greatest that licences clear.
    """

    ids: tuple[str, ...]
    queue: Ints
    rank: Ints
    sequence: Ints
    workers: Ints
    request: Floats
    label_class: Ints
    policy: Ints
    transfer_s: Floats
    cost: Floats
    prefer: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    same: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    length_s: Floats = field(default_factory=lambda: np.zeros(0))
    least: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    most: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    array: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    array_left: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    limit_s: Floats = field(default_factory=lambda: np.zeros(0))
    longer_s: Floats = field(default_factory=lambda: np.zeros(0))
    carbon_g: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    level: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    residence: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    classification: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    cleared: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        for name, value in (("array", -1), ("array_left", 0), ("level", 0), ("residence", -1), ("classification", 0), ("cleared", 0)):
            if len(getattr(self, name)) != len(self.workers):
                object.__setattr__(self, name, np.full(len(self.workers), value, dtype=np.int64))
        if len(self.least) != len(self.workers):
            object.__setattr__(self, "least", self.workers)
        if self.most.shape != self.policy.shape:
            object.__setattr__(self, "most", np.broadcast_to(self.workers[:, None], self.policy.shape))
        if self.carbon_g.shape != self.policy.shape:
            object.__setattr__(self, "carbon_g", np.full(self.policy.shape, np.nan))
        if len(self.longer_s) != len(self.ids):
            object.__setattr__(self, "longer_s", np.zeros(len(self.ids)))
        if len(self.prefer) != len(self.ids):
            object.__setattr__(self, "prefer", np.zeros(len(self.ids), dtype=np.int64))
        if len(self.same) != len(self.workers):
            object.__setattr__(self, "same", np.full(len(self.workers), -1, dtype=np.int64))
        if len(self.length_s) != len(self.ids):
            object.__setattr__(self, "length_s", np.full(len(self.ids), np.inf))
        if len(self.limit_s) != len(self.ids):
            object.__setattr__(self, "limit_s", np.full(len(self.ids), np.inf))


@dataclass(frozen=True, eq=False)
class Running:
    """Runs [H] that hold room now, and their workers [S]: worker s of run `run[S]` is on node `node[S]`.

    `request[H, R]` is what each worker holds, `ends_s[H]` the seconds from now after which the run is expected to have ended.
    `device[F, 4]`: of each device that a run holds, or a share of, the run, the node, the accelerator model (counted from
    FIRST_ACCELERATOR) and its number there; left out where devices are not told apart.
    """

    ids: tuple[str, ...]
    request: Floats
    ends_s: Floats
    run: Ints
    node: Ints
    device: Ints = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Windows:
    """Times [W], in seconds from now, at which the nodes that a window `covers[W, N]` take only the jobs that it is `open_to[W, J]`.

    A window of `maintenance[W]` is open to none.
    """

    names: tuple[str, ...]
    begin_s: Floats
    end_s: Floats
    maintenance: Bools
    covers: Bools
    open_to: Bools


@dataclass(frozen=True, eq=False)
class Further:
    """Further ways to run some of the jobs: way k is one of job `of[k]`, alike but for request, policy, cost and longer_s.

    The ways of one job are in the order in which its buyer named them; the first is the job's own row.
    """

    of: Ints
    jobs: Jobs


@dataclass(frozen=True, eq=False)
class Weights:
    """How much each score counts; a score is 0 (best) to 1 (worst) over a job's candidates. What each means: `engine/scores.py`.

    `history`: how much what a queue used lately counts in its share, against what it holds now.
    """

    price: float = 1.0
    transfer: float = 1.0
    start: float = 0.5
    history: float = 0.0
    run: float = 1.0
    fragmentation: float = 0.001
    topology: float = 0.0
    spread: float = 0.0
    pack: float = 0.0
    carbon: float = 0.0


@dataclass(frozen=True, eq=False)
class Mix:
    """What was asked for lately, by class: `count[K]` workers, each of `cpu[K]` cores and `milli[K]` thousandths of accelerators.

    `models[K, M]` may serve them (resources from FIRST_ACCELERATOR on); whose `milli` is 0 asks for none.
    """

    cpu: Floats
    milli: Ints
    models: Bools
    count: Ints


@dataclass(frozen=True, eq=False)
class Promised:
    """Room kept for a job: `request[R]` for each of its workers on `nodes[W]`, from `start_s` to `end_s`, in seconds from now."""

    nodes: Ints
    request: Floats
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class Later:
    """What a job that may wait for a cheaper, or a `cleaner`, hour costs in one of its ways, by when it is placed at a cluster, in seconds
    from now.

    `cost[C, K]` is for a placement at `at_s[C, K]`, the first of them 0, and on a line in between; the last may be repeated. It has to
    be placed by `latest_s[C]`, -inf where it may not go. `choice` is the way (see Placement); a way without a table is not waited for.
    Of a cleaner hour the cost is grams of CO2; where nobody knows them it may not go to wait for one. `within_s[C, B, 2]` are the
    times, from and until when, at which its budget pays for a placement, of which the last may be empty (inf to -inf); left out, all do.
    """

    job: str
    at_s: Floats
    cost: Floats
    latest_s: Floats
    choice: int = 0
    cleaner: bool = False
    within_s: Floats = field(default_factory=lambda: np.zeros((0, 0, 2)))

    def __post_init__(self) -> None:
        if len(self.within_s) != len(self.latest_s):
            object.__setattr__(self, "within_s", np.tile([0.0, np.inf], (len(self.latest_s), 1, 1)))


@dataclass(frozen=True, eq=False)
class Elastic:
    """Running gangs [E] that may have more workers now: `jobs` are they as if they waited, for as long as each may still take.

    Gang e has `workers[E]` of at most `jobs.most[E, C]` at its `cluster[E]`, the first of them on node `first[E]`. `label_ok[L, N]`,
    `group[N, T]` and `open_to[W, E]` are for these rows what those of nodes and windows are for jobs.
    """

    ids: tuple[str, ...]
    jobs: Jobs
    cluster: Ints
    workers: Ints
    first: Ints
    label_ok: Bools
    group: Ints
    open_to: Bools


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything `place` may know.

    `heads`: how many blocked jobs are promised a start, so that no other delays it; that takes `running`. `promised` are starts that
    were promised to jobs which are not in this snapshot. `evictable` is what runs, where somebody may be ended for others within
    the `budget`, or may shrink, `claims` the room that is being made, and `elastic` what may grow. `mix` says what the room on devices is
    worth; without one, what waits does, and to shares alone.
    `later` are those jobs that may wait for a cheaper or cleaner hour, of which at most `waits` may do so; that takes `running` too.
    `residences[K, C]`: which clusters lie where the data of some jobs may be processed (see Jobs).
    """

    resources: tuple[str, ...]
    clusters: Clusters
    nodes: Nodes
    queues: Queues
    jobs: Jobs
    weights: Weights = Weights()
    running: Running | None = None
    heads: int = 0
    promised: tuple[Promised, ...] = ()
    windows: Windows | None = None
    evictable: Evictable = field(default_factory=Evictable)
    claims: Claims = field(default_factory=Claims)
    budget: Budget = field(default_factory=Budget)
    further: Further | None = None
    mix: Mix | None = None
    later: tuple[Later, ...] = ()
    waits: int = 0
    elastic: Elastic | None = None
    residences: Bools = field(default_factory=lambda: np.zeros((0, 0), dtype=np.bool_))
