"""A job's whole life, move by move, in any order: the real tables, cycle, reports and settling, on one database in memory.

The machine plays an agent that reports what it likes, twice or late, of any of the job's runs; a buyer who cancels; a
member that is lost; and somebody who tries every move that the table does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.pool import StaticPool

from cluster.health import HealthPolicy
from cluster.model import Inventory
from cluster.protocol import Category, Observation, RunEvent, RunFinished, RunStarted, RunStarting, SyncRequest
from scheduler.admission import cancel
from scheduler.bells import Bells
from scheduler.clock import ManualClock
from scheduler.cycle import Cycle
from scheduler.dispatch import order_stop
from scheduler.errors import IllegalTransitionError
from scheduler.lifecycle import ENDS, FINAL, HOLDS_CAPACITY, MOVES, RUN_MOVES, Cause, State
from scheduler.reconcile import Reconciled, absorb, lose_run
from scheduler.store import fleet, jobs
from scheduler.store.records import EventRecord, JobRecord, RunRecord
from scheduler.store.session import Store, Transaction
from scheduler.store.tables import metadata, receipts
from scheduler.waits import StartWaits
from tests.records import NOW, cluster_spec, job_spec, machine
from tests.stored_jobs import move_job, submit

T = TypeVar("T")
JOB, MEMBER = "job-1", "sh"

# How a backend may end a run: (outcome, category). What it says of a run that has not begun is part of it.
ENDINGS: tuple[tuple[Any, Category | None], ...] = (
    ("succeeded", None), ("failed", "exit"), ("failed", "statement"), ("failed", "max_runtime"), ("failed", "data"),
    ("failed", "data_changed"), ("failed", "cache"), ("failed", "result"), ("failed", "storage"),
    ("failed", "runtime_env"), ("failed", "beyond_grant"), ("failed", "out_of_memory"), ("failed", "max_rows"),
    ("failed", "start_failed"), ("failed", "infrastructure"), ("failed", None), ("cancelled", "cancelled"), ("cancelled", None),
    ("preempted", "preempted"), ("preempted", None), ("lost", "lost"), ("lost", None),
)  # fmt: skip

# Where the table leads, from wherever: (state, cause).
ROWS = sorted({(finish, cause) for (_, finish), causes in MOVES.items() for cause in causes})


class OneConnection:
    """The store's reads and writes on one connection, without its thread: each write in a savepoint of its own."""

    def __init__(self, conn: Connection) -> None:
        self.conn, self.writes = conn, 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        yield self.conn

    def write(self, work: Callable[[Transaction], T]) -> T:
        self.writes += 1
        with self.conn.begin_nested():
            return work(Transaction(self.conn))


