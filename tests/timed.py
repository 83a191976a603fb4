"""Worlds in time, in few words: how long jobs last, what runs until when, and a network that is decided on from event to event.

    timed(world(...), {"a": 50}, running=[("sh n1", "8", 100)], heads=1)

is a world in which job `a` lasts 50 s, 8 cores on node n1 are free again in 100 s, and one blocked job is promised a start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scheduler.engine.alternatives import with_lengths
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Ints, Later, Prefer, Running, Snapshot
from tests.builders import DrawnJob, _amount, cluster, job, world

FOREVER = float("inf")


def timed(
    snapshot: Snapshot, lengths: Mapping[str, float], *, running: Sequence[tuple[str, str, float]] = (), heads: int = 0,
    devices: Sequence[str] = (),
) -> Snapshot:  # fmt: skip
    """A world with lengths of jobs in seconds (others never end), and runs: where, what each holds on each node, until when.

    `devices` are those of each run on its node: `0 1` are the first two of the only model that it holds.
    """
    names, home = snapshot.clusters.names, snapshot.nodes.cluster.tolist()
    rows = {(names[cluster], name): row for row, (cluster, name) in enumerate(zip(home, snapshot.nodes.names, strict=True))}
    seats = [(number, rows[where.split()[0], node]) for number, (where, _, _) in enumerate(running) for node in where.split()[1:]]
    held = [_amount(words).row(snapshot.resources) for _, words, _ in running]
    # In a further way a job lasts as much longer as was drawn.
    ways = [[lengths.get(name, FOREVER)] for name in snapshot.jobs.ids]
    for job_row, longer_s in zip(snapshot.further.of.tolist(), snapshot.further.jobs.longer_s, strict=True) if snapshot.further else ():
        ways[job_row].append(ways[job_row][0] + float(longer_s))
    return replace(
        with_lengths(snapshot, ways),
        running=Running(
            ids=tuple(f"run-{number}" for number in range(len(running))),
            request=np.array(held, dtype=np.float64).reshape(len(held), len(snapshot.resources)),
            ends_s=np.array([ends for _, _, ends in running], dtype=np.float64),
            run=np.array([number for number, _ in seats], dtype=np.int64),
            node=np.array([node for _, node in seats], dtype=np.int64),
            device=_devices(held, dict(seats), devices),
        ),
        heads=heads,
    )


def _devices(held: Sequence[Sequence[float]], node_of: Mapping[int, int], devices: Sequence[str]) -> Ints:
    """[F, 4] Run, node, model and number."""
    found = [
        (run, node_of[run], model, int(number))
        for run, numbers in enumerate(devices)
        for model, amount in enumerate(held[run][2:])
        for number in (numbers.split() if amount else ())
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def waiting(
    snapshot: Snapshot, job_id: str, prices: Mapping[str, Mapping[float, float]], latest_s: float, waits: int = 8, choice: int = 0,
    *, cleaner: bool = False, unrated: Sequence[str] = (), within_s: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Snapshot:  # fmt: skip
    """The same world, in which a job costs so much at each cluster by when it is placed, and may not go to others; it may wait so long.

    All of it is said of one of the job's ways. With `cleaner` it goes by grams of CO2, of which nobody knows those at the `unrated`
    clusters, where it may go too. `within_s` are the times that its budget pays for, at the clusters where that is not all of them.
    """
    names, job_row = snapshot.clusters.names, snapshot.jobs.ids.index(job_id)
    width = max(map(len, prices.values()), default=1)
    tables = [list((prices.get(name) or {0.0: 0.0}).items()) for name in names]
    at_s, cost = (
        np.array([[pair[place] for pair in [*table, *[table[-1]] * (width - len(table))]] for table in tables]) for place in (0, 1)
    )
    further = snapshot.further
    old = further.jobs if choice and further is not None else snapshot.jobs
    row = int(np.flatnonzero(further.of == job_row)[choice - 1]) if choice and further is not None else job_row
    jobs = replace(old, cost=old.cost.copy(), prefer=old.prefer.copy(), policy=old.policy.copy(), carbon_g=old.carbon_g.copy())
    jobs.prefer[row] = Prefer.CLEANEST if cleaner else Prefer.CHEAPEST
    if cleaner:
        jobs.carbon_g[row] = [cost[at, 0] if name in prices else np.nan for at, name in enumerate(names)]
    else:
        jobs.cost[row] = cost[:, 0]
    jobs.policy[row] = [Reason.FITS if name in prices or name in unrated else Reason.JOB_CLUSTER for name in names]
    paid = [list((within_s or {}).get(name, [(0.0, FOREVER)])) for name in names]
    for at, spans in enumerate(paid):
        if jobs.policy[row, at] == Reason.FITS and not any(begin <= 0 <= end for begin, end in spans):
            jobs.policy[row, at] = Reason.OVER_BUDGET
    most = max(map(len, paid))
    within = np.array([[*spans, *[(FOREVER, -FOREVER)] * (most - len(spans))] for spans in paid], dtype=np.float64)
    latest = np.array([latest_s if name in prices else -np.inf for name in names])
    table = Later(job_id, at_s, cost, latest, choice, cleaner, within.reshape(len(names), most, 2))
    found = replace(snapshot, later=(*snapshot.later, table), waits=waits)
    return replace(found, further=replace(further, jobs=jobs)) if choice and further is not None else replace(found, jobs=jobs)


@dataclass(frozen=True)
class Arrival:
    """A job that comes at a time, in seconds."""

    at: float
    size: str
    workers: int
    length_s: float
    rank: int = 0


@dataclass
class Tale:
    """What became of jobs: when each started, and what the first of those that were blocked was promised."""

    started: dict[str, float] = field(default_factory=dict)
    promised: list[tuple[float, str, float]] = field(default_factory=list)  # when, to whom, for when
    decisions: list[tuple[Snapshot, Plan]] = field(default_factory=list)


def told(nodes: Sequence[float], arrivals: Sequence[Arrival], *, heads: int, until_s: float = FOREVER) -> Tale:
    """Decide at every arrival and every end on one cluster of nodes with so many cores; runs last exactly as long as is expected."""
    tale = Tale()
    jobs = {f"j{row:03}": item for row, item in enumerate(arrivals)}
    waiting, ends = dict(jobs), dict[str, tuple[float, list[str]]]()
    now = 0.0
    while now < until_s:
        ends = {name: run for name, run in ends.items() if run[0] > now}
        here = {name: item for name, item in waiting.items() if item.at <= now}
        snapshot = _world(nodes, here, {name: (jobs[name].size, *run) for name, run in ends.items()}, now, heads)
        plan = place(snapshot)
        check(snapshot, plan)
        tale.decisions.append((snapshot, plan))
        tale.promised += [(now, snapshot.jobs.ids[item.job], now + item.start_s) for item in plan.promises[:1]]
        for placement in plan.placements:
            name = snapshot.jobs.ids[placement.job]
            tale.started[name] = now
            ends[name] = now + waiting.pop(name).length_s, [snapshot.nodes.names[node] for node in placement.nodes]
        coming = [item.at for item in waiting.values() if item.at > now] + [end for end, _ in ends.values()]
        if not coming:
            break
        now = min(coming)
    return tale


def _world(
    nodes: Sequence[float], waiting: Mapping[str, Arrival], runs: Mapping[str, tuple[str, float, list[str]]], now: float, heads: int
) -> Snapshot:  # fmt: skip
    free = {f"n{place}": cores for place, cores in enumerate(nodes, start=1)}
    for size, _, seats in runs.values():
        for name in seats:
            free[name] -= float(size)
    member = cluster("sh", " ".join(f"{free[f'n{place}']:g}/{cores:g}" for place, cores in enumerate(nodes, start=1)), wait_s=0.0)
    drawn: list[DrawnJob] = [
        job(name, item.size, workers=item.workers, rank=item.rank, sequence=int(name[1:])) for name, item in waiting.items()
    ]
    running = [(" ".join(["sh", *seats]), size, end - now) for size, end, seats in runs.values()]
    return timed(world(member, jobs=drawn), {name: item.length_s for name, item in waiting.items()}, running=running, heads=heads)
