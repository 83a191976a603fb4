"""The supervisors of runs as their agent sees them: one seat for each worker, whoever serves it.

Who asks for cores and memory alone is served by a warm supervisor, which is there already. Who asks for accelerators, of which Ray itself
must choose some and show them to the process, and a statement on Daft get an actor of their own, named for the worker, that
holds the resources. Either is found again by the worker's name: of warm ones that is asked for, one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from cluster.backends.ray.gang_workers import make_supervisor, run_of, supervisor_name
from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.pool import Member, WarmPool, waiting_actor
from cluster.backends.ray.room import owner_of
from cluster.backends.ray.script_host import bundle_of
from cluster.backends.ray.session import Session
from cluster.backends.ray.tables import groups, remove_groups
from cluster.backends.ray.warm_supervisor import BUSY
from cluster.errors import WorkerGoneError
from cluster.protocol import RunRequest

WARM_PREFIX = "cpn-warm-"
MOST_IDLE = 8
STRAY_S = 1.0
_TRIES = 3
_DISPOSE_LIMIT_S = 10.0


class Seat(ABC):
    """One worker of a run. All methods may be called again."""

    @abstractmethod
    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of its supervisor until it answers; `ready` first. Raises WorkerGoneError."""

    @abstractmethod
    async def let_go(self) -> bool:
        """End what is left of the worker, and give its resources back. False when the cluster does not answer: then, again."""

    @abstractmethod
    async def kill(self) -> None:
        """End the supervisor's process."""


class OwnSeat(Seat):
    """A supervisor of the worker's own."""

    def __init__(self, session: Session, actor: Any) -> None:
        self._session, self._actor = session, actor

    async def ask(self, method: str, *arguments: Any) -> Any:
        return await self._session.ask(self._actor, method, *arguments)

    async def let_go(self) -> bool:
        with contextlib.suppress(WorkerGoneError, TimeoutError):
            async with asyncio.timeout(_DISPOSE_LIMIT_S):
                await self._session.ask(self._actor, "dispose")
        return await self._session.kill(self._actor)

    async def kill(self) -> None:
        await self._session.kill(self._actor)


