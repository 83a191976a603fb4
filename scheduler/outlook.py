"""Outlook: the world as the latest decision left it, kept in memory for questions about jobs that wait.

A cycle has read everything that a question needs: members, nodes, queues, runs, the first waiting jobs of every queue. It leaves
its decision behind, and an `Outlook` answers from that, so that no question reads a hundred thousand waiting jobs; the answer says
how old it is. Where nobody waited there is no decision, and the world is read anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from scheduler.device_books import devices_of
from scheduler.engine.aftermath import carried_out, only_jobs
from scheduler.engine.alternatives import chosen_rows, permitted, ways_of, with_alternatives, with_lengths
from scheduler.engine.device_room import Chosen
from scheduler.engine.expected import Holdings, Walk
from scheduler.engine.inquiry import Inquiry
from scheduler.engine.lengths import LONG, USUAL, Parts, known, lasting_s
from scheduler.engine.plan import Plan, Unplaced
from scheduler.engine.position import turn_order
from scheduler.engine.snapshot import Floats, Ints, Snapshot
from scheduler.engine.sooner import Openings
from scheduler.forecast import lengths_of
from scheduler.freeze import Candidate, Frozen, held_vector, node_rows, refreeze
from scheduler.past import Past
from scheduler.store.records import RunRecord
from scheduler.store.session import Connection

# So many turns are worked out, so many jobs are walked through time, and so many are asked along with a changed job.
TURNS, WALKED, COMPANY = 2000, 64, 16
# Seconds in which runs that are told to end usually have, and nine in ten: their grace, and what their agent is late.
MADE_USUALLY_S, MADE_S = 6.0, 30.0


@dataclass(frozen=True)
class Decision:
    """What a cycle found and decided; it looked at the first `per_queue` jobs of each queue.

    `parts` are those of their limits that groups of like jobs used, as far as lengths counted.
    """

    frozen: Frozen
    plan: Plan
    per_queue: int
    parts: Parts = field(default_factory=dict)

    @cached_property
    def waiting(self) -> frozenset[str]:
        """The ids of the jobs that it left waiting."""
        return frozenset(self.frozen.candidates[item.job].id for item in self.plan.unplaced)

    @cached_property
    def outlook(self) -> Outlook:
        """The world after it, worked out once."""
        return Outlook(self)


@dataclass(frozen=True)
class Expected:
    """When a job will start, in seconds from the time of the outlook; None where nothing that is known makes room.

    `runs` are those whose ends count, `unknown_runs` those of them whose limit stands in for a length that nobody knows.
    `walked` jobs before it were followed one by one; where `before` are more, their pace stands for the others. `made`: room is being
    made for it, so it starts when those have ended that are told to.
    """

    p50_s: float | None
    p90_s: float | None
    runs: int
    unknown_runs: int
    walked: int
    before: int
    made: bool = False


class Outlook:
    """One decision, carried out. What is derived from it is worked out once, when it is first asked for."""

    def __init__(self, decision: Decision) -> None:
        frozen, plan = decision.frozen, decision.plan
        snapshot = carried_out(frozen.snapshot, plan)
        left = snapshot.jobs.array_left.tolist()
        waiting = tuple(_with_left(frozen.candidates[item.job], left[row]) for row, item in enumerate(plan.unplaced))
        self.decision, self.world = decision, frozen.world
        self.after = replace(frozen, snapshot=snapshot, candidates=waiting)
        self._row_of = {candidate.id: row for row, candidate in enumerate(waiting)}
        self._held: dict[float, Holdings] = {}
        self._limits: dict[str, tuple[str, float]] | None = None
        self._unknown: int | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The world after the decision, with the jobs that it left waiting."""
        return self.after.snapshot

    @cached_property
    def openings(self) -> Openings:
        return Openings(self.snapshot)

    @cached_property
    def inquiry(self) -> Inquiry:
        """Questions to this world, about any of its jobs or another one."""
        return Inquiry(self.snapshot)

    @cached_property
    def turns(self) -> Ints:
        """[T] Rows of the first waiting jobs in the order of their turns."""
        return turn_order(self.snapshot, TURNS)

    def row(self, job_id: str) -> int:
        """The row of a job that waits in this outlook. Raises KeyError."""
        return self._row_of[job_id]

    def unplaced(self, row: int) -> Unplaced:
        """Why the job of a row waits, as the decision said."""
        return self.decision.plan.unplaced[row]

    def with_job(self, candidate: Candidate) -> Outlook:
        """The same outlook with a job that the decision has not seen."""
        rows = range(len(self.after.candidates))
        found = Outlook.__new__(Outlook)
        found.decision, found.world = self.decision, self.world
        found.after = self.asked([candidate], rows)
        found._row_of, found._held = {**self._row_of, candidate.id: len(rows)}, {}
        found._limits, found._unknown = self._limits, self._unknown
        if found.snapshot.resources == self.snapshot.resources:
            # Rows are the same, so what is known of turns is too.
            found.inquiry = self.inquiry
        return found

    def asked(self, candidates: Sequence[Candidate], company: Sequence[int]) -> Frozen:
        """This world with some of its waiting jobs, and behind them other ones."""
        found = refreeze(self.after, candidates, company)
        every = with_alternatives(found.snapshot).jobs.length_s
        known_s = [every[list(rows)].tolist() for rows in ways_of(found.snapshot)[: len(company)]]
        lengths = [lengths_of(self.decision.parts, item, LONG) for item in candidates]
        return replace(found, snapshot=with_lengths(found.snapshot, [*known_s, *lengths]))

    def before(self, row: int) -> Ints | None:
        """[B] The rows whose turns come before a row's, in their order; None when more than are worked out do."""
        place = np.flatnonzero(self.turns == row)
        return self.turns[: int(place[0])] if len(place) else None

    def company(self, row: int) -> list[int]:
        """The rows whose turns come first of all and those promised a start, so that `place` knows for whom room is kept, and the

        first of its own queue, behind which nobody starts if the queue is strict. The row itself is left out.
        """
        queue = self.snapshot.jobs.queue
        first = np.flatnonzero(queue[self.turns] == queue[row])[:1]
        rows = [*self.turns[: COMPANY + 1].tolist(), *self.turns[first].tolist(), *self._promised_rows]
        return [other for other in dict.fromkeys(rows) if other != row]

    @cached_property
    def _promised_rows(self) -> list[int]:
        row_of = {item.job: row for row, item in enumerate(self.decision.plan.unplaced)}
        return [row_of[item.job] for item in self.decision.plan.promises]

    @cached_property
    def _gaining(self) -> frozenset[str]:
        """The ids of the jobs that others are told to end for."""
        frozen = self.decision.frozen
        return frozenset({*frozen.snapshot.claims.ids, *(frozen.candidates[item.job].id for item in self.decision.plan.evictions)})

    def promised_s(self, row: int) -> float | None:
        """When the job of a row is promised a start, in seconds from the time of the outlook."""
        unplaced = self.decision.plan.unplaced
        return next((item.start_s for item in self.decision.plan.promises if row < len(unplaced) and unplaced[row].job == item.job), None)

    def expected(self, conn: Connection, past: Past, row: int, ahead: int) -> Expected:
        """When the job of a row will start; `ahead` jobs of its own queue go before it."""
        parts = past.parts(conn, self.world.now)
        if self._limits is None:
            self._limits = past.limits(conn, (run.id for run in self.world.runs))
        before = self.before(row)
        known_before = self.turns if before is None else before
        # Who can go nowhere where this job can go takes nothing from it.
        rivals = known_before[(permitted(self.snapshot, known_before) & permitted(self.snapshot, np.array([row]))).any(axis=1)]
        count = len(rivals) if before is not None else max(len(rivals), ahead)
        line = [*rivals[:WALKED].tolist(), row]
        world = only_jobs(self.snapshot, line)
        walk = Walk(world, range(len(line)))
        p50, p90 = (
            _at_pace(walk.starts(self._lengths(world, line, parts, quantile), self._holdings(parts, quantile)), count)
            for quantile in (USUAL, LONG)
        )
        promised = self.promised_s(row)
        p50 = p50 if promised is None else promised
        made = self.after.candidates[row].id in self._gaining
        if made:
            p50, p90 = MADE_USUALLY_S, MADE_S
        return Expected(
            made=made, p50_s=p50, p90_s=None if p90 is None or p50 is None else max(p50, p90), runs=len(self.world.runs),
            unknown_runs=self._unknown_runs(parts), walked=len(line) - 1, before=count,
        )  # fmt: skip

    def _unknown_runs(self, parts: Parts) -> int:
        if self._unknown is None:
            limits = self._limits or {}
            self._unknown = sum(run.id not in limits or not known(parts, limits[run.id][0]) for run in self.world.runs)
        return self._unknown

    def _lengths(self, world: Snapshot, line: Sequence[int], parts: Parts, quantile: float) -> Floats:
        """[A] How long the jobs of a line run, whose world this is, and behind them the further ways to run some."""
        lengths = [lengths_of(parts, self.after.candidates[row], quantile) for row in line]
        return with_alternatives(with_lengths(world, lengths)).jobs.length_s

    def _holdings(self, parts: Parts, quantile: float) -> Holdings:
        """What runs, and what the decision placed, hold until they are expected to end."""
        if quantile not in self._held:
            self._held[quantile] = self._made_holdings(self._limits or {}, parts, quantile)
        return self._held[quantile]

    def _made_holdings(self, limits: Mapping[str, tuple[str, float]], parts: Parts, quantile: float) -> Holdings:
        frozen, now = self.decision.frozen, self.world.now
        resources, queues = self.snapshot.resources, {queue.name: row for row, queue in enumerate(self.world.queues)}
        known_nodes = self._node_rows
        ends: list[tuple[int, float]] = []
        seats: list[tuple[int, int, Floats, Chosen]] = []
        for run in self.world.runs:
            group, limit = limits.get(run.id, ("", 0.0))
            elapsed = 0.0 if run.started_at is None else max(now - run.started_at, 0.0)
            held, devices = held_vector(run.held, resources), self._devices(run)
            seats += [
                (len(ends), known_nodes[run.cluster, name], held, chosen)
                for name, chosen in zip(run.nodes, devices, strict=False)
                if (run.cluster, name) in known_nodes
            ]
            ends.append((queues[run.queue], lasting_s(parts, group, limit, quantile, elapsed) if run.id in limits else np.inf))
        placements = self.decision.plan.placements
        requests = with_alternatives(frozen.snapshot).jobs.request[chosen_rows(frozen.snapshot, placements)]
        for placement, request in zip(placements, requests, strict=True):
            candidate = frozen.candidates[placement.job]
            held = np.pad(request, (0, len(resources) - len(request)))
            devices = placement.devices or ((),) * len(placement.nodes)
            seats += [(len(ends), node, held, chosen) for node, chosen in zip(placement.nodes, devices, strict=True)]
            lasting = lengths_of(parts, candidate, quantile)[placement.choice]
            ends.append((int(frozen.snapshot.jobs.queue[placement.job]), lasting))
        return Holdings(
            queue=np.array([queue for queue, _ in ends], dtype=np.int64), end_s=np.array([end for _, end in ends], dtype=np.float64),
            run=np.array([run for run, _, _, _ in seats], dtype=np.int64), node=np.array([node for _, node, _, _ in seats], dtype=np.int64),
            held=np.array([held for _, _, held, _ in seats], dtype=np.float64).reshape(len(seats), len(resources)),
            devices=[chosen for _, _, _, chosen in seats],
        )  # fmt: skip

    def _devices(self, run: RunRecord) -> tuple[Chosen, ...]:
        """The devices of each worker of a run, by rank, as in `Placement`; none where they are not told apart."""
        model, resources = run.held["accelerator_model"], self.snapshot.resources
        named = devices_of(run.held)
        if not named or model not in resources or not self.snapshot.nodes.devices.size:
            return ((),) * len(run.nodes)
        return tuple(tuple((resources.index(model), number) for number in numbers) for numbers in named)

    @cached_property
    def _node_rows(self) -> dict[tuple[str, str], int]:
        return node_rows(self.snapshot)


def _with_left(candidate: Candidate, left: int) -> Candidate:
    """A waiting job; of the array that it is a task of so many more may start."""
    return candidate if candidate.array is None else replace(candidate, array=(candidate.array[0], left))


def _at_pace(starts: Sequence[float], before: int) -> float | None:
    """The start of the last of a line; where more go before it than the line has, at the pace of those that are in it."""
    line, own = starts[:-1], starts[-1]
    if before <= len(line):
        return own if np.isfinite(own) else None
    started = [start for start in line if np.isfinite(start)]
    # Fewer than half of them started: what they wait for says nothing about the others.
    if not started or 2 * len(started) < len(line):
        return None
    return max(started) / len(started) * (before + 1)
