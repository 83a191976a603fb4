"""Batches in the store, on SQLite and on a real PostgreSQL alike: one commit, whole or not at all, and the same answers when repeated."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from scheduler.admission import Admitted, Offer, submit_batch
from scheduler.bells import CYCLE, Bells
from scheduler.errors import ConflictError, InvalidError, NotFoundError
from scheduler.store import arrays, jobs
from scheduler.store.session import Store, Transaction
from tests.contract.test_dependencies import startable
from tests.contract.test_store import NOW, postgres_url, store, url
from tests.records import job_spec
from tests.stored_jobs import submit, submit_array

__all__ = ["postgres_url", "store", "url"]


def offer(job_id: str, key: str | None = None, **fields: Any) -> Offer:
    return Offer(job_spec(**fields), job_id, key)


def put(store: Store, *offers: Offer, bells: Bells | None = None) -> list[Any]:
    return store.write(lambda tx: submit_batch(tx, bells or Bells(), offers, submitted_by="tok", now=NOW))


def there(store: Store) -> list[str]:
    """The ids of all jobs, in the order of their sequence numbers."""
    with store.read() as conn:
        return [job.id for job in sorted(jobs.waiting(conn, NOW, 1000), key=lambda job: job.sequence)]


def test_a_batch_is_stored_in_its_order_and_rings_once(store: Store) -> None:
    rung: list[str] = []
    bells = Bells()
    with bells.listen(CYCLE, lambda: rung.append(CYCLE)):
        answers = put(store, offer("job-c"), offer("job-a"), offer("job-b", queue="web"), bells=bells)
    assert answers == [Admitted("job-c", new=True), Admitted("job-a", new=True), Admitted("job-b", new=True)]
    assert (there(store), rung) == (["job-c", "job-a", "job-b"], [CYCLE])
    with store.read() as conn:
        assert [(event.finish, event.cause) for event in jobs.events_of(conn, "job-a")] == [
            ("submitted", "submitted"), ("queued", "admitted"),
        ]  # fmt: skip
        assert jobs.get_job(conn, "job-b").queue == "web"


def test_arrays_of_a_batch_keep_their_place(store: Store) -> None:
    assert put(store, offer("job-a"), offer("job-b", array="0-2%1"), offer("job-c")) == [
        Admitted("job-a", new=True), Admitted("job-b", new=True), Admitted("job-c", new=True),
    ]  # fmt: skip
    assert startable(store) == ["job-a", "job-b-0", "job-c"]
    with store.read() as conn:
        assert arrays.get_array(conn, "job-b").size == 3


def test_the_same_keys_give_the_same_answers(store: Store) -> None:
    put(store, offer("job-0", key="zero"))
    store.write(lambda tx: submit_array(tx, Bells(), job_spec(array="0-1"), array_id="job-9", submitted_by="tok", key="nine", now=NOW))
    offers = [
        offer("job-a", key="k"), offer("job-b"), offer("job-c", key="k"), offer("job-d", key="zero"),
        offer("job-e", key="nine", array="0-1"), offer("job-f", key="k", name="other"), offer("job-g", key="k", tenant="globex"),
    ]  # fmt: skip
    first = put(store, *offers)
    assert [answer.id if isinstance(answer, Admitted) else type(answer) for answer in first] == [
        "job-a", "job-b", "job-a", "job-0", "job-9", ConflictError, "job-g",
    ]  # fmt: skip
    assert [answer.new for answer in first if isinstance(answer, Admitted)] == [True, True, False, False, False, True]
    again = put(store, *(Offer(item.spec, f"{item.job_id}-again", item.key) for item in offers if item.key))
    assert [answer.id for answer in again if isinstance(answer, Admitted)] == ["job-a", "job-a", "job-0", "job-9", "job-g"]
    assert not any(answer.new for answer in again if isinstance(answer, Admitted))
    # A submission outside of a batch shares the keys.
    with pytest.raises(ConflictError, match="used for another job"):
        store.write(lambda tx: submit(tx, Bells(), job_spec(name="x"), job_id="job-x", submitted_by="tok", key="k", now=NOW))
    assert there(store) == ["job-0", "job-9-0", "job-9-1", "job-a", "job-b", "job-g"]


def test_what_cannot_come_after_takes_no_other_with_it(store: Store) -> None:
    put(store, offer("job-0"))
    first, second, third = put(store, offer("job-a", after=["job-0"]), offer("job-b", after=["job-none"]), offer("job-c", after=["job-a"]))
    assert first == Admitted("job-a", new=True)
    assert isinstance(second, InvalidError)
    assert second.problems[0].path == "after.0.job"
    # Who is stored in the same batch has an id that nobody could know before.
    assert isinstance(third, InvalidError)
    assert startable(store) == ["job-0"]


def test_a_batch_that_fails_on_the_way_leaves_nothing(store: Store) -> None:
    def work(tx: Transaction) -> None:
        submit_batch(tx, Bells(), [offer("job-a", key="k"), offer("job-b", array="0-2"), offer("job-c")], submitted_by="tok", now=NOW)
        raise RuntimeError("the machine is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        store.write(work)
    assert there(store) == []
    with store.read() as conn, pytest.raises(NotFoundError):
        arrays.get_array(conn, "job-b")
    assert put(store, offer("job-d", key="k")) == [Admitted("job-d", new=True)]


KILLED = """
import os, sys
from scheduler.admission import Offer, submit_batch
from scheduler.bells import Bells
from scheduler.store.session import Store
from tests.records import job_spec

def work(tx):
    offers = [Offer(job_spec(), "job-a", "a"), Offer(job_spec(array="0-2"), "job-b", "b"), Offer(job_spec(), "job-c", None)]
    submit_batch(tx, Bells(), offers, submitted_by="tok", now=1.8e9)
    os._exit(9)

Store(sys.argv[1]).write(work)
"""


def test_a_process_that_dies_before_its_commit_leaves_nothing(store: Store, url: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, url], check=False, timeout=60)
    assert done.returncode == 9
    assert there(store) == []
    assert [answer.new for answer in put(store, offer("job-d", key="a"), offer("job-e", key="b", array="0-2"))] == [True, True]
