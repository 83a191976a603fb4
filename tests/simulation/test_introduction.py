"""How an agent is introduced to a control plane: it takes over, it names its runs, and only then its cluster takes work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.model import Inventory
from cluster.protocol import Instruction, Observation, RunFinished, RunStarted, SyncRequest
from scheduler.clock import ManualClock
from scheduler.reconcile import Reconciled, sweep
from scheduler.store import fleet, jobs, outbox
from tests.simulation.network import furnish
from tests.simulation.plane import POLICY, Plane
from tests.simulation.script import MEMBERS
from tests.virtual_time import in_virtual_time
from workloads.spec import JobSpec

INVENTORY = Inventory(nodes=MEMBERS["sh"][1])


class Talk:
    """What agents of the member sh say to a control plane, and what it makes of that."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.clock, self.path, self.began = clock, path, clock.now()
        furnish(path, clock.now())
        self.plane = Plane(path, clock, audit=lambda: None, say=lambda _what: None)

    def says(self, agent_id: str = "one", *, reachable: bool = True, **fields: Any) -> Reconciled:
        return self.plane.take_in("sh", SyncRequest(agent_id=agent_id, reachable=reachable, **fields))

    def introduce(self, agent_id: str = "one", *known: str) -> Reconciled:
        """Both calls of an introduction; what the census changed."""
        self.says(agent_id, takes_over=True)
        return self.says(agent_id, inventory=INVENTORY, known_runs=known)

    def placed(self, job_id: str) -> str:
        """Submit a job that only sh may take and let it be placed; its run."""
        spec = JobSpec.model_validate({
            "name": "j", "tenant": "acme", "kind": "command", "command": ["true"], "purpose": "research", "placement": {"clusters": ["sh"]},
        })  # fmt: skip
        self.plane.submit(spec, job_id, key=job_id)
        assert self.plane.cycle.run().placed == 1
        return self.state(job_id)[1]

    def state(self, job_id: str) -> tuple[str, str]:
        with self.plane.store.read() as conn:
            job = jobs.get_job(conn, job_id)
        return job.state, job.run_id or ""

    @property
    def health(self) -> str:
        with self.plane.store.read() as conn:
            return fleet.get_cluster(conn, "sh").health.value

    @property
    def detail(self) -> str:
        with self.plane.store.read() as conn:
            return fleet.get_cluster(conn, "sh").detail

    @property
    def orders(self) -> list[tuple[str, str]]:
        """(action, run) of what waits to be carried out."""
        with self.plane.store.read() as conn:
            return [(item.action, item.run_id) for item in self.pending(conn)]

    @staticmethod
    def pending(conn: Any) -> tuple[Instruction, ...]:
        return outbox.pending(conn, "sh")

    def sweep(self, after_s: float) -> None:
        self.clock.advance(after_s)
        self.plane.write(lambda tx: sweep(tx, self.plane.bells, self.clock.now(), POLICY, self.began))

    def restart(self) -> None:
        self.plane.kill()
        self.plane.start()
        self.began = self.clock.now()


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    found = Talk(tmp_path / "cpn.sqlite", ManualClock())
    yield found
    found.plane.kill()


def test_a_cluster_takes_work_when_its_agent_has_taken_over_and_named_its_runs(talk: Talk) -> None:
    seen = [talk.health]
    first = talk.says(takes_over=True)
    seen.append(talk.health)
    second = talk.says(inventory=INVENTORY, known_runs=())
    seen.append(talk.health)
    assert seen == ["suspect", "suspect", "healthy"]
    assert [(done.superseded, done.census_wanted) for done in (first, second)] == [(False, True), (False, False)]
    assert talk.placed("job-a") == "job-a-1"


def test_who_has_not_taken_over_changes_nothing(talk: Talk) -> None:
    talk.introduce()
    run = talk.placed("job-a")
    ended = Observation(epoch=1, event=RunFinished(run_id=run, outcome="failed", at=talk.clock.now()))
    stranger = talk.says("two", known_runs=(), acknowledged=99, observations=(ended,), inventory=Inventory(nodes=()))
    assert stranger == Reconciled(superseded=True)
    assert (talk.state("job-a")[0], talk.orders, talk.health) == ("placed", [("start", run)], "healthy")


def test_an_agent_that_cannot_begin_says_why_where_no_other_does_better(talk: Talk) -> None:
    talk.says("one", reachable=False, detail="no route to the cluster")
    assert (talk.health, talk.detail) == ("suspect", "no route to the cluster")
    talk.introduce("two")
    talk.says("one", reachable=False, detail="no route to the cluster")
    assert (talk.health, talk.detail) == ("healthy", "")


