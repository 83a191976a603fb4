"""Gangs that are resized in a whole network: they grow, give back and come to their end, whatever fails on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.model import Inventory
from cluster.protocol import Observation, RunFinished, RunResized, RunStarted, SyncRequest
from scheduler.clock import ManualClock
from scheduler.lifecycle import State
from scheduler.resizing import LOOK_AGAIN_S
from scheduler.store import evictions, jobs
from scheduler.store.records import JobRecord, RunRecord
from tests.simulation.network import furnish
from tests.simulation.plane import KilledError, Plane
from tests.simulation.script import DEATHS, HANDS, MEMBERS, SEPARATIONS, asking, lasting
from tests.simulation.stories import JOBS, drawn, told

ELASTIC = {"min": 1, "max": 8}
INVENTORY = Inventory(nodes=MEMBERS["sh"][1], resizes=True)


def test_a_gang_grows_when_others_end_and_gives_back_when_others_come(tmp_path: Path) -> None:
    # The member sh has two nodes of four cores.
    arrivals = [asking(0, "job-a", workers=1), asking(1, "job-b", cpu=2, workers=ELASTIC), asking(40, "job-c", workers=1)]
    network = told(tmp_path, arrivals, [], lasting(job_a=20.0, job_b=100.0, job_c=10.0))
    assert [message.partition(":")[0] for _, message in network.books.resizes()] == [
        "growing from 2 to 4 workers", "grown from 2 to 4 workers", "shrinking from 4 to 2 workers", "shrunk from 4 to 2 workers",
        "growing from 2 to 4 workers", "grown from 2 to 4 workers",
    ]  # fmt: skip
    assert set(network.books.ends().values()) == {"succeeded"}


@pytest.mark.parametrize("seed", range(2))
def test_whatever_fails(tmp_path: Path, seed: int) -> None:
    everything(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2050))
def test_whatever_fails_in_many_more_ways(tmp_path: Path, seed: int) -> None:
    everything(seed, tmp_path)


def everything(seed: int, tmp_path: Path) -> None:
    """A story in which anything fails, gangs are resized and runs are ended for others, and every job comes to its end."""
    network = drawn(seed, tmp_path, SEPARATIONS + DEATHS + HANDS, preemption="lower-priority", elastic=True)
    assert len(network.books.ends()) == JOBS


class Talk:
    """What an agent of the member sh says to a control plane about one gang."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        furnish(path, self.clock.now())
        self.plane = Plane(path, self.clock, audit=lambda: None, say=lambda _what: None)
        self.begins()
        self.plane.submit(asking(0, "job-a", workers=1, cpu=2).spec, "job-a", key="a")
        self.plane.submit(asking(0, "job-b", workers={"min": 1, "max": 3}, cpu=3).spec, "job-b", key="b")
        assert self.plane.cycle.run().placed == 2
        self.says(RunStarted(run_id="job-a-1", at=self.clock.now()), RunStarted(run_id="job-b-1", at=self.clock.now()), upto=2)
        assert len(self.run.nodes) == 1

    def begins(self, *known: str) -> None:
        """An agent takes over and names its runs."""
        self.plane.take_in("sh", SyncRequest(agent_id="one", reachable=True, takes_over=True))
        self.plane.take_in("sh", SyncRequest(agent_id="one", reachable=True, inventory=INVENTORY, known_runs=known))

    def says(self, *events: RunStarted | RunFinished | RunResized, upto: int = 0) -> list[tuple[str, str]]:
        """What the server makes of events: which changes of size they end."""
        observations = tuple(Observation(epoch=1, event=event) for event in events)
        report = SyncRequest(agent_id="one", reachable=True, observations=observations, acknowledged=upto)
        return [tuple(item) for item in self.plane.take_in("sh", report).resized]

    def reached(self, generation: int, workers: int | None, message: str = "") -> list[tuple[str, str]]:
        """The agent answers an order."""
        event = RunResized(run_id="job-b-1", generation=generation, workers=workers, message=message, at=self.clock.now())
        return self.says(event)

    @property
    def run(self) -> RunRecord:
        with self.plane.store.read() as conn:
            found = jobs.get_run(conn, "job-b-1")
        assert found is not None
        return found

    def job(self, job_id: str = "job-b") -> JobRecord:
        with self.plane.store.read() as conn:
            return jobs.get_job(conn, job_id)

    def orders(self) -> list[tuple[int, int]]:
        """(generation, workers) of the sizes that the agent has been told and has not acknowledged."""
        return [(item.size.generation, len(item.size.nodes)) for item in self.plane._pending("sh") if item.size is not None]

    def ends(self, job_id: str) -> None:
        self.says(RunFinished(run_id=f"{job_id}-1", outcome="succeeded", at=self.clock.now()))


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path / "cpn.sqlite")


