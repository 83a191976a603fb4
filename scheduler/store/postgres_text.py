"""Text as PostgreSQL takes it: without NUL, which its text cannot hold and everything else here can.

A program's last words, a path typed by somebody: text comes from anywhere, and a character must not be able to keep a
report from being stored. It is replaced on its way to the database.
"""

from __future__ import annotations

from typing import Any

from psycopg.abc import Buffer
from psycopg.types.string import StrDumperUnknown

NUL, INSTEAD = "\0", "\N{REPLACEMENT CHARACTER}"


class _WithoutNul(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace(NUL, INSTEAD) if NUL in obj else obj)


def take_any_text(connection: Any, _record: Any) -> None:
    """Prepare a new psycopg connection (SQLAlchemy's `connect` event)."""
    connection.adapters.register_dumper(str, _WithoutNul)
