"""Small result files, stored in the transaction that ends their run: neither is there without the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from scheduler.store.parts import parts
from scheduler.store.tables import small_results

Contents = Mapping[str, Mapping[str, bytes]]  # By run and name.

_INSERT = insert(small_results)
_ONE = select(small_results.c.content).where(small_results.c.run_id == bindparam("of_run"), small_results.c.name == bindparam("of_name"))
_SIZES = select(small_results.c.run_id, func.sum(func.length(small_results.c.content))).group_by(small_results.c.run_id)
_IDS: Any = bindparam("ids", expanding=True)
_DELETE = delete(small_results).where(small_results.c.run_id.in_(_IDS))


def put(conn: Connection, contents: Contents, run_ids: Iterable[str]) -> None:
    """Store what these runs brought."""
    rows = [
        {"run_id": run_id, "name": name, "content": data} for run_id in run_ids for name, data in contents.get(run_id, {}).items()
    ]  # fmt: skip
    if rows:
        conn.execute(_INSERT, rows)


def get(conn: Connection, run_id: str, name: str) -> bytes | None:
    """A file of a run's result, where it is a small one."""
    found = conn.execute(_ONE, {"of_run": run_id, "of_name": name}).scalar()
    return None if found is None else bytes(found)


def sizes(conn: Connection) -> dict[str, int]:
    """Bytes of small files by run."""
    return {run_id: int(size) for run_id, size in conn.execute(_SIZES)}


def drop(conn: Connection, run_ids: Iterable[str]) -> None:
    """Remove those of these runs."""
    for ids in parts(set(run_ids)):
        conn.execute(_DELETE, {"ids": ids})
