"""One server per database: a second one is refused before it decides anything.

SQLite is held by a lock on a file beside it, PostgreSQL by a session's advisory lock; both end with the
process, however it ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from scheduler.errors import ConflictError
from scheduler.store.session import Store, answering

ADVISORY_KEY = 0x63706E  # "cpn"


@contextmanager
def sole_server(store: Store, lock_file: Path) -> Iterator[None]:
    """Hold the database for one server. Raises ConflictError when another server holds it, StoreUnavailableError."""
    refusal = ConflictError("another cpn server uses this database; stop it first or give this one its own data directory or database")
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        if store.engine.dialect.name != "postgresql":
            yield
            return
        with answering():
            conn = store.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with conn:
            if not conn.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_KEY}).scalar_one():
                raise refusal
            yield
