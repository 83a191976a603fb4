"""Gangs that are resized on a real Ray, by agents that are killed in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.protocol import GangSize, RunRequest, RunResized
from tests.network import until
from tests.ray import WAIT_S, Connection, RayAgent, SmallRay
from tests.ray_left import leaving_nothing
from tests.ray_runs import SEES_ITS_GANG, script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

FOLLOW = f"""
trap 'echo leaving; exit 3' TERM
echo began $WORLD_SIZE
{SEES_ITS_GANG}"""


def size(run: RunRequest, generation: int, workers: int) -> GangSize:
    return GangSize(generation=generation, nodes=run.nodes[:1] * workers)


def reached(member: Connection, run: RunRequest, generation: int) -> tuple[int | None, str]:
    """What was said when a change was over."""

    def found() -> list[RunResized]:
        return [event for event in member.events(run.run_id) if isinstance(event, RunResized) and event.generation == generation]

    until(lambda: found() or any(event.type == "finished" for event in member.events(run.run_id)), f"change {generation}", WAIT_S)
    assert found(), member.events(run.run_id)
    return found()[-1].workers, found()[-1].message


def seen(member: Connection, run: RunRequest) -> list[tuple[int, int]]:
    """(generation, size) as rank 0 read them."""
    lines = [line.partition("sees ")[2] for line in member.log(run.run_id).splitlines() if line.startswith("sees ")]
    return [(document["generation"], document["world_size"]) for document in map(json.loads, lines)]


def test_killed_agents_leave_gangs_at_their_size_whether_or_not_the_next_one_has_their_directory(
    ray_head: SmallRay, tmp_path: Path
) -> None:
    with RayAgent(tmp_path / "first.log") as killed:
        member = killed.connect(ray_head, tmp_path / "data")
        run = script(member.node(), FOLLOW, elastic=True)
        member.start(run)
        member.started(run.run_id)
        member.resize(run.run_id, size(run, 1, 3))
        assert reached(member, run, 1) == (3, "")
        until(lambda: (1, 3) in seen(member, run), "rank 0 knows of the others", WAIT_S)
        killed.kill()
    with RayAgent(tmp_path / "second.log") as killed:
        member = killed.connect(ray_head, tmp_path / "data")
        assert reached(member, run, 1) == (3, "")
        member.resize(run.run_id, size(run, 2, 2))
        assert reached(member, run, 2) == (2, "")
        assert "[rank 2] leaving" in member.log(run.run_id)
        member.resize(run.run_id, size(run, 3, 3))
        assert reached(member, run, 3) == (3, "")
        killed.kill()
    with RayAgent(tmp_path / "third.log") as agent:
        member = agent.connect(ray_head, tmp_path / "empty")
        member.unforgotten = {run.run_id}
        with leaving_nothing(member, ray_head):
            # An agent that knows nothing of it is told its size by the workers, and does nothing for an order that is carried out.
            member.resize(run.run_id, size(run, 3, 3))
            assert reached(member, run, 3) == (3, "")
            member.resize(run.run_id, size(run, 4, 1))
            assert reached(member, run, 4) == (1, "")
            until(lambda: (4, 1) in seen(member, run), "rank 0 knows that it is alone", WAIT_S)
            member.stop(run.run_id)
            assert member.end_of(run.run_id).outcome == "cancelled"
