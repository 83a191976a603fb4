"""The audit log: who did what, written in the transaction of the act, each row chained to the one before it.

There is one writer for a database, and the chain does not rest on that: where two processes write to PostgreSQL, the second one
waits for the first one's commit before it reads the head; SQLite lets no second one in. What is rolled back leaves no hole,
because numbers are counted on from what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, Text, bindparam, cast, select, text

from scheduler.chain import GENESIS, Act, AuditRow, canonical, hash_of, joined
from scheduler.store.rows import insert_rows
from scheduler.store.tables import audit, jobs, runs

LOCK_KEY = 0x63706E_02  # "cpn", 2
PIECE = 2000

_HEAD = select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
_AFTER = select(audit).where(audit.c.sequence > bindparam("after")).order_by(audit.c.sequence).limit(bindparam("most"))
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


@dataclass(frozen=True)
class Entry:
    """One act. `actor`: the id of a token, `scheduler`, `server`, or `agent/CLUSTER`. `subject`: the job, product, cluster, …"""

    act: Act
    subject: str
    actor: str
    at: float
    document: Mapping[str, Any] = field(default_factory=dict)
    tenant: str | None = None
    products: Sequence[str] = ()


@dataclass(frozen=True)
class Wanted:
    """Which rows are asked for; times in seconds since the epoch."""

    product: str | None = None
    tenant: str | None = None
    subject: str | None = None
    act: str | None = None
    since: float | None = None
    until: float | None = None


def append(conn: Connection, entries: Sequence[Entry]) -> None:
    """Write acts in this order, in the transaction of `conn`: one look at the head and one insert, however many they are."""
    if not entries:
        return
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK, {"key": LOCK_KEY})
    sequence, previous = head(conn)
    rows = []
    for item in entries:
        sequence += 1
        values = (
            sequence, float(item.at), item.actor, item.act.value, item.subject, item.tenant, joined(item.products),
            canonical(dict(item.document)),
        )  # fmt: skip
        made = hash_of(previous, *values)
        rows.append(dict(zip(_COLUMNS, (*values, previous, made), strict=True)))
        previous = made
    insert_rows(conn, audit, rows)


_COLUMNS = tuple(audit.columns.keys())


def head(conn: Connection) -> tuple[int, str]:
    """The number and the hash of the last row."""
    row = conn.execute(_HEAD).one_or_none()
    return (0, GENESIS) if row is None else (row.sequence, row.hash)


def after(conn: Connection, sequence: int, most: int) -> list[AuditRow]:
    """The next rows behind a number, in order."""
    return [AuditRow(*row) for row in conn.execute(_AFTER, {"after": sequence, "most": most})]


def all_rows(conn: Connection, sequence: int = 0, piece: int = PIECE) -> Iterator[AuditRow]:
    """All rows behind a number, in order, read in pieces."""
    while found := after(conn, sequence, piece):
        yield from found
        sequence = found[-1].sequence


def listed(conn: Connection, wanted: Wanted, before: int | None, most: int) -> list[AuditRow]:
    """Rows that are asked for, the newest first."""
    query: Select[Any] = select(audit).order_by(audit.c.sequence.desc()).limit(most)
    if before is not None:
        query = query.where(audit.c.sequence < before)
    for column, value in ((audit.c.tenant, wanted.tenant), (audit.c.subject, wanted.subject), (audit.c.act, wanted.act)):
        if value is not None:
            query = query.where(column == value)
    if wanted.product is not None:
        query = query.where(audit.c.products.contains(f" {wanted.product} ", autoescape=True))
    if wanted.since is not None:
        query = query.where(audit.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(audit.c.at < wanted.until)
    return [AuditRow(*row) for row in conn.execute(query)]


def runs_over(conn: Connection, product: str, since: float, until: float) -> list[tuple[str, str, float]]:
    """(run, cluster, placed at) of the runs that have a product among their inputs, as the tables of runs and jobs tell it."""
    reads = cast(jobs.c.spec, Text).contains(f'"{product}@', autoescape=True)
    query = (
        select(runs.c.id, runs.c.cluster, runs.c.placed_at)
        .join(jobs, jobs.c.id == runs.c.job_id)
        .where(runs.c.placed_at >= since, runs.c.placed_at < until, reads)
        .order_by(runs.c.placed_at, runs.c.id)
    )
    return [(row.id, row.cluster, row.placed_at) for row in conn.execute(query)]
