"""What runs held and what jobs were charged in a time, as usage reports sum it up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, or_, select

from scheduler.store.ledger import AT_ONCE
from scheduler.store.tables import jobs, receipts, runs


class Held(NamedTuple):
    """A run that had started: what each of its workers held, how many there were, and whose it was. Times in seconds since the epoch."""

    tenant: str
    queue: str
    cluster: str
    held: dict[str, Any]
    workers: int
    started_at: float
    finished_at: float | None
    elastic: dict[str, Any] | None


class Charged(NamedTuple):
    """A receipt's total, and whose it was."""

    tenant: str
    queue: str
    cluster: str
    total: str


def held_between(conn: Connection, begin: float, end: float, tenant: str | None = None) -> Iterator[Held]:
    """The runs that ran at some moment from `begin` until before `end`."""
    wanted = (
        select(
            jobs.c.tenant, runs.c.queue, runs.c.cluster, runs.c.held, runs.c.nodes, runs.c.started_at, runs.c.finished_at, runs.c.elastic
        )
        .join(jobs, jobs.c.id == runs.c.job_id)
        .where(or_(runs.c.finished_at >= begin, runs.c.finished_at.is_(None)), runs.c.started_at < end)
    )
    if tenant is not None:
        wanted = wanted.where(jobs.c.tenant == tenant)
    for row in conn.execute(wanted.order_by(runs.c.id), execution_options={"yield_per": AT_ONCE}):
        yield Held(row.tenant, row.queue, row.cluster, row.held, len(row.nodes), row.started_at, row.finished_at, row.elastic)


def charged_between(conn: Connection, begin: float, end: float, tenant: str | None = None) -> Iterator[Charged]:
    """The receipts that were issued from `begin` until before `end`, which is when their runs ended."""
    wanted = (
        select(receipts.c.tenant, runs.c.queue, runs.c.cluster, receipts.c.receipt)
        .join(runs, runs.c.id == receipts.c.run_id)
        .where(runs.c.finished_at >= begin, runs.c.finished_at < end)
    )
    if tenant is not None:
        wanted = wanted.where(receipts.c.tenant == tenant)
    for row in conn.execute(wanted.order_by(receipts.c.job_id), execution_options={"yield_per": AT_ONCE}):
        yield Charged(row.tenant, row.queue, row.cluster, row.receipt["total"])
