"""What keeps a queued job from being looked at: its time has not come, or jobs that it comes after have not ended.

The same few rules refuse at submission what could never begin, and say of a job that waits what it waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.errors import InvalidError, Problem
from scheduler.lifecycle import State
from scheduler.store import dependencies
from scheduler.store.dependencies import ALWAYS, Standing
from scheduler.store.records import ArrayRecord, JobRecord
from scheduler.store.session import Connection
from workloads.predecessors import Predecessor
from workloads.spec import JobSpec

MOST_NAMED = 5


class Hold(StrEnum):
    """Why a queued job is not looked at."""

    DEPENDENCY = "dependency"
    START_AFTER = "start_after"
    ARRAY_LIMIT = "array_limit"


@dataclass(frozen=True)
class HeldBy:
    """One thing that holds a job: what it is, in words, and what would change it."""

    hold: Hold
    message: str
    remedy: str


def open_predecessors(conn: Connection, spec: JobSpec, job_id: str = "") -> list[tuple[str, str]]:
    """(id, outcome) of the jobs that a new job has to wait for. Raises InvalidError for those that it cannot wait for.

    To be asked in the transaction that stores the job, so that none of them ends in between.
    """
    known = dependencies.standings(conn, [item.job for item in spec.after])
    faults = [
        Problem(f"after.{position}.job", reason, message)
        for position, item in enumerate(spec.after)
        for reason, message in _faults(item, known.get(item.job), spec.tenant, job_id)
    ]
    if faults:
        raise InvalidError(tuple(faults))
    return [(item.job, item.when) for item in spec.after if not known[item.job].is_final]


def _faults(item: Predecessor, found: Standing | None, tenant: str, job_id: str) -> list[tuple[str, str]]:
    if item.job == job_id:
        return [("self", "a job cannot come after itself; name another one, or none")]
    if found is None or found.tenant != tenant:
        # Another tenant's job is not to be told from one that does not exist.
        return [("unknown", f"there is no job {item.job!r} of the tenant {tenant!r}; `cpn job list` shows what there is")]
    if item.when != ALWAYS and found.spoiled is not None:
        return [(
            "never", f"{item.job} is {found.state} and will not succeed, so this job would never start; name another job, or take "
            f" any end of it with {{job: {item.job}, when: always}}",
        )]  # fmt: skip
    return []


def holds(job: JobRecord, now: float, array: ArrayRecord | None = None) -> tuple[HeldBy, ...]:
    """What holds a job now, from what is stored with it and its array; nothing when it may start, or has begun to be tried."""
    if job.state != State.QUEUED:
        return ()
    found = []
    held_back = array is not None and array.holds_back(job)
    waiting_for = job.waiting_for - held_back
    if waiting_for:
        names = [str(item["job"]) for item in job.spec["after"]]
        which = ", ".join(names) if len(names) == waiting_for <= MOST_NAMED else f"{waiting_for} of the {len(names)} jobs in `after`"
        found.append(HeldBy(Hold.DEPENDENCY, f"it comes after {which}", "wait until they have ended, or cancel it"))
    if job.attempts == 0 and job.not_before is not None and job.not_before > now:
        found.append(
            HeldBy(Hold.START_AFTER, f"it starts after {job.spec['start_after']}", "wait until then, or submit it without start_after")
        )
    if array is not None and held_back:
        message = f"its array runs at most {array.at_most} of its tasks at once, and others go first"
        found.append(HeldBy(Hold.ARRAY_LIMIT, message, "wait until some of them have ended"))
    return tuple(found)


def predecessors(conn: Connection, job: JobRecord) -> list[tuple[str, State]]:
    """(id, state) of the jobs that a job comes after and that have not ended, in the order of its manifest."""
    names = [str(item["job"]) for item in job.spec.get("after", ())] if job.waiting_for else []
    known = dependencies.standings(conn, names) if names else {}
    return [(name, known[name].state) for name in names if name in known and not known[name].is_final]
