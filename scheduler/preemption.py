"""Preemption in the store: what runs and what is claimed as arrays, and evictions carried out.

A victim is told to end as when its member is drained; it goes back to its queue, in its old place, and its attempt does not count.
Whom it is ended for claims its room for as long as that may take. All of it is stored in the cycle's one transaction, the orders
in the outbox too, so that a server that ends in between has either not decided, or tells the agents when it is back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cluster.health import Health
from scheduler.bells import agent_bell, job_bell
from scheduler.device_books import device_rows
from scheduler.dispatch import stop_order
from scheduler.engine.evictable import Budget, Claims, Evictable, PreemptionPolicy
from scheduler.engine.plan import Eviction, Plan
from scheduler.engine.snapshot import Floats
from scheduler.freeze import Frozen, held_of, held_vector, node_rows
from scheduler.lifecycle import Cause, State
from scheduler.sizes import is_known, leaving_for, part_of, staying
from scheduler.store import evictions, jobs
from scheduler.store.changes import Changes
from scheduler.store.records import ACTIVE, ClaimRecord, EvictionRecord, JobRecord, RunRecord, Sizing
from scheduler.store.session import Connection
from scheduler.ways import on_model

# The word of `retry.on` without which a job is not begun again when the network ends it.
MAY_BE_MOVED = "infrastructure"
RIGHT_WORDS = {"lower-priority": "has a higher priority", "reclaim-quota": "takes back the quota that its queue lent"}
MOST_NAMED = 5


@dataclass(frozen=True)
class Preemption:
    """How far preemption goes: its budget, and for how long room is kept for whom it is made."""

    budget: Budget = field(default_factory=Budget)
    claim_s: float = 120.0


@dataclass
class Ordered:
    """Evictions that were stored: how many runs by which right, and whom to wake."""

    by_right: Counter[str] = field(default_factory=Counter)
    rung: set[str] = field(default_factory=set)


def with_evictable(conn: Connection, frozen: Frozen, budget: Budget) -> Frozen:
    """The frozen world with what is claimed, and where a queue's policy may ask for it, or a gang may shrink, with what runs."""
    frozen = with_claims(conn, frozen)
    asked = bool((frozen.snapshot.queues.preemption > PreemptionPolicy.NEVER).any()) or any(run.elastic for run in frozen.world.runs)
    evictable = _evictable(conn, frozen, evictions.stopping(conn)) if asked and frozen.world.runs else Evictable()
    return replace(frozen, snapshot=replace(frozen.snapshot, evictable=evictable, budget=budget))


def with_claims(conn: Connection, frozen: Frozen) -> Frozen:
    """The frozen world with the room that is kept for jobs."""
    claims = _claims(frozen, evictions.stopping(conn)) if frozen.world.claims else Claims()
    return replace(frozen, snapshot=replace(frozen.snapshot, claims=claims))


def _table(rows: list[Floats], resources: tuple[str, ...]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(resources))


