"""What is left of runs that nobody wants any more: counted, removed, and nothing else with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backends.ray.sweeping import survey
from cluster.leftovers import Survey, orphans
from cluster.protocol import RunRequest
from tests.network import until
from tests.ray import WAIT_S, RayAgent, SmallRay, is_alive, processes_of
from tests.ray_runs import script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
STAYS = "trap '' TERM; setsid sleep 600 & touch here; wait\n"


@pytest.fixture
def abandoned(ray_head: SmallRay, tmp_path: Path) -> Iterator[RunRequest]:
    """A gang of two that goes on, with a process in a session of its own each, whose agent and journals are gone."""
    with RayAgent(tmp_path / "agent.log") as agent:
        connection = agent.connect(ray_head, tmp_path / "data")
        run = script(connection.node(), STAYS, workers=2)
        connection.start(run)
        until(lambda: len(list(ray_head.runs.glob(f"{run.run_id}-*/work/here"))) == 2, "both workers run", WAIT_S)
        agent.kill()
    yield run
    with RayAgent(tmp_path / "agent.log") as agent:
        connection = agent.connect(ray_head, tmp_path / "data")
        for adopted in connection.adopted:
            connection.forget(adopted.run_id)


def look(head: SmallRay, **more: object) -> Survey:
    return survey(head.address, head.token_file, **more)  # type: ignore[arg-type]


def test_orphans_are_counted_and_removed_and_nothing_else(abandoned: RunRequest, ray_head: SmallRay) -> None:
    found = look(ray_head)
    assert found.silent == ()
    assert orphans(found.found, {abandoned.run_id}, {abandoned.run_id}) == []
    left = orphans(found.found, set(), set())
    counted = Counter(item.kind for item in left)
    assert (counted["actor"], counted["directory"], counted["placement-group"]) == (2, 2, 0)
    assert counted["process"] >= 4, "of each worker the shell and what it put into another session"
    assert {item.run_id for item in left} == {abandoned.run_id}
    numbers = [int(item.name.split("/")[0]) for item in left if item.kind == "process"]
    assert all(is_alive(number) for number in numbers)

    after = look(ray_head, remove=left)
    assert orphans(after.found, set(), set()) == []
    assert after.cluster_id == found.cluster_id
    assert not [number for number in numbers if is_alive(number)]
    assert not list(ray_head.runs.glob(f"{abandoned.run_id}*"))
    until(lambda: not processes_of(f"/{abandoned.run_id}"), "its leashes have ended")
