"""Jobs, runs, their events and progress. Every move is guarded and leaves an event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, and_, bindparam, func, insert, null, or_, select, update

from scheduler.errors import NotFoundError
from scheduler.lifecycle import Cause, State
from scheduler.store.changes import Changes
from scheduler.store.parts import parts
from scheduler.store.records import ACTIVE, AS_TEXT, EventRecord, JobRecord, PastRun, RunRecord, record_of
from scheduler.store.rows import texts
from scheduler.store.tables import arrays, events, jobs, progress, runs

_ID: BindParameter[str] = bindparam("of_id")
_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_NOW: BindParameter[float] = bindparam("now")
_JOB, _RUN = select(jobs).where(jobs.c.id == _ID), select(runs).where(runs.c.id == _ID)
_JOBS = select(jobs).where(jobs.c.id.in_(_IDS))
_VERSIONS = select(jobs.c.id, jobs.c.version).where(jobs.c.id.in_(_IDS))
_RUNS_OF = select(runs).where(runs.c.job_id.in_(_IDS)).order_by(runs.c.job_id, runs.c.attempt)
_UNDER_KEYS = select(jobs.c.id, jobs.c.idempotency_key, jobs.c.idempotency_digest).where(
    jobs.c.tenant == bindparam("of_tenant"), jobs.c.idempotency_key.in_(_IDS)
)
_ACTIVE = select(*texts(runs, AS_TEXT[RunRecord])).where(runs.c.state.in_(ACTIVE)).order_by(runs.c.id)
_ELASTIC = _ACTIVE.where(runs.c.elastic.is_not(null()))
_ACTIVE_AT = _ACTIVE.where(runs.c.cluster == bindparam("of_cluster"))
_INSERT_PROGRESS = insert(progress)
_EVENTS_OF = (
    select(events)
    .where(events.c.job_id == _ID, events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("most"))
)
_PROGRESS = select(progress.c.step).where(progress.c.run_id == _ID, progress.c.sequence == bindparam("of_sequence"))
_SET_BLOCKER = update(jobs).where(jobs.c.id == _ID, jobs.c.state == State.QUEUED.value)


def startable(now: Any) -> tuple[Any, ...]:
    """Queued, waiting for no other job, and past the time before which it does not start."""
    return jobs.c.state == State.QUEUED.value, jobs.c.waiting_for == 0, or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now)


def _waiting() -> Any:
    position = func.row_number().over(partition_by=jobs.c.queue, order_by=(jobs.c.rank.desc(), jobs.c.sequence)).label("position")
    ranked = select(jobs.c.sequence.label("seq"), position).where(*startable(_NOW)).subquery()
    first = ranked.c.position <= bindparam("per_queue")
    return select(*texts(jobs, AS_TEXT[JobRecord])).join(ranked, jobs.c.sequence == ranked.c.seq).where(first).order_by(jobs.c.sequence)


_WAITING = _waiting()
_NEXT_NOT_BEFORE = select(func.min(jobs.c.not_before)).where(
    jobs.c.state == State.QUEUED.value, jobs.c.waiting_for == 0, jobs.c.not_before > _NOW
)


def get_job(conn: Connection, job_id: str) -> JobRecord:
    """One job. Raises NotFoundError."""
    row = conn.execute(_JOB, {"of_id": job_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no job {job_id!r}")
    return JobRecord(*row)


def versions_of(conn: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """The versions of those jobs that are there, by id."""
    return {job_id: version for ids in parts(job_ids) for job_id, version in conn.execute(_VERSIONS, {"ids": ids}).all()}


def under_keys(conn: Connection, tenant: str, keys: Iterable[str]) -> list[tuple[str, str, str | None]]:
    """(id, key, digest) of the jobs that were submitted under these idempotency keys."""
    rows = (row for some in parts(keys) for row in conn.execute(_UNDER_KEYS, {"of_tenant": tenant, "ids": some}))
    return [(row[0], row[1], row[2]) for row in rows]


def list_jobs(
    conn: Connection, *, tenant: str | None = None, state: str | None = None, queue: str | None = None,
    array: str | None = None, before: int | None = None, limit: int = 100,
) -> list[JobRecord]:  # fmt: skip
    """Jobs, newest first, older than the sequence number `before`. Of an array its first task stands for all, and has its state;
    `array` lists the tasks of one instead, by index, after the sequence number `before`.
    """
    if array is not None:
        tasks = _listed(select(jobs).where(jobs.c.array_id == array), jobs.c.state, tenant, state, queue)
        later = tasks if before is None else tasks.where(jobs.c.sequence > before)
        return [JobRecord(*row) for row in conn.execute(later.order_by(jobs.c.sequence).limit(limit))]
    # Apart, because each has an index for its state; joined, every task of every array would be walked over.
    # Of all jobs the index of arrays gives the newest; of those in one state that of states, and the other one would walk over the rest.
    no_array = jobs.c.array_id.is_(None) if state is None else func.coalesce(jobs.c.array_id, "") == ""
    alone = _listed(select(jobs).where(no_array), jobs.c.state, tenant, state, queue)
    heads = _listed(select(jobs).join(arrays, jobs.c.id == arrays.c.first), arrays.c.state, tenant, state, queue)
    found = []
    for query in (alone, heads):
        older = query if before is None else query.where(jobs.c.sequence < before)
        found += [JobRecord(*row) for row in conn.execute(older.order_by(jobs.c.sequence.desc()).limit(limit))]
    return sorted(found, key=lambda job: -job.sequence)[:limit]


def _listed(query: Select[Any], standing: Any, tenant: str | None, state: str | None, queue: str | None) -> Select[Any]:
    for column, value in ((jobs.c.tenant, tenant), (standing, state), (jobs.c.queue, queue)):
        query = query if value is None else query.where(column == value)
    return query


def waiting(conn: Connection, now: float, per_queue: int) -> list[JobRecord]:
    """Queued jobs that may start now: the first `per_queue` of each queue by rank, then sequence."""
    return [record_of(JobRecord, row) for row in conn.execute(_WAITING, {"now": now, "per_queue": per_queue}).all()]


def next_not_before(conn: Connection, after: float) -> float | None:
    """When the next delayed job or retry becomes due; one that was due at `after` waits for room like every other job."""
    value: float | None = conn.execute(_NEXT_NOT_BEFORE, {"now": after}).scalar()
    return value


def ahead(conn: Connection, job: JobRecord, now: float) -> int:
    """How many jobs of its queue go before it, of those that may start now."""
    before = or_(jobs.c.rank > job.rank, and_(jobs.c.rank == job.rank, jobs.c.sequence < job.sequence))
    query = select(func.count()).where(*startable(now), jobs.c.queue == job.queue, before)
    return int(conn.execute(query).scalar_one())


def count_by_state(conn: Connection) -> list[tuple[str, str, int, float]]:
    """(queue, state, number, oldest submission) of jobs that are not final."""
    query = (
        select(jobs.c.queue, jobs.c.state, func.count(), func.min(jobs.c.submitted_at))
        .where(jobs.c.state.in_([State.SUBMITTED, State.QUEUED, *ACTIVE]))
        .group_by(jobs.c.queue, jobs.c.state)
        .order_by(jobs.c.queue, jobs.c.state)
    )
    return [(row[0], row[1], row[2], row[3]) for row in conn.execute(query)]


def touch_job(conn: Connection, job: JobRecord, **columns: Any) -> JobRecord:
    """Change columns of one job without moving it, guarded by its version. Raises StaleStateError."""
    changes = Changes(conn)
    changed = changes.touch_job(job, **columns)
    changes.write()
    return changed


def set_blockers(conn: Connection, blockers: Sequence[tuple[str, str]]) -> None:
    """Note why jobs wait: (job id, reason). A note, not a move: the version stays."""
    if blockers:
        conn.execute(_SET_BLOCKER, [{"of_id": job_id, "blocker": blocker} for job_id, blocker in blockers])


def get_run(conn: Connection, run_id: str) -> RunRecord | None:
    """One run."""
    row = conn.execute(_RUN, {"of_id": run_id}).one_or_none()
    return RunRecord(*row) if row is not None else None


def runs_of(conn: Connection, job_ids: Iterable[str]) -> list[RunRecord]:
    """All runs of these jobs, by job and attempt."""
    return [RunRecord(*row) for ids in parts(set(job_ids)) for row in conn.execute(_RUNS_OF, {"ids": ids})]


def active_runs(conn: Connection, cluster: str | None = None) -> list[RunRecord]:
    """Runs that hold capacity, by id."""
    rows = conn.execute(_ACTIVE) if cluster is None else conn.execute(_ACTIVE_AT, {"of_cluster": cluster})
    return [record_of(RunRecord, row) for row in rows.all()]


def elastic_runs(conn: Connection, cluster: str | None = None) -> list[RunRecord]:
    """Of these the gangs that may be resized."""
    query = _ELASTIC if cluster is None else _ELASTIC.where(runs.c.cluster == cluster)
    return [record_of(RunRecord, row) for row in conn.execute(query).all()]


def jobs_of(conn: Connection, job_ids: Iterable[str]) -> dict[str, JobRecord]:
    """Those of some jobs that are there, by id."""
    return {row.id: JobRecord(*row) for ids in parts(set(job_ids)) for row in conn.execute(_JOBS, {"ids": ids})}


def ended_runs(conn: Connection, since: float) -> list[PastRun]:
    """What runs held that ended after `since`, by id."""
    query = select(runs.c.queue, runs.c.nodes, runs.c.held, runs.c.placed_at, runs.c.finished_at, runs.c.elastic, runs.c.started_at)
    return [PastRun(*row) for row in conn.execute(query.where(runs.c.finished_at > since).order_by(runs.c.id))]


def move_run(conn: Connection, run: RunRecord, finish: State, cause: Cause, **columns: Any) -> RunRecord:
    """Move one run, guarded by its state and epoch; its job's move leaves the event. Raises StaleStateError, IllegalTransitionError."""
    changes = Changes(conn)
    moved = changes.move_run(run, finish, cause, **columns)
    changes.write()
    return moved


