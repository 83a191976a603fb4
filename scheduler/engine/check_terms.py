"""Check of the terms of data: wherever a plan has a job run, the cluster is secured enough, lies where it may, and licences clear the data.

Looked up placement by placement in the arrays, and apart from the matrix of rights: neither can excuse the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot


def term_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Every job that the plan starts, promises a start or has others make room for where terms forbid it."""
    names, ids = snapshot.clusters.names, snapshot.jobs.ids
    return [
        f"{ids[job]} is {verb} {names[cluster]}, {why}"
        for verb, job, cluster in _starts(plan) for why in _broken(snapshot, job, cluster)
    ]  # fmt: skip


def _starts(plan: Plan) -> Iterator[tuple[str, int, int]]:
    """Of each part of a plan that gives a job a place: what it does, the job's row and the cluster's."""
    yield from (("placed at", item.job, item.cluster) for item in plan.placements)
    yield from (("promised a start at", item.job, item.cluster) for item in plan.promises)
    yield from (("given room at", item.job, item.cluster) for item in plan.evictions)
    yield from (("given room at", item.job, item.cluster) for item in plan.shrinks)


def _broken(snapshot: Snapshot, job: int, cluster: int) -> Iterator[str]:
    jobs = snapshot.jobs
    asked, there = int(jobs.level[job]), int(snapshot.clusters.level[cluster])
    if not there >= asked:
        yield f"which has security level {there} of {asked}"
    residence = int(jobs.residence[job])
    if residence >= 0 and not bool(snapshot.residences[residence, cluster]):
        yield "where its data may not be processed"
    if not int(jobs.classification[job]) <= int(jobs.cleared[job]):
        yield "and no licence clears its data"
