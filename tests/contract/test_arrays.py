"""Arrays in the store, on SQLite and on a real PostgreSQL alike: stored whole, counted with every move, held to their limit."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.admission import cancel
from scheduler.arrays import cancel_array, examine_array
from scheduler.bells import Bells
from scheduler.errors import ConflictError, InvalidError
from scheduler.lifecycle import State
from scheduler.store import arrays, jobs
from scheduler.store.arrays import standing
from scheduler.store.records import ArrayRecord
from scheduler.store.session import Store
from tests.contract.test_dependencies import end, put, retry, startable
from tests.contract.test_store import NOW, postgres_url, store, url
from tests.records import job_spec
from tests.stored_jobs import submit, submit_array

__all__ = ["postgres_url", "store", "url"]


def put_array(store: Store, text: str, *after: Any, name: str = "job-a", key: str | None = None) -> ArrayRecord:
    """Submit an array that comes after others."""
    spec = job_spec(array=text, after=list(after))
    return store.write(lambda tx: submit_array(tx, Bells(), spec, array_id=name, submitted_by="tok", key=key, now=NOW))[0]


def read(store: Store, name: str = "job-a") -> ArrayRecord:
    with store.read() as conn:
        found = arrays.get_array(conn, name)
        # What is counted is what the tasks say.
        assert found.counts == _counted(conn, name)
        return found


def _counted(conn: Any, name: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for job in jobs.list_jobs(conn, array=name, limit=1000):
        counts[job.state] = counts.get(job.state, 0) + 1
    return counts


def test_tasks_are_let_go_as_others_end_and_never_more_than_the_limit(store: Store) -> None:
    put_array(store, "3,5-8,20%2")
    assert (read(store).state, read(store).counts) == ("queued", {"queued": 6})
    for ended, waiting in (("3", "5 6"), ("6", "5 7"), ("5", "7 8"), ("7", "8 20"), ("8", "20"), ("20", "")):
        assert end(store, f"job-a-{ended}", State.FAILED if ended == "7" else State.SUCCEEDED) >= {"job-a"}
        assert startable(store) == [f"job-a-{index}" for index in waiting.split()]
    done = read(store)
    assert (done.state, done.counts, done.finished_at) == ("failed", {"succeeded": 5, "failed": 1}, NOW)


def test_a_task_that_is_tried_again_keeps_its_turn_and_one_cancelled_while_held_takes_none(store: Store) -> None:
    put_array(store, "0-4%1")
    retry(store, "job-a-0")
    assert startable(store) == ["job-a-0"]
    for index in (1, 3):
        store.write(lambda tx, index=index: cancel(tx, Bells(), f"job-a-{index}", NOW))
        assert startable(store) == ["job-a-0"]
    end(store, "job-a-0")
    assert startable(store) == ["job-a-2"]
    end(store, "job-a-2")
    assert startable(store) == ["job-a-4"]
    end(store, "job-a-4")
    assert (read(store).state, read(store).counts) == ("cancelled", {"succeeded": 3, "cancelled": 2})


def test_an_array_waits_as_one_and_is_waited_for_as_one(store: Store) -> None:
    put(store, "job-0")
    put_array(store, "0-2%2", "job-0")
    put(store, "job-y", "job-a")
    put(store, "job-z", {"job": "job-a", "when": "always"})
    put(store, "job-t", "job-a-0")
    assert startable(store) == ["job-0"]
    end(store, "job-0")
    assert startable(store) == ["job-a-0", "job-a-1"]
    end(store, "job-a-0")
    assert startable(store) == ["job-a-1", "job-a-2", "job-t"]
    # One task has failed: what needs success of all knows it, what takes any end waits on.
    end(store, "job-a-1", State.FAILED)
    with store.read() as conn:
        late = jobs.get_job(conn, "job-y")
    assert (late.state, late.cause) == ("failed", "dependency")
    assert late.message == "job-a-1 (j) of the array job-a failed, and this job runs only after its success"
    assert startable(store) == ["job-a-2", "job-t"]
    with pytest.raises(InvalidError, match="job-a is running and will not succeed"):
        put(store, "job-x", "job-a")
    end(store, "job-a-2")
    assert startable(store) == ["job-z", "job-t"]


def test_a_chain_of_arrays_ends_with_its_first(store: Store) -> None:
    put_array(store, "0-2%1")
    put_array(store, "0-1", "job-a", name="job-b")
    put_array(store, "0-1", {"job": "job-b", "when": "always"}, name="job-c")
    store.write(lambda tx: cancel_array(tx, Bells(), "job-a", NOW + 1))
    assert [read(store, name).state for name in ("job-a", "job-b", "job-c")] == ["cancelled", "cancelled", "queued"]
    assert startable(store) == ["job-c-0", "job-c-1"]
    version = read(store).version
    store.write(lambda tx: cancel_array(tx, Bells(), "job-a", NOW + 2))
    assert read(store).version == version


def test_a_key_covers_the_whole_array(store: Store) -> None:
    first = put_array(store, "0-2", key="k")
    again = put_array(store, "0-2", name="job-b", key="k")
    assert again.id == first.id
    with pytest.raises(ConflictError, match="used for another job"):
        put_array(store, "0-3", name="job-b", key="k")
    with pytest.raises(ConflictError, match="used for another job"):
        store.write(lambda tx: submit(tx, Bells(), job_spec(), job_id="job-c", submitted_by="tok", key="k", now=NOW))
    assert startable(store) == ["job-a-0", "job-a-1", "job-a-2"]


def test_a_list_shows_an_array_once(store: Store) -> None:
    put(store, "job-1")
    put_array(store, "5-7%1")
    put(store, "job-2")
    end(store, "job-a-5")
    with store.read() as conn:
        assert [job.id for job in jobs.list_jobs(conn)] == ["job-2", "job-a-5", "job-1"]
        assert [job.id for job in jobs.list_jobs(conn, state="running")] == ["job-a-5"]
        assert [job.id for job in jobs.list_jobs(conn, state="succeeded")] == []
        page = jobs.list_jobs(conn, array="job-a", limit=2)
        assert [job.id for job in page] == ["job-a-5", "job-a-6"]
        assert [job.id for job in jobs.list_jobs(conn, array="job-a", before=page[-1].sequence)] == ["job-a-7"]
        assert arrays.active(conn, ["job-a"]) == {}


def test_an_array_that_would_carry_too_much_is_refused() -> None:
    examine_array(job_spec(array="0-99", files={"a.txt": "x" * 1000}), 100)
    for text, most, fields, words in (
        ("0-100", 100, {}, "101 tasks are more than the 100"),
        ("0-999", 1000, {"files": {"a.txt": "x" * 500_000}}, "those of 1,000 tasks come to"),
        ("0-9999", 10_000, {"env": {"A": "x" * 50_000}}, "those of 10,000 tasks come to"),
    ):
        with pytest.raises(InvalidError) as refused:
            examine_array(job_spec(array=text, **fields), most)
        [problem] = refused.value.problems
        assert (problem.path, words in problem.message) == ("array", True)


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({"queued": 3}, "queued"), ({"queued": 2, "cancelled": 1}, "queued"), ({"queued": 2, "placed": 1}, "running"),
        ({"queued": 2, "succeeded": 1}, "running"), ({"starting": 1, "failed": 2}, "running"), ({"succeeded": 2}, "succeeded"),
        ({"succeeded": 2, "cancelled": 1}, "cancelled"), ({"failed": 1, "cancelled": 1, "queued": 0}, "failed"),
    ],
)  # fmt: skip
def test_an_array_stands_as_its_tasks_do(counts: dict[str, int], state: str) -> None:
    assert standing(counts) == state