def events_of(conn: Connection, job_id: str, after: int = 0, limit: int = 1000) -> list[EventRecord]:
    """A job's moves in order."""
    return [EventRecord(*row) for row in conn.execute(_EVENTS_OF, {"of_id": job_id, "after": after, "most": limit})]


def add_progress(conn: Connection, run_id: str, sequence: int, step: int, metrics: dict[str, float], at: float) -> bool:
    """Store a progress report once; False when it is known already."""
    if conn.execute(_PROGRESS, {"of_id": run_id, "of_sequence": sequence}).first() is not None:
        return False
    conn.execute(_INSERT_PROGRESS, {"run_id": run_id, "sequence": sequence, "step": step, "metrics": metrics, "at": at})
    return True


def last_progress(conn: Connection, run_id: str) -> tuple[dict[str, float], float] | None:
    """Metrics and time of what a run reported last; None before its first report."""
    query = select(progress.c.metrics, progress.c.at).where(progress.c.run_id == run_id).order_by(progress.c.sequence.desc()).limit(1)
    row = conn.execute(query).first()
    return (row.metrics, row.at) if row is not None else None


def progress_of(conn: Connection, run_id: str, after: int = -1, limit: int = 1000) -> list[tuple[int, int, dict[str, float], float]]:
    """(sequence, step, metrics, at) of a run, in order."""
    query = select(progress).where(progress.c.run_id == run_id, progress.c.sequence > after).order_by(progress.c.sequence).limit(limit)
    return [(row.sequence, row.step, row.metrics, row.at) for row in conn.execute(query)]
