"""Tenants, tokens, targets: who may, and what the plan asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from scheduler.errors import ConflictError, NotFoundError
from scheduler.store.records import TokenRecord
from scheduler.store.tables import targets, tenants, tokens

_TENANT = select(tenants.c.name).where(tenants.c.name == bindparam("of_name"))
_TOKEN = select(tokens).where(tokens.c.hash == bindparam("of_hash"))


@dataclass(frozen=True)
class Tenant:
    """Who submits jobs. `result_store` is a URL, None for the server's directory; a limit that is None is the one that holds for all."""

    name: str
    created_at: float
    result_store: str | None
    keep_results_days: float | None
    keep_results_bytes: int | None


def add_tenant(conn: Connection, name: str, now: float, **terms: Any) -> None:
    """Create a tenant, with these columns. Raises ConflictError when the name is taken."""
    if has_tenant(conn, name):
        raise ConflictError(f"there is a tenant {name!r} already")
    conn.execute(insert(tenants).values(name=name, created_at=now, **terms))


def update_tenant(conn: Connection, name: str, **terms: Any) -> None:
    """Change these columns. Raises NotFoundError."""
    get_tenant(conn, name)
    if terms:
        conn.execute(update(tenants).where(tenants.c.name == name).values(**terms))


def get_tenant(conn: Connection, name: str) -> Tenant:
    """One tenant. Raises NotFoundError."""
    row = conn.execute(select(tenants).where(tenants.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no tenant {name!r}")
    return Tenant(*row)


def has_tenant(conn: Connection, name: str) -> bool:
    """Whether the tenant exists."""
    return conn.execute(_TENANT, {"of_name": name}).first() is not None


def list_tenants(conn: Connection) -> list[Tenant]:
    """All tenants, by name."""
    return [Tenant(*row) for row in conn.execute(select(tenants).order_by(tenants.c.name))]


def add_token(conn: Connection, token: TokenRecord) -> None:
    """Store a token's hash and rights."""
    conn.execute(insert(tokens).values(**vars(token)))


def replace_token(conn: Connection, token: TokenRecord) -> None:
    """Store a token in place of the one with its id, which ends."""
    conn.execute(delete(tokens).where(tokens.c.id == token.id))
    add_token(conn, token)


def token_by_id(conn: Connection, token_id: str) -> TokenRecord | None:
    """The token with this id, whatever its standing."""
    row = conn.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
    return TokenRecord(*row) if row is not None else None


def token_by_hash(conn: Connection, digest: str) -> TokenRecord | None:
    """The token with this hash, whatever its standing."""
    row = conn.execute(_TOKEN, {"of_hash": digest}).one_or_none()
    return TokenRecord(*row) if row is not None else None


def list_tokens(conn: Connection) -> list[TokenRecord]:
    """All tokens, oldest first."""
    return [TokenRecord(*row) for row in conn.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.id))]


def revoke_token(conn: Connection, token_id: str, now: float) -> TokenRecord:
    """End a token; again changes nothing. Raises NotFoundError."""
    conn.execute(update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None)).values(revoked_at=now))
    row = conn.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no token {token_id!r}")
    return TokenRecord(*row)


def set_target(conn: Connection, name: str, target: dict[str, Any], now: float) -> None:
    """Store a target in place of one of the same name."""
    conn.execute(delete(targets).where(targets.c.name == name))
    conn.execute(insert(targets).values(name=name, target=target, created_at=now))


def list_targets(conn: Connection) -> list[dict[str, Any]]:
    """All targets by name."""
    return [row.target for row in conn.execute(select(targets).order_by(targets.c.name))]
