"""The account of some jobs: how many of them ended as they should, and whether anything happened to one of them twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from scheduler.lifecycle import State
from scheduler.store.parts import parts
from scheduler.store.tables import events, jobs, receipts, runs

_IDS: Any = bindparam("ids", expanding=True)
_STATES = select(jobs.c.id, jobs.c.state, jobs.c.finished_at).where(jobs.c.id.in_(_IDS))
_ENDS = select(events.c.job_id).where(events.c.job_id.in_(_IDS), events.c.finish == State.SUCCEEDED.value)
_RUNS, _RECEIPTS = (select(table.c.job_id).where(table.c.job_id.in_(_IDS)) for table in (runs, receipts))


@dataclass(frozen=True)
class Account:
    """`whole`: succeeded, with a receipt. `doubled`: ended, run or charged more than once. `last_end`: in seconds since the epoch, or 0."""

    whole: int
    doubled: int
    last_end: float


def account_of(conn: Connection, ids: Sequence[str]) -> Account:
    """The account of these jobs, each named once however often it is given."""
    wanted = set(ids)
    states = {row.id: row for some in parts(wanted) for row in conn.execute(_STATES, {"ids": some})}
    ends, ran, charged = (_counted(conn, query, wanted) for query in (_ENDS, _RUNS, _RECEIPTS))
    return Account(
        whole=sum(row.state == State.SUCCEEDED and charged[name] == 1 for name, row in states.items()),
        doubled=len({name for counted in (ends, ran, charged) for name, times in counted.items() if times > 1}),
        last_end=max((row.finished_at for row in states.values() if row.finished_at is not None), default=0.0),
    )


def _counted(conn: Connection, query: Any, ids: set[str]) -> Counter[str]:
    return Counter(row[0] for some in parts(ids) for row in conn.execute(query, {"ids": some}))
