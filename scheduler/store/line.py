"""The line of waiting jobs, and what is known of how long runs last: questions that read no waiting job but those named.

With a hundred thousand jobs waiting, each of these is a walk along an index or a look at some rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select

from scheduler.lifecycle import State
from scheduler.store.jobs import startable
from scheduler.store.parts import parts
from scheduler.store.records import JobRecord
from scheduler.store.tables import jobs, runs

_LIMIT, _MODEL = jobs.c.spec["max_runtime"].as_string(), runs.c.held["accelerator_model"].as_string()


@dataclass(frozen=True)
class RunLimit:
    """Of a run: what counts for its length. `limit` is the job's max_runtime as written, like `1h`, `model` its accelerators'."""

    tenant: str
    kind: str
    name: str
    limit: str
    model: str | None = None


def waiting_by_queue(conn: Connection, now: float) -> dict[str, int]:
    """How many jobs of each queue wait that may start now."""
    query = select(jobs.c.queue, func.count()).where(*startable(now)).group_by(jobs.c.queue)
    return {row[0]: row[1] for row in conn.execute(query)}


def just_before(conn: Connection, job: JobRecord, now: float) -> JobRecord | None:
    """The waiting job of its queue whose turn is right before this one's."""
    same = and_(*startable(now), jobs.c.queue == job.queue)
    last = select(jobs).order_by(jobs.c.sequence.desc()).limit(1)
    row = conn.execute(last.where(same, jobs.c.rank == job.rank, jobs.c.sequence < job.sequence)).one_or_none()
    if row is None:
        rank = conn.execute(select(func.min(jobs.c.rank)).where(same, jobs.c.rank > job.rank)).scalar()
        row = conn.execute(last.where(same, jobs.c.rank == rank)).one_or_none() if rank is not None else None
    return JobRecord(*row) if row is not None else None


def limits_of(conn: Connection, run_ids: Iterable[str]) -> dict[str, RunLimit]:
    """What runs may last, by run."""
    query = select(runs.c.id, jobs.c.tenant, jobs.c.kind, jobs.c.name, _LIMIT, _MODEL).join(jobs, jobs.c.id == runs.c.job_id)
    return {row[0]: RunLimit(*row[1:]) for ids in parts(run_ids) for row in conn.execute(query.where(runs.c.id.in_(ids)))}


def last_asked(conn: Connection, most: int) -> list[Any]:
    """What each worker of the jobs that were submitted last holds, as stored, newest first."""
    found = conn.execute(select(jobs.c.spec["resources"]).order_by(jobs.c.sequence.desc()).limit(most))
    return [row[0] for row in found if row[0] is not None]


def last_ended(conn: Connection, most: int) -> list[tuple[RunLimit, float]]:
    """The runs that ended last by themselves, newest first, each with the seconds that it ran."""
    ended = runs.c.finished_at.is_not(None), runs.c.started_at.is_not(None)
    # Not by the index of states, by which all runs that ever ended would be sorted, but from the last end backwards.
    state = func.coalesce(runs.c.state, "")
    query = (
        select(jobs.c.tenant, jobs.c.kind, jobs.c.name, _LIMIT, _MODEL, runs.c.finished_at - runs.c.started_at)
        .join(jobs, jobs.c.id == runs.c.job_id)
        .where(*ended, state.in_([State.SUCCEEDED.value, State.FAILED.value]))
        .order_by(runs.c.finished_at.desc())
        .limit(most)
    )
    return [(RunLimit(*row[:5]), float(row[5])) for row in conn.execute(query)]
