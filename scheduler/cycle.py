"""The cycle: the only place where state changes because of a decision.

1. read the world and the waiting jobs; 2. freeze them into arrays; 3. place (pure); 4. check the plan;
5. commit: one transaction rechecks what may have changed meanwhile, stores runs, moves jobs, orders victims to end and gangs to
grow or shrink, and writes the instructions; 6. after the commit, ring the agents. A plan made on an outdated catalogue is thrown away.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

from cluster.health import Health
from scheduler import acts
from scheduler.assess import InputData, granted_quote
from scheduler.bells import Bells, agent_bell, job_bell
from scheduler.clock import Clock
from scheduler.device_books import with_devices
from scheduler.disclosure import rewritten_words
from scheduler.dispatch import run_name, run_request, start_order
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot, Weights
from scheduler.errors import StaleStateError
from scheduler.flexible import with_later
from scheduler.forecast import NO_PROMISES, Kept, chosen_hours, look_ahead, promises_of, with_forecast
from scheduler.freeze import Candidate, Frozen, freeze, held_of, judge_jobs, read_world
from scheduler.lifecycle import Cause, State
from scheduler.market import Market, read_market
from scheduler.mixture import Scoring
from scheduler.outlook import Decision
from scheduler.past import Past
from scheduler.preemption import Preemption, order_evictions, with_evictable
from scheduler.resizing import Resizing, Stuck, may_grow, order_resizes, with_elastic
from scheduler.scale_up import LIMIT_S, Scaling, asks
from scheduler.store import catalogue, evictions, fleet, jobs
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord, RunRecord, Sizing, document_of
from scheduler.store.session import Connection, Store, Transaction
from scheduler.topology import USUAL_TOPOLOGY, Topology
from scheduler.uses import booked
from scheduler.waits import StartWaits

STEPS = ("freeze", "place", "check", "commit")


@dataclass(frozen=True)
class CycleReport:
    """What one cycle did, for metrics and the log, and when a delayed retry becomes due. Durations in seconds by step."""

    considered: int
    placed: int
    stale: int
    blockers: Counter[str] = field(default_factory=Counter)
    evicted: Counter[str] = field(default_factory=Counter)
    steps: dict[str, float] = field(default_factory=dict)
    full: bool = False
    due: float | None = None


class Cycle:
    """Runs decisions one after the other; `per_queue` bounds how many jobs of a queue one cycle looks at.

    What queues used lately is read, with its half-life, only where it counts. `keep` is given every decision. `heads` blocked
    jobs are promised a start, and where any are, `flexible` jobs may wait for a cheaper or cleaner hour; the promises of the latest
    cycle are in `promises`.
    """

    def __init__(self, store: Store, clock: Clock, bells: Bells, waits: StartWaits, *, per_queue: int = 1000,
                 weights: Weights = Weights(), half_life_s: float = 86_400.0, heads: int = 0, flexible: int = 0,  # noqa: B008
                 topology: Topology = USUAL_TOPOLOGY,
                 preemption: Preemption = Preemption(),  # noqa: B008
                 resizing: Resizing = Resizing(),  # noqa: B008
                 scale_limit_s: float = LIMIT_S,
                 timer: Callable[[], float] = time.perf_counter,
                 keep: Callable[[float, Snapshot, Plan], None] = lambda _at, _snapshot, _plan: None) -> None:  # fmt: skip
        self._store, self._clock, self._bells, self._waits = store, clock, bells, waits
        self._per_queue, self._timer, self._keep, self._topology = per_queue, timer, keep, topology
        self.last: Decision | None = None  # What the latest cycle found; None when nobody waited. For `explain`.
        self._preemption, self._resizing, self._stuck = preemption, resizing, Stuck()
        self._scoring, self._half_life_s = Scoring(weights), half_life_s if weights.history > 0 else None
        self._heads, self._past, self.promises = heads, Past(), NO_PROMISES
        self._flexible, self._scaling = flexible, Scaling(scale_limit_s)

    def kept(self) -> Kept:
        """What the latest cycle promised, for questions about jobs."""
        return Kept(self.promises, self._past, self._scoring)

    def run(self, *, woken: bool = True) -> CycleReport:
        """One cycle. Raises PlanRejectedError when the engine broke an invariant; nothing is stored then.

        `woken`: something has happened since the last one. If not, and nobody waits, gangs that found no room are not looked at again.
        """
        marks = [self._timer()]
        now = self._clock.now()
        with self._store.read() as conn:
            waiting, due = jobs.waiting(conn, now, self._per_queue), jobs.next_not_before(conn, now)
            able = frozenset() if waiting else frozenset(run.id for run in jobs.elastic_runs(conn) if may_grow(run, now, self._resizing))
            if not waiting and (not able or (not woken and self._stuck.stays(able, now))):
                self.promises, self.last = NO_PROMISES, None
                if not waiting:
                    self._scaling.withdraw(self._store, self._bells)
                return CycleReport(0, 0, 0, due=due)
            world = read_world(conn, now, self._half_life_s)
            candidates = judge_jobs(conn, world, waiting, self._past)
            forecast = look_ahead(conn, world, self._past) if self._heads else None
            frozen = self._scoring.on(conn, freeze(world, candidates, self._waits.snapshot(), topology=self._topology))
            frozen = with_elastic(conn, with_evictable(conn, frozen, self._preemption.budget), self._resizing, self._past)
        frozen = frozen if forecast is None else with_later(with_forecast(frozen, forecast, self._heads), self._flexible)
        marks.append(self._timer())
        plan = place(frozen.snapshot)
        marks.append(self._timer())
        try:
            check(frozen.snapshot, plan)
            marks.append(self._timer())
            by_id = {job.id: job for job in waiting}
            placed, evicted = self._store.write(lambda tx: self._commit(tx, frozen, plan, by_id))
            self.promises = promises_of(frozen, plan)
            self.last = Decision(frozen, plan, self._per_queue, forecast.parts if forecast else {}) if waiting else None
            marks.append(self._timer())
        finally:
            # After the commit, for which somebody waits; and also what the check rejected can be looked at.
            if waiting or plan.growths:
                self._keep(now, frozen.snapshot, plan)
        self._stuck = Stuck(able if not plan.growths else frozenset(), now)
        return CycleReport(
            considered=len(waiting), placed=placed, stale=len(plan.placements) - placed,
            blockers=Counter(item.blocker.label for item in plan.unplaced), evicted=evicted, full=len(waiting) >= self._per_queue,
            due=min([*([due] if due is not None else []), *chosen_hours(self.promises)], default=None),
            steps={step: end - begin for step, (begin, end) in zip(STEPS, pairwise(marks), strict=True)},
        )  # fmt: skip

    def _commit(self, tx: Transaction, frozen: Frozen, plan: Plan, by_id: dict[str, JobRecord]) -> tuple[int, Counter[str]]:
        if catalogue.generation(tx.conn) != frozen.world.generation:
            tx.after_commit(lambda: self._bells.ring("cycle"))
            return 0, Counter()
        now, usable = frozen.world.now, {c.name for c in fleet.list_clusters(tx.conn) if c.health is Health.HEALTHY and c.cordon == "open"}
        placements = self._still_good(tx.conn, frozen, plan, by_id, usable)
        placements, market, licences = self._licensed(tx, frozen, placements, by_id)
        changes, rung = Changes(tx.conn), set()
        documents: dict[int, dict[str, Any]] = {}
        for placement in placements:
            candidate = frozen.candidates[placement.job]
            job, inputs = by_id[candidate.id], market.inputs(candidate.spec, candidate.id)
            run = new_run(job, frozen, placement, now, inputs, documents)
            changes.move_job(
                job, State.PLACED, Cause.DECIDED, at=now, message=f"placed on {run.cluster}{rewritten_words(candidate.disclosed)}",
                run_id=run.id, attempts=run.attempt, placed_at=now, not_before=None, blocker="",
            )  # fmt: skip
            changes.add_run(run)
            there = frozen.world.clusters[placement.cluster]
            if candidate.spec.inputs:
                changes.act(acts.placed(candidate.spec, run, there.spec, inputs, licences.get(job.id) or {}, now))
            request = run_request(candidate.spec, run, inputs, job.array_index, there.spec, there.inbound, candidate.disclosed)
            changes.order(run.cluster, start_order(run, request), now)
            rung |= {agent_bell(run.cluster), job_bell(job.id)}
        plan = _at(frozen, plan, usable)
        ordered = order_evictions(changes, frozen, plan, by_id, self._preemption.claim_s)
        rung |= order_resizes(changes, frozen, plan, by_id, self._preemption.claim_s)
        rung |= set(map(job_bell, changes.write()))
        if frozen.world.claims or ordered.by_right or plan.shrinks:
            evictions.drop_old_claims(tx.conn, now)
        asked = asks(frozen, plan, self._waits.snapshot())
        rung |= self._scaling.note(tx.conn, frozen, asked)
        rung |= set(map(job_bell, self._note_blockers(tx.conn, frozen, plan, by_id, {item.job_id for item in asked})))
        tx.after_commit(partial(self._bells.ring_each, sorted(rung | ordered.rung)))
        return len(placements), ordered.by_right

    @staticmethod
    def _still_good(conn: Connection, frozen: Frozen, plan: Plan, by_id: dict[str, JobRecord], usable: Set[str]) -> list[Placement]:
        """The placements at members that can be used still, of jobs that have not changed since the freeze."""
        versions = jobs.versions_of(conn, (frozen.candidates[item.job].id for item in plan.placements))
        return [
            item for item in plan.placements
            if frozen.snapshot.clusters.names[item.cluster] in usable
            and versions.get(job_id := frozen.candidates[item.job].id) == by_id[job_id].version
        ]  # fmt: skip

    def _licensed(
        self, tx: Transaction, frozen: Frozen, placements: list[Placement], by_id: dict[str, JobRecord]
    ) -> tuple[list[Placement], Market, Mapping[str, Mapping[str, str] | None]]:  # fmt: skip
        """The placements of jobs that have what they need of licences which hold there, the catalogue that they refer to, and by job
        the licences."""
        there = [frozen.candidates[item.job] for item in placements]
        market = read_market(tx.conn, [job.spec for job in there], (job.id for job in there if job.spec.inputs))
        places = [frozen.world.clusters[item.cluster].spec.jurisdiction for item in placements]
        placed = [(by_id[job.id], job.spec, place) for job, place in zip(there, places, strict=True)]
        licences = booked(tx.conn, placed, market, frozen.world.now)
        good = [item for item in placements if licences.get(frozen.candidates[item.job].id, {}) is not None]
        if len(good) < len(placements):
            tx.after_commit(lambda: self._bells.ring("cycle"))
        return good, market, licences

    @staticmethod
    def _note_blockers(conn: Connection, frozen: Frozen, plan: Plan, by_id: dict[str, JobRecord], scaling: Set[str]) -> list[str]:
        """The jobs that wait for another reason than before; those of `scaling` wait for nodes that are not there yet."""
        found = [(frozen.candidates[item.job].id, item.blocker.label) for item in plan.unplaced]
        found = [(job_id, Reason.SCALING_UP.label if job_id in scaling else label) for job_id, label in found]
        changed = [(job_id, label) for job_id, label in found if by_id[job_id].blocker != label]
        jobs.set_blockers(conn, changed)
        return [job_id for job_id, _ in changed]


def _at(frozen: Frozen, plan: Plan, usable: Set[str]) -> Plan:
    """The plan without evictions and changes of size at members that cannot be used any more."""
    names, elastic = frozen.snapshot.clusters.names, frozen.snapshot.elastic
    homes = elastic.cluster.tolist() if elastic is not None else []
    return replace(
        plan, evictions=tuple(item for item in plan.evictions if names[item.cluster] in usable),
        shrinks=tuple(item for item in plan.shrinks if names[item.cluster] in usable),
        growths=tuple(item for item in plan.growths if names[homes[item.gang]] in usable),
    )  # fmt: skip


def new_run(
    job: JobRecord, frozen: Frozen, placement: Placement, now: float, inputs: Sequence[InputData],
    documents: dict[int, dict[str, Any]] | None = None,
) -> RunRecord:  # fmt: skip
    """The run that a placement makes. Its epoch is its attempt: every later attempt fences the earlier ones.

    Like jobs have one quote at a cluster; `documents` keeps what it is stored as, by the quote's identity, while `frozen` holds it.
    """
    candidate, snapshot = frozen.candidates[placement.job], frozen.snapshot
    way, cluster = candidate.ways[placement.choice], frozen.world.clusters[placement.cluster].spec
    quote = granted_quote(candidate.spec, inputs, cluster, way.assessments[placement.cluster], len(placement.nodes))
    if quote is None:
        raise StaleStateError(f"{job.id} was placed without a quote")
    document = documents.get(id(quote)) if documents else None
    if document is None:
        document = document_of(quote.model_dump_json())
        if documents is not None and quote is way.assessments[placement.cluster].quote:
            documents[id(quote)] = document
    attempt = job.attempts + 1
    return RunRecord(
        id=run_name(job.id, attempt), job_id=job.id, attempt=attempt, epoch=attempt, state=State.PLACED.value, cause=Cause.DECIDED.value,
        cluster=snapshot.clusters.names[placement.cluster], nodes=[snapshot.nodes.names[node] for node in placement.nodes], queue=job.queue,
        held=with_devices(held_of(way.resources), placement), quote=document, score=placement.score,
        exit_code=None, message="", preview=None, files=None, usage=None, placed_at=now, starting_at=None, started_at=None,
        finished_at=None, elastic=_sizing(candidate, frozen, placement),
    )  # fmt: skip


def _sizing(candidate: Candidate, frozen: Frozen, placement: Placement) -> dict[str, Any] | None:
    """With what a gang begins that may be resized, where its member can do that."""
    resized = candidate.spec.kind != "sql" and candidate.spec.resources.is_resized and frozen.world.clusters[placement.cluster].resizes
    return Sizing.of(candidate.spec.resources.fewest, len(placement.nodes)).stored() if resized else None
