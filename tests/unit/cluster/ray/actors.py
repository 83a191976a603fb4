"""Ray's part in tests without Ray: actors are objects of this process, and a session calls their methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.session import Session
from cluster.backends.ray.tables import groups, remove_groups
from cluster.errors import WorkerGoneError

NODE = RayNode("1234567890abcdef", "10.0.0.2")


class NearSession(Session):
    """Actors by name. One that was killed is gone; one in `silent` never answers; `away`: the head does not."""

    def __init__(self) -> None:
        super().__init__("10.0.0.1:1", None)
        self.actors: dict[str, Any] = {}
        self.silent: set[str] = set()
        self.killed: list[str] = []
        self.away = False
        self.rooms: list[str] = []

    async def call(self, function: Callable[..., Any], *arguments: Any, limit_s: float | None = None) -> Any:  # noqa: ARG002
        if function is groups:
            return {name: name.encode() for name in self.rooms if name.startswith(arguments[1])}
        if function is remove_groups:
            self.rooms = [name for name in self.rooms if name.encode() not in arguments[1]]
            return None
        return function(*arguments)

    async def actor_names(self) -> list[str]:
        return sorted(self.actors)

    async def ask(self, actor: Any, method: str, *arguments: Any) -> Any:
        name = self.name_of(actor)
        if name in self.silent:
            await asyncio.Event().wait()
        if name not in self.actors:
            raise WorkerGoneError("it is dead")
        return await getattr(actor, method)(*arguments)

    async def kill(self, actor: Any) -> bool:
        name = self.name_of(actor)
        if not self.away and self.actors.pop(name, None) is not None:
            self.killed.append(name)
        return not self.away

    async def actor(self, name: str) -> Any | None:
        return self.actors.get(name)

    async def surely_actor(self, name: str) -> Any | None:
        return self.actors.get(name)

    async def check(self) -> None:
        return

    def name_of(self, actor: Any) -> str:
        return str(actor.name)

    def die(self, name: str) -> None:
        """End an actor without anybody's doing."""
        del self.actors[name]


class Spawner:
    """What is begun aside, kept until it is done."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Future[None]] = set()

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A scenario in an event loop of its own."""
    asyncio.run(scenario())
