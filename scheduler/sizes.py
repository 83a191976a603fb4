"""Sizes: what becomes of a run's books when its gang is resized, and what its agent is told.

Room for workers that join is booked when they are ordered, and room of workers that are ended is free when the agent says that they
are gone. So nothing is held twice, whatever is lost, repeated or late in between: an order and its answer carry a number, and only
the answer to the newest one counts. A gang that cannot grow keeps what it has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container
from dataclasses import replace
from typing import Any, NamedTuple

from cluster.protocol import GangSize, Instruction, RunResized
from scheduler.lifecycle import Cause, State
from scheduler.store import jobs
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord, Resize, RunRecord
from scheduler.store.session import Connection
from workloads.catalogue.pricing import Quote, requoted
from workloads.spec import JobSpec

GRACE_S = 5.0
WHY_WORDS = {
    "idle-room": "nobody waits for the room", "grown-room": "somebody waits for the room that it had grown into",
    "lower-priority": "a job of its queue has a higher priority", "reclaim-quota": "another queue takes back the quota that it lent",
}  # fmt: skip


class Resized(NamedTuple):
    """A change of size that is over, for metrics: `grown`, `shrunk` or `refused`, and why it was ordered."""

    direction: str
    why: str


def resize_order(run: RunRecord) -> Instruction:
    """The instruction to bring a run to the size that is pending for it."""
    sizing = run.sizing
    assert sizing is not None
    assert sizing.pending is not None
    count = sizing.pending.workers
    devices = tuple(tuple(found) for found in run.held.get("devices", ())[:count])
    size = GangSize(generation=sizing.generation, nodes=tuple(run.nodes[:count]), accelerator_devices=devices)
    return Instruction(sequence=0, action="resize", run_id=run.id, size=size, grace_s=GRACE_S)


def order(changes: Changes, job: JobRecord, run: RunRecord, change: Resize, more: list[str], devices: list[list[int]]) -> None:
    """Have a run that has no other change pending resized; `more` are the nodes of workers that join, with the devices of each."""
    sizing = run.sizing
    assert sizing is not None
    before = sizing.workers
    columns: dict[str, Any] = {"elastic": replace(sizing, generation=sizing.generation + 1, pending=change).stored()}
    if more:
        columns |= {"nodes": [*run.nodes, *more], "held": {**run.held, "devices": [*run.held.get("devices", []), *devices]}}
    run = changes.resize_run(run, **columns)
    verb = "growing" if more else "shrinking"
    message = f"{verb} from {before} to {change.workers} workers: {WHY_WORDS[change.why]}"
    changes.move_job(job, State.RUNNING, Cause.RESIZING, at=change.at, message=message)
    changes.order(run.cluster, resize_order(run), change.at)


def take_in(changes: Changes, job: JobRecord, run: RunRecord, event: RunResized, now: float) -> Resized | None:
    """Book the size that a run has reached. None when the report is not the answer to its newest order."""
    sizing = run.sizing
    if sizing is None or sizing.pending is None or event.generation != sizing.generation or run.started_at is None:
        return None
    before, pending = sizing.workers, sizing.pending
    reached = before if event.workers is None else max(min(event.workers, len(run.nodes)), 1)
    after = sizing.with_workers(reached, run.started_at, now)
    columns: dict[str, Any] = {"nodes": run.nodes[:reached], "elastic": after.stored()}
    if "devices" in run.held:
        columns["held"] = {**run.held, "devices": run.held["devices"][:reached]}
    if after.peak > sizing.peak:
        columns["quote"] = quote_for(job.parsed(), run, after.peak).model_dump(mode="json")
    changes.resize_run(run, **columns)
    if reached == pending.workers:
        done = Resized("grown" if reached > before else "shrunk", pending.why)
        message = f"{done.direction} from {before} to {reached} workers: {WHY_WORDS[pending.why]}"
    else:
        done = Resized("refused", pending.why)
        message = f"stays at {reached} workers instead of {pending.workers}: {event.message or 'its agent could not change it'}"
    changes.move_job(job, State.RUNNING, Cause.RESIZED, at=now, message=message)
    return done


def order_again(conn: Connection, changes: Changes, cluster: str, now: float) -> None:
    """Tell an agent that begins of the changes that its predecessor has not answered; one that is carried out is just answered."""
    for run in jobs.elastic_runs(conn, cluster):
        if run.sizing is not None and run.sizing.pending is not None:
            changes.order(cluster, resize_order(run), now)


def quote_for(spec: JobSpec, run: RunRecord, workers: int) -> Quote:
    """What a run may cost with so many workers, at the prices of its quote."""
    quote, sizing, model = Quote.model_validate(run.quote), run.sizing, run.held["accelerator_model"]
    resources = spec.resources.on(model) if model else spec.resources
    before = resources.with_workers(sizing.peak if sizing else len(run.nodes))
    return requoted(quote, before, resources.with_workers(workers))


def most_paid(spec: JobSpec, run: RunRecord, most: int) -> int:
    """Up to how many workers, and no more than `most`, a run may have within its job's budget, all of its time."""
    budget, now = spec.budget, len(run.nodes)
    if budget is None or most <= now:
        return most
    paid = bisect_right(range(now + 1, most + 1), budget.amount, key=lambda count: quote_for(spec, run, count).total.amount)
    return now + paid


def staying(run: RunRecord) -> int:
    """How many of a run's workers stay when what is pending for it is over, or join it then."""
    pending = run.sizing.pending if run.sizing else None
    return min(pending.workers, len(run.nodes)) if pending else len(run.nodes)


def leaving_for(run: RunRecord, job_id: str) -> list[str]:
    """The nodes of workers that a run gives up for a job."""
    pending = run.sizing.pending if run.sizing else None
    return run.nodes[pending.workers :] if pending and pending.beneficiary == job_id else []


def part_of(run: RunRecord, first: int, last: int) -> RunRecord:
    """A run as if it had some of its workers alone."""
    held = {**run.held, "devices": run.held["devices"][first:last]} if "devices" in run.held else run.held
    return replace(run, nodes=run.nodes[first:last], held=held)


def is_known(run: RunRecord, nodes: Container[tuple[str, str]]) -> bool:
    """Whether all nodes of a run are there, and the devices of all its workers are named, so that it is known what one worker holds."""
    named = not run.held["accelerator_count"] or len(run.held.get("devices", ())) == len(run.nodes)
    return named and all((run.cluster, name) in nodes for name in run.nodes)
