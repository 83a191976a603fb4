"""Worlds in which something runs, in few words: what runs holds its part of the nodes and of its queue.

    beside(world(cluster("sh", "4"), jobs=[job("a", "4", rank=100)]), run("b", "4", "sh/n1"))

Nodes are drawn as they are empty. A claim is drawn like a run, with the job that it is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler.engine.check import check
from scheduler.engine.device_room import hold, milli_of
from scheduler.engine.evictable import Budget, Claims, Evictable
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import FIRST_ACCELERATOR, Elastic, Floats, Jobs, Snapshot
from tests.builders import Amount, _amount, where


@dataclass(frozen=True)
class DrawnRun:
    """A run before it becomes a row; `places` are the nodes of its workers, `ending_for` is the job that it is ended for."""

    job: str
    size: Amount
    places: tuple[str, ...]
    queue: str = "default"
    rank: int = 0
    lost_s: float = 0.0
    restarts: int = 0
    fixed: bool = False
    ending: bool = False
    ending_for: str = ""
    least: int | None = None
    own: int | None = None
    most: int = 0
    same: str = ""
    left_s: float = 3600.0


@dataclass(frozen=True)
class DrawnClaim:
    """Room that a job waits for, in one of its ways."""

    job: str
    size: Amount
    places: tuple[str, ...]
    queue: str = "default"
    choice: int = 0


def run(
    job: str, size: str, *places: str, queue: str = "default", rank: int = 0, lost_s: float = 0.0, restarts: int = 0,
    fixed: bool = False, ending: bool = False, ending_for: str = "",
) -> DrawnRun:  # fmt: skip
    """A run of a job, named like it, with a worker at each place, like `sh/n1`."""
    return DrawnRun(job, _amount(size), places, queue, rank, lost_s, restarts, fixed, ending or bool(ending_for), ending_for)


def gang(drawn: DrawnRun, least: int, own: int, most: int = 0, *, same: str = "", left_s: float = 3600.0) -> DrawnRun:
    """A run that may shrink to its `least`, was granted its `own` workers, and may grow up to `most` now, for as long as it takes."""
    return replace(drawn, least=least, own=own, most=most, same=same, left_s=left_s)


def claim(job: str, size: str, *places: str, queue: str = "default", choice: int = 0) -> DrawnClaim:
    """What a job has claimed, to be run in this way."""
    return DrawnClaim(job, _amount(size), places, queue, choice)


def beside(
    snapshot: Snapshot, *runs: DrawnRun, claims: Sequence[DrawnClaim] = (), past: Sequence[tuple[str, str]] = (),
    budget: Budget = Budget(),  # noqa: B008
) -> Snapshot:  # fmt: skip
    """The world with these runs in it."""
    names = [f"{snapshot.clusters.names[home]}/{name}" for home, name in zip(snapshot.nodes.cluster, snapshot.nodes.names, strict=True)]
    queues, free, held = snapshot.queues, snapshot.nodes.free.copy(), snapshot.queues.held.copy()
    count = queues.running.copy()
    request, devices = _rows([item.size for item in runs], snapshot), snapshot.nodes.devices.copy()
    device: list[tuple[int, int, int, int]] = []
    for row, item in enumerate(runs):
        for place_ in item.places:
            free[names.index(place_)] -= request[row]
            if devices.size:
                [chosen] = hold(devices, [names.index(place_)], milli_of(request[row]))
                device += [(row, names.index(place_), resource - FIRST_ACCELERATOR, number) for resource, number in chosen]
        held[queues.names.index(item.queue)] += request[row] * len(item.places)
        count[queues.names.index(item.queue)] += 1
    running = Evictable(
        ids=tuple(f"{item.job}-1" for item in runs), jobs=tuple(item.job for item in runs),
        queue=np.array([queues.names.index(item.queue) for item in runs], dtype=np.int64),
        rank=np.array([item.rank for item in runs], dtype=np.int64), request=request,
        lost_s=np.array([item.lost_s for item in runs]), restarts=np.array([item.restarts for item in runs], dtype=np.int64),
        ending=np.array([item.ending for item in runs], dtype=np.bool_), fixed=np.array([item.fixed for item in runs], dtype=np.bool_),
        node=np.array([names.index(place_) for item in runs for place_ in item.places], dtype=np.int64),
        owner=np.repeat(np.arange(len(runs)), np.array([len(item.places) for item in runs], dtype=np.int64)),
        past=tuple(past), device=np.array(device, dtype=np.int64).reshape(-1, 4),
        least=np.array([len(item.places) if item.least is None else item.least for item in runs], dtype=np.int64),
        own=np.array([len(item.places) if item.own is None else item.own for item in runs], dtype=np.int64),
    )  # fmt: skip
    return replace(
        snapshot, nodes=replace(snapshot.nodes, free=free, devices=devices), queues=replace(queues, held=held, running=count),
        evictable=running,
        claims=_claims(snapshot, claims, runs, names), budget=budget, elastic=_elastic(snapshot, runs, names),
    )  # fmt: skip


def _elastic(snapshot: Snapshot, runs: Sequence[DrawnRun], names: list[str]) -> Elastic | None:
    found = [item for item in runs if item.most > len(item.places) and not item.ending]
    if not found:
        return None
    clusters, count = len(snapshot.clusters.names), len(found)
    none, most = np.zeros((count, clusters)), np.array([item.most for item in found], dtype=np.int64)
    levels = {"": -1, "zone": 0, "rack": 1}
    first = np.array([names.index(item.places[0]) for item in found], dtype=np.int64)
    left_s = np.array([item.left_s for item in found])
    jobs = Jobs(
        ids=tuple(item.job for item in found), queue=np.array([snapshot.queues.names.index(item.queue) for item in found], dtype=np.int64),
        rank=np.array([item.rank for item in found], dtype=np.int64), sequence=np.arange(count), workers=most,
        request=_rows([item.size for item in found], snapshot), label_class=np.zeros(count, dtype=np.int64),
        policy=np.zeros((count, clusters), dtype=np.int64), transfer_s=none, cost=none, least=np.ones(count, dtype=np.int64),
        most=np.repeat(most[:, None], clusters, axis=1), length_s=left_s, limit_s=left_s,
        same=np.array([levels[item.same] for item in found], dtype=np.int64),
    )  # fmt: skip
    return Elastic(
        ids=tuple(f"{item.job}-1" for item in found), jobs=jobs, cluster=snapshot.nodes.cluster[first],
        workers=np.array([len(item.places) for item in found], dtype=np.int64), first=first,
        label_ok=np.ones((1, len(names)), dtype=np.bool_), group=snapshot.nodes.group,
        open_to=np.ones((len(snapshot.windows.names) if snapshot.windows else 0, count), dtype=np.bool_),
    )  # fmt: skip


def _claims(snapshot: Snapshot, claims: Sequence[DrawnClaim], runs: Sequence[DrawnRun], names: list[str]) -> Claims:
    if not claims:
        return Claims()
    rows = {name: row for row, name in enumerate(snapshot.jobs.ids)}
    places = [(row, name, count) for row, item in enumerate(claims) for name, count in Counter(item.places).items()]
    pending = np.zeros((len(places), len(snapshot.resources)))
    for at, (row, name, _) in enumerate(places):
        for item in runs:
            if item.ending_for == claims[row].job:
                pending[at] += _rows([item.size], snapshot)[0] * item.places.count(name)
    return Claims(
        ids=tuple(item.job for item in claims), job=np.array([rows.get(item.job, -1) for item in claims], dtype=np.int64),
        queue=np.array([snapshot.queues.names.index(item.queue) for item in claims], dtype=np.int64),
        request=_rows([item.size for item in claims], snapshot),
        node=np.array([names.index(name) for _, name, _ in places], dtype=np.int64),
        owner=np.array([row for row, _, _ in places], dtype=np.int64), workers=np.array([count for _, _, count in places], dtype=np.int64),
        pending=pending, choice=np.array([item.choice for item in claims], dtype=np.int64),
    )  # fmt: skip


def _rows(sizes: Sequence[Amount], snapshot: Snapshot) -> Floats:
    return np.array([size.row(snapshot.resources) for size in sizes], dtype=np.float64).reshape(len(sizes), len(snapshot.resources))


def ended(snapshot: Snapshot) -> dict[str, str]:
    """Of each job that a checked plan makes room for: whom, by which right, and where it will sit: `b by lower-priority: sh n1`."""
    plan = place(snapshot)
    check(snapshot, plan)
    return told(snapshot, plan)


def told(snapshot: Snapshot, plan: Plan) -> dict[str, str]:
    """The evictions of a plan in words."""
    found = {}
    for item in plan.evictions:
        whom = ", ".join(f"{snapshot.evictable.jobs[row]} by {right}" for row, right in zip(item.runs, item.rights, strict=True))
        found[snapshot.jobs.ids[item.job]] = f"{whom}: {where(snapshot, item.cluster, item.nodes)}"
    return found


def resized(snapshot: Snapshot) -> dict[str, str]:
    """What a checked plan does to the sizes of gangs: `{"job": "g to 3 by grown-room: sh n1", "g": "with n1 n2"}`."""
    plan = place(snapshot)
    check(snapshot, plan)
    return sizes_told(snapshot, plan)


def sizes_told(snapshot: Snapshot, plan: Plan) -> dict[str, str]:
    """The shrinks of a plan by who gains, and its growths by gang, in words."""
    found = {}
    for item in plan.shrinks:
        pairs = zip(item.gangs, item.rights, strict=True)
        what = ", ".join(f"{snapshot.evictable.jobs[row]} to {kept} by {right}" for (row, kept), right in pairs)
        found[snapshot.jobs.ids[item.job]] = f"{what}: {where(snapshot, item.cluster, item.nodes)}"
    for growth in plan.growths:
        assert snapshot.elastic is not None
        found[snapshot.elastic.jobs.ids[growth.gang]] = "with " + " ".join(snapshot.nodes.names[node] for node in growth.nodes)
    return found
