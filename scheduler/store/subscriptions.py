"""Subscriptions: for which months a tenant has paid to use a product. A row for each, written with the receipt that charges it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from scheduler.store.rows import insert_rows
from scheduler.store.tables import subscriptions

_MONTHS = select(subscriptions.c.tenant, subscriptions.c.product, subscriptions.c.month).where(
    subscriptions.c.tenant.in_(bindparam("tenants", expanding=True)), subscriptions.c.product.in_(bindparam("products", expanding=True))
)


def months_of(conn: Connection, tenants: Iterable[str], products: Sequence[str]) -> dict[tuple[str, str], frozenset[str]]:
    """The months that these tenants have paid for these products, like 2026-12, by tenant and product; nothing is read for no product."""
    if not products:
        return {}
    found: dict[tuple[str, str], set[str]] = {}
    for row in conn.execute(_MONTHS, {"tenants": sorted(tenants), "products": sorted(products)}):
        found.setdefault((row.tenant, row.product), set()).add(row.month)
    return {whose: frozenset(months) for whose, months in found.items()}


def add(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Store months that were charged; a second row for one is a primary key violation, never a second charge."""
    if rows:
        insert_rows(conn, subscriptions, rows)
