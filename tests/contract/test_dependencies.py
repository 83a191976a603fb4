"""Who waits for whom, on SQLite and on a real PostgreSQL alike: let go once, ended with a reason, at a price that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event

from scheduler.admission import cancel
from scheduler.bells import CYCLE, Bells
from scheduler.errors import InvalidError
from scheduler.lifecycle import Cause, State
from scheduler.store import jobs
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord
from scheduler.store.session import Store
from tests.contract.test_store import NOW, postgres_url, store, url
from tests.records import job_spec
from tests.stored_jobs import submit

__all__ = ["postgres_url", "store", "url"]


def put(store: Store, name: str, *after: Any, **fields: Any) -> JobRecord:
    """Submit a job that comes after others."""
    spec = job_spec(after=list(after), **fields)
    return store.write(lambda tx: submit(tx, Bells(), spec, job_id=name, submitted_by="tok", key=None, now=NOW))[0]


def end(store: Store, name: str, finish: State = State.SUCCEEDED, at: float = NOW) -> set[str]:
    """Bring a queued job to its end; whom that concerned."""
    causes = {State.SUCCEEDED: Cause.FINISHED, State.FAILED: Cause.EXIT, State.CANCELLED: Cause.CANCELLED_BY_USER}

    def work(tx: Any) -> set[str]:
        changes, job = Changes(tx.conn), jobs.get_job(tx.conn, name)
        for state, cause in ((State.PLACED, Cause.DECIDED), (State.STARTING, Cause.ACCEPTED), (State.RUNNING, Cause.STARTED)):
            job = changes.move_job(job, state, cause, at=at)
        changes.move_job(job, finish, causes[finish], at=at, finished_at=at)
        return changes.write()

    return store.write(work)


def retry(store: Store, name: str) -> set[str]:
    """An attempt of a queued job breaks and the job waits for the next one; whom that concerned."""

    def work(tx: Any) -> set[str]:
        changes, job = Changes(tx.conn), jobs.get_job(tx.conn, name)
        job = changes.move_job(job, State.PLACED, Cause.DECIDED, at=NOW)
        job = changes.move_job(job, State.FAILED, Cause.START_FAILED, at=NOW, finished_at=NOW)
        changes.move_job(job, State.QUEUED, Cause.RETRY, at=NOW, finished_at=None)
        return changes.write()

    return store.write(work)


def startable(store: Store) -> list[str]:
    with store.read() as conn:
        return [job.id for job in jobs.waiting(conn, NOW, 10_000)]


def states(store: Store, names: Sequence[str]) -> list[str]:
    with store.read() as conn:
        return [jobs.get_job(conn, name).state for name in names]


def test_a_job_is_let_go_by_the_last_of_those_it_waits_for(store: Store) -> None:
    for name, after in (("job-a", ()), ("job-b", ()), ("job-c", ("job-a", {"job": "job-b", "when": "always"})), ("job-d", ("job-c",))):
        put(store, name, *after)
    assert startable(store) == ["job-a", "job-b"]
    assert end(store, "job-a") == {"job-c"}
    assert startable(store) == ["job-b"]
    assert end(store, "job-b", State.FAILED) == {"job-c"}
    assert startable(store) == ["job-c"]
    with store.read() as conn:
        assert jobs.ahead(conn, jobs.get_job(conn, "job-d"), NOW) == 1


def test_an_end_in_a_write_that_fails_lets_nobody_go(store: Store) -> None:
    put(store, "job-a")
    put(store, "job-b", "job-a")

    def broken(tx: Any) -> None:
        cancel(tx, Bells(), "job-a", NOW)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write(broken)
    assert states(store, ["job-a", "job-b"]) == ["queued", "queued"]
    assert startable(store) == ["job-a"]


def test_an_attempt_that_is_tried_again_is_no_end(store: Store) -> None:
    put(store, "job-a")
    put(store, "job-b", "job-a")
    assert retry(store, "job-a") == set()
    assert startable(store) == ["job-a"]


def test_a_cancelled_job_takes_its_chain_along_and_wakes_who_waits(store: Store) -> None:
    names = [f"job-{number}" for number in range(4)]
    for before, name in zip([None, *names], names, strict=False):
        put(store, name, *([before] if before else []))
    put(store, "job-x", {"job": "job-3", "when": "always"})
    bells, rung = Bells(), []
    with bells.listen(CYCLE, lambda: rung.append(CYCLE)), bells.listen("job/job-2", lambda: rung.append("job-2")):
        store.write(lambda tx: cancel(tx, bells, "job-0", NOW + 5))
    assert sorted(rung) == [CYCLE, "job-2"]
    assert states(store, names) == ["cancelled"] * 4
    assert startable(store) == ["job-x"]
    with store.read() as conn:
        last = jobs.get_job(conn, "job-3")
        assert (last.cause, last.finished_at) == ("dependency", NOW + 5)
        assert last.message == "job-2 (j) was cancelled, and this job runs only after its success"
        assert [item.cause for item in jobs.events_of(conn, "job-3")][-1] == "dependency"


@pytest.mark.parametrize(
    ("after", "reason"),
    [("job-new", "self"), ("job-gone", "unknown"), ("job-foreign", "unknown"), ("job-over", "never")],
)  # fmt: skip
def test_only_jobs_that_are_there_can_be_named_so_no_circle_can_arise(store: Store, after: str, reason: str) -> None:
    put(store, "job-foreign", tenant="globex")
    put(store, "job-over")
    end(store, "job-over", State.FAILED)
    with pytest.raises(InvalidError) as refused:
        put(store, "job-new", after)
    assert [(item.path, item.reason) for item in refused.value.problems] == [("after.0.job", reason)]
    with store.read() as conn:
        assert "job-new" not in jobs.versions_of(conn, ["job-new"])


def test_an_end_costs_the_same_however_long_the_chain(store: Store) -> None:
    names = [f"job-{number}" for number in range(200)]

    def chain(tx: Any) -> None:
        for before, name in zip([None, *names], names, strict=False):
            spec = job_spec(after=[before] if before else [])
            submit(tx, Bells(), spec, job_id=name, submitted_by="tok", key=None, now=NOW)

    store.write(chain)
    counted: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _u, statement, *_: counted.append(statement))
    costs = []
    for name in names[:10]:
        before = len(counted)
        end(store, name)
        costs.append(len(counted) - before)
        assert startable(store) == [names[names.index(name) + 1]]
    assert max(costs) == min(costs)
    before = len(counted)
    store.write(lambda tx: cancel(tx, Bells(), names[10], NOW))
    assert len(counted) - before <= 5 * len(names)
    assert set(states(store, [names[10], names[100], names[199]])) == {"cancelled"}
