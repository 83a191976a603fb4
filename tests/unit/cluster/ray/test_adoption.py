"""What becomes of a run whose agent died before, or while, its work was begun: it never begins unasked, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray.gang_attempt import GangAttempt
from cluster.backends.ray.pool import SQL_PREFIX, WarmPool
from cluster.backends.ray.seats import WARM_PREFIX, Supervisors
from cluster.backends.ray.sql_attempt import SqlAttempt
from cluster.backends.ray.sql_line import SqlLine
from cluster.protocol import RunEvent, RunFinished
from cluster.runs.attempt import Attempt
from cluster.runs.journal import Journals
from cluster.runs.outbox import Batch
from tests.ray_runs import command, statement
from tests.unit.cluster.ray.actors import NODE, NearSession, Spawner, run

RUN, STATEMENT = command("node", "true", run_id="job-a-1"), statement("node", "SELECT 1", run_id="job-a-1")
WORKER = "cpn-run-job-a-1-0"
DONE: Batch = {"started": 1.0, "finished": {"outcome": "succeeded", "category": None, "message": "", "at": 2.0}}


class Worker:
    """A supervisor, or a worker for statements: how often it was told to begin."""

    def __init__(self, name: str) -> None:
        self.name, self.serves, self.begun = name, "", 0
        self._told = asyncio.Event()

    async def warm(self) -> None:
        return

    async def take(self, worker: str, *_rest: object) -> str:
        self.serves = worker
        return ""

    async def seated(self, _worker: str) -> str:
        return ""

    async def let_go(self, _worker: str) -> bool:
        return True

    async def ask(self, _worker: str, method: str, _arguments: Sequence[Any]) -> tuple[Any, ...]:
        if method == "prepare":
            return (not self._told.is_set(),)
        if method in ("begin", "go") and not self._told.is_set():
            self.begun += 1
            self._told.set()
        if method == "next":
            await self._told.wait()
            return (DONE,)
        return (7000 if method == "ready" else None,)

    def end(self) -> None:
        """It was let go by an earlier agent, and is done."""
        self._told.set()

    async def run(self, requests: Sequence[dict[str, Any]], *_rest: object) -> dict[str, Batch]:
        self.begun += len(requests)
        return {request["run_id"]: {**DONE} for request in requests}


class Place(Spawner):
    """A cluster with a worker of each kind, and the disk of its agents."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.session, self.journals, self.events = NearSession(), Journals(folder), list[RunEvent]()
        self.nodes = {"node": NODE}
        self.pools = {prefix: WarmPool(self.session, prefix, self._make, 0, self.spawn) for prefix in (SQL_PREFIX, WARM_PREFIX)}
        self.crew = Supervisors(self.session, self.pools[WARM_PREFIX], 30.0, self.spawn)
        for prefix, pool in self.pools.items():
            pool.include(f"{prefix}1", NODE, self._make(f"{prefix}1", ""))

    def _make(self, name: str, _node: str) -> Worker:
        self.session.actors[name] = worker = Worker(name)
        return worker

    @property
    def begun(self) -> int:
        return sum(worker.begun for worker in self.session.actors.values())

    async def adopt(self, kind: str, asked: str | None, *, seated: bool = False) -> Attempt:
        """The run as a new agent finds it: its journal says that it was accepted, and whether somebody was asked to work."""
        wanted = STATEMENT if kind == "sql" else RUN
        journal = self.journals.open("job-a-1")
        journal.begin(wanted)
        if asked is not None:
            journal.ask(asked)
        journal.close()
        if seated:
            self.session.actors[f"{WARM_PREFIX}1"].serves = WORKER
            seat = await self.crew.seat(RUN, 0, 0, NODE)
            await seat.ask("ready")
        attempt: Attempt
        if kind == "sql":
            pool = self.pools[SQL_PREFIX]
            line = SqlLine(self.session, pool, self.spawn)
            attempt = SqlAttempt(wanted, self.session, self.journals, self.events.append, self.nodes, pool, line)
        else:
            attempt = GangAttempt(wanted, self.session, self.journals, self.events.append, self.nodes, self.crew, 30.0)
        attempt.resume(self.journals.read("job-a-1"))
        await asyncio.sleep(0.01)
        return attempt

    async def end_of(self, attempt: Attempt) -> str:
        await asyncio.wait_for(attempt.wait(), 10)
        await attempt.detach()
        end = self.events[-1]
        assert isinstance(end, RunFinished)
        return end.outcome