def _evictable(conn: Connection, frozen: Frozen, stopping: Mapping[str, str | None]) -> Evictable:
    world, resources, known = frozen.world, frozen.snapshot.resources, evictions.running_jobs(conn)
    pieces = [piece for run in world.runs if run.job_id in known for piece in _pieces(run)]
    runs = [piece.run for piece in pieces]
    queues = {name: row for row, name in enumerate(frozen.snapshot.queues.names)}
    draining = {cluster.name for cluster in world.clusters if cluster.cordon == "draining"}
    nodes = node_rows(frozen.snapshot)
    places = [(row, nodes[run.cluster, name]) for row, run in enumerate(runs) for name in run.nodes if (run.cluster, name) in nodes]
    ending = [run.id in stopping or known[run.job_id].cancel_requested or run.cluster in draining for run in runs]
    ending = [piece.leaving or stops for piece, stops in zip(pieces, ending, strict=True)]
    able = {cluster.name for cluster in world.clusters if cluster.resizes and cluster.health is Health.HEALTHY}
    sizes = [_sizes(run, nodes) if run.cluster in able and not stops else None for run, stops in zip(runs, ending, strict=True)]
    counts = np.bincount([row for row, _ in places], minlength=len(runs)).tolist()
    return Evictable(
        part=np.array([piece.leaving for piece in pieces], dtype=np.bool_),
        least=np.array([size.least if size else count for size, count in zip(sizes, counts, strict=True)], dtype=np.int64),
        own=np.array([size.granted if size else count for size, count in zip(sizes, counts, strict=True)], dtype=np.int64),
        ids=tuple(piece.run.id + ("#leaving" if piece.leaving else "") for piece in pieces), jobs=tuple(run.job_id for run in runs),
        queue=np.array([queues[run.queue] for run in runs], dtype=np.int64),
        rank=np.array([known[run.job_id].rank for run in runs], dtype=np.int64),
        request=_table([held_vector(run.held, resources) for run in runs], resources),
        lost_s=np.array([max(world.now - run.started_at, 0.0) if run.started_at else 0.0 for run in runs], dtype=np.float64),
        restarts=np.array([run.attempt - 1 for run in runs], dtype=np.int64), ending=np.array(ending, dtype=np.bool_),
        fixed=np.array([MAY_BE_MOVED not in known[run.job_id].retried_on for run in runs], dtype=np.bool_),
        node=np.array([node for _, node in places], dtype=np.int64), owner=np.array([row for row, _ in places], dtype=np.int64),
        device=device_rows(runs, nodes, resources), past=evictions.past(conn),
    )  # fmt: skip


@dataclass(frozen=True)
class _Piece:
    """A run, or of one that shrinks the workers that it keeps and those that are leaving."""

    run: RunRecord
    leaving: bool = False


def _pieces(run: RunRecord) -> list[_Piece]:
    kept = staying(run)
    if kept == len(run.nodes):
        return [_Piece(run)]
    return [_Piece(part_of(run, 0, kept)), _Piece(part_of(run, kept, len(run.nodes)), leaving=True)]


def _sizes(run: RunRecord, nodes: Mapping[tuple[str, str], int]) -> Sizing | None:
    """How far a run may shrink now; None where it may not, because it is being changed, or because what it holds is not known well."""
    sizing = run.sizing
    if sizing is None or sizing.pending is not None or run.state != State.RUNNING or not is_known(run, nodes):
        return None
    return sizing


def _claims(frozen: Frozen, stopping: Mapping[str, str | None]) -> Claims:
    """The claims at members that may be used, on nodes that are there."""
    snapshot, nodes = frozen.snapshot, node_rows(frozen.snapshot)
    usable = snapshot.clusters.healthy & ~snapshot.clusters.cordoned
    open_ = {name for row, name in enumerate(snapshot.clusters.names) if usable[row]}
    found = [item for item in frozen.world.claims if item.cluster in open_ and all((item.cluster, name) in nodes for name in item.nodes)]
    rows = {candidate.id: row for row, candidate in enumerate(frozen.candidates)}
    queues = {name: row for row, name in enumerate(snapshot.queues.names)}
    ways = [frozen.candidates[rows[item.job_id]].ways if item.job_id in rows else () for item in found]
    # A job has one way for each model.
    choice = [
        [way.model for way in mine].index(item.held["accelerator_model"]) if mine else 0 for item, mine in zip(found, ways, strict=True)
    ]
    # Nodes in the order of ranks: workers of one node follow each other.
    places = [(row, name, count) for row, item in enumerate(found) for name, count in Counter(item.nodes).items()]
    pending = np.zeros((len(places), len(snapshot.resources)))
    for at, (row, name, _) in enumerate(places):
        for run in frozen.world.runs:
            if run.cluster == found[row].cluster:
                leaving = run.nodes if stopping.get(run.id) == found[row].job_id else leaving_for(run, found[row].job_id)
                pending[at] += held_vector(run.held, snapshot.resources) * leaving.count(name)
    return Claims(
        ids=tuple(item.job_id for item in found), job=np.array([rows.get(item.job_id, -1) for item in found], dtype=np.int64),
        queue=np.array([queues[item.queue] for item in found], dtype=np.int64),
        request=_table([held_vector(item.held, snapshot.resources) for item in found], snapshot.resources),
        node=np.array([nodes[found[row].cluster, name] for row, name, _ in places], dtype=np.int64),
        owner=np.array([row for row, _, _ in places], dtype=np.int64),
        workers=np.array([count for _, _, count in places], dtype=np.int64), pending=pending, choice=np.array(choice, dtype=np.int64),
    )  # fmt: skip


