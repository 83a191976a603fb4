"""`cpn migrate`: the step before a new version's server, by itself: its own log, its own time, and nothing that ends it midway.

A server migrates its database when it starts. Where a supervisor starts servers and ends those that do not answer in time, a long
migration is better made before, by a process that holds the database like a server and may wait until the old one has let go of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.settings import Settings
from scheduler.clock import Clock
from scheduler.errors import ConflictError, NewerSchemaError
from scheduler.store.exclusive import sole_server
from scheduler.store.migrate import migrate, missing_steps, newest_step, taken
from scheduler.store.session import Connection, Store, StoreUnavailableError

PAUSE_S = 0.5


class BehindError(ConflictError):
    """The database has not taken all steps of this version yet."""


@dataclass(frozen=True)
class Migrated:
    """The last step that the database had taken before (None: it was empty), and the one that it is at now."""

    before: str | None
    now: str


def bring_up_to_date(settings: Settings, *, check: bool, wait_s: float, clock: Clock, pause: Callable[[float], None]) -> Migrated:
    """Bring the database to this version's schema; with `check` change nothing and insist that it is there.

    What may pass by itself (another server holds the database, it does not answer, somebody else is to migrate it) is tried again
    for `wait_s` seconds. Raises ConflictError, NewerSchemaError, BehindError, StoreUnavailableError.
    """
    attempt, until = _look if check else _migrate, clock.now() + wait_s
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        store = Store(settings.store_url)
        try:
            return attempt(store, settings)
        except NewerSchemaError:
            raise
        except (ConflictError, StoreUnavailableError):
            if clock.now() >= until:
                raise
        finally:
            store.close()
        pause(PAUSE_S)


def _migrate(store: Store, settings: Settings) -> Migrated:
    with sole_server(store, settings.data_dir / "server.lock"):
        with store.read() as conn:
            before = taken(conn)
        migrate(store)
    return Migrated(before, newest_step())


def _look(store: Store, _settings: Settings) -> Migrated:
    with store.read() as conn:
        if missing_steps(conn):
            raise BehindError(_behind(conn))
        return Migrated(taken(conn), newest_step())


def _behind(conn: Connection) -> str:
    at = taken(conn)
    found = f"is at step {at}" if at else "is empty"
    return f"the database {found}, this version of cpn needs step {newest_step()}; run `cpn migrate` without --check"
