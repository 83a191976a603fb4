"""Who waits for whom: jobs and arrays, each by its id.

Rows stay when what they name has ended; how many of them still count is noted with the job (`jobs.waiting_for`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select

from scheduler.lifecycle import FINAL, State
from scheduler.store.arrays import arrays_of
from scheduler.store.tables import dependencies, jobs

SUCCESS, ALWAYS = "success", "always"

_INSERT = insert(dependencies)
_DEPENDENTS = (
    select(dependencies)
    .where(dependencies.c.needs.in_(bindparam("ids", expanding=True)))
    .order_by(dependencies.c.job_id, dependencies.c.needs)
)
_STANDINGS = select(jobs.c.id, jobs.c.tenant, jobs.c.state).where(jobs.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True)
class Standing:
    """Whose a job or array is, and where it stands; `spoiled` is the end other than success that it has, or cannot avoid."""

    tenant: str
    state: State
    spoiled: State | None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


def add(conn: Connection, job_id: str, needs: Iterable[tuple[str, str]]) -> None:
    """A job or array waits for others: (id, outcome) of each."""
    rows = [{"job_id": job_id, "needs": name, "outcome": outcome} for name, outcome in needs]
    if rows:
        conn.execute(_INSERT, rows)


def dependents(conn: Connection, ids: Sequence[str]) -> list[tuple[str, str, str]]:
    """(job_id, needs, outcome) of all that wait for these, in order."""
    return [(row.job_id, row.needs, row.outcome) for row in conn.execute(_DEPENDENTS, {"ids": list(ids)})]


def standings(conn: Connection, ids: Sequence[str]) -> dict[str, Standing]:
    """Those of these jobs and arrays that are there."""
    if not ids:
        return {}
    found: dict[str, Standing] = {}
    for row in conn.execute(_STANDINGS, {"ids": list(ids)}):
        state = State(row.state)
        found[row.id] = Standing(row.tenant, state, state if state in FINAL - {State.SUCCEEDED} else None)
    for array in arrays_of(conn, set(ids) - found.keys()).values():
        found[array.id] = Standing(array.tenant, State(array.state), spoiled_by(array.counts))
    return found


def spoiled_by(counts: dict[str, int]) -> State | None:
    """The end other than success that some task of an array has; None while all may yet succeed."""
    return next((state for state in (State.FAILED, State.CANCELLED) if counts.get(state)), None)