def order_evictions(changes: Changes, frozen: Frozen, plan: Plan, by_id: Mapping[str, JobRecord], claim_s: float) -> Ordered:
    """Tell victims to end, and keep their room; what has changed since the freeze is left to the next cycle."""
    ordered = Ordered()
    if not plan.evictions:
        return ordered
    changes.read(frozen.snapshot.evictable.ids[row] for item in plan.evictions for row in item.runs)
    versions = jobs.versions_of(changes.conn, (frozen.candidates[item.job].id for item in plan.evictions))
    stopping = evictions.stopping(changes.conn)
    for eviction in plan.evictions:
        job = by_id[frozen.candidates[eviction.job].id]
        found = [changes.run(frozen.snapshot.evictable.ids[row]) for row in eviction.runs]
        victims = [run for run in found if run is not None and _may_end(changes, run, stopping)]
        if versions.get(job.id) == job.version and len(victims) == len(eviction.runs):
            _order(changes, frozen, eviction, job, victims, claim_s)
            ordered.by_right.update(eviction.rights)
            ordered.rung |= {job_bell(job.id), agent_bell(victims[0].cluster), *(job_bell(run.job_id) for run in victims)}
    return ordered


def _may_end(changes: Changes, run: RunRecord, stopping: Mapping[str, str | None]) -> bool:
    job = changes.job(run.job_id)
    return job is not None and run.state in ACTIVE and job.run_id == run.id and not job.cancel_requested and run.id not in stopping


def named(job: JobRecord, to: JobRecord) -> str:
    """A job as the tenant of another one may know it."""
    return job.id if job.tenant == to.tenant else "another tenant's job"


def _order(changes: Changes, frozen: Frozen, eviction: Eviction, job: JobRecord, victims: list[RunRecord], claim_s: float) -> None:
    now, snapshot, candidate = frozen.world.now, frozen.snapshot, frozen.candidates[eviction.job]
    cluster = snapshot.clusters.names[eviction.cluster]
    for run, right in zip(victims, eviction.rights, strict=True):
        words = f"ended to make room for {named(job, changes.job_of(run.job_id))} of the queue {job.queue}, which {RIGHT_WORDS[right]}"
        evictions.note(changes.conn, [EvictionRecord(run.id, run.job_id, job.id, right, words, now)])
        changes.touch_job(changes.job_of(run.job_id), message=words)
        changes.order(run.cluster, stop_order(run.id, "preempted"), now)
    whom = ", ".join(f"{named(changes.job_of(run.job_id), job)} of the queue {run.queue}" for run in victims[:MOST_NAMED])
    more = f" and {len(victims) - MOST_NAMED} more" if len(victims) > MOST_NAMED else ""
    rights = " or ".join(RIGHT_WORDS[right] for right in sorted(set(eviction.rights)))
    where = f"{cluster}{on_model(candidate.ways, eviction.choice)}"
    changes.move_job(
        job, State.QUEUED, Cause.CLAIMED, at=now, message=f"room is made at {where}: {whom}{more} is ended, because this job {rights}"
    )
    nodes = [snapshot.nodes.names[node] for node in eviction.nodes]
    evictions.claim(
        changes.conn, ClaimRecord(job.id, cluster, nodes, held_of(candidate.ways[eviction.choice].resources), job.queue, now + claim_s)
    )
