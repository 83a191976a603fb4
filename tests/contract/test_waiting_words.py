"""What a cluster says of a run that has not begun is its job's message until the work begins, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.health import HealthPolicy
from cluster.protocol import Observation, RunEvent, RunStarted, RunStarting, SyncRequest
from scheduler.bells import Bells
from scheduler.reconcile import absorb
from scheduler.store import fleet, jobs
from scheduler.store.changes import Changes
from scheduler.store.records import JobRecord
from scheduler.store.session import Store, Transaction
from tests.contract.test_store import NOW, columns, postgres_url, store, url
from tests.records import cluster_spec, job_spec
from tests.records import run as run_record

__all__ = ["postgres_url", "store", "url"]

RUN = "job-a-1"
POLICY = HealthPolicy(suspect_after_s=15.0, lost_after_s=60.0)


@pytest.fixture
def placed(store: Store) -> Store:
    def work(tx: Transaction) -> None:
        fleet.add_cluster(tx.conn, cluster_spec("lab"), NOW)
        fleet.update_cluster(tx.conn, "lab", agent_id="one", introduced=True)
        changes = Changes(tx.conn)
        changes.add_run(replace(run_record("lab", ["n1"], job_id="job-a"), state="placed", cause="decided", quote={"lines": []}))
        spec = job_spec(name="n").model_dump(mode="json")
        changes.add_job({**columns("job-a"), "kind": "command", "spec": spec, "state": "placed", "run_id": RUN, "attempts": 1})
        changes.write()

    store.write(work)
    return store


def told(store: Store, *events: RunEvent, at: float = 1.0) -> JobRecord:
    """The job after a report."""
    report = SyncRequest(agent_id="one", reachable=True, observations=tuple(Observation(epoch=1, event=event) for event in events))
    store.write(lambda tx: absorb(tx, Bells(), "lab", report, NOW + at, POLICY))
    with store.read() as conn:
        return jobs.get_job(conn, "job-a")


def test_the_latest_reason_stands_until_the_work_begins(placed: Store) -> None:
    assert (told(placed, RunStarting(run_id=RUN)).state, told(placed).message) == ("starting", "")
    first = told(placed, RunStarting(run_id=RUN, message="Unschedulable: 0/2 nodes are available"))
    assert (first.state, first.message) == ("starting", "Unschedulable: 0/2 nodes are available")
    again = told(placed, RunStarting(run_id=RUN, message=first.message))
    assert again.version == first.version, "what is said twice changes nothing"
    assert told(placed, RunStarting(run_id=RUN, message="pulls the image")).message == "pulls the image"
    begun = told(placed, RunStarted(run_id=RUN, at=NOW))
    assert (begun.state, begun.message) == ("running", "")
    assert told(placed, RunStarting(run_id=RUN, message="said too late")).message == ""


def test_it_may_come_with_the_first_word(placed: Store) -> None:
    job = told(placed, RunStarting(run_id=RUN), RunStarting(run_id=RUN, message="Kueue has not admitted it to team-a yet"))
    assert (job.state, job.message) == ("starting", "Kueue has not admitted it to team-a yet")
