"""Single jobs stored and moved, each in one write of its own."""

from __future__ import annotations

from typing import Any

from scheduler.lifecycle import Cause, State
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord
from scheduler.store.session import Connection


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
