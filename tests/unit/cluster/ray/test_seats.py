"""Seats without Ray: which supervisor serves a worker, and what becomes of it, whoever dies or gives up meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from cluster.backends.ray import seats
from cluster.backends.ray.pool import WarmPool
from cluster.backends.ray.seats import WARM_PREFIX, Supervisors
from cluster.backends.ray.warm_supervisor import BUSY, NO_ROOM
from cluster.errors import WorkerGoneError
from tests.ray_runs import command
from tests.unit.cluster.ray.actors import NODE, NearSession, Spawner, run

RUN = command("node", "true", run_id="job-a-1", cpu=2.0)
WORKER = "cpn-run-job-a-1-0"
HELD = {"CPU": 2.0, "memory": 64.0 * 1024**2}


class Actor:
    """A warm supervisor as its agent sees it. `room` opens what `take` waits for."""

    def __init__(self, name: str, place: Place) -> None:
        self.name, self._place = name, place
        self.serves, self.held, self.fit = "", dict[str, float](), True
        self.nodes: Sequence[str] = ()

    async def warm(self) -> None:
        return

    async def worker(self) -> str:
        return self.serves

    async def take(self, worker: str, rank: int, bundle: Mapping[str, float], limit_s: float, nodes: Sequence[str]) -> str:  # noqa: ARG002
        if self.serves in ("", worker):
            self.serves, self.held, self.nodes = worker, dict(bundle), nodes
            await self._place.room.wait()
            return self._place.refusal
        return BUSY

    async def seated(self, worker: str) -> str:
        return "" if self.serves == worker else BUSY

    async def ask(self, worker: str, method: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        return ((method, *arguments),) if worker == self.serves else ()

    async def let_go(self, worker: str) -> bool:
        if worker == self.serves:
            self.serves, self.held = "", {}
        return self.fit


class Place(Spawner):
    """The supervisors of an agent, and the actors of the cluster."""

    def __init__(self, session: NearSession | None = None, limit_s: float = 30.0) -> None:
        super().__init__()
        self.session = session or NearSession()
        self.room, self.refusal = asyncio.Event(), ""
        self.room.set()
        self.pool = WarmPool(self.session, WARM_PREFIX, self._make, 0, self.spawn)
        self.crew = Supervisors(self.session, self.pool, limit_s, self.spawn, stray_s=0.0)

    @property
    def actors(self) -> list[Actor]:
        return list(self.session.actors.values())

    async def include(self, *ours: str) -> list[str]:
        return await self.crew.include(sorted(self.session.actors), [NODE], ours.__contains__)

    def _make(self, name: str, _: str) -> Actor:
        self.session.actors[name] = actor = Actor(name, self)
        return actor


def test_a_seat_holds_what_was_granted_until_it_is_let_go_of_and_its_supervisor_serves_again() -> None:
    async def scenario() -> None:
        place = Place()
        for _ in range(2):
            seat = await place.crew.seat(RUN, 0, 0, NODE)
            assert await seat.ask("ready") == ("ready",)
            assert await seat.ask("stop", "cancelled", 1.0) == ("stop", "cancelled", 1.0)
            (actor,) = place.actors
            assert (actor.serves, actor.held) == (WORKER, HELD)
            assert await place.crew.find(WORKER) is await place.crew.surely_find(WORKER) is seat
            await seat.let_go()
            await seat.let_go()
            assert (actor.serves, await place.crew.find(WORKER)) == ("", None)
            with pytest.raises(WorkerGoneError):
                await seat.ask("stop", "cancelled", 1.0)
        assert place.session.killed == []

    run(scenario)


def test_a_supervisor_that_is_not_fit_or_that_was_killed_is_not_taken_again() -> None:
    async def scenario() -> None:
        place = Place()
        for end in ("unfit", "kill", "death"):
            seat = await place.crew.seat(RUN, 0, 0, NODE)
            await seat.ask("ready")
            (actor,) = place.actors
            if end == "unfit":
                actor.fit = False
            elif end == "kill":
                await seat.kill()
            else:
                place.session.die(actor.name)
            await seat.let_go()
            assert place.actors == []

    run(scenario)


def test_one_that_died_idle_or_was_taken_by_another_agent_costs_no_run() -> None:
    async def scenario() -> None:
        place = Place()
        crew = [await place.crew.seat(RUN, rank, 0, NODE) for rank in range(2)]
        for seat in crew:
            await seat.ask("ready")
            dead, *others = place.actors
        for seat in crew:
            await seat.let_go()
        place.session.die(dead.name)
        others[0].serves = "cpn-run-job-b-1-0"
        seat = await place.crew.seat(RUN, 0, 0, NODE)
        await seat.ask("ready")
        assert [actor.serves for actor in place.actors] == ["cpn-run-job-b-1-0", WORKER]

    run(scenario)


def test_no_room_is_said_and_the_supervisor_waits_for_another() -> None:
    async def scenario() -> None:
        place = Place()
        place.refusal = NO_ROOM
        seat = await place.crew.seat(RUN, 0, 0, NODE)
        with pytest.raises(WorkerGoneError, match="no room"):
            await seat.ask("ready")
        await seat.let_go()
        assert ([actor.serves for actor in place.actors], place.session.killed) == ([""], [])

    run(scenario)


@pytest.mark.parametrize("answers", [True, False])
def test_one_that_may_serve_a_worker_that_gave_up_is_told_so_or_ended(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    monkeypatch.setattr(seats, "_DISPOSE_LIMIT_S", 30.0 if answers else 0.01)

    async def scenario() -> None:
        place = Place()
        place.room.clear()
        seat = await place.crew.seat(RUN, 0, 0, NODE)
        asking = asyncio.create_task(seat.ask("ready"))
        while not any(actor.serves for actor in place.actors):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        (actor,) = place.actors
        if not answers:
            place.session.silent.add(actor.name)
        assert await seat.let_go()
        assert (place.actors, place.session.killed) == (([actor], []) if answers else ([], [actor.name]))

    run(scenario)


def test_room_that_a_dead_supervisor_left_is_given_back_and_no_other() -> None:
    async def scenario() -> None:
        place = Place()
        members = [await place.crew.seat(RUN, rank, 0, NODE) for rank in range(2)]
        for seat in members:
            await seat.ask("ready")
        ended, living = place.actors
        place.session.rooms = [f"{ended.name}.1", f"{living.name}.4", "somebody-else.1"]
        await place.crew.free_strays()
        assert len(place.session.rooms) == 3, "both live"
        await members[0].kill()
        async with asyncio.timeout(30):
            while place.tasks:
                await asyncio.sleep(0)
        assert place.session.rooms == [f"{living.name}.4", "somebody-else.1"]

    run(scenario)


def test_one_that_could_not_be_ended_because_the_head_is_away_is_known_until_it_is() -> None:
    async def scenario() -> None:
        place = Place()
        seat = await place.crew.seat(RUN, 0, 0, NODE)
        await seat.ask("ready")
        (actor,) = place.actors
        actor.fit, place.session.away = False, True
        assert not await seat.let_go()
        assert await place.crew.find(WORKER) is seat
        place.session.away = False
        assert await seat.let_go()
        assert (place.actors, await place.crew.find(WORKER)) == ([], None)

    run(scenario)


def test_the_next_agent_finds_whom_they_serve_and_what_waits() -> None:
    async def scenario() -> None:
        first = Place()
        crew = [await first.crew.seat(RUN.model_copy(update={"run_id": f"job-{name}-1"}), 0, 0, NODE) for name in "abc"]
        for seat in crew:
            await seat.ask("ready")
        await crew[1].let_go()
        following = Place(first.session)
        assert await following.include() == ["cpn-run-job-a-1-0", "cpn-run-job-c-1-0"]
        assert await following.include("job-c-1") == ["cpn-run-job-a-1-0"], "its own are known to it"
        found = await following.crew.surely_find("cpn-run-job-a-1-0")
        assert found is not None
        assert await found.ask("ready") == await found.ask("ready") == ("ready",)
        assert first.actors[0].held == HELD, "it holds what it held"
        await found.let_go()
        assert await following.include() == ["cpn-run-job-c-1-0"]
        again = [await following.crew.seat(RUN, rank, 0, NODE) for rank in range(2)]
        for seat in again:
            await seat.ask("ready")
        assert (len(following.actors), following.session.killed) == (3, []), "no process was made, none ended"

    run(scenario)


def test_one_that_does_not_answer_is_ended_and_a_dead_one_is_not_found() -> None:
    async def scenario() -> None:
        first = Place()
        crew = [await first.crew.seat(RUN, rank, 0, NODE) for rank in range(2)]
        for seat in crew:
            await seat.ask("ready")
        names = [actor.name for actor in first.actors]
        first.session.silent.add(names[0])
        following = Place(first.session, limit_s=0.01)
        assert await following.include() == ["cpn-run-job-a-1-1"]
        assert first.session.killed == names[:1]
        assert await following.crew.find("cpn-run-job-a-1-0") is None

    run(scenario)


def test_a_program_of_kind_ray_has_one_seat_that_holds_a_bundle_on_each_of_its_nodes() -> None:
    async def scenario() -> None:
        place = Place()
        run = command("node", "python", "main.py", workers=2, kind="ray", cpu=2.0, accelerator_model="H200", accelerator_count=0.5)
        seat = await place.crew.seat(run, 0, 0, NODE, ["id-a", "id-b"])
        await seat.ask("ready")
        (actor,) = place.actors
        assert (actor.held, list(actor.nodes)) == ({**HELD, "GPU": 0.5}, ["id-a", "id-b"])
        assert await seat.let_go()

    asyncio.run(scenario())
