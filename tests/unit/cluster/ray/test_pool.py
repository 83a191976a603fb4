"""Warm workers without Ray: who waits is taken, who is missing is made, and surplus does not stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cluster.backends.ray.pool import WarmPool
from tests.unit.cluster.ray.actors import NODE, NearSession, Spawner, run


class Worker:
    """An actor that lives once it may."""

    def __init__(self, name: str, may_live: asyncio.Event) -> None:
        self.name, self._may_live = name, may_live

    async def warm(self) -> None:
        await self._may_live.wait()


class Place(Spawner):
    """A pool with its session; new workers live as long as `may_live` is set."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.session, self.may_live = NearSession(), asyncio.Event()
        self.may_live.set()
        self.pool = WarmPool(self.session, "cpn-test-", self._make, options.pop("warm", 0), self.spawn, **options)

    def names(self) -> list[str]:
        return sorted(self.session.actors)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)

    def _make(self, name: str, node_id: str) -> Worker:
        assert node_id == NODE.node_id
        self.session.actors[name] = worker = Worker(name, self.may_live)
        return worker


def test_a_worker_that_is_being_made_is_not_taken_for_one_of_an_earlier_agent() -> None:
    async def scenario() -> None:
        place = Place(warm=1)
        place.may_live.clear()
        place.pool.know([NODE])
        await place.until(lambda: len(place.names()) == 1)
        assert place.pool.node_of(place.names()[0], [NODE]) is None
        place.may_live.set()
        await place.until(lambda: not place.tasks)
        assert place.pool.node_of(place.names()[0], [NODE]) == NODE
        names = {(await place.pool.take(NODE)).name for _ in range(2)}
        assert len(names) == 2, "it is there once"

    run(scenario)


def test_a_node_gets_its_warm_workers_and_who_waits_is_taken() -> None:
    async def scenario() -> None:
        place = Place(warm=2)
        place.pool.know([NODE])
        await place.until(lambda: len(place.names()) == 2 and not place.tasks)
        taken = {(await place.pool.take(NODE)).name for _ in range(2)}
        assert sorted(taken) == place.names(), "each was taken once"
        assert (await place.pool.take(NODE)).name not in taken, "for a third one was made"
        assert [place.pool.node_of(name, [NODE]) for name in (*place.names(), "cpn-sql-1234567890ab-1", "cpn-test-ffffffffffff-1")] == [
            NODE, NODE, NODE, None, None
        ]  # fmt: skip

    run(scenario)


def test_one_that_came_back_is_taken_again() -> None:
    async def scenario() -> None:
        place = Place()
        member = await place.pool.take(NODE)
        place.pool.give_back(member)
        assert await place.pool.take(NODE) is member
        assert place.names() == [member.name]

    run(scenario)


def test_surplus_ends_when_it_was_idle_for_long_enough_and_what_works_stays() -> None:
    async def scenario() -> None:
        place = Place(warm=1, idle_s=0.02)
        members = [await place.pool.take(NODE) for _ in range(3)]
        for member in members[:2]:
            place.pool.give_back(member)
        await place.until(lambda: len(place.names()) == 1)
        assert place.names() == [members[2].name], "two of three went, one is warm and works"

    run(scenario)


def test_no_more_wait_than_may() -> None:
    async def scenario() -> None:
        place = Place(most_idle=2, idle_s=600.0)
        members = [await place.pool.take(NODE) for _ in range(5)]
        for member in members:
            place.pool.give_back(member)
        await place.until(lambda: not place.tasks)
        assert place.names() == sorted(member.name for member in members[:2])

    run(scenario)


def test_a_dead_one_and_one_that_another_agent_has_are_replaced() -> None:
    async def scenario() -> None:
        place = Place(warm=1)
        place.pool.know([NODE])
        dead = await place.pool.take(NODE)
        await place.pool.discard(dead)
        await place.until(lambda: len(place.names()) == 1 and not place.tasks)
        others = await place.pool.take(NODE)
        assert others.name != dead.name
        place.pool.leave(others)
        await place.until(lambda: len(place.names()) == 2 and not place.tasks)
        assert (await place.pool.take(NODE)).name != others.name
        assert place.session.killed == [dead.name], "what another agent has lives on"

    run(scenario)


def test_workers_of_an_earlier_agent_are_taken_over_and_their_surplus_ends_too() -> None:
    async def scenario() -> None:
        place = Place(warm=1, idle_s=0.02)
        names = [f"cpn-test-{NODE.node_id[:12]}-{number}" for number in range(3)]
        for name in names:
            place._make(name, NODE.node_id)
        busy, *_ = (place.pool.include(name, NODE, place.session.actors[name]) for name in names)
        place.pool.hold(busy)
        assert place.pool.include(busy.name, NODE, busy.actor) is busy, "to find it again changes nothing"
        await place.until(lambda: len(place.names()) == 1)
        assert place.names() == [busy.name]

    run(scenario)
