"""What follows from moves: the standing of arrays, whose turn it is, who is let go or ends because another has ended, and what ended
jobs have used of licences.

The rules run where moves are written, in the same transaction, so that there is no moment at which a job has ended and
those who waited for it do not know: whoever is killed when, each is let go once and never forgotten. A job counts what it
still waits for, so each end costs as much as it has dependents, however long the chain behind them is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.lifecycle import FINAL, Cause, State, has_read
from scheduler.store import arrays, dependencies, uses
from scheduler.store.parts import parts
from scheduler.store.records import ArrayRecord, JobRecord

if TYPE_CHECKING:
    from scheduler.store.changes import Changes, Moved


@dataclass(frozen=True)
class _News:
    """What those hear who wait for something: `spoiled`, it has not succeeded or cannot any more; `final`, it has ended."""

    name: str
    at: float
    spoiled: State | None
    final: bool


def follow(changes: Changes, moved: list[Moved]) -> set[str]:
    """Make the changes that follow from these moves, which are stored. Returns the jobs and arrays that it concerned, by id."""
    _settle_uses(changes, moved)
    news = {after.id: _News(f"{after.id} ({after.name})", _ended_at(after), _spoiled(after), True) for _, after in moved if _ended(after)}
    tasks: dict[str, list[Moved]] = {}
    for before, after in moved:
        if after.array_id is not None:
            tasks.setdefault(after.array_id, []).append((before, after))
    concerned = set(tasks)
    for array in arrays.arrays_of(changes.conn, tasks).values():
        news |= _account(changes, array, tasks[array.id], concerned)
    return concerned | _spread(changes, news)


def _settle_uses(changes: Changes, moved: list[Moved]) -> None:
    """What ended jobs had reserved of licences is consumed where their data may have been read, and given back otherwise."""
    ended = [after for _, after in moved if _ended(after) and after.spec.get("inputs")]
    if ended:
        read = {job.id for job in ended if has_read(State(job.state), Cause(job.cause), started=job.started_at is not None)}
        uses.end(changes.conn, read, {job.id for job in ended} - read, max(map(_ended_at, ended)))


def _ended(job: JobRecord) -> bool:
    return State(job.state) in FINAL


def _ended_at(job: JobRecord) -> float:
    return job.submitted_at if job.finished_at is None else job.finished_at


def _spoiled(job: JobRecord) -> State | None:
    return None if job.state == State.SUCCEEDED else State(job.state)


def _account(changes: Changes, array: ArrayRecord, moved: list[Moved], concerned: set[str]) -> dict[str, _News]:
    """Bring an array up to date, and let go whose turn it is. What those hear who wait for it, if there is anything to hear."""
    last = max(_ended_at(after) for _, after in moved)
    rows = [(before.state, after.state, after.array_index or 0) for before, after in moved]
    now, following = arrays.account(changes.conn, array, rows, last)
    changes.read_jobs(following)
    for name in following:
        task = changes.job_of(name)
        changes.touch_job(task, waiting_for=task.waiting_for - 1)
        concerned.add(name)
    before, spoiled = dependencies.spoiled_by(array.counts), dependencies.spoiled_by(now.counts)
    final = State(now.state) in FINAL
    if not final and spoiled is before:
        return {}
    name = next((f"{after.id} ({after.name}) of the array {array.id}" for _, after in moved if spoiled == after.state), array.id)
    return {array.id: _News(name, last, spoiled, final)}


def _spread(changes: Changes, news: dict[str, _News]) -> set[str]:
    """Tell everybody who waits."""
    concerned = set()
    for names in parts(news):
        rows = dependencies.dependents(changes.conn, names)
        changes.read_jobs(job_id for job_id, _, _ in rows)
        waiting = arrays.arrays_of(changes.conn, (job_id for job_id, _, _ in rows if changes.job(job_id) is None))
        for job_id, needs, outcome in rows:
            heard = news[needs]
            ends = heard.spoiled is not None and outcome != dependencies.ALWAYS
            if not ends and not heard.final:
                continue
            concerned.add(job_id)
            found = changes.open_tasks(job_id) if job_id in waiting else [changes.job_of(job_id)]
            _tell(changes, [job for job in found if not _ended(job)], heard, ends=ends)
    return concerned


def _tell(changes: Changes, jobs: Iterable[JobRecord], heard: _News, *, ends: bool) -> None:
    """Jobs are let go by what they waited for, or end as it has ended, or is bound to."""
    if not ends:
        for job in jobs:
            changes.touch_job(job, waiting_for=job.waiting_for - 1)
        return
    verb = "was cancelled" if heard.spoiled is State.CANCELLED else "failed"
    message = f"{heard.name} {verb}, and this job runs only after its success"
    for job in jobs:
        changes.move_job(job, heard.spoiled or State.FAILED, Cause.DEPENDENCY, at=heard.at, message=message, finished_at=heard.at)
