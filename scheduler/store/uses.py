"""Uses of licences: what is left of a grant, and which job uses which.

What is left is a number in the licence's row, taken by one guarded statement, so that of two who want the last run one gets it,
whatever the database and however many servers write. A use is a row by job and product: reserved, then consumed or returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BindParameter, Connection, bindparam, func, or_, select, update

from scheduler.store.parts import parts
from scheduler.store.rows import insert_rows, update_rows
from scheduler.store.tables import licence_uses, licences
from workloads.catalogue.licence import Licence

UseState = Literal["reserved", "consumed", "returned"]
RESERVED: UseState = "reserved"

_OF_JOBS: BindParameter[str] = bindparam("ids", expanding=True)
_USES = select(licence_uses).where(licence_uses.c.job_id.in_(_OF_JOBS)).order_by(licence_uses.c.job_id, licence_uses.c.product)
_OPEN = (licence_uses.c.job_id.in_(_OF_JOBS), licence_uses.c.state == RESERVED)
_AMOUNTS = (
    select(licence_uses.c.licence_id, func.count(), func.sum(licence_uses.c.bytes)).where(*_OPEN)
    .group_by(licence_uses.c.licence_id).order_by(licence_uses.c.licence_id)
)  # fmt: skip
_END = update(licence_uses).where(*_OPEN).values(state=bindparam("ends"), ended_at=bindparam("at"))
_RUNS: BindParameter[int] = bindparam("number")
_BYTES: BindParameter[int] = bindparam("size")
_TAKE = (
    update(licences)
    .where(
        licences.c.id == bindparam("of_id"), licences.c.revoked_at.is_(None),
        or_(licences.c.runs_left.is_(None), licences.c.runs_left >= _RUNS),
        or_(licences.c.bytes_left.is_(None), licences.c.bytes_left >= _BYTES),
    )
    .values(runs_left=licences.c.runs_left - _RUNS, bytes_left=licences.c.bytes_left - _BYTES)
)  # fmt: skip
_GIVE = (
    update(licences)
    .where(licences.c.id == bindparam("of_id"), or_(licences.c.runs_left.is_not(None), licences.c.bytes_left.is_not(None)))
    .values(runs_left=licences.c.runs_left + _RUNS, bytes_left=licences.c.bytes_left + _BYTES)
)
_UNDER = (
    select(licence_uses.c.job_id).where(licence_uses.c.licence_id == bindparam("of_id"), licence_uses.c.state == RESERVED)
    .order_by(licence_uses.c.job_id)
)  # fmt: skip


@dataclass(frozen=True)
class UseRecord:
    """That a job uses a product under a licence, of which it takes one run and so many bytes."""

    job_id: str
    product: str
    licence_id: str
    state: str
    bytes: int
    reserved_at: float
    ended_at: float | None = None


def take(conn: Connection, licence: Licence, runs: int, size_bytes: int) -> bool:
    """Take so much of what is left of a licence, if there is as much and it was not revoked; of one without limits nothing is counted."""
    if not licence.is_limited:
        return True
    return conn.execute(_TAKE, {"of_id": licence.id, "number": runs, "size": size_bytes}).rowcount == 1


def give_back(conn: Connection, licence_id: str, runs: int, size_bytes: int) -> None:
    """Put what was taken back to what is left."""
    conn.execute(_GIVE, {"of_id": licence_id, "number": runs, "size": size_bytes})


def add(conn: Connection, uses: Sequence[UseRecord]) -> None:
    """Store uses that were taken."""
    if uses:
        insert_rows(conn, licence_uses, [vars(use) for use in uses])


def change(conn: Connection, uses: Sequence[UseRecord]) -> None:
    """Store under which licences these reserved uses are now."""
    rows = [(use.licence_id, use.bytes, use.job_id, use.product, RESERVED) for use in uses]
    if rows:
        update_rows(conn, licence_uses, ("job_id", "product", "state"), ("licence_id", "bytes"), rows)


def uses_of(conn: Connection, job_ids: Iterable[str]) -> dict[str, tuple[UseRecord, ...]]:
    """The uses of these jobs, by job, each job's by product."""
    found: dict[str, tuple[UseRecord, ...]] = {}
    for ids in parts(set(job_ids)):
        for row in conn.execute(_USES, {"ids": ids}):
            use = UseRecord(**row._mapping)
            found[use.job_id] = (*found.get(use.job_id, ()), use)
    return found


def end(conn: Connection, consumed: Iterable[str], returned: Iterable[str], at: float) -> None:
    """The jobs that have ended: what was reserved for them is consumed, or given back."""
    for ids in parts(set(consumed)):
        conn.execute(_END, {"ids": ids, "ends": "consumed", "at": at})
    given: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for ids in parts(set(returned)):
        for licence_id, runs, size_bytes in conn.execute(_AMOUNTS, {"ids": ids}):
            before = given[licence_id]
            given[licence_id] = before[0] + int(runs), before[1] + int(size_bytes)
        conn.execute(_END, {"ids": ids, "ends": "returned", "at": at})
    # In order, so that two who give back do not wait for each other.
    for licence_id, (runs, size_bytes) in sorted(given.items()):
        give_back(conn, licence_id, runs, size_bytes)


def jobs_under(conn: Connection, licence_id: str) -> list[str]:
    """The jobs that have a use of a licence reserved."""
    return list(conn.execute(_UNDER, {"of_id": licence_id}).scalars())


def counted(conn: Connection, licence_ids: Iterable[str]) -> Mapping[str, dict[str, int]]:
    """How many uses of each of these licences are in which state."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    columns: tuple[Any, ...] = (licence_uses.c.licence_id, licence_uses.c.state)
    for ids in parts(set(licence_ids)):
        query = select(*columns, func.count()).where(licence_uses.c.licence_id.in_(ids)).group_by(*columns)
        for licence_id, state, count in conn.execute(query):
            found[licence_id][state] = int(count)
    return found
