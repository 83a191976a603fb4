"""The audit log in both databases: it is written with the act or not at all, and by two writers at once as by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import delete, update

from scheduler.chain import GENESIS, Act, AuditRow, Verifier
from scheduler.store import audit
from scheduler.store.audit import Entry, Wanted
from scheduler.store.changes import Changes
from scheduler.store.session import Connection, Store, StoreUnavailableError, Transaction
from scheduler.store.tables import audit as audit_table
from tests.contract import test_store as suite
from tests.contract.test_store import postgres_url, url
from tests.records import job_spec, run

__all__ = ["postgres_url", "url"]
NOW = 1_800_000_000.0


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from suite.store.__wrapped__(url)  # type: ignore[attr-defined]


def entry(number: int = 1, *, act: Act = Act.JOB_ADMITTED, tenant: str = "acme", products: tuple[str, ...] = ("a/b",)) -> Entry:
    return Entry(act, f"job-{number}", "tok-1", NOW + number, {"note": 'n\0 "\u4e2d"', "n": number, "f": 0.1}, tenant, products)


def rows(store: Store) -> list[AuditRow]:
    with store.read() as conn:
        return list(audit.all_rows(conn, piece=7))


def faults(store: Store, head: str | None = None) -> list[tuple[str, int]]:
    verifier = Verifier(head)
    verifier.feed(rows(store))
    return [(fault.kind.value, fault.sequence) for fault in verifier.close()]


def fill(store: Store, count: int = 20) -> None:
    store.write(lambda tx: audit.append(tx.conn, [entry(number) for number in range(1, count + 1)]))


def test_rows_follow_each_other_without_holes_and_are_sound(store: Store) -> None:
    with store.read() as conn:
        assert audit.head(conn) == (0, GENESIS)
    fill(store, 3)
    store.write(lambda tx: audit.append(tx.conn, []))
    fill(store, 18)
    found = rows(store)
    assert [row.sequence for row in found] == list(range(1, 22))
    assert [row.previous for row in found] == [GENESIS, *(row.hash for row in found[:-1])]
    assert found[3].parsed() == {"note": 'n\0 "\u4e2d"', "n": 1, "f": 0.1}
    with store.read() as conn:
        assert audit.head(conn) == (21, found[-1].hash)
    assert faults(store, found[5].hash) == []


def test_an_act_that_is_refused_leaves_no_row_and_no_hole(store: Store) -> None:
    def refused(tx: Transaction) -> None:
        audit.append(tx.conn, [entry(1), entry(2)])
        raise RuntimeError("refused")

    fill(store, 2)
    with pytest.raises(RuntimeError, match="refused"):
        store.write(refused)
    fill(store, 2)
    assert [row.sequence for row in rows(store)] == [1, 2, 3, 4]
    assert faults(store) == []


@pytest.mark.parametrize(("statement", "expected"), [
    (update(audit_table).where(audit_table.c.sequence == 7).values(actor="tok-2"), ("changed", 7)),
    (update(audit_table).where(audit_table.c.sequence == 7).values(document='{"n":8}'), ("changed", 7)),
    (delete(audit_table).where(audit_table.c.sequence == 7), ("missing", 7)),
    (delete(audit_table).where(audit_table.c.sequence > 12), ("truncated", 12)),
])  # fmt: skip
def test_what_is_done_to_the_table_is_found(store: Store, statement: object, expected: tuple[str, int]) -> None:
    fill(store)
    head = rows(store)[-1].hash
    store.write(lambda tx: tx.conn.execute(statement))  # type: ignore[call-overload]
    assert faults(store, head) == [expected]


def swap(conn: Connection, one: int, other: int) -> None:
    for number, new in ((one, -1), (other, one), (-1, other)):
        conn.execute(update(audit_table).where(audit_table.c.sequence == number).values(sequence=new))


def test_rows_that_change_places_and_one_that_is_put_between_are_found(store: Store) -> None:
    fill(store)
    store.write(lambda tx: swap(tx.conn, 7, 9))
    assert ("reordered", 7) in faults(store)
    store.write(lambda tx: swap(tx.conn, 7, 9))
    assert faults(store) == []

    def put_between(tx: Transaction) -> None:
        for number in range(20, 6, -1):
            tx.conn.execute(update(audit_table).where(audit_table.c.sequence == number).values(sequence=number + 1))
        tx.conn.execute(audit_table.insert().values(**{**vars(rows(store)[5]), "sequence": 7, "actor": "tok-9"}))

    store.write(put_between)
    assert faults(store) == [("inserted", 7)]


def fill_again(store: Store, writes: int) -> None:
    """Write so often; what SQLite refuses because somebody else has written meanwhile is written again."""
    while writes:
        with suppress(StoreUnavailableError):
            fill(store, 3)
            writes -= 1


def test_two_writers_make_one_chain(store: Store, url: str) -> None:
    """PostgreSQL has the second wait for the first; SQLite refuses what was begun before the other's commit."""
    other = Store(url)
    try:
        writes = 40
        both = [threading.Thread(target=fill_again, args=(one, writes)) for one in (store, other)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert len(rows(store)) == 2 * writes * 3
        assert faults(store) == []
    finally:
        other.close()


def test_rows_are_found_by_what_they_are_about(store: Store) -> None:
    entries = [
        entry(1), entry(2, tenant="other"), entry(3, products=("a/b_c", "x/y")), entry(4, act=Act.JOB_REFUSED, products=("a/bxc",)),
        entry(5, products=()),
    ]  # fmt: skip
    store.write(lambda tx: audit.append(tx.conn, entries))

    def found(before: int | None = None, most: int = 10, **wanted: object) -> list[int]:
        with store.read() as conn:
            return [row.sequence for row in audit.listed(conn, Wanted(**wanted), before, most)]  # type: ignore[arg-type]

    assert found() == [5, 4, 3, 2, 1]
    assert found(before=4, most=2) == [3, 2]
    assert found(tenant="other") == [2]
    assert found(subject="job-4") == [4]
    assert found(act="job.refused") == [4]
    assert found(product="a/b") == [2, 1], "whole names alone"
    assert found(product="a/b_c") == [3], "and no character stands for others"
    assert found(since=NOW + 2, until=NOW + 4) == [3, 2]


def reader(tx: Transaction, job_id: str, ref: str | None, at: float) -> None:
    """A job with one input or none, and its run."""
    spec = job_spec(inputs={"f": ref} if ref is not None else {})
    document = spec.model_dump(mode="json")
    changes = Changes(tx.conn)
    changes.add_job({
        "id": job_id, "version": 1, "state": "running", "tenant": "acme", "queue": "default", "rank": 0, "name": "j", "kind": spec.kind,
        "spec": document, "submitted_by": "tok-1", "idempotency_key": None, "idempotency_digest": None, "attempts": 1,
        "run_id": f"{job_id}-1", "not_before": None, "cause": "started", "message": "", "blocker": "", "cancel_requested": False,
        "submitted_at": at,
    })  # fmt: skip
    changes.add_run(replace(run("sh", ["n1"], job_id=job_id), placed_at=at))
    changes.write()


def test_runs_are_found_by_the_product_that_their_jobs_read(store: Store) -> None:
    jobs = [("job-1", "a/b@1"), ("job-2", "a/b@12"), ("job-3", "a/bc@1"), ("job-4", "xa/b@1"), ("job-5", None), ("job-6", "a/b@1")]
    for number, (job_id, ref) in enumerate(jobs):
        store.write(lambda tx, job_id=job_id, ref=ref, at=NOW + number: reader(tx, job_id, ref, at))  # type: ignore[misc]
    with store.read() as conn:
        assert audit.runs_over(conn, "a/b", NOW, NOW + 5) == [("job-1-1", "sh", NOW), ("job-2-1", "sh", NOW + 1)]
        assert [name for name, _, _ in audit.runs_over(conn, "a/b", NOW + 1, NOW + 9)] == ["job-2-1", "job-6-1"]
        assert audit.runs_over(conn, "a/_", NOW, NOW + 9) == []
