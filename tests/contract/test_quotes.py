"""Held quotes on SQLite and on a real PostgreSQL alike: prices read back as they were, and what nobody used is forgotten."""

from __future__ import annotations

from scheduler.store import quotes
from scheduler.store.quotes import KEPT_S, HeldQuote
from scheduler.store.session import Store, Transaction
from tests.contract.test_store import NOW, postgres_url, store, url
from tests.unit.workloads.samples import prices, product
from workloads.catalogue.held import HeldPrices

__all__ = ["postgres_url", "store", "url"]

METRO = product("sh/metro", price={"per_month": "30.00 CNY"})
HELD = HeldPrices(clusters={"sh": prices()}, products={"sh/metro": METRO.price})


def test_prices_are_held_as_they_were(store: Store) -> None:
    quote = HeldQuote("quote-a", "acme", NOW + 900)
    store.write(lambda tx: quotes.add(tx.conn, quote, HELD, NOW))
    with store.read() as conn:
        assert quotes.find(conn, "quote-a") == quote
        assert quotes.find(conn, "quote-b") is None
        assert quotes.prices_of(conn, ["quote-a", "quote-b"]) == {"quote-a": HELD}
        assert quotes.prices_of(conn, []) == {}
    dearer = METRO.model_copy(update={"price": product(price={"per_month": "90.00 CNY"}).price})
    assert HELD.product(dearer) == METRO
    assert HELD.product(product()) == product()
    assert HELD.prices("sh", prices(cpu_hour="9.00 CNY")) == prices()
    assert HELD.prices("bj", prices(cpu_hour="9.00 CNY")) == prices(cpu_hour="9.00 CNY")


def test_a_quote_is_forgotten_a_day_after_its_end_unless_a_job_has_it(store: Store) -> None:
    def work(tx: Transaction) -> None:
        for name in ("quote-a", "quote-b"):
            quotes.add(tx.conn, HeldQuote(name, "acme", NOW + 900), HELD, NOW)
        quotes.use(tx.conn, "quote-b")

    store.write(work)
    later = NOW + 900 + KEPT_S
    store.write(lambda tx: quotes.add(tx.conn, HeldQuote("quote-c", "acme", later), HELD, later))
    with store.read() as conn:
        assert quotes.find(conn, "quote-a") is not None
    store.write(lambda tx: quotes.add(tx.conn, HeldQuote("quote-d", "acme", later), HELD, later + 1))
    with store.read() as conn:
        assert [quotes.find(conn, f"quote-{letter}") is not None for letter in "abcd"] == [False, True, True, True]
