"""Databases that are there already, so that not every test has to wait until one has been made."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from scheduler.store.migrate import migrate
from scheduler.store.session import Store


@functools.cache
def empty_database() -> bytes:
    """The file of an SQLite store that has taken all migrations and holds nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cpn.sqlite"
        store = Store(f"sqlite:///{path}")
        migrate(store)
        store.close()
        assert [item.name for item in path.parent.iterdir()] == [path.name], "all of it is in this one file"
        return path.read_bytes()
