"""Rates: how fast runs on accelerators were, noted once when they end, so that like jobs can be compared between models.

A row says what its run reported by steps and how long it took; whoever decides asks for the newest few of one model, along an
index. Numbers grow with every row, so that a reader can ask what has come since it last looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, func, insert, select

from scheduler.engine.speeds import Rate
from scheduler.store.tables import progress, rates

Like = tuple[str, str, str]  # Like jobs: tenant, kind and name.

_INSERT = insert(rates)
_GROUP = rates.c.tenant == bindparam("tenant"), rates.c.kind == bindparam("kind"), rates.c.name == bindparam("name")
_NEWEST = (
    select(rates.c.model, rates.c.devices, rates.c.steps_per_s, rates.c.seconds)
    .where(*_GROUP, rates.c.model == bindparam("model"))
    .order_by(rates.c.sequence.desc())
    .limit(bindparam("most", type_=Integer))
)
_MODELS = select(rates.c.model).distinct().where(*_GROUP).order_by(rates.c.model)
_SINCE = select(rates.c.tenant, rates.c.kind, rates.c.name, rates.c.sequence).where(rates.c.sequence > bindparam("after"))
_LAST = select(func.max(rates.c.sequence))
_REPORT = select(progress.c.sequence, progress.c.step, progress.c.at).where(progress.c.run_id == bindparam("of_id")).limit(1)
_FIRST_REPORT, _LAST_REPORT = _REPORT.order_by(progress.c.sequence), _REPORT.order_by(progress.c.sequence.desc())
_LATER_REPORT = _FIRST_REPORT.where(progress.c.at > bindparam("after"))
_REPORT_BEFORE = _LAST_REPORT.where(progress.c.sequence < bindparam("before"))


def add_rates(conn: Connection, found: Sequence[dict[str, Any]]) -> None:
    """Store how fast runs were."""
    if found:
        conn.execute(_INSERT, list(found))


def steps_per_s(conn: Connection, run_id: str) -> float | None:
    """The steps a second between the first and the last report of a run; None where it did not report two that go forward.

    Reports that were found at one time were made before it, and the last of them just before.
    """
    first, last = (conn.execute(query, {"of_id": run_id}).first() for query in (_FIRST_REPORT, _LAST_REPORT))
    later = conn.execute(_LATER_REPORT, {"of_id": run_id, "after": first.at}).first() if first is not None else None
    if later is None or last is None:
        return None
    first = conn.execute(_REPORT_BEFORE, {"of_id": run_id, "before": later.sequence}).one()
    return float((last.step - first.step) / (last.at - first.at)) if last.step > first.step and last.at > first.at else None


def newest(conn: Connection, like: Like, models: Iterable[str], most: int) -> tuple[Rate, ...]:
    """The last `most` rates of like jobs on each of some models, newest first."""
    tenant, kind, name = like
    found = []
    for model in models:
        rows = conn.execute(_NEWEST, {"tenant": tenant, "kind": kind, "name": name, "model": model, "most": most})
        found += [Rate(row.model, row.devices, row.steps_per_s, row.seconds) for row in rows]
    return tuple(found)


def models_of(conn: Connection, like: Like) -> list[str]:
    """The models that like jobs have run on, by name."""
    tenant, kind, name = like
    return [row[0] for row in conn.execute(_MODELS, {"tenant": tenant, "kind": kind, "name": name})]


def last_number(conn: Connection) -> int:
    """The number of the newest row; 0 where there is none."""
    return int(conn.execute(_LAST).scalar() or 0)


def come_since(conn: Connection, after: int) -> set[Like]:
    """The like jobs of which a rate has been noted after the row of this number."""
    return {(row.tenant, row.kind, row.name) for row in conn.execute(_SINCE, {"after": after})}


def groups(conn: Connection, tenant: str | None, after: Like | None, most: int) -> list[Like]:
    """The first `most` groups of like jobs with rates, of one tenant or all, in their order behind `after`."""
    columns = rates.c.tenant, rates.c.kind, rates.c.name
    query = select(*columns).distinct().order_by(*columns).limit(most)
    if tenant is not None:
        query = query.where(rates.c.tenant == tenant)
    if after is not None:
        # In words that both databases walk an index by.
        query = query.where(
            (rates.c.tenant > after[0])
            | ((rates.c.tenant == after[0]) & ((rates.c.kind > after[1]) | ((rates.c.kind == after[1]) & (rates.c.name > after[2]))))
        )
    return [(row[0], row[1], row[2]) for row in conn.execute(query)]
