"""Kills by seed, on a real Ray, from the order to start a run until it is forgotten: nothing lost, done twice or left behind.

Each seed is one kill: which process (or the network), at which stage of a run of which kind. One that fails says how to do it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kills.blows import CHEAP, DEAR, NODE, Shot, chosen, reach
from tests.kills.cable import Cut
from tests.kills.field import TIMINGS, Field, Target
from tests.kills.second_node import SecondNode
from tests.network import until
from tests.ray import WAIT_S, SmallRay, running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
# In `make test` the cheap ones; in `make test-all` these and two hundred of all kinds.
FEW, MANY, OF_A_NODE = 30, 191, 9


@pytest.fixture(scope="module")
def field(ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A network that many kills use."""
    with Field(tmp_path_factory.mktemp("field"), ray_head) as opened:
        yield opened
        check_books(opened)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """The same with a Ray of its own, which may be killed too."""
    folder = tmp_path_factory.mktemp("mortal")
    with running(SmallRay("mortal", folder / "head")) as head, Field(folder, head) as opened:
        yield opened
        check_books(opened)


@pytest.fixture(scope="module")
def wide(ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """The same with a second node, on which all runs are."""
    folder = tmp_path_factory.mktemp("wide")
    second = SecondNode(ray_head, folder / "node.log")
    try:
        second.start()
        with Field(folder, ray_head, second) as opened:
            yield opened
            check_books(opened)
    finally:
        second.close()


def fire(field: Field, shots: Sequence[Shot], seed: int) -> None:
    """One kill; what became of its job is checked then."""
    field.recover()
    shot, by = chosen(shots, seed)
    shot.aim(field, by)
    target = field.submit(shot.kind, f"seed-{seed}")
    print(f"seed {seed}: {shot}, {target.id}")
    reach(field, target, shot.stage)
    began = time.monotonic()
    shot.strike(field, target, by)
    field.recover()
    # Agent and server that found each other again later than the lease have lost the run, as they should.
    spared = shot.spares and time.monotonic() - began < TIMINGS["lease_s"]
    field.ledger.let_go(target.id)
    field.until_state(target)
    check_job(field, target, shot, spared=spared)
    until(lambda: not field.left(target), f"nothing of {target.id} is left on the node: {field.left(target)}", WAIT_S)


def check_job(field: Field, target: Target, shot: Shot, *, spared: bool) -> None:
    """It succeeded, once; no two attempts lived at once; and where nothing may be lost there was one, which did its work once."""
    job = field.network.job(target.id)
    story = f"{shot}: {job['message']} {field.network.moves(target.id)} {field.ledger.lines(target.id)}"
    assert [run["state"] for run in job["runs"]].count("succeeded") == 1, story
    assert job["state"] == "succeeded", story
    assert not field.ledger.done(target.id, "overlap"), story
    for word in ("begin", "end"):
        for run_id, lines in field.ledger.done(target.id, word).items():
            assert sorted(line.rank for line in lines) == sorted({line.rank for line in lines}), f"{run_id} did it twice; {story}"
    if spared:
        assert job["attempts"] == 1, story
    if target.kind != "sql":
        done = [run_id for run_id, lines in field.ledger.done(target.id, "end").items() if len(lines) == target.workers]
        # Work that was done may be done again only where its end was still to be told when what knew of it was killed.
        assert done == [job["run_id"]] or (not spared and shot.stage == "ended" and done[-1] == job["run_id"]), story


def check_books(field: Field) -> None:
    """All that was acknowledged is there, over, and paid for once; nothing is left at the cluster."""
    ids = {target.id for target in field.jobs}
    assert {row[0] for row in field.stored("SELECT id FROM jobs WHERE state = 'succeeded'")} == ids
    assert field.stored("SELECT count(*) FROM runs WHERE state IN ('placed', 'starting', 'running')") == [(0,)]
    assert field.stored("SELECT job_id FROM runs WHERE state = 'succeeded' GROUP BY job_id HAVING count(*) > 1") == []
    assert sorted(row[0] for row in field.stored("SELECT job_id FROM receipts")) == sorted(ids)
    report = field.orphans()
    assert (report.orphans, report.silent) == ([], [])


@pytest.mark.parametrize("seed", range(FEW))
def test_a_kill_costs_nothing(field: Field, seed: int) -> None:
    fire(field, CHEAP, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MANY))
def test_a_kill_of_anything_costs_nothing(mortal: Field, seed: int) -> None:
    fire(mortal, CHEAP + DEAR, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(OF_A_NODE))
def test_a_killed_node_costs_no_more_than_an_attempt(wide: Field, seed: int) -> None:
    fire(wide, NODE, seed)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["broken", "silent"])
def test_where_runs_go_on_without_a_lease_a_result_that_comes_too_late_is_refused(ray_head: SmallRay, tmp_path: Path, cut: Cut) -> None:
    with Field(tmp_path, ray_head, on_lease_lost="continue") as field:
        target = field.submit("command", "goes-on")
        field.until_begun(target)
        field.cable.cut(cut)
        until(lambda: field.network.cluster("sh")["health"] == "lost", "the run is given up", WAIT_S)
        assert field.processes(target), "it goes on"
        field.until_ended(target)
        field.recover()
        field.until_state(target)
        runs = field.network.job(target.id)["runs"]
        assert [run["state"] for run in runs] == ["lost", "succeeded"]
        assert list(field.ledger.done(target.id, "end")) == [run["id"] for run in runs], "both did the work, and one counts"
        check_books(field)
