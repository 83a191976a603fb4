"""Resizing in the store: which running gangs may grow, as arrays, and the changes of size that a plan holds, carried out.

Everything that a change needs is stored in the cycle's one transaction: the run's books, the event that says why, the instruction, and
the claim of the job that workers leave for. What has changed since the freeze is left to the next cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cluster.health import Health
from scheduler.bells import agent_bell, job_bell
from scheduler.engine.plan import Growth, Plan, Shrink
from scheduler.engine.snapshot import Elastic
from scheduler.engine.terms import within_terms
from scheduler.freeze import Frozen, World, held_of, judge_jobs, node_rows, refreeze
from scheduler.lifecycle import Cause, State
from scheduler.past import Past
from scheduler.sizes import WHY_WORDS, is_known, most_paid, order
from scheduler.store import evictions, jobs
from scheduler.store.changes import Changes
from scheduler.store.records import ClaimRecord, JobRecord, Resize, RunRecord
from scheduler.store.session import Connection
from scheduler.ways import on_model

IDLE_ROOM = "idle-room"
# How long gangs that found no room are left alone while nothing is heard of: for what no bell tells, a window that opens or another server.
LOOK_AGAIN_S = 10.0


@dataclass(frozen=True)
class Resizing:
    """`settle_s`: how long a gang keeps the size that it came to before it grows again."""

    settle_s: float = 30.0


@dataclass(frozen=True)
class Stuck:
    """Runs that could grow by their books and found no room at a time."""

    runs: frozenset[str] = frozenset()
    at: float = 0.0

    def stays(self, runs: frozenset[str], now: float) -> bool:
        """Whether a look at these runs would find what the last one found, as long as nothing has happened since."""
        return runs == self.runs and now < self.at + LOOK_AGAIN_S


def may_grow(run: RunRecord, now: float, rules: Resizing) -> bool:
    """Whether a run's books let it grow: it runs, nothing is pending for it, and its last change is long enough ago."""
    sizing = run.sizing
    if sizing is None or run.state != State.RUNNING or run.started_at is None or sizing.pending is not None:
        return False
    return sizing.settled_at is None or now >= sizing.settled_at + rules.settle_s


def with_elastic(conn: Connection, frozen: Frozen, rules: Resizing, past: Past) -> Frozen:
    """The frozen world with the gangs that may grow now."""
    world, nodes = frozen.world, node_rows(frozen.snapshot)
    able = {item.name for item in world.clusters if item.resizes and item.health is Health.HEALTHY and item.cordon == "open"}
    runs = [run for run in world.runs if run.cluster in able and may_grow(run, world.now, rules) and is_known(run, nodes)]
    found = jobs.jobs_of(conn, (run.job_id for run in runs)) if runs else {}
    stopping = evictions.stopping(conn) if runs else {}
    pairs = [(run, found[run.job_id]) for run in runs if run.id not in stopping and _may_have_more(frozen, run, found.get(run.job_id))]
    return replace(frozen, snapshot=replace(frozen.snapshot, elastic=_elastic(conn, frozen, pairs, nodes, past))) if pairs else frozen


def _may_have_more(frozen: Frozen, run: RunRecord, job: JobRecord | None) -> bool:
    if job is None or job.run_id != run.id or job.cancel_requested:
        return False
    model = run.held["accelerator_model"]
    known = not run.held["accelerator_count"] or model in frozen.snapshot.resources
    return known and len(run.nodes) < job.parsed().resources.most


def _elastic(
    conn: Connection, frozen: Frozen, pairs: list[tuple[RunRecord, JobRecord]], nodes: Mapping[tuple[str, str], int], past: Past
) -> Elastic:  # fmt: skip
    world = frozen.world
    asked = within_terms(refreeze(frozen, judge_jobs(conn, world, [job for _, job in pairs], past)).snapshot)
    clusters = {item.name: row for row, item in enumerate(world.clusters)}
    most = asked.jobs.most.copy()
    for row, (run, job) in enumerate(pairs):
        home = clusters[run.cluster]
        most[row, home] = most_paid(job.parsed(), run, int(most[row, home]))
    left_s = np.array([_left_s(world, run, job) for run, job in pairs], dtype=np.float64)
    return Elastic(
        ids=tuple(run.id for run, _ in pairs),
        jobs=replace(asked.jobs, most=most, transfer_s=np.zeros_like(asked.jobs.transfer_s), length_s=left_s, limit_s=left_s),
        cluster=np.array([clusters[run.cluster] for run, _ in pairs], dtype=np.int64),
        workers=np.array([len(run.nodes) for run, _ in pairs], dtype=np.int64),
        first=np.array([nodes[run.cluster, run.nodes[0]] for run, _ in pairs], dtype=np.int64),
        label_ok=asked.nodes.label_ok, group=asked.nodes.group,
        open_to=asked.windows.open_to if asked.windows is not None else np.zeros((0, len(pairs)), dtype=np.bool_),
    )  # fmt: skip


