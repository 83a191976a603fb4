"""Copies on real Ray: told with the inventory, held while a run reads them, removed when they may not lie there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.replicas import CacheState
from tests.network import until
from tests.ray import WAIT_S, Connection, RayAgent, SmallRay
from tests.ray_runs import input_file, script, statement

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
MIB = 1024**2


@pytest.fixture
def member(ray_head: SmallRay, tmp_path: Path) -> Iterator[Connection]:
    """A cluster whose agent lets copies take 3 MiB."""
    with RayAgent(tmp_path / "agent.log") as agent:
        yield agent.connect(ray_head, tmp_path / "data", limits={"capacity_bytes": 3 * MIB})


def told(member: Connection) -> CacheState | None:
    return member.inventory().cache


def test_copies_are_told_held_and_removed(member: Connection, tmp_path: Path) -> None:
    node = member.node()
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    for path in (first, second):
        path.write_text("word\n" + f"{path.stem}-{tmp_path}\n" * (2 * MIB // len(f"{path.stem}-{tmp_path}\n")))
    one, other = (input_file(path, local=False, source="gz") for path in (first, second))
    end = member.run(statement(node, "SELECT count(*) AS n FROM words", {"words": one}))
    assert (end.outcome, [transfer.source for transfer in end.usage.transfers]) == ("succeeded", ["gz"])

    def holds(*versions: str) -> bool:
        state = told(member)
        return state is not None and state.capacity_bytes == 3 * MIB and set(state.versions) >= set(versions)

    until(lambda: holds(one.sha256), "the copy is told", WAIT_S)
    reading = script(node, "touch here; until [ -e go ]; do sleep 0.05; done", inputs={"words": one})
    member.start(reading)
    member.started(reading.run_id)
    member.refuse_copies((one.sha256,))
    assert holds(one.sha256), "a run reads it"
    member.stop(reading.run_id)
    assert member.end_of(reading.run_id).usage.cache.hits == 1
    until(lambda: (state := told(member)) is not None and one.sha256 not in state.versions, "the copy is removed", WAIT_S)
    end = member.run(statement(node, "SELECT count(*) AS n FROM words", {"words": other}))
    assert (end.outcome, end.usage.cache.misses) == ("succeeded", 1)
