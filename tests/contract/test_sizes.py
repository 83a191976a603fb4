"""The size of a run in the store, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scheduler.errors import IllegalTransitionError, StaleStateError
from scheduler.lifecycle import Cause, State
from scheduler.store import jobs
from scheduler.store.changes import Changes
from scheduler.store.records import Resize, RunRecord, Sizing
from scheduler.store.session import Store, Transaction
from tests.contract import test_store as suite
from tests.contract.test_store import NOW, columns, postgres_url, url
from tests.records import run

__all__ = ["postgres_url", "url"]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from suite.store.__wrapped__(url)  # type: ignore[attr-defined]


@pytest.fixture
def gang(store: Store) -> RunRecord:
    """A running gang of two workers that may be resized, beside a run that may not."""
    found = replace(run("sh", ["n1", "n2"]), state="running", started_at=NOW, elastic=Sizing.of(1, 2).stored())

    def work(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        for name in ("job-1", "job-2"):
            changes.add_job({**columns(name), "state": "running", "run_id": f"{name}-1"})
        changes.add_run(found)
        changes.add_run(replace(run("sh", ["n1"], job_id="job-2"), state="running", started_at=NOW))
        changes.write()

    store.write(work)
    return found


def test_a_size_is_stored_whole_and_read_back(store: Store, gang: RunRecord) -> None:
    sizing = replace(Sizing.of(1, 2), generation=3, past=((NOW, 2),), pending=Resize(3, "idle-room", NOW, "job-9"))
    held = {**gang.held, "devices": [[0], [1], [2]]}

    def work(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        changes.read([gang.id])
        changes.resize_run(gang, nodes=["n1", "n2", "n3"], held=held, quote={"lines": []}, elastic=sizing.stored())
        changes.move_job(changes.job_of("job-1"), State.RUNNING, Cause.RESIZING, at=NOW, message="growing")
        changes.write()

    store.write(work)
    with store.read() as conn:
        (found,) = jobs.elastic_runs(conn, "sh")
        assert (found.nodes, found.held, found.quote, found.sizing) == (["n1", "n2", "n3"], held, {"lines": []}, sizing)
        assert jobs.elastic_runs(conn, "gz") == []
        assert [event.message for event in jobs.events_of(conn, "job-1")][-1] == "growing"
        assert jobs.jobs_of(conn, ["job-1", "nobody"])["job-1"].state == "running"
        rigid = jobs.get_run(conn, "job-2-1")
        assert rigid is not None
        assert (rigid.elastic, rigid.sizing, len(rigid.nodes)) == (None, None, 1)


def test_a_change_made_from_what_is_not_so_any_more_is_refused(store: Store, gang: RunRecord) -> None:
    def ends(tx: Transaction) -> None:
        jobs.move_run(tx.conn, gang, State.SUCCEEDED, Cause.FINISHED, finished_at=NOW)

    def late(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        changes.resize_run(gang, nodes=["n1"])
        changes.write()

    store.write(ends)
    with pytest.raises(StaleStateError):
        store.write(late)
    with store.read() as conn:
        found = jobs.get_run(conn, gang.id)
        assert found is not None
        assert found.nodes == ["n1", "n2"]
        assert jobs.elastic_runs(conn) == []


def test_only_what_runs_is_resized(store: Store, gang: RunRecord) -> None:
    def work(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        changes.read([gang.id])
        job = changes.move_job(changes.job_of("job-1"), State.SUCCEEDED, Cause.FINISHED, at=NOW)
        changes.move_job(job, State.RUNNING, Cause.RESIZED, at=NOW)

    with pytest.raises(IllegalTransitionError):
        store.write(work)
