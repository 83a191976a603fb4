"""The journal's promises, on SQLite and on a real PostgreSQL alike: it balances, it cannot be changed, and what was changed is found."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from cluster.protocol import RunFinished, Usage
from scheduler.balance import Fault, verify
from scheduler.freeze import judge_at
from scheduler.lifecycle import Cause, State
from scheduler.market import read_market
from scheduler.settle import Terms, end_run
from scheduler.store import catalogue, fleet, ledger
from scheduler.store.changes import Changes
from scheduler.store.session import Store, Transaction
from scheduler.usage import usage
from tests.contract.test_store import NOW, columns, postgres_url, store, url
from tests.records import cluster_spec, job_spec
from tests.records import run as run_record
from tests.unit.workloads.samples import licence, product, version

__all__ = ["postgres_url", "store", "url"]

FLIGHTS = "nycflights/flights"
FEE = Decimal("0.05")


def run_jobs(store: Store, *job_ids: str, fee: Decimal = FEE, finish: State = State.SUCCEEDED, at: float = NOW, **fields: Any) -> None:
    """Jobs that read flights at sh for an hour from `at` on, and end in one report."""

    def work(tx: Transaction) -> None:
        if not fleet.list_clusters(tx.conn):
            fleet.add_cluster(tx.conn, cluster_spec("sh"), NOW)
            catalogue.add_product(tx.conn, product(FLIGHTS, price={"per_run": "0.50 CNY"}), NOW)
            catalogue.add_version(tx.conn, version(FLIGHTS, replicas=[{"cluster": "sh", "uri": "/data/flights.parquet"}]), NOW)
            catalogue.add_licence(tx.conn, licence(FLIGHTS, id="lic-1"), NOW)
        changes, terms = Changes(tx.conn), Terms(tx.conn, fee)
        asked = {"inputs": {"flights": f"{FLIGHTS}@1"}, "resources": {"cpu": 2}, "retry": {"attempts": 1}, **fields}
        spec = job_spec(**asked)
        market = read_market(tx.conn, [spec])
        [way] = judge_at(spec, market, fleet.list_clusters(tx.conn), at)
        quote = way.assessments[0].quote
        assert quote is not None
        for job_id in job_ids:
            run = replace(run_record("sh", ["n1"], job_id=job_id, cpu=2), quote=quote.model_dump(mode="json"), started_at=at, placed_at=at)
            changes.add_run(run)
            document = {"kind": "command", "spec": spec.model_dump(mode="json"), "state": "running", "run_id": run.id, "attempts": 1}
            changes.add_job({**columns(job_id, tenant=spec.tenant), **document})
        changes.write()
        changes.read(f"{job_id}-1" for job_id in job_ids)
        for job_id in job_ids:
            stored = changes.run(f"{job_id}-1")
            assert stored is not None
            event = RunFinished(run_id=stored.id, outcome=finish.value, at=at + 3600, usage=Usage(wall_s=3600))
            cause = Cause.FINISHED if finish is State.SUCCEEDED else Cause.EXIT
            end_run(changes, terms, changes.job_of(job_id), stored, finish, cause, now=at + 3600, event=event)
        changes.write()

    store.write(work)


def test_each_charged_run_has_one_entry_that_sums_to_nothing_and_says_who_earns(store: Store) -> None:
    run_jobs(store, "job-a", "job-b")
    run_jobs(store, "job-c", finish=State.FAILED)
    with store.read() as conn:
        found = list(ledger.entries(conn))
        assert [entry.run_id for entry in found] == ["job-a-1", "job-b-1", "job-c-1"]
        assert found[0].postings == {
            "buyer/acme": Decimal("-1.2600"), "cluster/sh": Decimal("0.7600"), "fee/market": Decimal("0.0250"),
            "owner/nyc-open-data": Decimal("0.4750"),
        }  # fmt: skip
        assert found[2].postings == {"buyer/acme": Decimal("-0.7600"), "cluster/sh": Decimal("0.7600")}
        balance = verify(conn)
    assert (balance.sound, balance.entries, balance.receipts_without_entry) == (True, 3, 0)
    assert balance.accounts["owner/nyc-open-data", "CNY"] == Decimal("0.9500")
    assert sum(balance.accounts.values()) == 0


def test_entries_are_found_by_run_by_account_and_by_time(store: Store) -> None:
    run_jobs(store, "job-a")
    run_jobs(store, "job-b", at=NOW + 7200)
    run_jobs(store, "job-c", at=NOW + 7200, finish=State.FAILED)

    def found(**wanted: Any) -> list[str]:
        with store.read() as conn:
            return [entry.job_id for entry in ledger.entries(conn, **wanted)]

    assert found(run_id="job-b-1") == ["job-b"]
    assert found(account="owner/nyc-open-data") == ["job-a", "job-b"]
    assert found(account="owner/nyc-open") == []
    assert found(account="owner/nyc%") == []
    assert found(begin=NOW + 3600, end=NOW + 3601) == ["job-a"]
    assert found(begin=NOW + 3601) == ["job-b", "job-c"]
    assert found(after=2, most=1) == ["job-c"]


def test_a_run_that_costs_nothing_has_a_receipt_and_no_entry(store: Store) -> None:
    run_jobs(store, "job-a")
    store.write(lambda tx: fleet.update_cluster(tx.conn, "sh", spec=free_cluster()))
    store.write(lambda tx: catalogue.replace_product(tx.conn, product(FLIGHTS)))
    run_jobs(store, "job-b")
    with store.read() as conn:
        assert ledger.get_receipt(conn, "job-b")["total"] == "0.00 CNY"
        assert [entry.job_id for entry in ledger.entries(conn)] == ["job-a"]
        balance = verify(conn)
    assert (balance.sound, balance.entries, balance.receipts_without_entry) == (True, 1, 1)


def free_cluster() -> dict[str, Any]:
    nothing = {"cpu_hour": "0.00 CNY", "memory_gib_hour": "0.00 CNY", "transfer_gib": "0.00 CNY", "accelerator_hour": {}}
    spec: dict[str, Any] = cluster_spec("sh").model_dump(mode="json")
    return {**spec, "prices": nothing}


@pytest.mark.parametrize("change", ["UPDATE journal SET at = 0", "DELETE FROM journal"])
def test_the_database_refuses_to_change_the_journal(store: Store, change: str) -> None:
    run_jobs(store, "job-a")
    with pytest.raises(DatabaseError, match="append-only"):
        store.write(lambda tx: tx.conn.execute(text(change)))
    with store.read() as conn:
        assert [entry.at for entry in ledger.entries(conn)] == [NOW + 3600]


TAMPERED = [
    ("UPDATE journal SET postings = '{\"buyer/acme\": \"-1.2600\", \"cluster/sh\": \"1.2600\"}'", [Fault.OTHER_RECEIPT] * 2),
    ("UPDATE journal SET postings = '{\"buyer/acme\": \"-1.2600\", \"cluster/sh\": \"0.7600\"}'", [Fault.UNBALANCED, Fault.OTHER_RECEIPT]),
    ("UPDATE journal SET postings = '{\"buyer/acme\": \"many\"}'", [Fault.UNREADABLE]),
    ("UPDATE journal SET postings = replace(CAST(postings AS TEXT), 'buyer/acme', 'buyer/globex')", [Fault.OTHER_RECEIPT] * 2),
    ("UPDATE journal SET run_id = 'job-z-1'", [Fault.WITHOUT_RECEIPT, Fault.WITHOUT_ENTRY]),
    ("UPDATE journal SET currency = 'EUR'", [Fault.OTHER_RECEIPT]),
    ("DELETE FROM journal", [Fault.WITHOUT_ENTRY]),
    ("DELETE FROM receipts", [Fault.WITHOUT_RECEIPT]),
    ("UPDATE receipts SET receipt = replace(CAST(receipt AS TEXT), '\"total\":\"1.26', '\"total\":\"9.26')",
     [Fault.RECEIPT_TOTAL, Fault.OVER_QUOTE]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "faults"), TAMPERED, ids=[change for change, _ in TAMPERED])
def test_what_somebody_changed_in_the_database_is_found(store: Store, change: str, faults: list[Fault]) -> None:
    run_jobs(store, "job-a")
    is_postgres = store.engine.dialect.name == "postgresql"

    def work(tx: Transaction) -> None:
        for name in ("journal_no_change ON journal",) if is_postgres else ("journal_no_UPDATE", "journal_no_DELETE"):
            tx.conn.execute(text(f"DROP TRIGGER {name}"))
        # A document is written to PostgreSQL as JSON.
        statement = change.replace("'buyer/globex')", "'buyer/globex')::json").replace("9.26')", "9.26')::json")
        tx.conn.exec_driver_sql(statement if is_postgres else change)

    store.write(work)
    with store.read() as conn:
        balance = verify(conn)
    assert not balance.sound
    assert [one.fault for one in balance.told][: len(faults)] == faults
    assert balance.faults == len(balance.told)


def test_receipts_from_before_the_journal_get_entries(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    from scheduler.store.migrate import MIGRATIONS, migrate

    def step(opened: Store, to: str, *, up: bool) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with opened.engine.begin() as conn:
            config.attributes["connection"] = conn
            (command.upgrade if up else command.downgrade)(config, to)

    opened = Store(url)
    migrate(opened)
    run_jobs(opened, "job-a", "job-b", fee=Decimal(0))
    with opened.read() as conn:
        before = [(entry.run_id, entry.postings, entry.at) for entry in ledger.entries(conn)]
    step(opened, "0022-1", up=False)
    step(opened, "head", up=True)
    with opened.read() as conn:
        assert [(entry.run_id, entry.postings, entry.at) for entry in ledger.entries(conn)] == before
        assert verify(conn).sound
    opened.close()


def test_usage_counts_hours_that_fall_into_the_time_and_the_receipts_issued_in_it(store: Store) -> None:
    run_jobs(store, "job-a", "job-b")
    run_jobs(store, "job-c", tenant="globex", purpose="research", inputs={}, at=NOW + 1800)
    with store.read() as conn:
        whole = usage(conn, "tenant", NOW, NOW + 7200, NOW + 7200)
        half = usage(conn, "cluster", NOW + 1800, NOW + 3600, NOW + 7200)
        own = usage(conn, "queue", NOW, NOW + 7200, NOW + 7200, "globex")
    assert {name: (used.runs, used.cpu_hours) for name, used in whole.items()} == {"acme": (2, 4.0), "globex": (1, 2.0)}
    assert whole["acme"].charged == {"CNY": Decimal("2.5200")}
    assert half["sh"].cpu_hours == pytest.approx(3.0)
    assert half["sh"].charged == {}
    assert (own["default"].runs, own["default"].charged) == (1, {"CNY": Decimal("0.7600")})
