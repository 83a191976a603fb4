"""What was removed of runs, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scheduler.store import jobs, removals, small_results
from scheduler.store.rows import insert_rows
from scheduler.store.session import Store
from scheduler.store.tables import runs
from tests.contract import test_store as suite
from tests.contract.test_store import NOW, postgres_url, url
from tests.records import run

__all__ = ["postgres_url", "url"]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from suite.store.__wrapped__(url)  # type: ignore[attr-defined]


def test_a_removal_is_kept_once_and_takes_the_preview_of_a_result_along(store: Store) -> None:
    quote = {"cluster": "sh", "currency": "CNY", "lines": [], "total": "0 CNY"}
    over = replace(run("sh", ["n1"], job_id="a"), state="succeeded", finished_at=NOW, preview={"rows": [[1]]}, quote=quote)
    running = replace(run("sh", ["n1"], job_id="b"), state="running", quote=quote)
    store.write(lambda tx: insert_rows(tx.conn, runs, [vars(over), vars(running)]))
    with store.read() as conn:
        assert removals.ended_at(conn, [over.id, running.id, "unknown"]) == {over.id: NOW}
        assert removals.removed(conn, over.id) == {}
    store.write(lambda tx: removals.add_removals(tx.conn, "log", [over.id], NOW + 1))
    with store.read() as conn:
        found = jobs.get_run(conn, over.id)
        assert found is not None
        assert found.preview == {"rows": [[1]]}
    for at in (NOW + 2, NOW + 3):
        store.write(lambda tx, at=at: removals.add_removals(tx.conn, "result", [over.id], at))  # type: ignore[misc]
    with store.read() as conn:
        assert removals.removed(conn, over.id) == {"log": NOW + 1, "result": NOW + 2}
        assert removals.removed(conn, running.id) == {}
        found = jobs.get_run(conn, over.id)
        assert found is not None
        assert found.preview is None


def test_small_results_are_stored_for_the_runs_that_are_named_and_go_with_their_result(store: Store) -> None:
    contents = {"a-1": {"rows.parquet": b"rows", "deep/\u00e9": b"\0\xff"}, "b-1": {"rows.parquet": b"more"}, "c-1": {"x": b"never"}}
    store.write(lambda tx: small_results.put(tx.conn, contents, ["a-1", "b-1", "d-1"]))
    with store.read() as conn:
        assert small_results.sizes(conn) == {"a-1": 6, "b-1": 4}
        assert small_results.get(conn, "a-1", "deep/\u00e9") == b"\0\xff"
        assert (small_results.get(conn, "c-1", "x"), small_results.get(conn, "a-1", "x")) == (None, None)
    store.write(lambda tx: removals.add_removals(tx.conn, "log", ["a-1", "b-1"], NOW))
    store.write(lambda tx: removals.add_removals(tx.conn, "result", ["a-1"], NOW))
    with store.read() as conn:
        assert small_results.sizes(conn) == {"b-1": 4}