def test_books_hold_what_joins_from_the_order_on_and_pay_for_it_from_its_arrival(talk: Talk) -> None:
    talk.clock.advance(10)
    talk.ends("job-a")
    talk.plane.cycle.run()
    run, sizing = talk.run, talk.run.sizing
    assert sizing is not None
    assert (len(run.nodes), sizing.workers, talk.orders()) == (2, 1, [(1, 2)])
    assert talk.job().state == State.RUNNING
    # Nothing else is ordered, nor is an older or a newer answer taken for this one's.
    talk.plane.cycle.run()
    assert (talk.orders(), talk.reached(0, 2), talk.reached(2, 2)) == ([(1, 2)], [], [])
    talk.clock.advance(10)
    assert talk.reached(1, 2) == [("grown", "idle-room")]
    assert talk.reached(1, 2) == []
    sizing = talk.run.sizing
    assert sizing is not None
    assert (sizing.workers, sizing.peak, sizing.pending) == (2, 2, None)
    talk.clock.advance(30)
    run = talk.run
    assert run.started_at is not None
    assert sizing.used(run.started_at, talk.clock.now()) == pytest.approx(20.0 + 2 * 30.0)


def test_a_gang_that_cannot_grow_keeps_what_it_has_and_is_left_alone_for_a_while(talk: Talk) -> None:
    talk.ends("job-a")
    talk.plane.cycle.run()
    assert talk.reached(1, 1, "node n2 is gone") == [("refused", "idle-room")]
    assert (len(talk.run.nodes), talk.job().state, talk.job().message) == (1, "running", "stays at 1 workers instead of 2: node n2 is gone")
    talk.plane.cycle.run()
    assert talk.run.sizing is not None
    assert talk.run.sizing.pending is None
    talk.clock.advance(5)
    talk.plane.cycle.run()
    assert talk.orders()[-1] == (2, 2)
    # An agent whose backend broke says that the size is what it was.
    assert talk.reached(2, None) == [("refused", "idle-room")]
    assert len(talk.run.nodes) == 1


def test_who_found_no_room_is_looked_at_again_when_something_is_heard_of_or_after_a_while(talk: Talk) -> None:
    def looks(*, woken: bool) -> bool:
        return bool(talk.plane.cycle.run(woken=woken).steps)

    assert looks(woken=False)
    assert not looks(woken=False)
    assert looks(woken=True)
    talk.clock.advance(LOOK_AGAIN_S / 2)
    assert not looks(woken=False)
    talk.clock.advance(LOOK_AGAIN_S / 2)
    assert looks(woken=False)
    talk.ends("job-a")
    assert looks(woken=True)
    assert talk.orders() == [(1, 2)]


def test_room_of_workers_that_leave_is_free_when_the_agent_says_so(talk: Talk) -> None:
    talk.ends("job-a")
    talk.plane.cycle.run()
    talk.reached(1, 2)
    talk.plane.submit(asking(0, "job-c", workers=1, cpu=4).spec, "job-c", key="c")
    assert talk.plane.cycle.run().placed == 0
    assert (talk.orders()[-1], len(talk.run.nodes)) == ((2, 1), 2)
    assert talk.job("job-c").cause == "claimed"
    assert "1 worker of running gangs leave" in talk.job("job-c").message
    # An agent that begins is told again; nobody else slips in meanwhile.
    talk.begins("job-b-1")
    assert talk.orders()[-2:] == [(2, 1), (2, 1)]
    talk.plane.submit(asking(0, "job-d", workers=1, cpu=2, priority="high").spec, "job-d", key="d")
    assert talk.plane.cycle.run().placed == 0
    assert talk.reached(2, 1) == [("shrunk", "grown-room")]
    assert talk.plane.cycle.run().placed == 1
    assert (talk.job("job-c").state, talk.job("job-d").state) == ("placed", "queued")
    with talk.plane.store.read() as conn:
        assert evictions.claims_of(conn, talk.clock.now()) == []


def test_a_run_that_ends_while_it_is_resized_is_charged_for_what_it_had(talk: Talk) -> None:
    talk.ends("job-a")
    talk.plane.cycle.run()
    talk.clock.advance(60)
    talk.ends("job-b")
    assert talk.job().state == "succeeded"
    assert talk.reached(1, 2) == [], "too late"
    assert talk.plane.cycle.run().placed == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_server_that_ends_at_the_commit_of_a_change_has_decided_it_or_not(talk: Talk, moment: str) -> None:
    talk.ends("job-a")
    talk.plane.store.dies = moment  # type: ignore[assignment]
    with pytest.raises(KilledError):
        talk.plane.cycle.run()
    talk.plane.kill()
    talk.plane.start()
    talk.begins("job-b-1")
    talk.plane.cycle.run()
    assert len(talk.run.nodes) == 2
    assert set(talk.orders()) == {(1, 2)}
    assert talk.reached(1, 2) == [("grown", "idle-room")]
    assert talk.job().message == "grown from 1 to 2 workers: nobody waits for the room"
