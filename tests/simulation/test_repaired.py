"""Stories that once went wrong. Each was found by a seed, and is told here by hand with what it needs and nothing else."""

from __future__ import annotations

from pathlib import Path

from cluster.model import Inventory
from cluster.protocol import Observation, RunFinished, RunStarted, SyncRequest
from scheduler.clock import ManualClock
from scheduler.store import jobs
from tests.simulation.network import furnish
from tests.simulation.plane import Plane
from tests.simulation.script import MEMBERS, asking, lasting, on_sh
from tests.simulation.stories import told


def test_what_the_first_of_two_agents_starts_before_the_second_is_heard_is_known_to_the_second(tmp_path: Path) -> None:
    # The second agent looks at the cluster when it begins, but can take over only when the server is back.
    faults = [on_sh(10, "server killed", 30), on_sh(12, "agent doubled")]
    later = [asking(30 + number / 10, f"job-{number}", cpu=1, workers=1) for number in range(6)]
    network = told(tmp_path, later, faults, lasting(**{f"job_{number}": 60.0 for number in range(6)}))
    assert set(network.books.ends().values()) == {"succeeded"}
    assert network.members["sh"].cluster.started.total() == 6


def test_a_cluster_that_was_given_up_takes_nothing_new_before_it_has_named_what_it_still_runs(tmp_path: Path) -> None:
    faults = [on_sh(10, "cluster dead", 85)]
    network = told(tmp_path, [asking(1, "job-lost"), asking(60, "job-next")], faults, lasting(job_lost=500.0))
    assert network.books.ends() == {"job-lost": "failed", "job-next": "succeeded"}


def test_an_agent_that_was_given_up_does_not_start_anything_before_what_it_still_runs_has_ended(tmp_path: Path) -> None:
    # The lease is lost while the cluster is dead: the stop fails again and again, later and later.
    for number, lasts_s in enumerate((91.0, 92.0, 93.0, 94.0)):
        (folder := tmp_path / str(number)).mkdir()
        faults = [on_sh(10, "cluster dead", lasts_s), on_sh(12, "server killed", 50)]
        network = told(folder, [asking(1, "job-lost"), asking(80, "job-next")], faults, lasting(job_lost=500.0))
        assert network.books.ends() == {"job-lost": "failed", "job-next": "succeeded"}


def test_a_census_that_arrives_late_loses_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    furnish(tmp_path / "cpn.sqlite", clock.now())
    plane = Plane(tmp_path / "cpn.sqlite", clock, audit=lambda: None, say=lambda _what: None)
    inventory = Inventory(nodes=MEMBERS["sh"][1])
    census = SyncRequest(agent_id="one", reachable=True, inventory=inventory, known_runs=())
    plane.take_in("sh", SyncRequest(agent_id="one", reachable=True, takes_over=True))
    plane.take_in("sh", census)
    plane.submit(asking(0, "job-a").spec, "job-a", key="a")
    assert plane.cycle.run().placed == 1
    begun = Observation(epoch=1, event=RunStarted(run_id="job-a-1", at=clock.now()))
    plane.take_in("sh", SyncRequest(agent_id="one", reachable=True, acknowledged=1, observations=(begun,)))
    plane.take_in("sh", census)
    ended = Observation(epoch=1, event=RunFinished(run_id="job-a-1", outcome="succeeded", at=clock.now()))
    plane.take_in("sh", SyncRequest(agent_id="one", reachable=True, acknowledged=1, observations=(ended,)))
    with plane.store.read() as conn:
        job = jobs.get_job(conn, "job-a")
    assert (job.state, job.attempts) == ("succeeded", 1)
    plane.kill()
