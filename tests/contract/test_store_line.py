"""What is asked of the line of waiting jobs and of past runs, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from scheduler.lifecycle import State
from scheduler.past import FRESH_S, Past
from scheduler.store import jobs
from scheduler.store.changes import Changes
from scheduler.store.line import RunLimit, just_before, last_asked, last_ended, limits_of, waiting_by_queue
from scheduler.store.session import Store, Transaction
from tests.contract import test_store as suite
from tests.contract.test_store import NOW, columns, postgres_url, queued, url
from tests.records import run

__all__ = ["postgres_url", "url"]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from suite.store.__wrapped__(url)  # type: ignore[attr-defined]


def ran(
    store: Store, number: int, *, limit: str = "1h", lasted: float = 60.0, state: str = "succeeded", name: str = "nightly", **asked: Any
) -> str:
    """A run that ended, the later the higher its number, or one that lasts; its id."""
    job_id = f"job-{number}"
    ended = None if state == "running" else NOW + number
    started = NOW + number - lasted

    def work(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        changes.add_job({**columns(job_id), "name": name, "spec": {"name": name, "max_runtime": limit}, "state": state})
        changes.add_run(replace(run("sh", ["n1"], job_id=job_id, **asked), state=state, started_at=started, finished_at=ended))
        changes.write()

    store.write(work)
    return f"{job_id}-1"


def test_the_line_is_counted_and_the_one_before_is_found(store: Store) -> None:
    assert [queued(store, f"job-{name}", rank=rank).rank for name, rank in (("a", 0), ("b", 100), ("c", 0), ("d", 100), ("e", -100))]
    queued(store, "job-other", queue="other")
    with store.read() as conn:
        assert waiting_by_queue(conn, NOW) == {"default": 5, "other": 1}
        before = {name: just_before(conn, jobs.get_job(conn, f"job-{name}"), NOW) for name in ("a", "b", "c", "d", "e", "other")}
    assert {name: found.id if found else None for name, found in before.items()} == {
        "a": "job-d", "b": None, "c": "job-a", "d": "job-b", "e": "job-c", "other": None,
    }  # fmt: skip


def test_what_was_asked_for_last_newest_first(store: Store) -> None:
    wanted: list[dict[str, object]] = [{"cpu": 1.0, "accelerator": {"model": "H200", "share": 0.25}}, {"cpu": 2.5, "memory": "1GiB"}]

    def work(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        for number, resources in enumerate(wanted):
            changes.add_job({**columns(f"job-{number}"), "spec": {"name": "n", "resources": resources}})
        changes.add_job({**columns("job-without"), "spec": {"name": "n"}})
        changes.write()

    store.write(work)
    with store.read() as conn:
        assert last_asked(conn, 10) == wanted[::-1]
        assert last_asked(conn, 2) == wanted[1:]


def test_what_runs_may_last_and_what_they_lasted(store: Store) -> None:
    ids = [ran(store, 1, lasted=600.0), ran(store, 2, state="failed", limit="2h30m"), ran(store, 3, state="running", name="other")]
    ran(store, 4, state=State.CANCELLED.value)
    with store.read() as conn:
        limits = limits_of(conn, [*ids, "nobody"])
        ended = last_ended(conn, 10)
        assert [item.limit for item, _ in last_ended(conn, 1)] == ["2h30m"]
    assert limits == {
        ids[0]: RunLimit("acme", "sql", "nightly", "1h"), ids[1]: RunLimit("acme", "sql", "nightly", "2h30m"),
        ids[2]: RunLimit("acme", "sql", "other", "1h"),
    }  # fmt: skip
    assert [(item.limit, pytest.approx(seconds)) for item, seconds in ended] == [("2h30m", 60.0), ("1h", 600.0)]


def test_the_past_is_remembered_for_a_while(store: Store) -> None:
    past = Past()
    run_id = ran(store, 1, lasted=900.0)
    with store.read() as conn:
        assert past.limits(conn, [run_id]) == {run_id: ("acme/sql/nightly", 3600.0)}
        assert past.parts(conn, NOW) == {"acme/sql/nightly": [0.25]}
    ran(store, 2, lasted=7200.0)
    with store.read() as conn:
        assert past.limits(conn, []) == {}
        assert past.parts(conn, NOW + FRESH_S) == {"acme/sql/nightly": [0.25]}
        assert past.parts(conn, NOW + FRESH_S + 1) == {"acme/sql/nightly": [1.0, 0.25]}


def test_runs_on_accelerators_are_a_group_by_model_beside_that_of_all(store: Store) -> None:
    past = Past()
    ids = [ran(store, number, lasted=900.0 * number, accelerator={"model": model}) for number, model in ((1, "H200"), (2, "A100"))]
    with store.read() as conn:
        assert [item.model for item in limits_of(conn, ids).values()] == ["H200", "A100"]
        assert past.limits(conn, ids) == {
            ids[0]: ("acme/sql/nightly@H200", 3600.0), ids[1]: ("acme/sql/nightly@A100", 3600.0),
        }  # fmt: skip
        assert past.parts(conn, NOW) == {
            "acme/sql/nightly": [0.5, 0.25], "acme/sql/nightly@A100": [0.5], "acme/sql/nightly@H200": [0.25],
        }  # fmt: skip
