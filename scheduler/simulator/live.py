"""`cpn-live`: what the production cycle would decide, on a virtual clock.

After everything that happens (jobs come, runs end), the board of the engine decides, or where it does not know the world
`scheduler.engine.place` itself, whose plan is the same: the tree of queues with its weights, quotas and ceilings, clusters by
price, gangs whole in one cluster. Jobs of a trace wait in the queue that is named like their group, else in `default`; without
queues each group has one of its own.

With backfilling, the first blocked jobs are promised a start, as on a server with `CPN_BACKFILL`; every decision is then one of
`place`, which takes longer. Then clusters are chosen by the prices of the hours, and flexible jobs wait for a better one.

A trace tells what a job may run on by models, a request has one column for each resource. So every node's devices are a column
`accelerator` that all jobs with devices ask for, which is what is free; and each set of models that some job is bound to is
another, which tells the nodes that qualify. So shares of
devices and models of unlike speed are refused, and nobody is ended for another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from cluster.computing_power import canonical_model
from scheduler.engine.board import Board, Classes
from scheduler.engine.rooms import DEVICES, KIND, NEEDS_CPU, NEEDS_MEMORY, WORKERS
from scheduler.engine.snapshot import Clusters, Floats, Ints, Jobs, Nodes, Queues, Snapshot
from scheduler.errors import TraceError
from scheduler.quotas import ceiling, kept
from scheduler.simulator.frozen_board import FrozenBoard, Pace
from scheduler.simulator.outcome import Outcome
from scheduler.simulator.patience import Patience
from scheduler.simulator.world import World
from scheduler.store.records import QueueRecord
from scheduler.traces.trace import WHOLE
from workloads.resources import MIB

# How many blocked jobs are promised a start: as a server of these settings does.
HEADS = {"none": 0, "easy": 4, "conservative": 200}
DEFAULT_QUEUE, ACCELERATOR = "default", "accelerator"
Progress = Callable[[int], None]


class Live:
    """One simulation. `run()` may be called once. Raises TraceError for work that the cycle knows no request for."""

    def __init__(self, world: World, queues: Sequence[QueueRecord], backfill: str = "none") -> None:
        if world.is_mixed or bool((world.trace.gpu_milli[world.trace.devices > 0] < WHOLE).any()):
            message = "decides on whole devices of equal speed, and this trace has others; compare the other policies on it"
            raise TraceError(message, file="policy cpn-live")
        self.world, self.outcome = world, Outcome.empty(len(world.trace))
        self.columns = resources_of(world)
        self.queues = queues_for(world, queues)
        classes, self.kind = classes_for(world, self.columns)
        empty = replace(snapshot_of(world, self.columns, self.queues), heads=HEADS[backfill])
        by_hour = bool(world.trace.flexible) or any(world.machines.tariffs)
        patience = Patience(world, classes, self.kind, site_rows(world)) if by_hour and empty.heads else None
        self.board = board_of(empty, classes, Pace(world.limit_s, world.length_s, world.trace.group), patience)
        self.queue = queue_rows(world, self.queues)
        self.arrivals = np.flatnonzero(world.fits)
        self._ends: list[tuple[float, int]] = []
        self._due_s = np.inf
        self._home = world.machines.model

    def run(self, progress: Progress = lambda _done: None) -> Outcome:
        """All jobs, to the end of the last that a queue lets start."""
        began, submit_s = perf_counter(), self.world.trace.submit_s[self.arrivals]
        came = ended = 0
        while came < len(self.arrivals) or self._ends or np.isfinite(self._due_s):
            next_s = submit_s[came] if came < len(submit_s) else np.inf
            now = min(float(next_s), self._ends[0][0] if self._ends else np.inf, self._due_s)
            ended += self._end(now)
            if next_s <= now:
                until = int(np.searchsorted(submit_s, now, side="right"))
                jobs, came = self.arrivals[came:until], until
                self.board.arrive(jobs, self.queue[jobs], np.zeros(len(jobs), dtype=np.int64), jobs, self.kind[jobs])
            self._due_s = np.inf
            if self.board.waiting:
                self._decide(now)
            if self.outcome.cycles % 1024 == 0:
                progress(ended)
        progress(ended)
        self.outcome.wall_s = perf_counter() - began
        return self.outcome

    def _end(self, now: float) -> int:
        over = []
        while self._ends and self._ends[0][0] <= now:
            over.append(heapq.heappop(self._ends)[1])
        if over:
            self.board.finish(over)
        return len(over)

    def _decide(self, now: float) -> None:
        began = perf_counter()
        if isinstance(self.board, FrozenBoard):
            self.board.at(now)
        placed = self.board.decide()
        self._due_s = self.board.due_s if isinstance(self.board, FrozenBoard) else np.inf
        self.outcome.decision_s += perf_counter() - began
        self.outcome.cycles += 1
        world, outcome = self.world, self.outcome
        for row, job in enumerate(placed.numbers.tolist()):
            ran_s = float(world.length_s[job])
            outcome.start_s[job], outcome.end_s[job], outcome.ran_s[job] = now, now + ran_s, ran_s
            outcome.model[job] = self._home[placed.nodes[placed.seat_end[row] - 1]]
            outcome.busy += ran_s * float(world.size[job])
            heapq.heappush(self._ends, (now + ran_s, job))


def board_of(world: Snapshot, classes: Classes, pace: Pace, patience: Patience | None = None) -> Board | FrozenBoard:
    """The board of a world, or decisions by `place` where it has queues or promises that the board does not know."""
    return FrozenBoard(world, classes, pace, patience) if world.heads or world.queues.strict.any() else Board(world, classes)


def resources_of(world: World) -> dict[str, Ints]:
    """The accelerator columns of the snapshot: a name, and the rows of `models` that qualify. All devices come first."""
    names = _accelerators(world)
    columns = {ACCELERATOR: np.arange(len(names))}
    for model in dict.fromkeys(name for name in names if name):
        columns[model] = np.array([row for row, name in enumerate(names) if name == model])
    for kind, speed in enumerate(world.asks.speed):
        columns.setdefault(column_of(world, kind), np.flatnonzero(speed > 0))
    return columns


def column_of(world: World, kind: int) -> str:
    """The column that tells which nodes qualify for a kind of job: one model, several, or all devices."""
    names = _accelerators(world)
    allowed = {names[row] for row in np.flatnonzero(world.asks.speed[kind] > 0).tolist()} - {""}
    if allowed == set(names) - {""} and len(allowed) != 1:
        return ACCELERATOR
    return "|".join(sorted(allowed)) or "none"


def _accelerators(world: World) -> tuple[str, ...]:
    return world.machines.accelerators or world.machines.models


def queues_for(world: World, queues: Sequence[QueueRecord]) -> tuple[QueueRecord, ...]:
    """Queues by name: those given and one for jobs of other groups, or without any given one for each group."""
    known = {queue.name: _by_column(queue) for queue in queues}
    groups = world.trace.groups if not queues else ()
    for name in (*(group or DEFAULT_QUEUE for group in groups), *((DEFAULT_QUEUE,) if queues else ())):
        known.setdefault(name, QueueRecord(name, 1.0, None, 0.0))
    return tuple(known[name] for name in sorted(known))


def _by_column(queue: QueueRecord) -> QueueRecord:
    """The queue with its amounts by the names that columns have."""

    def named(amounts: Mapping[str, float]) -> dict[str, float]:
        return {name if name in ("cpu", "memory") else canonical_model(name) or name: amount for name, amount in amounts.items()}

    return replace(queue, quota=named(queue.quota), borrow_limit=named(queue.borrow_limit), lend_limit=named(queue.lend_limit))


def queue_rows(world: World, queues: Sequence[QueueRecord]) -> Ints:
    """[J] The row of the queue in which each job waits."""
    above = {queue.parent for queue in queues}
    rows = {queue.name: row for row, queue in enumerate(queues) if queue.name not in above}
    if DEFAULT_QUEUE not in rows and any(group not in rows for group in world.trace.groups):
        raise TraceError("other queues are below the queue `default`, and jobs of groups without a queue go there", file="network")
    by_group = np.array([rows[group] if group in rows else rows[DEFAULT_QUEUE] for group in world.trace.groups], dtype=np.int64)
    return by_group[world.trace.group]


def classes_for(world: World, columns: dict[str, Ints]) -> tuple[Classes, Ints]:
    """The kinds of job of a trace, and [J] which kind each is of."""
    fields = world.asks.job[:, [WORKERS, NEEDS_CPU, NEEDS_MEMORY, DEVICES, KIND]]
    rows, back = np.unique(fields, axis=0, return_inverse=True)
    names, sites = list(columns), site_rows(world)
    request = np.zeros((len(rows), 2 + len(names)))
    request[:, 0], request[:, 1] = rows[:, 1] / 1000.0, rows[:, 2].astype(np.float64) * MIB
    cost = np.zeros((len(rows), int(sites.max()) + 1))
    for row, (workers, cpu, _, devices, kind) in enumerate(rows.tolist()):
        if devices:
            request[row, 2], request[row, 2 + names.index(column_of(world, kind))] = devices, devices
        cost[row] = workers * max(devices, cpu / 1000.0) * _cheapest(world, sites, kind)
    none = np.zeros_like(cost)
    workers = rows[:, 0].copy()
    return Classes(request, np.zeros(len(rows), dtype=np.int64), workers, none.astype(np.int64), cost, none.copy()), back.reshape(-1)


def _cheapest(world: World, sites: Ints, kind: int) -> Floats:
    """[C] What an hour of a device costs at each cluster, on the cheapest model that qualifies."""
    price = np.array(world.machines.price or [0.0] * len(sites))
    found = np.full(int(sites.max()) + 1, np.inf)
    allowed = world.asks.speed[kind] > 0
    np.minimum.at(found, sites[allowed], price[allowed])
    return np.where(np.isfinite(found), found, 0.0)


def site_rows(world: World) -> Ints:
    """[M] The row of the cluster of each row of `models`; plain machines are one cluster."""
    sites = world.machines.sites or ("machines",) * len(world.models)
    names = sorted(set(sites))
    return np.array([names.index(site) for site in sites], dtype=np.int64)


def snapshot_of(world: World, columns: dict[str, Ints], queues: Sequence[QueueRecord]) -> Snapshot:
    """The empty network in the order of names, without jobs."""
    machines, sites = world.machines, site_rows(world)
    resources = ("cpu", "memory", *columns)
    names = tuple(sorted(set(machines.sites or ("machines",))))
    total = np.zeros((len(machines.devices), len(resources)))
    total[:, 0], total[:, 1] = machines.cpu_milli / 1000.0, machines.memory_mib.astype(np.float64) * MIB
    for column, rows in enumerate(columns.values(), start=2):
        total[:, column] = np.where(np.isin(machines.model, rows), machines.devices, 0)
    width, count = len(str(len(total))), len(names)
    return Snapshot(
        resources=resources,
        clusters=Clusters(names, np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_), np.zeros(count)),
        nodes=Nodes(
            tuple(f"node-{row:0{width}}" for row in range(len(total))), sites[machines.model], np.ones(len(total), dtype=np.bool_),
            total, total.copy(), np.ones((1, len(total)), dtype=np.bool_),
        ),
        queues=_queues(queues, resources),
        jobs=_no_jobs(count, len(resources)),
    )  # fmt: skip


def _queues(queues: Sequence[QueueRecord], resources: tuple[str, ...]) -> Queues:
    index = {queue.name: row for row, queue in enumerate(queues)}

    def table(amount: Callable[[QueueRecord, str], float]) -> Floats:
        return np.array([[amount(queue, name) for name in resources] for queue in queues], dtype=np.float64)

    return Queues(
        names=tuple(index), weight=np.array([queue.weight for queue in queues]), held=np.zeros((len(queues), len(resources))),
        running=np.zeros(len(queues), dtype=np.int64),
        max_running=np.array([-1 if queue.max_running is None else queue.max_running for queue in queues], dtype=np.int64),
        parent=np.array([-1 if queue.parent is None else index[queue.parent] for queue in queues], dtype=np.int64),
        quota=table(lambda queue, name: queue.quota.get(name, 0.0)), ceiling=table(ceiling), kept=table(kept),
        strict=np.array([queue.order == "strict" for queue in queues], dtype=np.bool_),
    )  # fmt: skip


def _no_jobs(clusters: int, resources: int) -> Jobs:
    row, table = np.zeros(0, dtype=np.int64), np.zeros((0, clusters))
    return Jobs((), row, row, row, row, np.zeros((0, resources)), row, table.astype(np.int64), table, table)