class WarmSeat(Seat):
    """A warm supervisor that serves the worker `name` until it is let go of. `bundle` are the worker's resources in Ray's words."""

    def __init__(
        self, session: Session, pool: WarmPool, name: str, node: RayNode, rank: int, bundle: Mapping[str, float], limit_s: float,
        left: Callable[[str], None], ended: Callable[[], None], nodes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._session, self._pool, self._name, self._node, self._nodes = session, pool, name, node, nodes
        self._rank, self._bundle, self._limit_s, self._left, self._ended = rank, bundle, limit_s, left, ended
        self._finding: asyncio.Task[Member] | None = None
        self._member: Member | None = None
        self._seated = False

    def resume(self, member: Member) -> None:
        """It is served already, since an earlier agent."""
        self._pool.hold(member)
        self._member, self._seated = member, True

    async def ask(self, method: str, *arguments: Any) -> Any:
        if method == "ready":
            await self._sit_down()
        if self._member is None:
            raise WorkerGoneError(f"no supervisor serves {self._name}")
        answer = await self._session.ask(self._member.actor, "ask", self._name, method, arguments)
        if not answer:
            raise WorkerGoneError(f"its supervisor serves {self._name} no more")
        return answer[0]

    async def let_go(self) -> bool:
        if self._finding is not None:
            # It was asked for and nobody waits for it any more: it waits for another.
            self._finding.add_done_callback(self._give_back)
            self._finding = None
        member = self._member
        if member is not None:
            if await self._leave(member):
                self._pool.give_back(member)
            elif not await self._end(member):
                return False
        self._member = None
        self._left(self._name)
        return True

    async def kill(self) -> None:
        if self._member is not None:
            await self._end(self._member)

    async def _end(self, member: Member) -> bool:
        self._ended()
        return await self._pool.discard(member)

    async def _sit_down(self) -> None:
        """Find a supervisor and have it hold the resources. Raises WorkerGoneError, UnreachableError."""
        if self._seated and self._member is not None:
            return await self._check(self._member)
        for tries_left in reversed(range(_TRIES)):
            self._finding = asyncio.create_task(self._pool.take(self._node))
            member = self._member = await asyncio.shield(self._finding)
            self._finding = None
            try:
                why = await self._session.ask(member.actor, "take", self._name, self._rank, dict(self._bundle), self._limit_s, self._nodes)
            except WorkerGoneError:
                # It died while it waited.
                self._member = None
                await self._pool.discard(member)
                if not tries_left:
                    raise
                continue
            if why != BUSY:
                self._seated = True
                if why:
                    raise WorkerGoneError(why)
                return
            self._member = None
            self._pool.leave(member)
        raise WorkerGoneError("other agents have taken the supervisors of its node")

    async def _check(self, member: Member) -> None:
        """That its supervisor holds the resources, or waits for them."""
        why = await self._session.ask(member.actor, "seated", self._name)
        if why:
            raise WorkerGoneError(why if why != BUSY else f"its supervisor serves {self._name} no more")

    async def _leave(self, member: Member) -> bool:
        """Whether the supervisor can serve another worker."""
        try:
            async with asyncio.timeout(_DISPOSE_LIMIT_S):
                return bool(await self._session.ask(member.actor, "let_go", self._name))
        except (WorkerGoneError, TimeoutError):
            return False

    def _give_back(self, finding: asyncio.Task[Member]) -> None:
        if not finding.cancelled() and finding.exception() is None:
            self._pool.give_back(finding.result())


class Supervisors:
    """All supervisors of a cluster. One that does not live, or does not answer, within `limit_s` is given up."""

    def __init__(
        self, session: Session, pool: WarmPool, limit_s: float, spawn: Callable[[Awaitable[None]], object], *, stray_s: float = STRAY_S
    ) -> None:
        self._session, self._pool, self._limit_s, self._spawn, self._stray_s = session, pool, limit_s, spawn, stray_s
        self._seats: dict[str, WarmSeat] = {}

    async def seat(self, run: RunRequest, rank: int, generation: int, node: RayNode, nodes: Sequence[str] = ()) -> Seat:
        """A seat for a new worker; ask it whether it is `ready`. With `nodes`, their ids, it holds a bundle on each of them.

        Raises UnreachableError.
        """
        if run.kind in ("ray", "sql", "map"):
            return self._new_seat(supervisor_name(run.run_id, rank, generation), node, rank, bundle_of(run.model_dump()), nodes)
        if run.accelerator_count:
            return OwnSeat(self._session, await self._session.call(make_supervisor, run, rank, generation, node.node_id))
        bundle = {"CPU": run.cpu, "memory": float(run.memory_bytes)}
        name = supervisor_name(run.run_id, rank, generation)
        return self._new_seat(name, node, rank, {resource: amount for resource, amount in bundle.items() if amount})

    async def find(self, name: str) -> Seat | None:
        """Where a worker is served, by its name. Raises UnreachableError."""
        if name in self._seats:
            return self._seats[name]
        actor = await self._session.actor(name)
        return None if actor is None else OwnSeat(self._session, actor)

    async def surely_find(self, name: str) -> Seat | None:
        """The same, asked for until the cluster answers, however long it is away; None when another one does."""
        if name in self._seats:
            return self._seats[name]
        actor = await self._session.surely_actor(name)
        return None if actor is None else OwnSeat(self._session, actor)

    async def include(self, names: Iterable[str], nodes: Iterable[RayNode], is_ours: Callable[[str], bool]) -> list[str]:
        """Take over the warm supervisors among these actors. The names of the workers that they serve for runs that are not ours yet.

        One that does not answer is ended, and its command with it: nobody could say what it does. Raises UnreachableError.
        """
        known = tuple(nodes)
        found = [(name, node) for name in names if (node := self._pool.node_of(name, known)) is not None]
        served = await asyncio.gather(*(self._served(name) for name, _ in found))
        for (name, node), (actor, worker) in zip(found, served, strict=True):
            if actor is None or worker is None:
                continue
            member = self._pool.include(name, node, actor)
            place = run_of(worker)
            if place is not None and worker not in self._seats and not is_ours(place.run_id):
                self._new_seat(worker, node, place.rank, {}).resume(member)
        return sorted(worker for worker in self._seats if (place := run_of(worker)) is not None and not is_ours(place.run_id))

    async def free_strays(self, after_s: float = 0.0) -> None:
        """Give back the room of supervisors that are no more. Raises UnreachableError."""
        await asyncio.sleep(after_s)
        # In this order: who held room then and does not live now is dead.
        held = await self._session.call(groups, self._session.address, WARM_PREFIX)
        living = set(await self._session.actor_names()) if held else set()
        stray = [identity for name, identity in held.items() if owner_of(name) not in living]
        if stray:
            await self._session.call(remove_groups, self._session.address, stray)

    async def _served(self, name: str) -> tuple[Any, str | None]:
        """A warm supervisor and whom it serves; None for one that is gone."""
        actor = await self._session.actor(name)
        if actor is None:
            return None, None
        try:
            async with asyncio.timeout(self._limit_s):
                return actor, str(await self._session.ask(actor, "worker"))
        except TimeoutError:
            await self._session.check()
            await self._session.kill(actor)
            self._look_for_strays()
        except WorkerGoneError:
            pass
        return None, None

    def _new_seat(self, name: str, node: RayNode, rank: int, bundle: Mapping[str, float], nodes: Sequence[str] = ()) -> WarmSeat:
        seat = WarmSeat(self._session, self._pool, name, node, rank, bundle, self._limit_s, self._forget, self._look_for_strays, nodes)
        self._seats[name] = seat
        return seat

    def _look_for_strays(self) -> None:
        self._spawn(self.free_strays(self._stray_s))

    def _forget(self, name: str) -> None:
        self._seats.pop(name, None)


def make_warm_supervisor(name: str, node_id: str) -> Any:
    """Create a warm supervisor on a node. Blocks."""
    from cluster.backends.ray.warm_supervisor import WarmSupervisor

    return waiting_actor(WarmSupervisor, name, node_id, name, node_id)
