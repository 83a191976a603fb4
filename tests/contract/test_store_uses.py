"""Uses of licences, on SQLite and on a real PostgreSQL alike: what is left is never less than nothing, and nothing of it is lost."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from scheduler.errors import RefusedError
from scheduler.freeze import read_market
from scheduler.lifecycle import Cause, State, has_read
from scheduler.store import catalogue, jobs, uses
from scheduler.store.changes import Changes
from scheduler.store.session import Connection, Store, Transaction
from scheduler.store.tables import licence_uses
from scheduler.store.uses import UseRecord
from scheduler.uses import Reservations, booked
from tests.contract.test_store import NOW, columns, postgres_url, store, url
from tests.records import job_spec
from tests.stored_jobs import insert_job, move_job
from tests.unit.workloads.samples import licence, product, version
from workloads.catalogue.licence import Licence
from workloads.resources import GIB
from workloads.spec import JobSpec

__all__ = ["postgres_url", "store", "url"]

PRODUCT = "nyc/flights"
READS = job_spec(inputs={"flights": f"{PRODUCT}@1"})
SOON, LATE = "2027-06-01T00:00:00Z", "2028-06-01T00:00:00Z"


def publish(store: Store, *grants: Licence, classification: str = "restricted", **fields: Any) -> None:
    def work(tx: Transaction) -> None:
        catalogue.add_product(tx.conn, product(PRODUCT, classification=classification), NOW)
        catalogue.add_version(tx.conn, version(PRODUCT, size_bytes=GIB // 2, **fields), NOW)
        for grant in grants:
            catalogue.add_licence(tx.conn, grant, NOW)

    store.write(work)


def grant(name: str = "a", **fields: Any) -> Licence:
    return licence(PRODUCT, id=name, **fields)


def reserve(store: Store, *job_ids: str, spec: JobSpec = READS) -> None:
    def work(tx: Transaction) -> None:
        found = Reservations(tx.conn, [spec], NOW)
        found.take(spec, job_ids)
        found.write()

    store.write(work)


def left(store: Store, name: str = "a") -> tuple[int | None, float | None]:
    """Runs, and halves of a GiB."""
    with store.read() as conn:
        found = catalogue.get_licence(conn, name)
    return found.runs_left, None if found.bytes_left is None else found.bytes_left / (GIB // 2)


def used(store: Store, *job_ids: str) -> list[tuple[str, str, str]]:
    with store.read() as conn:
        found = uses.uses_of(conn, job_ids)
    return [(use.job_id, use.licence_id, use.state) for job_id in job_ids for use in found.get(job_id, ())]


def test_of_a_grant_all_is_left_and_reads_back(store: Store) -> None:
    publish(store, grant(runs=3, gib="1.5"), grant("b"))
    assert (left(store), left(store, "b")) == ((3, 3.0), (None, None))
    with store.read() as conn:
        (one, other) = catalogue.licences_of(conn, ["acme"], [PRODUCT])["acme", PRODUCT]
    assert (one.runs, one.gib, one.runs_left, other.runs_left) == (3, Decimal("1.5"), 3, None)


def test_what_is_reserved_is_consumed_or_given_back_once(store: Store) -> None:
    publish(store, grant(runs=3, gib="1.5"))
    reserve(store, "j-1", "j-2", "j-3")
    assert left(store) == (0, 0.0)
    store.write(lambda tx: uses.end(tx.conn, ["j-1"], ["j-2"], NOW + 1))
    assert left(store) == (1, 1.0)
    store.write(lambda tx: uses.end(tx.conn, ["j-2"], ["j-1", "j-2"], NOW + 2))
    assert left(store) == (1, 1.0), "what has ended is not given back again"
    assert [state for *_, state in used(store, "j-1", "j-2", "j-3")] == ["consumed", "returned", "reserved"]


@pytest.mark.parametrize("fields", [{"runs": 1}, {"gib": "0.5"}, {"gib": "0.9", "runs": 5}])
def test_of_many_who_want_the_last_run_at_once_one_gets_it(store: Store, fields: dict[str, Any]) -> None:
    publish(store, grant(**fields))
    begin, answers = threading.Barrier(8), list[str]()

    def want(name: str) -> None:
        begin.wait()
        try:
            reserve(store, name)
            answers.append("admitted")
        except RefusedError as refused:
            answers.append(refused.problems[0].reason)

    threads = [threading.Thread(target=want, args=(f"j-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["admitted", *["licence_spent"] * 7]
    with store.read() as conn:
        assert conn.execute(select(func.count()).select_from(licence_uses)).scalar() == 1


def test_two_transactions_at_once_never_take_more_than_there_is(url: str, store: Store) -> None:
    publish(store, grant(runs=1))
    with store.read() as conn:
        found = catalogue.get_licence(conn, "a")
    others = [Store(url), Store(url)]
    begin, taken = threading.Barrier(2), list[bool]()

    def work(one: Store) -> None:
        begin.wait()
        taken.append(one.write(lambda tx: uses.take(tx.conn, found, 1, 0)))

    threads = [threading.Thread(target=work, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.close()
    assert sorted(taken) == [False, True]
    assert left(store) == (0, None)


def test_what_ends_first_or_has_least_left_is_used_first(store: Store) -> None:
    publish(
        store,
        grant("endless"),
        grant("late", expires_at=LATE),
        grant("many", expires_at=SOON, runs=9),
        grant("few", expires_at=SOON, runs=1),
    )
    for name in ("j-1", "j-2"):
        reserve(store, name)
    assert used(store, "j-1", "j-2") == [("j-1", "few", "reserved"), ("j-2", "many", "reserved")]


def test_tasks_of_an_array_are_reserved_together_or_not_at_all(store: Store) -> None:
    publish(store, grant(runs=3))
    with pytest.raises(RefusedError, match="enough left for 4 tasks"):
        reserve(store, "t-0", "t-1", "t-2", "t-3")
    assert (left(store), used(store, "t-0")) == ((3, None), [])
    reserve(store, "t-0", "t-1", "t-2")
    assert left(store) == (0, None)


def test_a_revoked_licence_gives_nothing_and_public_data_needs_none(store: Store) -> None:
    publish(store, grant(runs=3))
    with store.read() as conn:
        found = catalogue.get_licence(conn, "a")
    store.write(lambda tx: catalogue.revoke_licence(tx.conn, PRODUCT, "a", NOW))
    assert not store.write(lambda tx: uses.take(tx.conn, found, 1, 0))
    with pytest.raises(RefusedError, match="has no licence"):
        reserve(store, "j-1")
    store.write(lambda tx: catalogue.replace_product(tx.conn, product(PRODUCT, classification="public")))
    reserve(store, "j-1")
    assert (left(store), used(store, "j-1")) == ((3, None), [])


def placed(store: Store, place: str, *job_ids: str, at: float = NOW) -> dict[str, dict[str, str] | None]:
    """Whether these jobs may be placed there."""

    def work(tx: Transaction) -> dict[str, dict[str, str] | None]:
        found = {job_id: jobs.get_job(tx.conn, job_id) for job_id in job_ids}
        market = read_market(tx.conn, [READS], job_ids)
        return booked(tx.conn, [(job, READS, place) for job in found.values()], market, at)

    return store.write(work)


def stored(store: Store, *job_ids: str) -> None:
    for job_id in job_ids:
        document = {**columns(job_id), "spec": READS.model_dump(mode="json")}
        store.write(lambda tx, document=document: _queued(tx.conn, document))  # type: ignore[misc]


def _queued(conn: Connection, document: dict[str, Any]) -> None:
    move_job(conn, insert_job(conn, document), State.QUEUED, Cause.ADMITTED, at=NOW)


def test_a_use_moves_to_a_licence_that_holds_where_the_run_is_placed(store: Store) -> None:
    publish(store, grant("here", runs=1, jurisdictions=["CN-SH"], expires_at=SOON), grant("there", runs=1, expires_at=LATE))
    stored(store, "j-1", "j-2")
    reserve(store, "j-1")
    assert used(store, "j-1") == [("j-1", "here", "reserved")]
    assert placed(store, "CN-SH", "j-1") == {"j-1": {PRODUCT: "here"}}
    assert placed(store, "CN-GZ", "j-1") == {"j-1": {PRODUCT: "there"}}
    assert used(store, "j-1") == [("j-1", "there", "reserved")]
    assert (left(store, "here"), left(store, "there")) == ((1, None), (0, None))
    assert placed(store, "CN-GZ", "j-2") == {"j-2": None}, "nothing is left of the only licence that holds there"
    assert placed(store, "CN-SH", "j-2") == {"j-2": {PRODUCT: "here"}}, "a job that had none reserved gets one"
    assert used(store, "j-2") == [("j-2", "here", "reserved")]


def test_a_licence_that_ended_meanwhile_keeps_its_job_from_being_placed(store: Store) -> None:
    publish(store, grant(runs=1, expires_at=SOON))
    stored(store, "j-1")
    reserve(store, "j-1")
    assert placed(store, "CN-SH", "j-1", at=NOW + 3e7) == {"j-1": None}
    assert (left(store), used(store, "j-1")) == ((0, None), [("j-1", "a", "reserved")])
    store.write(lambda tx: catalogue.revoke_licence(tx.conn, PRODUCT, "a", NOW))
    assert placed(store, "CN-SH", "j-1") == {"j-1": None}


@pytest.mark.parametrize(("state", "cause", "started", "expected"), [
    (State.SUCCEEDED, Cause.FINISHED, True, True), (State.FAILED, Cause.EXIT, True, True), (State.FAILED, Cause.MAX_RUNTIME, True, True),
    (State.CANCELLED, Cause.CANCELLED_BY_USER, True, True), (State.CANCELLED, Cause.CANCELLED_BY_USER, False, False),
    (State.FAILED, Cause.STATEMENT, True, False), (State.FAILED, Cause.CLUSTER_LOST, True, False),
    (State.FAILED, Cause.DEPENDENCY, False, False), (State.FAILED, Cause.DATA_CHANGED, False, False),
    (State.FAILED, Cause.RUNTIME_ENV, True, False),
])  # fmt: skip
def test_a_use_is_consumed_where_the_buyers_own_doing_ended_what_had_begun(
    state: State, cause: Cause, started: bool, expected: bool
) -> None:  # fmt: skip
    assert has_read(state, cause, started=started) is expected


@pytest.mark.parametrize(("finish", "cause"), [(State.CANCELLED, Cause.CANCELLED_BY_USER), (State.FAILED, Cause.DEPENDENCY)])
def test_the_end_of_a_job_ends_its_uses_in_the_same_transaction(store: Store, finish: State, cause: Cause) -> None:
    publish(store, grant(runs=2))
    stored(store, "j-1", "j-2")
    reserve(store, "j-1", "j-2")

    def end(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        changes.move_job(jobs.get_job(tx.conn, "j-1"), finish, cause, at=NOW + 5, finished_at=NOW + 5)
        changes.write()

    store.write(end)
    assert used(store, "j-1", "j-2") == [("j-1", "a", "returned"), ("j-2", "a", "reserved")]
    assert left(store) == (1, None)
    with store.read() as conn:
        (use,) = uses.uses_of(conn, ["j-1"])["j-1"]
        assert use == UseRecord("j-1", PRODUCT, "a", "returned", GIB // 2, NOW, NOW + 5)
        assert uses.counted(conn, ["a"]) == {"a": {"returned": 1, "reserved": 1}}
        assert uses.jobs_under(conn, "a") == ["j-2"]
