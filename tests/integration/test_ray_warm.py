"""Warm supervisors on a real Ray: one serves many runs, holds their room while they last, and leaves nothing, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.protocol import RunFinished, RunLog, RunRequest
from tests.network import until
from tests.ray import CPUS, WAIT_S, Connection, RayAgent, SmallRay, is_alive, parent_of, processes_of
from tests.ray_left import leaving_nothing
from tests.ray_runs import script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

# It says its leash, whose parent is the supervisor, and goes on when the test tells it to.
TALK = "echo $PPID; while [ ! -e go ]; do sleep 0.1; done\n"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RayAgent]:
    with RayAgent(tmp_path / "agent.log") as agent:
        yield agent


def outcome(end: RunFinished) -> tuple[str, str | None]:
    return end.outcome, end.category


def supervisor_of(member: Connection, run: RunRequest) -> int:
    """The process that serves a run of TALK."""
    return parent_of(int(member.first(run.run_id, RunLog).text))


def let_go(head: SmallRay, run: RunRequest) -> None:
    for folder in head.runs.glob(f"{run.run_id}-*"):
        (folder / "work" / "go").touch()


def waiting(head: SmallRay) -> set[int]:
    """The processes of warm supervisors, those that serve included."""
    return {pid for pid, line in head.processes().items() if line.startswith("ray::WarmSupervisor")}


def test_one_process_serves_run_after_run_and_ray_knows_what_is_taken(ray_head: SmallRay, agent: RayAgent, tmp_path: Path) -> None:
    member = agent.connect(ray_head, tmp_path / "data", warm_workers=0, idle_s=600.0)
    node = member.node()
    served = []
    with leaving_nothing(member, ray_head):
        for _ in range(4):
            run = script(node, TALK, cpu=3.0)
            member.start(run)
            served.append(supervisor_of(member, run))
            until(lambda: member.taken() == (3.0, 1), f"Ray counts its cores: {member.taken()}")
            let_go(ray_head, run)
            assert outcome(member.end_of(run.run_id)) == ("succeeded", None)
            until(lambda: member.taken() == (0.0, 0), f"nothing is taken: {member.taken()}")
    assert len({*served}) <= 2, "another one is made only while the last has not come back yet"
    assert {*served} <= waiting(ray_head), "who served waits again"


def test_a_run_starts_when_there_is_room_and_fails_when_there_never_is(ray_head: SmallRay, agent: RayAgent, tmp_path: Path) -> None:
    member = agent.connect(ray_head, tmp_path / "data")
    node = member.node()
    with leaving_nothing(member, ray_head):
        first, second = script(node, TALK, cpu=6.0), script(node, "true", cpu=6.0)
        member.start(first)
        member.started(first.run_id)
        member.start(second)
        let_go(ray_head, first)
        assert [outcome(member.end_of(run.run_id)) for run in (first, second)] == [("succeeded", None)] * 2
    member.close()
    member = agent.connect(ray_head, tmp_path / "data", start_limit_s=1.0)
    with leaving_nothing(member, ray_head):
        end = member.run(script(node, "true", cpu=CPUS + 1.0))
        assert outcome(end) == ("failed", "start_failed")
        assert "is something else using the node?" in end.message
        until(lambda: member.taken() == (0.0, 0), f"nothing is taken: {member.taken()}")


def test_room_is_free_when_agent_and_supervisor_are_dead(ray_head: SmallRay, agent: RayAgent, tmp_path: Path) -> None:
    member = agent.connect(ray_head, tmp_path / "data")
    run = script(member.node(), TALK, cpu=float(CPUS))
    member.start(run)
    supervisor = supervisor_of(member, run)
    agent.kill()
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not is_alive(supervisor) and not processes_of(run.run_id), "supervisor and command are gone", WAIT_S)
    with RayAgent(tmp_path / "second.log") as following:
        member = following.connect(ray_head, tmp_path / "another")
        assert run.run_id not in {known.run_id for known in member.adopted}
        until(lambda: member.taken() == (0.0, 0), f"nothing is taken: {member.taken()}")
        with leaving_nothing(member, ray_head):
            assert outcome(member.run(script(member.node(), "true", cpu=float(CPUS)))) == ("succeeded", None)


def test_as_many_wait_as_were_needed_of_late_and_then_one(ray_head: SmallRay, agent: RayAgent, tmp_path: Path) -> None:
    member = agent.connect(ray_head, tmp_path / "data", idle_s=0.5)
    with leaving_nothing(member, ray_head):
        assert outcome(member.run(script(member.node(), "true", workers=3))) == ("succeeded", None)
    until(lambda: len(waiting(ray_head)) == 1, f"one supervisor waits: {waiting(ray_head)}", WAIT_S)
