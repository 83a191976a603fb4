"""Settling many runs at once, on SQLite and on a real PostgreSQL alike: each gets the receipt that it would get alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.protocol import RunFinished, Usage
from cluster.replicas import Transfer
from scheduler.freeze import judge_at
from scheduler.lifecycle import Cause, State
from scheduler.settle import Terms, bytes_of_versions, end_run, make_receipt
from scheduler.store import fleet, ledger
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord, RunRecord
from scheduler.store.session import Store, Transaction
from tests.contract.test_store import NOW, columns, postgres_url, store, url
from tests.records import NO_MARKET, cluster_spec, job_spec
from tests.records import run as run_record
from tests.unit.workloads.samples import product, version
from workloads.catalogue.rates import QuotedInput

__all__ = ["postgres_url", "store", "url"]

ALIKE: dict[str, Any] = {"started": NOW, "cluster": "sh", "cpu": 2, "purpose": "research", "tenant": "acme", "finish": State.SUCCEEDED}
RUNS: dict[str, dict[str, Any]] = {
    "job-a": {}, "job-b": {}, "job-c": {"started": NOW + 7}, "job-d": {"cluster": "bj"}, "job-e": {"cpu": 3},
    "job-f": {"purpose": "teaching"}, "job-g": {"tenant": "globex"}, "job-h": {"finish": State.FAILED}, "job-i": {"name": "other"},
}  # fmt: skip


@pytest.fixture
def running(store: Store) -> Store:
    def work(tx: Transaction) -> None:
        for name, power in (("sh", 1.0), ("bj", 2.0)):
            fleet.add_cluster(tx.conn, cluster_spec(name), NOW + power)
        changes = Changes(tx.conn)
        for job_id, differs in RUNS.items():
            of = {**ALIKE, "name": "n", **differs}
            spec = job_spec(
                name=of["name"], tenant=of["tenant"], purpose=of["purpose"], resources={"cpu": of["cpu"]}, retry={"attempts": 1}
            )
            held = run_record(of["cluster"], ["n1"], job_id=job_id, cpu=of["cpu"])
            clusters = [item for item in fleet.list_clusters(tx.conn) if item.name == of["cluster"]]
            [way] = judge_at(spec, NO_MARKET, clusters, NOW)
            quote = way.assessments[0].quote
            assert quote is not None
            changes.add_run(replace(held, quote=quote.model_dump(mode="json"), started_at=of["started"]))
            document = {"kind": "command", "spec": spec.model_dump(mode="json"), "state": "running", "run_id": held.id, "attempts": 1}
            changes.add_job({**columns(job_id, tenant=of["tenant"]), **document})
        changes.write()

    store.write(work)
    return store


def settled(store: Store, *job_ids: str) -> list[tuple[JobRecord, RunRecord]]:
    """End the runs of these jobs in one report."""

    def work(tx: Transaction) -> list[tuple[JobRecord, RunRecord]]:
        changes, terms = Changes(tx.conn), Terms(tx.conn)
        changes.read(f"{job_id}-1" for job_id in job_ids)
        for job_id in job_ids:
            run = changes.run(f"{job_id}-1")
            assert run is not None
            finish = RUNS[job_id].get("finish", State.SUCCEEDED)
            event = RunFinished(run_id=run.id, outcome=finish.value, at=NOW + 60, usage=Usage(wall_s=60))
            cause = Cause.FINISHED if finish is State.SUCCEEDED else Cause.EXIT
            end_run(changes, terms, changes.job_of(job_id), run, finish, cause, now=NOW + 60, event=event)
        found = [(changes.job_of(job_id), changes.run(f"{job_id}-1")) for job_id in job_ids]
        changes.write()
        return [(job, run) for job, run in found if run is not None]

    return store.write(work)


def test_runs_that_end_together_get_the_receipts_that_each_would_get_alone(running: Store) -> None:
    ended = settled(running, *RUNS)
    with running.read() as conn:
        for job, run in ended:
            alone = make_receipt(Terms(conn), job.parsed(), job, run, NOW + 60).model_dump(mode="json")
            assert ledger.get_receipt(conn, job.id) == alone
            assert (alone["job_id"], alone["run_id"], alone["tenant"]) == (job.id, run.id, job.tenant)
        lines = {job.id: ledger.get_receipt(conn, job.id)["total"] for job, _ in ended}
    assert lines["job-a"] == lines["job-b"] != lines["job-c"]
    assert lines["job-a"] != lines["job-e"]


@pytest.mark.parametrize(
    ("transfers", "told", "moved"),
    [
        ([], 0, [0, 0]),
        ([("b" * 64, 70)], 70, [0, 70]),
        ([("a" * 64, 100), ("a" * 64, 100)], 200, [100, 0]),
        ([("a" * 64, 40), ("", 90)], 130, [100, 30]),
        ([], 150, [100, 50]),
    ],
)
def test_bytes_that_came_are_put_down_to_the_version_that_they_belong_to(
    transfers: list[tuple[str, int]], told: int, moved: list[int]
) -> None:
    versions = [version(number=number, sha256=letter * 64, size_bytes=100) for number, letter in ((1, "a"), (2, "b"))]
    inputs = [QuotedInput(product(), item, local=False) for item in versions]
    came = tuple(Transfer(source="gz", size_bytes=size, seconds=1.0, sha256=sha256) for sha256, size in transfers)
    usage = Usage(transferred_bytes=told, transfers=came).model_dump(mode="json")
    assert list(bytes_of_versions(usage, inputs).values()) == moved
