"""Which results lie in stores of tenants, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scheduler.errors import ConflictError, NotFoundError
from scheduler.store import access, placed_results, removals, small_results
from scheduler.store.placed_results import Delivered, Placed
from scheduler.store.rows import insert_rows
from scheduler.store.session import Store
from scheduler.store.tables import runs
from tests.contract import test_store as suite
from tests.contract.test_store import NOW, columns, postgres_url, url
from tests.records import run
from tests.stored_jobs import insert_job

__all__ = ["postgres_url", "url"]
URL = "s3://bucket/x"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from suite.store.__wrapped__(url)  # type: ignore[attr-defined]


def test_the_books_of_what_is_in_stores(store: Store) -> None:
    files = [{"name": "rows", "size_bytes": 4, "sha256": "0" * 64}]
    for name, state in (("a", "succeeded"), ("b", "succeeded"), ("c", "failed")):
        store.write(lambda tx, name=name: insert_job(tx.conn, columns(name)))  # type: ignore[misc]
        one = replace(run("sh", ["n1"], job_id=name), state=state, finished_at=NOW, files=files)
        store.write(lambda tx, one=one: insert_rows(tx.conn, runs, [vars(one)]))  # type: ignore[misc]
    ids = ["a-1", "b-1", "c-1", "unknown"]
    store.write(lambda tx: small_results.put(tx.conn, {"a-1": {"rows": b"rows"}}, ["a-1"]))
    store.write(lambda tx: placed_results.begin(tx.conn, "a-1", "s3://other", 1))
    store.write(lambda tx: placed_results.begin(tx.conn, "a-1", URL, 4))
    with store.read() as conn:
        assert placed_results.delivered(conn, ids) == [Delivered("a-1", "acme", (("rows", 4),)), Delivered("b-1", "acme", (("rows", 4),))]
        assert placed_results.owners(conn, ids) == {"a-1": "acme", "b-1": "acme", "c-1": "acme"}
        assert placed_results.of_runs(conn, ids) == {"a-1": Placed("a-1", URL, 4, None)}
        assert (placed_results.on_the_way(conn), placed_results.sizes(conn), placed_results.removed(conn)) == (["a-1"], {}, [])
    assert store.write(lambda tx: placed_results.finish(tx.conn, "a-1", NOW))
    with store.read() as conn:
        assert (placed_results.on_the_way(conn), placed_results.sizes(conn), small_results.sizes(conn)) == ([], {"a-1": 4}, {})
    store.write(lambda tx: removals.add_removals(tx.conn, "log", ["a-1"], NOW))
    store.write(lambda tx: placed_results.begin(tx.conn, "b-1", URL, 4))
    store.write(lambda tx: removals.add_removals(tx.conn, "result", ["a-1", "b-1"], NOW))
    assert not store.write(lambda tx: placed_results.finish(tx.conn, "b-1", NOW))
    with store.read() as conn:
        assert placed_results.removed(conn) == [Placed("a-1", URL, 4, NOW), Placed("b-1", URL, 4, None)]
        assert (placed_results.delivered(conn, ids), placed_results.sizes(conn)) == ([], {})
    for one in ("a-1", "b-1"):
        store.write(lambda tx, one=one: placed_results.forget(tx.conn, one))  # type: ignore[misc]
    with store.read() as conn:
        assert placed_results.of_runs(conn, ids) == {}


def test_tenants_have_terms_of_their_own(store: Store) -> None:
    store.write(lambda tx: access.add_tenant(tx.conn, "globex", NOW, result_store=URL, keep_results_bytes=2**40))
    store.write(lambda tx: access.add_tenant(tx.conn, "acme", NOW))
    with pytest.raises(ConflictError):
        store.write(lambda tx: access.add_tenant(tx.conn, "acme", NOW))
    store.write(lambda tx: access.update_tenant(tx.conn, "globex", keep_results_days=1.5, result_store=None))
    store.write(lambda tx: access.update_tenant(tx.conn, "acme"))
    with store.read() as conn:
        assert access.list_tenants(conn) == [
            access.Tenant("acme", NOW, None, None, None), access.Tenant("globex", NOW, None, 1.5, 2**40),
        ]  # fmt: skip
        with pytest.raises(NotFoundError):
            access.get_tenant(conn, "nobody")
    with pytest.raises(NotFoundError):
        store.write(lambda tx: access.update_tenant(tx.conn, "nobody", keep_results_days=1.0))


def test_what_runs_without_a_result_have_in_stores(store: Store) -> None:
    for name, state in (("a", "succeeded"), ("b", "failed"), ("c", "running"), ("d", "lost")):
        store.write(lambda tx, name=name: insert_job(tx.conn, columns(name)))  # type: ignore[misc]
        one = replace(run("sh", ["n1"], job_id=name), state=state, finished_at=NOW)
        store.write(lambda tx, one=one: insert_rows(tx.conn, runs, [vars(one)]))  # type: ignore[misc]
        store.write(lambda tx, name=name: placed_results.begin(tx.conn, f"{name}-1", URL, 0))  # type: ignore[misc]
    assert store.write(lambda tx: placed_results.finish(tx.conn, "b-1", NOW, 7))
    assert not store.write(lambda tx: placed_results.finish(tx.conn, "unknown", NOW, 7))
    with store.read() as conn:
        assert placed_results.abandoned(conn) == [Placed("b-1", URL, 7, NOW), Placed("d-1", URL, 0, None)]
