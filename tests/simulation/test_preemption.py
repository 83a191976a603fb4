"""Preemption in a whole network: victims end, make room and begin again, whatever fails on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.model import Inventory
from cluster.protocol import Observation, RunFinished, RunStarted, SyncRequest
from scheduler.clock import ManualClock
from scheduler.store import evictions, jobs
from tests.simulation.network import furnish
from tests.simulation.plane import KilledError, Plane
from tests.simulation.script import DEATHS, HANDS, MEMBERS, SEPARATIONS, Happening, asking, lasting
from tests.simulation.stories import JOBS, drawn, told

LOWER = "lower-priority"


def test_the_urgent_runs_first_and_the_other_begins_again_without_losing_an_attempt(tmp_path: Path) -> None:
    arrivals = [asking(1, "job-a"), asking(20, "job-b", priority="high"), asking(21, "job-c", cpu=1, workers=1)]
    network = told(tmp_path, arrivals, [], lasting(job_a=100.0, job_b=30.0), preemption=LOWER)
    assert network.books.evictions() == [("job-b", "job-a")]
    ends = [(run, state) for _, run, state, _ in network.books.story() if state in ("preempted", "succeeded")]
    # The small one came while the room was being made, and did not slip in. The victim keeps its place before it.
    assert ends == [("job-a-1", "preempted"), ("job-b-1", "succeeded"), ("job-a-2", "succeeded"), ("job-c-1", "succeeded")]
    assert network.books.attempts()["job-a"] == (2, 1)
    moves = [(state, cause) for job, _, state, cause in network.books.story() if job == "job-b"]
    assert moves[1:4] == [("queued", "admitted"), ("queued", "claimed"), ("placed", "decided")]


def test_without_a_policy_the_urgent_waits(tmp_path: Path) -> None:
    network = told(tmp_path, [asking(1, "job-a"), asking(20, "job-b", priority="high")], [], lasting(job_a=60.0))
    assert network.books.evictions() == []
    assert network.books.attempts() == {"job-a": (1, 0), "job-b": (1, 0)}


@pytest.mark.parametrize("fault", ["cancel", "cluster dead"])
def test_room_is_kept_no_longer_than_somebody_can_use_it(tmp_path: Path, fault: str) -> None:
    # Number 1 of the known jobs is the one that room is made for; its claim must not keep job-c from the member.
    faults = [Happening(20.5 if fault == "cancel" else 22, fault, "sh", 70.0, 1)]
    arrivals = [
        asking(1, "job-a", attempts=3),
        asking(20, "job-b", priority="high", attempts=3),
        asking(30, "job-c", cpu=1, workers=1, attempts=3),
    ]
    network = told(tmp_path, arrivals, faults, lasting(job_a=40.0, job_b=10.0), preemption=LOWER)
    assert network.books.ends() == {"job-a": "succeeded", "job-b": "cancelled" if fault == "cancel" else "succeeded", "job-c": "succeeded"}


@pytest.mark.parametrize("seed", range(2))
def test_whatever_fails(tmp_path: Path, seed: int) -> None:
    everything(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1050))
def test_whatever_fails_in_many_more_ways(tmp_path: Path, seed: int) -> None:
    everything(seed, tmp_path)


def everything(seed: int, tmp_path: Path) -> None:
    """A story in which anything fails, jobs are ended for others, and every job comes to its end."""
    network = drawn(seed, tmp_path, SEPARATIONS + DEATHS + HANDS, preemption="reclaim-quota")
    assert len(network.books.ends()) == JOBS
    pairs = network.books.evictions()
    assert not [pair for pair in pairs if pair[::-1] in pairs]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_server_that_ends_at_the_commit_of_an_eviction_has_decided_it_or_not(tmp_path: Path, moment: str) -> None:
    clock = ManualClock()
    furnish(tmp_path / "cpn.sqlite", clock.now(), LOWER)
    plane = Plane(tmp_path / "cpn.sqlite", clock, audit=lambda: None, say=lambda _what: None)

    def sync(*events: RunStarted | RunFinished, takes_over: bool = False, census: tuple[str, ...] | None = None, upto: int = 0) -> None:
        observations = tuple(Observation(epoch=1, event=event) for event in events)
        inventory = Inventory(nodes=MEMBERS["sh"][1]) if census is not None else None
        plane.take_in("sh", SyncRequest(
            agent_id="one", reachable=True, takes_over=takes_over, inventory=inventory, known_runs=census, observations=observations,
            acknowledged=upto,
        ))  # fmt: skip

    sync(takes_over=True, census=())
    plane.submit(asking(0, "job-a").spec, "job-a", key="a")
    assert plane.cycle.run().placed == 1
    sync(RunStarted(run_id="job-a-1", at=clock.now()), upto=1)
    plane.submit(asking(0, "job-b", priority="high").spec, "job-b", key="b")
    plane.store.dies = moment  # type: ignore[assignment]
    with pytest.raises(KilledError):
        plane.cycle.run()
    plane.kill()
    plane.start()
    sync(takes_over=True, census=("job-a-1",))
    plane.submit(asking(0, "job-c", cpu=1, workers=1).spec, "job-c", key="c")
    report = plane.cycle.run()
    assert (report.placed, dict(report.evicted)) == (0, {LOWER: 1} if moment == "before" else {})
    assert [(item.action, item.run_id, item.outcome) for item in plane._pending("sh")] == [("stop", "job-a-1", "preempted")]
    sync(RunFinished(run_id="job-a-1", outcome="preempted", category="preempted", at=clock.now()))
    assert plane.cycle.run().placed == 1
    with plane.store.read() as conn:
        found = {name: jobs.get_job(conn, name) for name in ("job-a", "job-b", "job-c")}
        assert evictions.claims_of(conn, clock.now()) == []
    assert {name: job.state for name, job in found.items()} == {"job-a": "queued", "job-b": "placed", "job-c": "queued"}
    assert (found["job-a"].attempts, found["job-a"].spared) == (1, 1)
    plane.kill()
