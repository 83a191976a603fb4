"""Maintenance and reservations. A change counts the generation up, so that a plan that does not know of it is thrown away."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from scheduler.errors import ConflictError, NotFoundError
from scheduler.store.catalogue import count_up
from scheduler.store.records import WindowRecord
from scheduler.store.tables import windows

_ALL = select(windows).order_by(windows.c.begins_at, windows.c.name)


def add_window(conn: Connection, window: WindowRecord) -> None:
    """Store a window. Raises ConflictError when the name is taken."""
    if conn.execute(select(windows.c.name).where(windows.c.name == window.name)).first():
        raise ConflictError(f"there is a reservation or maintenance {window.name!r} already; remove it first or choose another name")
    conn.execute(insert(windows).values(**vars(window)))
    count_up(conn)


def list_windows(conn: Connection, after: float, purpose: str | None = None) -> list[WindowRecord]:
    """Windows that end after a time, by when they begin; of one purpose, or all."""
    query = _ALL.where(windows.c.ends_at > after)
    rows = conn.execute(query if purpose is None else query.where(windows.c.purpose == purpose))
    return [WindowRecord(*row) for row in rows]


def get_window(conn: Connection, purpose: str, name: str) -> WindowRecord:
    """One window, ended or not. Raises NotFoundError."""
    row = conn.execute(_ALL.where(windows.c.name == name, windows.c.purpose == purpose)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no {purpose} {name!r}")
    return WindowRecord(*row)


def remove_window(conn: Connection, purpose: str, name: str) -> None:
    """Forget a window. Raises NotFoundError."""
    get_window(conn, purpose, name)
    conn.execute(delete(windows).where(windows.c.name == name))
    count_up(conn)
