"""Quotes whose prices are held: for whom, until when, and whether a job was submitted with one, which keeps it for good."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, false, select, true, update

from scheduler.store.parts import parts
from scheduler.store.rows import Written, insert_rows
from scheduler.store.tables import quotes
from workloads.catalogue.held import HeldPrices

KEPT_S = 86_400.0  # After its time is over one is still known for so long, so that who comes late is told so.
_HELD = select(quotes.c.id, quotes.c.prices).where(quotes.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True)
class HeldQuote:
    """For which tenant prices are held, and until when, in seconds since the epoch."""

    id: str
    tenant: str
    expires_at: float


def add(conn: Connection, quote: HeldQuote, prices: HeldPrices, now: float) -> None:
    """Hold prices, and forget those that nobody has submitted a job with in time."""
    conn.execute(delete(quotes).where(quotes.c.used == false(), quotes.c.expires_at < now - KEPT_S))
    document = Written(prices.model_dump_json())
    insert_rows(conn, quotes, [
        {"id": quote.id, "tenant": quote.tenant, "prices": document, "created_at": now, "expires_at": quote.expires_at, "used": False},
    ])  # fmt: skip


def find(conn: Connection, quote_id: str) -> HeldQuote | None:
    """For whom and until when; None where there is none."""
    row = conn.execute(select(quotes.c.id, quotes.c.tenant, quotes.c.expires_at).where(quotes.c.id == quote_id)).one_or_none()
    return None if row is None else HeldQuote(row.id, row.tenant, row.expires_at)


def use(conn: Connection, quote_id: str) -> None:
    """Keep one: a job was submitted with it."""
    conn.execute(update(quotes).where(quotes.c.id == quote_id).values(used=true()))


def prices_of(conn: Connection, quote_ids: Iterable[str]) -> dict[str, HeldPrices]:
    """The prices that some quotes hold, by quote; nothing is read for none."""
    found = (row for ids in parts(set(quote_ids)) if ids for row in conn.execute(_HELD, {"ids": ids}))
    return {row.id: HeldPrices.model_validate(row.prices) for row in found}