@pytest.mark.parametrize(
    ("kind", "asked", "seated"),
    [("sql", None, False), ("sql", f"{SQL_PREFIX}1", False), ("command", None, False), ("command", None, True), ("command", "", True)],
)
def test_work_that_nobody_began_begins_once_when_it_is_said_to_be_wanted(
    tmp_path: Path, kind: str, asked: str | None, seated: bool
) -> None:  # fmt: skip
    async def scenario() -> None:
        place = Place(tmp_path)
        attempt = await place.adopt(kind, asked, seated=seated)
        assert (attempt.waits, place.begun) == (True, 0)
        attempt.confirm()
        attempt.confirm()
        assert await place.end_of(attempt) == "succeeded"
        assert (attempt.waits, place.begun) == (False, 1)

    run(scenario)


@pytest.mark.parametrize(("kind", "asked"), [("sql", f"{SQL_PREFIX}of-the-dead"), ("command", "")])
def test_work_that_may_have_begun_and_is_not_there_is_lost(tmp_path: Path, kind: str, asked: str) -> None:
    async def scenario() -> None:
        place = Place(tmp_path)
        attempt = await place.adopt(kind, asked)
        assert await place.end_of(attempt) == "lost"
        attempt.confirm()
        assert (attempt.waits, place.begun) == (False, 0)

    run(scenario)


@pytest.mark.parametrize("kind", ["sql", "command"])
def test_work_that_nobody_began_can_be_stopped(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        place = Place(tmp_path)
        attempt = await place.adopt(kind, None)
        attempt.stop("preempted", 1.0)
        attempt.confirm()
        assert (await place.end_of(attempt), place.begun) == ("preempted", 0)

    run(scenario)


@pytest.mark.parametrize("kind", ["sql", "command"])
def test_work_that_nobody_began_is_lost_with_its_node(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        place = Place(tmp_path)
        attempt = await place.adopt(kind, None)
        place.nodes.clear()
        attempt.confirm()
        assert (await place.end_of(attempt), place.begun) == ("lost", 0)

    run(scenario)


def test_a_gang_of_which_only_some_were_let_go_begins_whole_though_these_have_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path)
        gang = RUN.model_copy(update={"nodes": ("node", "node")})
        journal = place.journals.open(gang.run_id)
        journal.begin(gang)
        journal.ask("")
        journal.close()
        for rank in range(2):
            seat = await place.crew.seat(gang, rank, 0, NODE)
            await seat.ask("ready")
        first, second = sorted((worker for worker in place.session.actors.values() if worker.serves), key=lambda worker: worker.serves)
        first.end()
        attempt = GangAttempt(gang, place.session, place.journals, place.events.append, place.nodes, place.crew, 30.0)
        attempt.resume(place.journals.read(gang.run_id))
        attempt.confirm()
        assert await place.end_of(attempt) == "succeeded"
        assert (first.begun, second.begun) == (0, 1)

    run(scenario)


def test_work_that_an_earlier_agent_began_ends_though_nobody_says_that_it_is_wanted(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path)
        attempt = await place.adopt("command", "", seated=True)
        (worker,) = (found for found in place.session.actors.values() if found.serves)
        worker.end()
        assert (await place.end_of(attempt), attempt.waits, place.begun) == ("succeeded", False, 0)

    run(scenario)
