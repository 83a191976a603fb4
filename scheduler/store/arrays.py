"""Arrays: what is known of tasks together, kept with every move of one of them.

An array's state follows from how many of its tasks are in each; it never goes back from an end. Where at most so many
may run at once, that many are let go at first, and each that ends lets the next one go: what is held back costs a cycle
nothing. Those let go and not ended are never more than the limit; the engine keeps it too, and its check proves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import BindParameter, Connection, bindparam, func, insert, select, update

from scheduler.errors import NotFoundError
from scheduler.lifecycle import FINAL, State
from scheduler.store.parts import parts
from scheduler.store.records import ACTIVE, ArrayRecord, JobRecord
from scheduler.store.tables import arrays, jobs

_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_ID: BindParameter[str] = bindparam("of_id")
_INSERT = insert(arrays)
_ARRAYS = select(arrays).where(arrays.c.id.in_(_IDS)).order_by(arrays.c.id)
_UNDER_KEYS = select(arrays.c.id, arrays.c.idempotency_key, arrays.c.idempotency_digest).where(
    arrays.c.tenant == bindparam("of_tenant"), arrays.c.idempotency_key.in_(_IDS)
)
_UPDATE = update(arrays).where(arrays.c.id == _ID)
_TASKS = select(jobs).where(jobs.c.array_id == _ID).order_by(jobs.c.array_index)
_OPEN_TASKS = _TASKS.where(jobs.c.state.not_in([state.value for state in FINAL]))
_NEXT = (
    select(jobs.c.id, jobs.c.array_index)
    .where(jobs.c.array_id == _ID, jobs.c.array_index > bindparam("after"), jobs.c.state == State.QUEUED.value)
    .order_by(jobs.c.array_index)
    .limit(bindparam("most"))
)
_ACTIVE = select(jobs.c.array_id, func.count()).where(jobs.c.array_id.in_(_IDS), jobs.c.state.in_(ACTIVE)).group_by(jobs.c.array_id)


def add(conn: Connection, array: ArrayRecord) -> None:
    """Store a new array; its tasks are stored beside it."""
    conn.execute(_INSERT, vars(array))


def arrays_of(conn: Connection, ids: Iterable[str]) -> dict[str, ArrayRecord]:
    """Those of these arrays that are there, by id."""
    wanted = sorted(set(ids))
    return {row.id: ArrayRecord(*row) for row in conn.execute(_ARRAYS, {"ids": wanted})} if wanted else {}


def get_array(conn: Connection, array_id: str) -> ArrayRecord:
    """One array. Raises NotFoundError."""
    found = arrays_of(conn, [array_id])
    if array_id not in found:
        raise NotFoundError(f"there is no job {array_id!r}")
    return found[array_id]


def under_keys(conn: Connection, tenant: str, keys: Iterable[str]) -> list[tuple[str, str, str | None]]:
    """(id, key, digest) of the arrays that were submitted under these idempotency keys."""
    rows = (row for some in parts(keys) for row in conn.execute(_UNDER_KEYS, {"of_tenant": tenant, "ids": some}))
    return [(row[0], row[1], row[2]) for row in rows]


def open_tasks(conn: Connection, array_id: str) -> list[JobRecord]:
    """The tasks that have not ended, by index."""
    return [JobRecord(*row) for row in conn.execute(_OPEN_TASKS, {"of_id": array_id})]


def first_open_task(conn: Connection, array_id: str) -> JobRecord | None:
    """The task of the smallest index that has not ended."""
    row = conn.execute(_OPEN_TASKS.limit(1), {"of_id": array_id}).one_or_none()
    return JobRecord(*row) if row is not None else None


def active(conn: Connection, ids: Iterable[str]) -> dict[str, int]:
    """How many tasks of each of these arrays hold capacity, by the tasks themselves; 0 for those left out."""
    wanted = sorted(set(ids))
    return {row[0]: row[1] for row in conn.execute(_ACTIVE, {"ids": wanted})} if wanted else {}


def account(conn: Connection, array: ArrayRecord, moved: Iterable[tuple[str, str, int]], at: float) -> tuple[ArrayRecord, list[str]]:
    """An array after some of its tasks moved: (state before, state after, index) of each, at a time.

    Returns it as stored now, and the tasks whose turn it is, by id.
    """
    counts, places = dict(array.counts), 0
    for before, after, index in moved:
        counts[before], counts[after] = counts[before] - 1, counts.get(after, 0) + 1
        places += State(after) in FINAL and index <= array.released
    state = standing(counts)
    following = conn.execute(_NEXT, {"of_id": array.id, "after": array.released, "most": places}).all() if places and array.at_most else []
    changed = replace(
        array, version=array.version + 1, state=state.value, counts={name: count for name, count in counts.items() if count},
        released=following[-1].array_index if following else array.released, finished_at=at if state in FINAL else None,
    )  # fmt: skip
    columns = ("version", "state", "counts", "released", "finished_at")
    conn.execute(_UPDATE, {"of_id": array.id, **{name: getattr(changed, name) for name in columns}})
    return changed, [row.id for row in following]


def standing(counts: Mapping[str, int]) -> State:
    """Where an array stands: queued until a task begins, running until all have ended, then as the worst of them."""
    there = {State(name) for name, count in counts.items() if count}
    if there <= FINAL:
        return next(state for state in (State.FAILED, State.CANCELLED, State.SUCCEEDED) if state in there)
    return State.QUEUED if there <= {State.SUBMITTED, State.QUEUED, State.CANCELLED} else State.RUNNING