def test_the_next_agent_inherits_what_it_names_and_what_is_to_be_started_and_the_rest_is_lost(talk: Talk) -> None:
    talk.introduce()
    found, gone = talk.placed("job-found"), talk.placed("job-gone")
    talk.says(acknowledged=2)
    waiting = talk.placed("job-waiting")
    done = talk.introduce("two", found)
    assert done.ended == [(gone, "lost", "run_lost")]
    assert [talk.state(job)[0] for job in ("job-found", "job-gone", "job-waiting")] == ["placed", "queued", "placed"]
    assert talk.orders == [("start", waiting)]
    assert talk.says("one").superseded


def test_what_should_not_run_is_stopped_and_forgotten(talk: Talk) -> None:
    talk.introduce()
    run = talk.placed("job-a")
    talk.says(acknowledged=1)
    talk.sweep(POLICY.lost_after_s)
    assert talk.state("job-a") == ("queued", run)
    talk.introduce("two", "never-heard-of-1", run)
    assert talk.orders == [("stop", run), ("forget", run), ("forget", "never-heard-of-1")]


def test_a_cluster_that_was_given_up_has_to_name_its_runs_before_it_takes_work_again(talk: Talk) -> None:
    talk.introduce()
    run = talk.placed("job-a")
    talk.says(acknowledged=1)
    talk.sweep(POLICY.lost_after_s)
    assert talk.health == "lost"
    assert talk.says().census_wanted
    assert (talk.health, talk.plane.cycle.run().placed) == ("suspect", 0)
    talk.sweep(1.0)
    assert talk.health == "suspect"
    talk.says(known_runs=(run,))
    assert (talk.health, talk.orders[0]) == ("healthy", ("stop", run))
    assert talk.plane.cycle.run().placed == 1


def test_an_agent_whose_cluster_is_silent_is_not_asked_for_its_runs(talk: Talk) -> None:
    talk.introduce()
    talk.sweep(POLICY.lost_after_s)
    assert not talk.says(reachable=False, detail="no answer").census_wanted
    assert talk.says().census_wanted


def test_a_server_that_begins_wants_all_runs_named(talk: Talk) -> None:
    talk.introduce()
    run = talk.placed("job-a")
    talk.says(acknowledged=1)
    talk.restart()
    assert talk.says().census_wanted
    assert talk.health == "suspect"
    done = talk.says(known_runs=(run,))
    assert (talk.health, done.ended, talk.state("job-a")) == ("healthy", [], ("placed", run))


@pytest.mark.parametrize(("policy", "kept"), [("stop", False), ("continue", True)])
def test_runs_that_go_on_without_a_lease_outlast_a_server_that_was_away_for_long(talk: Talk, policy: str, kept: bool) -> None:
    with talk.plane.store.read() as conn:
        spec = fleet.get_cluster(conn, "sh").spec.model_copy(update={"on_lease_lost": policy})
    talk.plane.write(lambda tx: fleet.update_cluster(tx.conn, "sh", spec=spec))
    talk.introduce()
    run = talk.placed("job-a")
    assert talk.says(acknowledged=1).on_lease_lost == policy
    talk.clock.advance(10 * POLICY.lost_after_s)
    talk.restart()
    talk.sweep(1.0)
    assert (talk.health, talk.state("job-a")[0]) == (("suspect", "placed") if kept else ("lost", "queued"))
    talk.says(known_runs=(run,))
    assert talk.health == "healthy"
    assert talk.state("job-a")[0] == ("placed" if kept else "queued")
    talk.sweep(POLICY.lost_after_s)
    assert talk.health == "lost", "from then on silence counts as anywhere else"


@pytest.mark.parametrize("repeated", [{"takes_over": True}, {"known_runs": ()}, {"known_runs": (), "acknowledged": 0}])
def test_what_an_agent_said_at_its_beginning_changes_nothing_when_it_arrives_again_later(talk: Talk, repeated: dict[str, Any]) -> None:
    talk.introduce()
    run = talk.placed("job-a")
    begun = Observation(epoch=1, event=RunStarted(run_id=run, at=talk.clock.now()))
    talk.says(acknowledged=1, observations=(begun,))
    again = talk.says(**repeated)
    assert again == Reconciled()
    assert (talk.state("job-a"), talk.health, talk.orders) == (("running", run), "healthy", [])


def test_the_parked_call_of_an_agent_ends_when_another_takes_over(tmp_path: Path) -> None:
    clock = ManualClock()

    async def scenario() -> None:
        talk = Talk(tmp_path / "cpn.sqlite", clock)
        talk.introduce()
        parked = asyncio.create_task(talk.plane.sync("sh", SyncRequest(agent_id="one", reachable=True, wait_s=5.0)))
        await asyncio.sleep(1.0)
        began = clock.now()
        talk.says("two", takes_over=True)
        reply = await parked
        assert (reply.superseded, reply.instructions) == (True, ())
        assert clock.now() - began < 0.1
        talk.plane.kill()

    in_virtual_time(scenario, clock)
