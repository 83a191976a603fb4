"""Rows and documents as they are written and read back, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scheduler.lifecycle import Cause, State
from scheduler.store import jobs, ledger
from scheduler.store.account import Account, account_of
from scheduler.store.changes import Changes
from scheduler.store.records import MOST_REMEMBERED_SQL, RunRecord, changed_record, read_spec
from scheduler.store.rows import Written, dumps, insert_rows, loads, update_rows
from scheduler.store.session import Store
from scheduler.store.tables import jobs as jobs_table
from scheduler.store.tables import runs as runs_table
from tests.contract.test_store import NOW, columns, postgres_url, queued, store, url
from tests.records import job_spec
from tests.records import run as run_record

__all__ = ["postgres_url", "store", "url"]

DOCUMENT: dict[str, Any] = {
    "text": 'quotes " and \\ and é and 中 and 🙂', "none": None, "yes": True, "no": False, "list": [1, 2.5, [], {}], "large": 2**80,
    "small": -0.1, "1": {"nested": ["x"]},
}  # fmt: skip


@pytest.mark.parametrize("document", [DOCUMENT, {"half": "a \ud800 surrogate"}, {"nul": "a \0 b"}, [], "text", 1.5, {"large": 1e300}])
def test_json_reads_back_as_it_was_written(document: Any) -> None:
    assert loads(dumps(document)) == document
    assert loads(dumps(document).encode("utf-8", "surrogatepass")) == document


def test_what_is_written_already_is_stored_as_it_is(store: Store) -> None:
    store.write(lambda tx: _put(tx.conn, {**columns("job-a"), "spec": Written('{ "x":1}')}, columns("job-b")))
    with store.read() as conn:
        assert jobs.get_job(conn, "job-a").spec == {"x": 1}


def test_documents_that_say_the_same_are_read_once_and_long_ones_each_time(store: Store) -> None:
    small, large = {"name": "n", "x": [1, "é"]}, {"name": "n", "sql": "x" * MOST_REMEMBERED_SQL}
    rows = [{**columns(f"job-{name}"), "spec": spec} for name, spec in (("a", small), ("b", small), ("c", large), ("d", large))]
    store.write(lambda tx: _put(tx.conn, *rows))
    with store.read() as conn:
        changes = Changes(conn)
        changes.read_jobs(["job-a", "job-b", "job-c", "job-d"])
        found = [changes.job_of(f"job-{name}").spec for name in "abcd"]
        assert found == [jobs.get_job(conn, f"job-{name}").spec for name in "abcd"] == [small, small, large, large]
    assert found[0] is found[1]
    assert found[2] is not found[3]
    assert loads(dumps(found[0])) == small


def test_what_is_no_number_is_written_and_read() -> None:
    assert math.isnan(loads(dumps({"x": math.nan}))["x"])
    assert loads(dumps([math.inf, -math.inf])) == [math.inf, -math.inf]


def test_documents_survive_the_database(store: Store) -> None:
    for number, document in enumerate((DOCUMENT, {"half": "a \ud800 surrogate"})):
        values = {**columns(f"job-{number}"), "spec": {**document, "name": "n"}}
        store.write(lambda tx, values=values: _put(tx.conn, values))  # type: ignore[misc]
        with store.read() as conn:
            assert jobs.get_job(conn, f"job-{number}").spec == {**document, "name": "n"}


def _put(conn: Any, *rows: dict[str, Any]) -> None:
    changes = Changes(conn)
    for values in rows:
        changes.add_job(values)
    changes.write()


def test_many_rows_are_stored_in_their_order_with_documents_and_nothing(store: Store) -> None:
    store.write(lambda tx: _put(tx.conn, *({**columns(f"job-{name}"), "spec": DOCUMENT, "not_before": None} for name in "cab")))
    with store.read() as conn:
        found = [jobs.get_job(conn, f"job-{name}") for name in "cab"]
    assert [job.sequence for job in found] == sorted(job.sequence for job in found)
    assert {(job.not_before, job.cancel_requested) for job in found} == {(None, False)}
    assert all(job.spec == DOCUMENT for job in found)


def test_updates_are_guarded_and_counted(store: Store) -> None:
    for name in ("job-a", "job-b", "job-c"):
        queued(store, name)
    rows = [("x", "job-a", 2), ("x", "job-b", 9), ("x", "job-c", 2)]
    assert store.write(lambda tx: update_rows(tx.conn, jobs_table, ("id", "version"), ("message",), rows)) == 2
    with store.read() as conn:
        assert [jobs.get_job(conn, name).message for name in ("job-a", "job-b", "job-c")] == ["x", "", "x"]


def test_updates_write_documents_and_nothing_as_inserts_do(store: Store) -> None:
    run = run_record("sh", ["n1"])
    store.write(lambda tx: insert_rows(tx.conn, runs_table, [vars(run)]))
    rows = [({"x": 1}, None, None, "told", run.id)]
    names = ("usage", "files", "elastic", "message")
    assert store.write(lambda tx: update_rows(tx.conn, runs_table, ("id",), names, rows)) == 1
    with store.read() as conn:
        found = jobs.get_run(conn, run.id)
        assert found is not None
        assert (found.usage, found.files, found.elastic, found.message) == ({"x": 1}, None, None, "told")
        assert [item.id for item in jobs.elastic_runs(conn)] == []


def test_a_changed_record_is_one_of_its_kind() -> None:
    run = run_record("sh", ["n1"])
    changed = changed_record(run, state="succeeded", exit_code=0)
    assert isinstance(changed, RunRecord)
    assert (changed.state, changed.exit_code, changed.id, run.state) == ("succeeded", 0, run.id, "running")
    with pytest.raises(TypeError, match="has no colour"):
        changed_record(run, colour="red")


def test_a_spec_that_is_read_again_is_the_same() -> None:
    for spec in (job_spec(after=["job-a"], array="0-2"), job_spec(files={"a.py": "x"}), job_spec(deadline="2030-01-01T00:00:00+00:00")):
        document = spec.model_dump(mode="json")
        assert read_spec(document) == read_spec(dict(document)) == spec


def test_the_account_tells_what_is_lost_and_what_came_twice(store: Store) -> None:
    for name in ("job-a", "job-b", "job-c"):
        job = queued(store, name)

        def work(tx: Any, job: Any = job) -> None:
            changes = Changes(tx.conn)
            moved = changes.move_job(job, State.PLACED, Cause.DECIDED, at=NOW)
            for attempt in (1, 2) if job.id == "job-b" else (1,):
                changes.add_run(changed_record(run_record("sh", ["n1"], job_id=job.id, attempt=attempt)))
            if job.id != "job-c":
                moved = changes.move_job(moved, State.STARTING, Cause.ACCEPTED, at=NOW)
                moved = changes.move_job(moved, State.RUNNING, Cause.STARTED, at=NOW)
                changes.move_job(moved, State.SUCCEEDED, Cause.FINISHED, at=NOW, finished_at=NOW + 5)
                ledger.add_receipt(tx.conn, job.id, f"{job.id}-1", "acme", {}, NOW)
            changes.write()

        store.write(work)
    with store.read() as conn:
        assert account_of(conn, ["job-a", "job-b", "job-c", "job-none"]) == Account(whole=2, doubled=1, last_end=NOW + 5)
        assert account_of(conn, []) == Account(whole=0, doubled=0, last_end=0.0)
