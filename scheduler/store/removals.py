"""What was removed of runs because it had been kept long enough: their results and their logs.

A removal is stored before the files go, so that nobody finds a file missing without being told. With a result go the preview of
its first rows, and its small files, which are stored here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, insert, null, select, update

from scheduler.store import small_results
from scheduler.store.parts import parts
from scheduler.store.records import ACTIVE
from scheduler.store.tables import removals, runs

What = Literal["result", "log"]

_IDS: Any = bindparam("ids", expanding=True)
_ENDED = select(runs.c.id, runs.c.finished_at).where(runs.c.id.in_(_IDS), runs.c.state.not_in(ACTIVE), runs.c.finished_at.is_not(None))
_OF_RUN = select(removals.c.what, removals.c.at).where(removals.c.run_id == bindparam("of_id"))
_KNOWN = select(removals.c.run_id).where(removals.c.run_id.in_(_IDS), removals.c.what == bindparam("of_what"))
_DROP_PREVIEW = update(runs).where(runs.c.id.in_(_IDS)).values(preview=null())


def ended_at(conn: Connection, run_ids: Iterable[str]) -> dict[str, float]:
    """When those of these runs ended that are over; seconds since the epoch, by id."""
    return {row.id: row.finished_at for ids in parts(set(run_ids)) for row in conn.execute(_ENDED, {"ids": ids})}


def add_removals(conn: Connection, what: What, run_ids: Iterable[str], at: float) -> None:
    """Store that this is removed of these runs; of one of which it was removed before, that stays."""
    for ids in parts(set(run_ids)):
        known = {row.run_id for row in conn.execute(_KNOWN, {"ids": ids, "of_what": what})}
        if new := [{"run_id": run_id, "what": what, "at": at} for run_id in ids if run_id not in known]:
            conn.execute(insert(removals), new)
        if what == "result":
            conn.execute(_DROP_PREVIEW, {"ids": ids})
            small_results.drop(conn, ids)


def removed(conn: Connection, run_id: str) -> dict[str, float]:
    """When the result and the log of a run were removed, as far as they were."""
    return {row.what: row.at for row in conn.execute(_OF_RUN, {"of_id": run_id})}
