"""Arrays as one: submitted as one and cancelled as one, while each task is a job like any other.

A task's id is its array's with its index, `job-4tq…-17`. What holds for a submission (one idempotency key, jobs that it comes
after) holds for the array as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from scheduler import acts
from scheduler.bells import CYCLE, Bells, agent_bell, job_bell
from scheduler.dispatch import order_stop
from scheduler.errors import InvalidError, Problem
from scheduler.lifecycle import Cause, State
from scheduler.store import arrays, dependencies, jobs
from scheduler.store.changes import Changes
from scheduler.store.records import ArrayRecord
from scheduler.store.session import Transaction
from workloads.arrays import read_array
from workloads.spec import JobSpec, file_bytes

MIB = 1024**2
MOST_BYTES = 256 * MIB


def examine_size(spec: JobSpec, most_tasks: int, most_bytes: int) -> None:
    """Refuse a job with more tasks, or larger files, than one may have here. Raises InvalidError."""
    if file_bytes(spec.files) > most_bytes:
        words = f"more than {most_bytes:,} bytes in all; publish larger data as a product, or have the operator raise CPN_MAX_FILES_BYTES"
        raise InvalidError((Problem("files", "too-large", words),))
    examine_array(spec, most_tasks)


def examine_array(spec: JobSpec, most: int) -> None:
    """Refuse an array with more than `most` tasks, or one whose tasks would carry too much. Raises InvalidError."""
    if spec.array is None:
        return
    size = read_array(spec.array).size
    if size > most:
        raise InvalidError((Problem("array", "too-large", f"{size:,} tasks are more than the {most:,} that an array may have here; "
                                    "submit several arrays, or have the operator raise CPN_MAX_ARRAY"),))  # fmt: skip
    stored = len(json.dumps(spec.model_dump(mode="json"))) * size
    if stored > MOST_BYTES:
        raise InvalidError((Problem("array", "too-large", f"each task is stored with its manifest, and those of {size:,} tasks come to "
                                    f"{stored // MIB:,} MiB, more than {MOST_BYTES // MIB} MiB; publish what they share (files, data) as a "
                                    "product, or submit several arrays"),))  # fmt: skip


def task_id(array_id: str, index: int) -> str:
    """The id of a task."""
    return f"{array_id}-{index}"


def task_ids(spec: JobSpec, array_id: str) -> list[str]:
    """The ids of all tasks of an array, in the order of their indices."""
    return [task_id(array_id, index) for index in read_array(spec.array or "").indices()]


def store_array(tx: Transaction, spec: JobSpec, columns: dict[str, Any], needs: list[tuple[str, str]]) -> ArrayRecord:
    """Store an array with its tasks as queued; `columns` are those of one job, and `needs` whom all tasks have to wait for."""
    tasks = read_array(spec.array or "")
    indices = tasks.indices()
    array_id, now = columns["id"], columns["submitted_at"]
    released = indices[min(tasks.at_most or tasks.size, tasks.size) - 1]
    changes = Changes(tx.conn)
    for index in indices:
        held_back = index > released
        job = changes.add_job({
            **columns, "id": task_id(array_id, index), "idempotency_key": None, "idempotency_digest": None, "array_id": array_id,
            "array_index": index, "waiting_for": len(needs) + held_back,
        })  # fmt: skip
        changes.move_job(job, State.QUEUED, Cause.ADMITTED, at=now, queued_at=now)
    array = ArrayRecord(
        id=array_id, version=1, state=State.QUEUED.value, tenant=spec.tenant, first=task_id(array_id, indices[0]), size=tasks.size,
        at_most=tasks.at_most, released=released, counts={State.QUEUED.value: tasks.size}, idempotency_key=columns["idempotency_key"],
        idempotency_digest=columns["idempotency_digest"], submitted_at=now, finished_at=None,
    )  # fmt: skip
    arrays.add(tx.conn, array)
    dependencies.add(tx.conn, array_id, needs)
    changes.write()
    return array


def cancel_array(tx: Transaction, bells: Bells, array_id: str, now: float, by: str = "") -> None:
    """Cancel what has not ended of an array: at once what waits, through its agents what runs. Again changes nothing. `by` is the
    token that asks for it, and the audit log has one row of it."""
    changes = Changes(tx.conn)
    rung = {job_bell(array_id)}
    running = []
    tasks = [job for job in changes.open_tasks(array_id) if not job.cancel_requested]
    if tasks and tasks[0].spec.get("inputs"):
        changes.act(replace(acts.withdrawn(tasks[0], Cause.CANCELLED_BY_USER, by, now), subject=array_id))
    for job in tasks:
        rung.add(job_bell(job.id))
        if job.state in (State.SUBMITTED, State.QUEUED):
            changes.move_job(job, State.CANCELLED, Cause.CANCELLED_BY_USER, at=now, finished_at=now, cancel_requested=True)
        else:
            running.append(changes.touch_job(job, cancel_requested=True))
    current = {job.run_id for job in running}
    for run in jobs.runs_of(tx.conn, [job.id for job in running]):
        if run.id in current:
            order_stop(tx.conn, run, "cancelled", now)
            rung.add(agent_bell(run.cluster))
    ring_after(tx, bells, rung | set(map(job_bell, changes.write())) | {CYCLE})


def ring_after(tx: Transaction, bells: Bells, names: Iterable[str]) -> None:
    """Wake, after the commit, who listens to these bells."""
    for name in sorted(names):
        tx.after_commit(partial(bells.ring, name))