class Life(RuleBasedStateMachine):
    """One job and its runs."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self.engine)
        self.store, self.clock, self.bells = OneConnection(self.engine.connect()), ManualClock(NOW), Bells()
        self.cycle = Cycle(cast("Store", self.store), self.clock, self.bells, StartWaits())
        self.ended: dict[str, RunRecord] = {}
        self.final: JobRecord | None = None
        self._read_at = -1

    def teardown(self) -> None:
        self.store.conn.close()
        self.engine.dispose()

    def read(self) -> tuple[JobRecord, list[RunRecord], list[EventRecord]]:
        """The job, its runs and its events, read anew after each write."""
        if self._read_at != self.store.writes:
            conn = self.store.conn
            self._found = (jobs.get_job(conn, JOB), jobs.runs_of(conn, [JOB]), jobs.events_of(conn, JOB))
            self._read_at = self.store.writes
        return self._found

    @property
    def job(self) -> JobRecord:
        return self.read()[0]

    @property
    def runs(self) -> list[RunRecord]:
        return self.read()[1]

    def current(self) -> RunRecord | None:
        """The run that holds capacity."""
        return next((run for run in self.runs if run.state in HOLDS_CAPACITY), None)

    def sync(self, *observations: Observation, census: bool = False) -> None:
        """One call of the member's agent; in a census it names the runs that the store has as active."""
        known = tuple(run.id for run in self.runs if run.state in HOLDS_CAPACITY) if census else None
        inventory = Inventory(nodes=(machine().node,)) if census else None
        report = SyncRequest(
            agent_id="agent", reachable=True, takes_over=census, inventory=inventory, known_runs=known, observations=observations
        )  # fmt: skip
        self.store.write(lambda tx: absorb(tx, self.bells, MEMBER, report, self.clock.now(), HealthPolicy()))

    @initialize(limit=st.sampled_from([3, 2, 1]), on=st.sampled_from([["infrastructure", "exit"], ["infrastructure"], ["exit"], []]))
    def submitted(self, limit: int, on: list[str]) -> None:
        self.limit = limit
        spec = job_spec(retry={"attempts": limit, "on": on})
        self.store.write(lambda tx: fleet.add_cluster(tx.conn, cluster_spec(MEMBER), NOW))
        self.store.write(lambda tx: fleet.add_queue(tx.conn, "default", 1.0, None, NOW))
        self.store.write(lambda tx: submit(tx, self.bells, spec, job_id=JOB, submitted_by="tok", key=None, now=NOW))
        self.sync(census=True)
        self.decide(0.0)

    @precondition(lambda self: self.job.state not in FINAL)
    @rule(ending=st.sampled_from(ENDINGS), steps=st.integers(1, 8), overtaken=st.sampled_from([False, False, True]))
    def go_on(self, ending: tuple[Any, Category | None], steps: int, overtaken: bool) -> None:
        """What comes next, some steps of it: cycles, and reports of current runs; an end may overtake the reports before it."""
        for _ in range(steps):
            run = self.current()
            if run is None:
                self.decide(61.0 if steps > 1 else 0.0)
            elif overtaken or run.state == State.RUNNING:
                self.tell(run, self.finished(run.id, ending))
            elif run.state == State.PLACED:
                self.tell(run, RunStarting(run_id=run.id))
            else:
                self.tell(run, RunStarted(run_id=run.id, at=self.clock.now()))

    def decide(self, seconds: float) -> None:
        """A cycle, now or when the delay of a retry may be over."""
        self.clock.advance(seconds)
        self.sync()
        waiting, not_before = self.job.state == State.QUEUED, self.job.not_before or 0.0
        assert self.cycle.run().placed == (1 if waiting and not_before <= self.clock.now() else 0)

    @precondition(lambda self: self.runs)
    @rule(ending=st.sampled_from(ENDINGS), data=st.data(), away=st.sampled_from([-1, 1]))
    def report_falsely(self, ending: tuple[Any, Category | None], data: st.DataObject, away: int) -> None:
        """An end of any run under another epoch, or of one that has ended, changes nothing."""
        run = data.draw(st.sampled_from(self.runs))
        before = self.read()
        epoch = run.epoch if run.state in ENDS else run.epoch + away
        self.sync(Observation(epoch=epoch, event=self.finished(run.id, ending)))
        assert self.read() == before

    @precondition(lambda self: len(self.runs) > 1 or self.job.state in FINAL)
    @rule()
    def cancel(self) -> None:
        """The buyer wants no more of it."""
        self.store.write(lambda tx: cancel(tx, self.bells, JOB, self.clock.now()))

    @precondition(lambda self: self.current() is not None)
    @rule()
    def move_away(self) -> None:
        """The network ends the current run for its own reasons, and the job loses no attempt by it."""
        run = self.current()
        assert run is not None
        before = self.job.attempts - self.job.spared
        self.store.write(lambda tx: order_stop(tx.conn, run, "preempted", self.clock.now()))
        self.tell(run, self.finished(run.id, ("preempted", "preempted")))
        assert self.job.attempts - self.job.spared == (before if self.job.cancel_requested else before - 1)

    @precondition(lambda self: self.current() is not None)
    @rule(cause=st.sampled_from([Cause.CLUSTER_LOST, Cause.RUN_LOST]))
    def lose(self, cause: Cause) -> None:
        """The current run is given up."""
        run = self.current()
        assert run is not None
        self.store.write(lambda tx: lose_run(tx, self.bells, run, cause, self.clock.now(), "lost", Reconciled()))

    @rule(row=st.sampled_from(ROWS))
    def try_an_illegal_move(self, row: tuple[State, Cause]) -> None:
        """What the table does not have from here raises and changes nothing, for the job and for each of its runs."""
        before = job, runs, _ = self.read()
        finish, cause = row
        if cause not in MOVES.get((State(job.state), finish), frozenset()):
            with pytest.raises(IllegalTransitionError, match=r"submitted \(submitted\)"):
                self.store.write(lambda tx: move_job(tx.conn, job, finish, cause, at=0.0))
        for run in runs:
            # Only a job goes back from an end.
            target, why = row if run.state in HOLDS_CAPACITY else (State.QUEUED, Cause.RETRY)
            if why not in RUN_MOVES.get((State(run.state), target), frozenset()):
                with pytest.raises(IllegalTransitionError, match=run.id):
                    self.store.write(lambda tx, run=run, row=(target, why): jobs.move_run(tx.conn, run, *row))  # type: ignore[misc]
        assert self.read() == before

    def tell(self, run: RunRecord, event: RunEvent) -> None:
        """Report an event of a run."""
        self.sync(Observation(epoch=run.epoch, event=event))

    def finished(self, run_id: str, ending: tuple[Any, Category | None]) -> RunFinished:
        return RunFinished(run_id=run_id, outcome=ending[0], category=ending[1], at=self.clock.now())

    @invariant()
    def final_states_stay_final(self) -> None:
        if self.final is not None:
            assert self.job == self.final
        elif self.job.state in FINAL:
            self.final = self.job

    @invariant()
    def a_job_waits_or_runs_or_is_final(self) -> None:
        # Lost and preempted are on the way: to another attempt, or to failed.
        assert self.job.state in {State.QUEUED, *HOLDS_CAPACITY, *FINAL}

    @invariant()
    def ended_runs_stay_ended(self) -> None:
        now = {run.id: run for run in self.runs if run.state in ENDS}
        assert {name: now.get(name) for name in self.ended} == self.ended
        self.ended = now

    @invariant()
    def one_run_at_most_is_current_and_the_job_follows_it(self) -> None:
        active = [run for run in self.runs if run.state in HOLDS_CAPACITY]
        assert [run.id for run in active] == ([self.job.run_id] if self.job.state in HOLDS_CAPACITY else [])
        assert all(run.state == self.job.state for run in active)

    @invariant()
    def attempts_count_up_to_the_limit(self) -> None:
        numbers = [(run.attempt, run.epoch) for run in self.runs]
        assert numbers == [(number, number) for number in range(1, self.job.attempts + 1)]
        assert len(numbers) - self.job.spared <= self.limit

    @invariant()
    def the_story_is_told_without_a_gap_by_rows_of_the_table(self) -> None:
        events = self.read()[2]
        assert (events[0].start, events[0].finish) == ("", State.SUBMITTED)
        assert all(earlier.finish == later.start for earlier, later in pairwise(events))
        assert all(Cause(event.cause) in MOVES[State(event.start), State(event.finish)] for event in events[1:])
        assert events[-1].finish == self.job.state

    @invariant()
    def a_job_is_charged_once_and_only_at_its_end(self) -> None:
        charged = self.store.conn.execute(select(receipts.c.job_id)).all()
        assert len(charged) <= (1 if self.job.state in FINAL else 0)
        if self.job.state == State.SUCCEEDED:
            assert len(charged) == 1


Life.TestCase.settings = settings(max_examples=40, stateful_step_count=15)
TestLife = Life.TestCase
