"""Bring a database to the schema of this version, with Alembic's recorded steps.

A database that has taken all steps is the usual case, and is seen without Alembic, whose import takes longer than the
rest of a server's start.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sqlalchemy import inspect, text

from scheduler.errors import NewerSchemaError
from scheduler.store.session import Connection, Store, answering

MIGRATIONS = Path(__file__).with_name("migrations")
_LINK = re.compile(r'^(revision|down_revision) = "(\w+)"', re.MULTILINE)


def migrate(store: Store) -> None:
    """Apply every step that is missing; nothing when there is none. Raises NewerSchemaError, StoreUnavailableError."""
    with answering(), store.engine.begin() as conn:
        if missing_steps(conn):
            _upgrade(conn)


def missing_steps(conn: Connection) -> bool:
    """Whether the database lacks steps of this version. Raises NewerSchemaError when it has taken some that this version does not know."""
    at, newest = taken(conn), newest_step()
    if at is not None and at not in _chain():
        raise NewerSchemaError(
            f"the database is at step {at}, and this version of cpn knows steps up to {newest}; use the version that migrated it, "
            "or restore the backup from before"
        )
    return at != newest


def newest_step() -> str:
    """The last step: the one that no other builds on. Numbers are names, and say nothing of the order."""
    before = set(_chain().values())
    [newest] = [step for step in _chain() if step not in before]
    return newest


@cache
def _chain() -> dict[str, str | None]:
    """Each step with the one before it, as its file says."""
    links = [dict(_LINK.findall(path.read_text(encoding="utf-8"))) for path in (MIGRATIONS / "versions").glob("[0-9]*.py")]
    return {link["revision"]: link.get("down_revision") for link in links}


def taken(conn: Connection) -> str | None:
    """The step that the database is at; None for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(conn: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
