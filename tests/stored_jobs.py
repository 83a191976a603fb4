"""Single jobs submitted, stored and moved, each in one write of its own."""

from __future__ import annotations

from typing import Any

from scheduler.admission import Offer, submit_batch
from scheduler.bells import Bells
from scheduler.lifecycle import Cause, State
from scheduler.store import arrays, jobs
from scheduler.store.changes import Changes
from scheduler.store.records import ArrayRecord, JobRecord
from scheduler.store.session import Connection, Transaction
from workloads.spec import JobSpec


def insert_job(conn: Connection, values: dict[str, Any]) -> JobRecord:
    """Store a submitted job; `values` are columns without `sequence`."""
    changes = Changes(conn)
    changes.add_job(values)
    changes.write()
    return changes.job_of(values["id"])


def move_job(conn: Connection, job: JobRecord, finish: State, cause: Cause, *, at: float) -> JobRecord:
    """Move one job, guarded by its version. Raises StaleStateError, IllegalTransitionError."""
    changes = Changes(conn)
    moved = changes.move_job(job, finish, cause, at=at)
    changes.write()
    return moved


def submit(
    tx: Transaction, bells: Bells, spec: JobSpec, *, job_id: str, submitted_by: str, key: str | None, now: float
) -> tuple[JobRecord, bool]:
    """Store an examined job as queued; False with the first job under its key. Raises ConflictError, InvalidError."""
    found, new = _submitted(tx, bells, Offer(spec, job_id, key), submitted_by, now)
    return jobs.get_job(tx.conn, found), new


def submit_array(
    tx: Transaction, bells: Bells, spec: JobSpec, *, array_id: str, submitted_by: str, key: str | None, now: float
) -> tuple[ArrayRecord, bool]:
    """The same for an examined array."""
    found, new = _submitted(tx, bells, Offer(spec, array_id, key), submitted_by, now)
    return arrays.get_array(tx.conn, found), new


def _submitted(tx: Transaction, bells: Bells, offer: Offer, submitted_by: str, now: float) -> tuple[str, bool]:
    [answer] = submit_batch(tx, bells, [offer], submitted_by=submitted_by, now=now)
    if isinstance(answer, Exception):
        raise answer
    return answer.id, answer.new
