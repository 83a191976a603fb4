"""Subscriptions on SQLite and on a real PostgreSQL alike: charged once for a tenant, product and month, however runs end."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from cluster.protocol import Preview, RunFinished, Usage
from scheduler.balance import verify
from scheduler.freeze import judge_at
from scheduler.lifecycle import Cause, State
from scheduler.market import read_market
from scheduler.settle import Terms, end_run
from scheduler.store import catalogue, fleet, ledger, subscriptions
from scheduler.store.changes import Changes
from scheduler.store.session import Connection, Store, Transaction
from tests.contract.test_store import columns, postgres_url, store, url
from tests.records import cluster_spec
from tests.records import run as run_record
from tests.unit.workloads.samples import licence, product, spec, version

__all__ = ["postgres_url", "store", "url"]

METRO = "sh/metro"
DECEMBER = datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp()
JANUARY = datetime(2027, 1, 1, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def shop(store: Store) -> Store:
    def work(tx: Transaction) -> None:
        fleet.add_cluster(tx.conn, cluster_spec("sh"), 0.0)
        catalogue.add_product(tx.conn, product(METRO, price={"per_month": "30.00 CNY"}), 0.0)
        for number in (1, 2):
            places = [{"cluster": "sh", "uri": "/data/metro.parquet"}]
            catalogue.add_version(tx.conn, version(METRO, number=number, replicas=places), 0.0)
        for tenant in ("acme", "globex"):
            catalogue.add_licence(tx.conn, licence(METRO, id=f"l-{tenant}", tenant=tenant), 0.0)

    store.write(work)
    return store


def place(conn: Connection, *job_ids: str, at: float = DECEMBER, **fields: Any) -> None:
    """Runs of these jobs, quoted as the decision would at that time."""
    asked = spec(inputs={"metro": f"{METRO}@1"}, sql="SELECT * FROM metro", **fields)
    [way] = judge_at(asked, read_market(conn, [asked]), fleet.list_clusters(conn), at)
    quote = way.assessments[0].quote
    assert quote is not None
    changes = Changes(conn)
    for job_id in job_ids:
        run = run_record("sh", ["n1"], job_id=job_id)
        changes.add_run(replace(run, quote=quote.model_dump(mode="json"), started_at=at, placed_at=at))
        document = {"spec": asked.model_dump(mode="json"), "state": "running", "run_id": run.id, "attempts": 1}
        changes.add_job({**columns(job_id, tenant=asked.tenant), **document})
    changes.write()


def end(conn: Connection, *job_ids: str, at: float = DECEMBER + 60, finish: State = State.SUCCEEDED) -> None:
    """They end in one report."""
    changes, terms = Changes(conn), Terms(conn, Decimal("0.1"))
    changes.read(f"{job_id}-1" for job_id in job_ids)
    for job_id in job_ids:
        run = changes.run(f"{job_id}-1")
        assert run is not None
        preview = Preview(columns=("a",), types=("BIGINT",), rows=(), total_rows=4)
        event = RunFinished(run_id=run.id, outcome=finish.value, at=at, usage=Usage(wall_s=60), preview=preview)
        cause = Cause.FINISHED if finish is State.SUCCEEDED else Cause.STATEMENT
        end_run(changes, terms, changes.job_of(job_id), run, finish, cause, now=at, event=event)
    changes.write()


def months(store: Store, *job_ids: str) -> list[tuple[str, str]]:
    """(amount, note) of the subscription's line in each job's receipt."""
    with store.read() as conn:
        found = [ledger.get_receipt(conn, job_id)["lines"] for job_id in job_ids]
    return [(line["amount"], line.get("note", "")) for lines in found for line in lines if line["item"] == "data-month"]


PAID, INCLUDED = ("30.00 CNY", ""), ("0.00 CNY", "included in the subscription of 2026-12")


def test_of_runs_that_end_in_one_report_the_first_pays(shop: Store) -> None:
    shop.write(lambda tx: place(tx.conn, "job-a", "job-b", "job-c"))
    shop.write(lambda tx: end(tx.conn, "job-a", "job-b", "job-c"))
    assert months(shop, "job-a", "job-b", "job-c") == [PAID, INCLUDED, INCLUDED]
    with shop.read() as conn:
        balance = verify(conn)
    assert balance.sound
    assert balance.accounts["owner/nyc-open-data", "CNY"] == Decimal(27)


def test_two_first_runs_that_end_at_once_pay_once(shop: Store) -> None:
    names = [f"job-{number}" for number in range(20)]
    shop.write(lambda tx: place(tx.conn, *names))
    ends: list[Future[None]] = [shop.submit(lambda tx, name=name: end(tx.conn, name)) for name in names]  # type: ignore[misc]
    for one in ends:
        one.result()
    assert sorted(months(shop, *names)) == [INCLUDED] * 19 + [PAID]


def test_the_database_itself_takes_no_second_charge_for_a_month(shop: Store) -> None:
    row = {"tenant": "acme", "product": METRO, "month": "2026-12", "run_id": "job-a-1"}
    shop.write(lambda tx: subscriptions.add(tx.conn, [row]))
    with pytest.raises(IntegrityError):
        shop.write(lambda tx: subscriptions.add(tx.conn, [{**row, "run_id": "job-b-1"}]))


def test_a_later_run_is_quoted_as_included_and_other_tenants_and_months_pay_for_themselves(shop: Store) -> None:
    shop.write(lambda tx: place(tx.conn, "job-a"))
    shop.write(lambda tx: end(tx.conn, "job-a"))
    shop.write(lambda tx: place(tx.conn, "job-b"))
    shop.write(lambda tx: place(tx.conn, "job-c", tenant="globex"))
    shop.write(lambda tx: place(tx.conn, "job-d", at=JANUARY))
    shop.write(lambda tx: end(tx.conn, "job-b", "job-c", "job-d", at=JANUARY + 60))
    assert months(shop, "job-a", "job-b", "job-c", "job-d") == [PAID, INCLUDED, PAID, PAID]
    with shop.read() as conn:
        found = subscriptions.months_of(conn, ["acme", "globex"], [METRO])
    assert found == {("acme", METRO): frozenset({"2026-12", "2027-01"}), ("globex", METRO): frozenset({"2026-12"})}


def test_a_run_that_delivers_nothing_pays_for_no_month(shop: Store) -> None:
    shop.write(lambda tx: place(tx.conn, "job-a", "job-b", retry={"attempts": 1}))
    shop.write(lambda tx: end(tx.conn, "job-a", finish=State.FAILED))
    assert months(shop, "job-a") == []
    shop.write(lambda tx: end(tx.conn, "job-b"))
    assert months(shop, "job-b") == [PAID]
