"""Writes that gather while another one is at work, on SQLite and on a real PostgreSQL alike: done as one, each with its own answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from scheduler.errors import InvalidError, Problem
from scheduler.store import access
from scheduler.store.gathered import Gathered
from scheduler.store.session import Store, StoreUnavailableError, Transaction
from tests.contract.test_store import NOW, postgres_url, store, url

__all__ = ["postgres_url", "store", "url"]
LONG_S = 60.0


class Tenants:
    """Tenants by name, put one by one: `refused` is not stored, `breaks` breaks the work of all. Notes what came together."""

    def __init__(self, store: Store) -> None:
        self.together: list[list[str]] = []
        self._store, self._gathered = store, Gathered(store, self._work)

    def _work(self, tx: Transaction, names: Sequence[str]) -> list[str | Exception]:
        self.together.append(list(names))
        answers: list[str | Exception] = []
        for name in names:
            if name == "refused":
                answers.append(InvalidError((Problem("name", "refused", "no"),)))
                continue
            access.add_tenant(tx.conn, name, NOW)
            if name == "breaks":
                raise RuntimeError("broken")
            answers.append(name.upper())
        return answers

    def put(self, *names: str, then: Callable[[list[Future[str]]], None] = lambda _: None) -> list[Future[str]]:
        """Put all while the writer is busy, and do something before it goes on."""
        busy, go_on = threading.Event(), threading.Event()

        def hold(_tx: Transaction) -> None:
            busy.set()
            go_on.wait(LONG_S)

        held = self._store.submit(hold)
        assert busy.wait(LONG_S)
        futures = [self._gathered.put(name) for name in names]
        then(futures)
        go_on.set()
        held.result(LONG_S)
        return futures

    def there(self) -> list[str]:
        """The names that are stored."""
        with self._store.read() as conn:
            return [tenant.name for tenant in access.list_tenants(conn)]


def answer(future: Future[str]) -> Any:
    """What became of an item: its answer, or the kind of its error."""
    try:
        return future.result(LONG_S)
    except (Exception, CancelledError) as error:
        return type(error)


def test_what_gathers_is_done_as_one_and_answered_in_order(store: Store) -> None:
    tenants = Tenants(store)
    futures = tenants.put("a", "refused", "b")
    assert [answer(future) for future in futures] == ["A", InvalidError, "B"]
    assert (tenants.together, tenants.there()) == ([["a", "refused", "b"]], ["a", "b"])
    [later] = tenants.put("c")
    assert answer(later) == "C"
    assert tenants.together[1:] == [["c"]]


def test_one_that_breaks_the_work_takes_nobody_with_it(store: Store) -> None:
    tenants = Tenants(store)
    futures = tenants.put("a", "breaks", "b")
    assert [answer(future) for future in futures] == ["A", RuntimeError, "B"]
    assert sorted(tenants.together[1:]) == [["a"], ["b"], ["breaks"]]
    assert tenants.there() == ["a", "b"]


def test_what_nobody_waits_for_any_more_is_not_done(store: Store) -> None:
    tenants = Tenants(store)
    futures = tenants.put("a", "b", then=lambda put: [put[0].cancel()])  # type: ignore[arg-type, return-value]
    assert [answer(future) for future in futures] == [CancelledError, "B"]
    [gone] = tenants.put("c", then=lambda put: [put[0].cancel()])  # type: ignore[arg-type, return-value]
    assert answer(gone) is CancelledError
    [later] = tenants.put("d")
    assert (answer(later), tenants.there()) == ("D", ["b", "d"])


def test_a_cancelled_write_is_left_out_and_the_writer_goes_on(store: Store) -> None:
    written: list[str] = []
    plain = list[Future[None]]()

    def cancel(_: list[Future[str]]) -> None:
        plain.append(store.submit(lambda _tx: written.append("cancelled")))
        assert plain[0].cancel()

    [first] = Tenants(store).put("a", then=cancel)
    assert answer(first) == "A"
    store.write(lambda _tx: written.append("later"))
    assert written == ["later"]


def test_without_a_database_all_are_told(store: Store) -> None:
    tenants = Tenants(store)
    store.close()
    late = Gathered(store, tenants._work)
    for future in (late.put("a"), late.put("b")):
        with pytest.raises(StoreUnavailableError, match="closed"):
            future.result(LONG_S)
    assert tenants.together == []
