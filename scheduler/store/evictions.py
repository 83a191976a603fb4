"""Evictions: runs that the network ends for its own reasons, and the room that is kept for whom they are ended.

Why a run was ended is kept for good: whoever had somebody ended must never be ended for them. A claim counts only while its job
waits and its time has not run out, so none can be left behind, whatever becomes of the job or of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, or_, select

from scheduler.lifecycle import FINAL, State
from scheduler.store.records import ACTIVE, ClaimRecord, EvictionRecord
from scheduler.store.tables import claims, evictions, jobs, runs

_OF_RUN = select(evictions).where(evictions.c.run_id == bindparam("of_id"))
_INSERT, _DELETE = insert(evictions), delete(evictions).where(evictions.c.run_id == bindparam("of_id"))
_STOPPING = select(evictions.c.run_id, evictions.c.beneficiary).join(runs, runs.c.id == evictions.c.run_id).where(runs.c.state.in_(ACTIVE))
_OPEN = sorted(state.value for state in State if state not in FINAL)
_VICTIM, _GAINS = jobs.alias("victim"), jobs.alias("gains")
_PAST = (
    select(evictions.c.beneficiary, evictions.c.job_id).distinct()
    .join(_VICTIM, _VICTIM.c.id == evictions.c.job_id).join(_GAINS, _GAINS.c.id == evictions.c.beneficiary)
    .where(_VICTIM.c.state.in_(_OPEN), _GAINS.c.state.in_(_OPEN))
    .order_by(evictions.c.beneficiary, evictions.c.job_id)
)  # fmt: skip
_CLAIMS = (
    select(claims).join(jobs, jobs.c.id == claims.c.job_id)
    .where(jobs.c.state == State.QUEUED.value, claims.c.until > bindparam("now")).order_by(claims.c.job_id)
)  # fmt: skip
_OF_JOB = delete(claims).where(claims.c.job_id == bindparam("of_id"))
_WAITS = exists().where(jobs.c.id == claims.c.job_id, jobs.c.state == State.QUEUED.value)
_RUNNING = select(jobs.c.id, jobs.c.rank, jobs.c.cancel_requested, jobs.c.spec[("retry", "on")]).where(jobs.c.state.in_(ACTIVE))


@dataclass(frozen=True)
class RunningJob:
    """Of a job that runs what counts when somebody has to be ended."""

    rank: int
    cancel_requested: bool
    retried_on: tuple[str, ...]


def note(conn: Connection, found: Iterable[EvictionRecord]) -> None:
    """Store why runs are ended; a later reason replaces the earlier one of the same run."""
    rows = [vars(item) for item in found]
    if rows:
        conn.execute(_DELETE, [{"of_id": row["run_id"]} for row in rows])
        conn.execute(_INSERT, rows)


def of_run(conn: Connection, run_id: str) -> EvictionRecord | None:
    """Why a run is to end, if the network ordered it for its own reasons."""
    row = conn.execute(_OF_RUN, {"of_id": run_id}).one_or_none()
    return EvictionRecord(*row) if row is not None else None


def stopping(conn: Connection) -> dict[str, str | None]:
    """The active runs that were told to end, with the job that each is ended for, if one."""
    return {row.run_id: row.beneficiary for row in conn.execute(_STOPPING)}


def past(conn: Connection) -> tuple[tuple[str, str], ...]:
    """(beneficiary, victim) of all evictions between jobs that are not final."""
    return tuple((row.beneficiary, row.job_id) for row in conn.execute(_PAST))


def running_jobs(conn: Connection) -> dict[str, RunningJob]:
    """The jobs that hold capacity, by id."""
    return {name: RunningJob(rank, stopped, tuple(on)) for name, rank, stopped, on in conn.execute(_RUNNING)}


def claim(conn: Connection, found: ClaimRecord) -> None:
    """Keep room for a job, in place of what was kept for it before."""
    conn.execute(_OF_JOB, {"of_id": found.job_id})
    conn.execute(insert(claims).values(**vars(found)))


def claims_of(conn: Connection, now: float) -> list[ClaimRecord]:
    """The claims that count now, by job."""
    return [ClaimRecord(*row) for row in conn.execute(_CLAIMS, {"now": now})]


def drop_old_claims(conn: Connection, now: float) -> int:
    """Forget claims that count no more; returns how many."""
    statement: Any = delete(claims).where(or_(claims.c.until <= now, ~_WAITS))
    return int(conn.execute(statement).rowcount)
