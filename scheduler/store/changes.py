"""What one transaction changes about jobs: moved in memory, written together.

A report may tell of hundreds of runs that began and ended, and a cycle may place a thousand jobs. Every move is
checked against the lifecycle and leaves its event; but rows, instructions and receipts are written at the end, with
one statement for each table instead of several for each job. What was read is guarded: a job by its version, a run
by its state and epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import Connection, Table, bindparam, select

from cluster.protocol import Instruction
from scheduler.errors import StaleStateError
from scheduler.lifecycle import FINAL, RUN_MOVES, Cause, State, move
from scheduler.store import arrays, audit, consequences, ledger, outbox, rates, subscriptions
from scheduler.store.audit import Entry
from scheduler.store.ledger import Charge
from scheduler.store.parts import parts
from scheduler.store.records import AS_TEXT, JobRecord, RunRecord, changed_record, record_of
from scheduler.store.rows import insert_numbered, insert_rows, texts, update_rows
from scheduler.store.tables import events, jobs, runs

Moved: TypeAlias = tuple[JobRecord, JobRecord]  # A job as it was and as it is.

# Statements are made once: to make one costs more than to run it.
_JOBS = select(*texts(jobs, AS_TEXT[JobRecord])).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_RUNS = select(*texts(runs, AS_TEXT[RunRecord])).where(runs.c.id.in_(bindparam("ids", expanding=True)))
_STORY = select(events.c.finish, events.c.cause).where(events.c.job_id == bindparam("of_id")).order_by(events.c.sequence)

MOST_NAMED = 10
_UNSET = dict.fromkeys(("queued_at", "placed_at", "started_at", "finished_at"))
_NO_SEQUENCE = 0
# What may change after a row was made.
_JOB_COLUMNS = (
    "version", "state", "attempts", "run_id", "not_before", "cause", "message", "blocker", "cancel_requested", "queued_at", "placed_at",
    "started_at", "finished_at", "spared", "waiting_for",
)  # fmt: skip
_SIZE_COLUMNS = ("nodes", "held", "quote", "elastic")
_RUN_COLUMNS = ("state", "cause", "exit_code", "message", "preview", "files", "usage", "starting_at", "started_at", "finished_at")
_OF_JOB, _OF_RUN, _OF_SIZE = (attrgetter(*names) for names in (_JOB_COLUMNS, _RUN_COLUMNS, _SIZE_COLUMNS))


class Changes:
    """The moves of one transaction. What they were made from must have been read in it, or be guarded; `write` ends them."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self._jobs: dict[str, JobRecord] = {}
        self._runs: dict[str, RunRecord] = {}
        self._jobs_before: dict[str, JobRecord] = {}
        self._runs_before: dict[str, RunRecord] = {}
        self._resized: set[str] = set()
        self._new_jobs: list[str] = []
        self._new_runs: list[RunRecord] = []
        self._events: list[dict[str, Any]] = []
        self._orders: list[tuple[str, Instruction, float]] = []
        self._receipts: list[dict[str, Any]] = []
        self._entries: list[dict[str, Any]] = []
        self._months: list[dict[str, Any]] = []
        self._rates: list[dict[str, Any]] = []
        self._acts: list[Entry] = []

    def read(self, run_ids: Iterable[str]) -> None:
        """Read these runs and their jobs, as far as they are there, all at once."""
        unread = set(run_ids) - self._runs.keys()
        found = [record_of(RunRecord, row) for ids in parts(unread) for row in self.conn.execute(_RUNS, {"ids": ids}).all()]
        self._runs.update((run.id, run) for run in found)
        self.read_jobs(run.job_id for run in found)

    def read_jobs(self, job_ids: Iterable[str]) -> None:
        """Read these jobs, as far as they are there, all at once."""
        for ids in parts(set(job_ids) - self._jobs.keys()):
            found = [record_of(JobRecord, row) for row in self.conn.execute(_JOBS, {"ids": ids}).all()]
            self._jobs.update((job.id, job) for job in found)

    def run(self, run_id: str) -> RunRecord | None:
        """A run that was read, as the moves have left it."""
        return self._runs.get(run_id)

    def job(self, job_id: str) -> JobRecord | None:
        """A job that was read, as the moves have left it."""
        return self._jobs.get(job_id)

    def job_of(self, job_id: str) -> JobRecord:
        """A job that was read, added or moved. Raises KeyError."""
        return self._jobs[job_id]

    def add_job(self, values: dict[str, Any]) -> JobRecord:
        """Store a submitted job; `values` are columns without `sequence`, which is handed out when it is written."""
        job = JobRecord(sequence=_NO_SEQUENCE, **{**_UNSET, **values})
        self._note(job.id, None, "", State.SUBMITTED, "submitted", "", job.submitted_at)
        self._new_jobs.append(job.id)
        self._jobs[job.id] = job
        return job

    def move_job(self, job: JobRecord, finish: State, cause: Cause, *, at: float, message: str = "", **columns: Any) -> JobRecord:
        """Move a job and leave an event. Raises IllegalTransitionError."""
        move(job.id, State(job.state), finish, cause, _Story(self, job.id))
        self._note(job.id, columns.get("run_id", job.run_id), job.state, finish, cause.value, message, at)
        return self.touch_job(job, state=finish.value, cause=cause.value, message=message, **columns)

    def touch_job(self, job: JobRecord, **columns: Any) -> JobRecord:
        """Change columns of a job without moving it."""
        if self._jobs.get(job.id, job).version != job.version:
            raise StaleStateError(f"{job.id} was changed since version {job.version}")
        if job.sequence != _NO_SEQUENCE:
            self._jobs_before.setdefault(job.id, job)
        changed = self._jobs[job.id] = changed_record(job, version=job.version + 1, **columns)
        return changed

    def add_run(self, run: RunRecord) -> None:
        """Store a new run."""
        self._new_runs.append(run)

    def move_run(self, run: RunRecord, finish: State, cause: Cause, **columns: Any) -> RunRecord:
        """Move a run; its job's move leaves the event. Raises IllegalTransitionError."""
        move(run.id, State(run.state), finish, cause, _Story(self, run.job_id), RUN_MOVES)
        if self._runs.get(run.id, run).state != run.state:
            raise StaleStateError(f"{run.id} was moved since it was read")
        self._runs_before.setdefault(run.id, run)
        changed = self._runs[run.id] = changed_record(run, state=finish.value, cause=cause.value, **columns)
        return changed

    def resize_run(self, run: RunRecord, **columns: Any) -> RunRecord:
        """Change what belongs to a run's size (`nodes`, `held`, `quote`, `elastic`) without moving it; its job's move leaves the event."""
        if self._runs.get(run.id, run).state != run.state:
            raise StaleStateError(f"{run.id} was moved since it was read")
        self._runs_before.setdefault(run.id, run)
        self._resized.add(run.id)
        changed = self._runs[run.id] = changed_record(run, **columns)
        return changed

    def order(self, cluster: str, instruction: Instruction, at: float) -> None:
        """Tell the agent of a cluster to do something."""
        self._orders.append((cluster, instruction, at))

    def charge(self, job: JobRecord, run_id: str, charge: Charge, at: float) -> None:
        """Store a receipt and its entry in the journal; a second one for the same job is an error, never a second charge."""
        self._receipts.append({"job_id": job.id, "run_id": run_id, "tenant": job.tenant, "receipt": charge.receipt, "issued_at": at})
        self._months += [{"tenant": job.tenant, "product": product, "month": month, "run_id": run_id} for product, month in charge.months]
        if charge.postings is not None:
            self._entries.append({
                "run_id": run_id, "job_id": job.id, "currency": charge.currency, "postings": charge.postings, "at": at,
            })  # fmt: skip

    def note_rate(self, values: dict[str, Any]) -> None:
        """Keep how fast a run was; `values` are columns of its row."""
        self._rates.append(values)

    def act(self, entry: Entry) -> None:
        """Leave an act in the audit log."""
        self._acts.append(entry)

    def pending(self, job_id: str) -> list[tuple[str, str]]:
        """(state, cause) of a job's events that are not written yet."""
        return [(event["finish"], event["cause"]) for event in self._events if event["job_id"] == job_id]

    def open_tasks(self, array_id: str) -> list[JobRecord]:
        """The tasks of an array that have not ended, as the moves have left them."""
        for task in arrays.open_tasks(self.conn, array_id):
            self._jobs.setdefault(task.id, task)
        return [job for job in self._jobs.values() if job.array_id == array_id and State(job.state) not in FINAL]

    def write(self) -> set[str]:
        """Store all moves and what follows from them, and forget them. Raises StaleStateError when one of them was made from what
        is not so any more. Returns the jobs and arrays that what followed has concerned, by id.
        """
        concerned: set[str] = set()
        while moved := self._store():
            concerned |= consequences.follow(self, moved)
        return concerned

    def _store(self) -> list[Moved]:
        """Write what is collected. The jobs that were moved, as they were and as they are."""
        moved = [(before, self._jobs[name]) for name, before in self._jobs_before.items() if before.state != self._jobs[name].state]
        self._insert_jobs()
        self._update(jobs, ("id", "version"), _JOB_COLUMNS, [
            (*_OF_JOB(self._jobs[name]), name, before.version) for name, before in self._jobs_before.items()
        ])  # fmt: skip
        self._update(runs, ("id", "epoch", "state"), _RUN_COLUMNS, [
            (*_OF_RUN(self._runs[name]), name, before.epoch, before.state) for name, before in self._runs_before.items()
        ])  # fmt: skip
        sized = [self._runs[name] for name in sorted(self._resized)]
        self._update(runs, ("id", "epoch", "state"), _SIZE_COLUMNS, [(*_OF_SIZE(run), run.id, run.epoch, run.state) for run in sized])
        if self._new_runs:
            insert_rows(self.conn, runs, [vars(run) for run in self._new_runs])
        if self._events:
            insert_rows(self.conn, events, self._events)
        outbox.put_all(self.conn, self._orders)
        ledger.add_receipts(self.conn, self._receipts, self._entries)
        subscriptions.add(self.conn, self._months)
        rates.add_rates(self.conn, self._rates)
        audit.append(self.conn, self._acts)
        for collected in (
            self._new_jobs, self._jobs_before, self._new_runs, self._runs_before, self._events, self._orders, self._receipts,
            self._rates, self._resized, self._entries, self._months, self._acts,
        ):  # fmt: skip
            collected.clear()
        return moved

    def _note(self, job_id: str, run_id: str | None, start: str, finish: State, cause: str, message: str, at: float) -> None:
        self._events.append({
            "job_id": job_id, "run_id": run_id, "start": start, "finish": finish.value, "cause": cause, "message": message, "at": at,
        })  # fmt: skip

    def _insert_jobs(self) -> None:
        rows = [{name: value for name, value in vars(self._jobs[job_id]).items() if name != "sequence"} for job_id in self._new_jobs]
        if len(rows) == 1:
            sequence = insert_numbered(self.conn, jobs, rows[0])
            self._jobs[rows[0]["id"]] = changed_record(self._jobs[rows[0]["id"]], sequence=sequence)
        elif rows:
            # One statement for the tasks of an array, which hands out their numbers in this order and does not tell them.
            insert_rows(self.conn, jobs, rows)
            for row in rows:
                del self._jobs[row["id"]]

    def _update(self, table: Table, guard: tuple[str, ...], names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        if rows and update_rows(self.conn, table, guard, names, rows) != len(rows):
            told = ", ".join(row[len(names)] for row in rows[:MOST_NAMED])
            raise StaleStateError(f"changed since it was read: {told}" if len(rows) == 1 else f"one of {len(rows)} has changed: {told}")


class _Story:
    """A job's history, what is not written yet included; read only when an illegal move needs it."""

    def __init__(self, changes: Changes, job_id: str) -> None:
        self._changes, self._job_id = changes, job_id

    def __iter__(self) -> Iterator[str]:
        stored = [(row.finish, row.cause) for row in self._changes.conn.execute(_STORY, {"of_id": self._job_id})]
        return (f"{finish} ({cause})" for finish, cause in (*stored, *self._changes.pending(self._job_id)))
