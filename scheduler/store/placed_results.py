"""Which results lie in a store of their tenant's, and which are on the way there.

A row is there before the first byte is, so that whatever is in a store is known here, however the way there ended. `stored_at` says
that all of it has arrived; until then the server has it, and nobody reads it from the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from scheduler.store import small_results
from scheduler.store.parts import parts
from scheduler.store.tables import jobs, placed_results, removals, runs

_IDS: Any = bindparam("ids", expanding=True)
_OF_RUNS = select(placed_results).where(placed_results.c.run_id.in_(_IDS))
_REMOVED = removals.c.what == "result"
_OF_SUCCESSES = (
    select(runs.c.id, runs.c.files, jobs.c.tenant)
    .join(jobs, jobs.c.id == runs.c.job_id)
    .where(runs.c.id.in_(_IDS), runs.c.state == "succeeded", runs.c.id.not_in(select(removals.c.run_id).where(_REMOVED)))
)
_OWNERS = select(runs.c.id, jobs.c.tenant).join(jobs, jobs.c.id == runs.c.job_id).where(runs.c.id.in_(_IDS))
_REMOVED_OF = select(removals.c.run_id).where(removals.c.run_id == bindparam("of_id"), _REMOVED)

_WITHOUT_RESULT = ("failed", "cancelled", "lost", "preempted")


@dataclass(frozen=True)
class Placed:
    """A result in a store, or on the way there."""

    run_id: str
    url: str
    size_bytes: int
    stored_at: float | None


@dataclass(frozen=True)
class Delivered:
    """What a run that succeeded has delivered, and to whom. `files` are names with sizes in bytes."""

    run_id: str
    tenant: str
    files: tuple[tuple[str, int], ...]


def of_runs(conn: Connection, run_ids: Iterable[str]) -> dict[str, Placed]:
    """Where the results of these runs are in a store, or will be, by run."""
    return {row.run_id: Placed(*row) for ids in parts(set(run_ids)) for row in conn.execute(_OF_RUNS, {"ids": ids})}


def begin(conn: Connection, run_id: str, url: str, size_bytes: int) -> None:
    """Store that it is on the way to a place, instead of any other."""
    conn.execute(delete(placed_results).where(placed_results.c.run_id == run_id))
    conn.execute(insert(placed_results).values(run_id=run_id, url=url, size_bytes=size_bytes, stored_at=None))


def finish(conn: Connection, run_id: str, at: float, size_bytes: int | None = None) -> bool:
    """Store that all of it has arrived; its small files are not kept here any more. False when the result was removed meanwhile,
    or nothing of it is known.

    `size_bytes` where that was not known when it was begun.
    """
    if conn.execute(_REMOVED_OF, {"of_id": run_id}).first() is not None:
        return False
    known = {} if size_bytes is None else {"size_bytes": size_bytes}
    stored = conn.execute(update(placed_results).where(placed_results.c.run_id == run_id).values(stored_at=at, **known))
    small_results.drop(conn, [run_id])
    return stored.rowcount > 0


def forget(conn: Connection, run_id: str) -> None:
    """Nothing of it is in a store."""
    conn.execute(delete(placed_results).where(placed_results.c.run_id == run_id))


def delivered(conn: Connection, run_ids: Iterable[str]) -> list[Delivered]:
    """Of these runs those that succeeded and whose results are kept, by id."""
    found = [
        Delivered(row.id, row.tenant, tuple((file["name"], file["size_bytes"]) for file in row.files or []))
        for ids in parts(set(run_ids)) for row in conn.execute(_OF_SUCCESSES, {"ids": ids})
    ]  # fmt: skip
    return sorted(found, key=lambda one: one.run_id)


def owners(conn: Connection, run_ids: Iterable[str]) -> dict[str, str]:
    """The tenants of these runs, by id."""
    return {row.id: row.tenant for ids in parts(set(run_ids)) for row in conn.execute(_OWNERS, {"ids": ids})}


def on_the_way(conn: Connection) -> list[str]:
    """The runs whose results have not arrived whole, by id."""
    query = select(placed_results.c.run_id).where(placed_results.c.stored_at.is_(None)).order_by(placed_results.c.run_id)
    return [row.run_id for row in conn.execute(query)]


def abandoned(conn: Connection) -> list[Placed]:
    """What runs that ended without success have in stores, or may have."""
    query = select(placed_results).join(runs, runs.c.id == placed_results.c.run_id).where(runs.c.state.in_(_WITHOUT_RESULT))
    return [Placed(*row) for row in conn.execute(query.order_by(placed_results.c.run_id))]


def sizes(conn: Connection) -> dict[str, int]:
    """Bytes of the results that are in stores and kept, by run."""
    query = select(placed_results.c.run_id, placed_results.c.size_bytes).where(
        placed_results.c.stored_at.is_not(None), placed_results.c.run_id.not_in(select(removals.c.run_id).where(_REMOVED))
    )
    return {row.run_id: row.size_bytes for row in conn.execute(query)}


def removed(conn: Connection) -> list[Placed]:
    """What is in a store of results that are not kept any more."""
    query = select(placed_results).join(removals, removals.c.run_id == placed_results.c.run_id).where(_REMOVED)
    return [Placed(*row) for row in conn.execute(query.order_by(placed_results.c.run_id))]