def _left_s(world: World, run: RunRecord, job: JobRecord) -> float:
    """How long a run may still take."""
    return max(job.parsed().max_runtime - (world.now - (run.started_at or world.now)), 1.0)


def order_resizes(changes: Changes, frozen: Frozen, plan: Plan, by_id: Mapping[str, JobRecord], claim_s: float) -> set[str]:
    """Carry out what the plan says of sizes, at members that can be used; whom to wake."""
    rung: set[str] = set()
    if not plan.growths and not plan.shrinks:
        return rung
    snapshot = frozen.snapshot
    growing = snapshot.elastic.ids if snapshot.elastic is not None else ()
    changes.read(
        [*(growing[item.gang] for item in plan.growths), *(snapshot.evictable.ids[run] for item in plan.shrinks for run, _ in item.gangs)]
    )
    versions = jobs.versions_of(changes.conn, (frozen.candidates[item.job].id for item in plan.shrinks))
    books = _Books(changes, frozen, evictions.stopping(changes.conn))
    for shrink in plan.shrinks:
        job = by_id[frozen.candidates[shrink.job].id]
        if versions.get(job.id) == job.version:
            rung |= books.shrink(shrink, job, claim_s)
    for growth in plan.growths:
        rung |= books.grow(growth, growing[growth.gang])
    return rung


class _Books:
    """The runs of one plan as they are in this transaction."""

    def __init__(self, changes: Changes, frozen: Frozen, stopping: Mapping[str, str | None]) -> None:
        self._changes, self._frozen, self._stopping = changes, frozen, stopping
        self._seen = {run.id: run.sizing.generation for run in frozen.world.runs if run.sizing is not None}

    def grow(self, growth: Growth, run_id: str) -> set[str]:
        """Have workers join a run."""
        snapshot, run = self._frozen.snapshot, self._unchanged(run_id)
        if run is None:
            return set()
        more = [snapshot.nodes.names[node] for node in growth.nodes]
        devices = [[number for _, number in chosen] for chosen in growth.devices] or [[] for _ in more]
        change = Resize(len(run.nodes) + len(more), IDLE_ROOM, self._frozen.world.now)
        order(self._changes, self._changes.job_of(run.job_id), run, change, more, devices if run.held.get("devices") else [])
        return {agent_bell(run.cluster), job_bell(run.job_id)}

    def shrink(self, shrink: Shrink, job: JobRecord, claim_s: float) -> set[str]:
        """Have workers leave for a job, which claims their room; nothing at all where one of the runs has changed."""
        frozen, now = self._frozen, self._frozen.world.now
        found = [(self._unchanged(frozen.snapshot.evictable.ids[row]), kept) for row, kept in shrink.gangs]
        runs = [(run, kept) for run, kept in found if run is not None]
        if len(runs) < len(found):
            return set()
        for (run, kept), why in zip(runs, shrink.rights, strict=True):
            order(self._changes, self._changes.job_of(run.job_id), run, Resize(kept, why, now, job.id), [], [])
        snapshot, candidate = frozen.snapshot, frozen.candidates[shrink.job]
        cluster = snapshot.clusters.names[shrink.cluster]
        gone = sum(len(run.nodes) - kept for run, kept in runs)
        whose = " or ".join(WHY_WORDS[why] for why in sorted(set(shrink.rights)))
        where = f"{cluster}{on_model(candidate.ways, shrink.choice)}"
        message = f"room is made at {where}: {gone} worker{'s' if gone > 1 else ''} of running gangs leave, because {whose}"
        self._changes.move_job(job, State.QUEUED, Cause.CLAIMED, at=now, message=message)
        nodes = [snapshot.nodes.names[node] for node in shrink.nodes]
        evictions.claim(
            self._changes.conn,
            ClaimRecord(job.id, cluster, nodes, held_of(candidate.ways[shrink.choice].resources), job.queue, now + claim_s),
        )
        return {job_bell(job.id), agent_bell(cluster), *(job_bell(run.job_id) for run, _ in runs)}

    def _unchanged(self, run_id: str) -> RunRecord | None:
        """A run as it was at the freeze; None where something has happened to it since."""
        run = self._changes.run(run_id)
        job = self._changes.job(run.job_id) if run is not None else None
        if run is None or job is None or run.sizing is None or run.id in self._stopping or run.state != State.RUNNING:
            return None
        as_seen = run.sizing.generation == self._seen.get(run_id) and run.sizing.pending is None
        return run if as_seen and job.run_id == run.id and not job.cancel_requested else None
