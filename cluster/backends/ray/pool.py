"""Warm workers: on each node a few that wait, more on demand, surplus ended when it stays idle.

There are two crews: workers for SQL, and supervisors of user code (`seats.py`). They hold no resources in Ray while they wait and are
pinned to their node. A name carries the node's id (`cpn-sql-NODE-RANDOM`), so the workers of an earlier agent are found again and
taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.session import NAMESPACE, Session
from cluster.errors import ClusterError, WorkerGoneError

SQL_PREFIX = "cpn-sql-"
IDLE_S = 60.0
_CREATE_LIMIT_S = 30.0


@dataclass(eq=False)
class Member:
    """One worker, and how many runs it is promised to: of supervisors one at most, but for those that ended before they were adopted."""

    name: str
    node_id: str
    actor: Any
    runs: int = 0
    idle_since: float = 0.0


@dataclass
class _Crew:
    """The workers of one node."""

    node: RayNode
    members: list[Member] = field(default_factory=list)
    starting: int = 0


class WarmPool:
    """All warm workers of one kind on a cluster. One event loop.

    `make` creates one by name and node id and blocks. `warm` wait on each node always; at most `most_idle` wait there at once, and those
    beyond `warm` no longer than `idle_s`: what was needed at once of late is kept for as long. `on_free` is told the node of a worker that
    came free, or was made without being asked for by a run.
    """

    def __init__(
        self, session: Session, prefix: str, make: Callable[[str, str], Any], warm: int, spawn: Callable[[Awaitable[None]], object], *,
        idle_s: float = IDLE_S, most_idle: int | None = None,
    ) -> None:  # fmt: skip
        self._session, self._prefix, self._make, self._warm, self._spawn = session, prefix, make, warm, spawn
        self._idle_s, self._most_idle = idle_s, most_idle
        self.on_free: Callable[[str], None] = lambda _node_id: None
        self._crews: dict[str, _Crew] = {}
        self._making: set[str] = set()

    def node_of(self, name: str, nodes: Iterable[RayNode]) -> RayNode | None:
        """The node of a worker of this kind by its name; None for another's name, when the node is not among these, and of one that is
        being made here: it would be taken for an earlier agent's, and be there twice."""
        if name in self._making:
            return None
        return next((node for node in nodes if name.startswith(self._prefix_on(node))), None)

    def has(self, name: str) -> bool:
        """Whether this worker is among those that are known to live."""
        return any(member.name == name for crew in self._crews.values() for member in crew.members)

    def one_of_each(self) -> list[tuple[str, Any]]:
        """(node id, actor) of a worker on each node that has one."""
        return [(node_id, crew.members[0].actor) for node_id, crew in sorted(self._crews.items()) if crew.members]

    def know(self, nodes: Iterable[RayNode]) -> None:
        """The nodes that live now; new ones get their warm workers in the background."""
        found = {node.node_id: node for node in nodes}
        for node_id in sorted(self._crews.keys() - found.keys()):
            del self._crews[node_id]
        for node_id in sorted(found.keys() - self._crews.keys()):
            self._crews[node_id] = _Crew(found[node_id])
            self._top_up(node_id)

    async def take(self, node: RayNode) -> Member:
        """A worker of the node for one run: a waiting one at once, else a new one. Raises ClusterError when none can be had."""
        for member in self.free_on(node.node_id):
            member.runs = 1
            return member
        member = await self._create(node)
        member.runs = 1
        self._crews.setdefault(node.node_id, _Crew(node)).members.append(member)
        return member

    def free_on(self, node_id: str) -> list[Member]:
        """The workers of a node that wait."""
        crew = self._crews.get(node_id)
        return [member for member in crew.members if not member.runs] if crew is not None else []

    def node_with(self, member: Member) -> RayNode:
        """Where a worker is."""
        return self._crews[member.node_id].node

    def made_on(self, node_id: str) -> tuple[int, int]:
        """How many workers a node has, and how many are being made aside."""
        crew = self._crews.get(node_id)
        return (len(crew.members), crew.starting) if crew is not None else (0, 0)

    async def add(self, node: RayNode) -> None:
        """Make one more that waits. Raises ClusterError."""
        crew = self._crews.setdefault(node.node_id, _Crew(node))
        crew.starting += 1
        try:
            member = await self._create(node)
        finally:
            crew.starting -= 1
        crew.members.append(member)
        asyncio.get_running_loop().call_later(self._idle_s, self._trim, member)
        self.on_free(node.node_id)

    def give_back(self, member: Member) -> None:
        """The run is over and the worker can take the next."""
        loop = asyncio.get_running_loop()
        member.runs, member.idle_since = member.runs - 1, loop.time()
        if member.runs:
            return
        loop.call_later(self._idle_s, self._trim, member)
        crew = self._crews.get(member.node_id)
        if (
            crew is not None
            and self._most_idle is not None
            and sum(not one.runs for one in crew.members) > max(self._most_idle, self._warm)
        ):
            self._drop(member)
            self._spawn(self._end(member))
        else:
            self.on_free(member.node_id)

    async def discard(self, member: Member) -> bool:
        """End a worker that is dead or cannot be interrupted, and see that the node has its warm ones. False when the
        cluster does not answer, so that it may live on."""
        self.leave(member)
        return await self._session.kill(member.actor)

    def leave(self, member: Member) -> None:
        """Leave a worker to another agent that has taken it, and see that the node has its warm ones."""
        self._drop(member)
        self._top_up(member.node_id)

    def include(self, name: str, node: RayNode, actor: Any) -> Member:
        """Take over a worker of an earlier agent."""
        crew = self._crews.setdefault(node.node_id, _Crew(node))
        known = next((member for member in crew.members if member.name == name), None)
        if known is None:
            loop = asyncio.get_running_loop()
            known = Member(name, node.node_id, actor, idle_since=loop.time())
            crew.members.append(known)
            loop.call_later(self._idle_s, self._trim, known)
        return known

    def hold(self, member: Member) -> None:
        """Promise a worker to the run that an earlier agent gave it."""
        member.runs += 1

    def _top_up(self, node_id: str) -> None:
        crew = self._crews.get(node_id)
        if crew is None:
            return
        for _ in range(self._warm - len(crew.members) - crew.starting):
            crew.starting += 1
            self._spawn(self._add_warm(crew))

    async def _add_warm(self, crew: _Crew) -> None:
        try:
            # The next run makes its own worker when this fails, and says why.
            with contextlib.suppress(ClusterError):
                crew.members.append(await self._create(crew.node))
        finally:
            crew.starting -= 1
        self.on_free(crew.node.node_id)

    async def _create(self, node: RayNode) -> Member:
        name = f"{self._prefix_on(node)}{uuid.uuid4().hex[:12]}"
        self._making.add(name)
        try:
            actor = await self._session.call(self._make, name, node.node_id)
            async with asyncio.timeout(_CREATE_LIMIT_S):
                await self._session.ask(actor, "warm")
        except TimeoutError:
            await self._session.kill(actor)
            raise WorkerGoneError(f"no worker process could be started on the node within {_CREATE_LIMIT_S:g} s") from None
        finally:
            self._making.discard(name)
        return Member(name, node.node_id, actor, idle_since=asyncio.get_running_loop().time())

    def _trim(self, member: Member) -> None:
        """End a worker that has been idle for the whole time, when there are more than the warm ones."""
        crew = self._crews.get(member.node_id)
        if crew is None or member not in crew.members or member.runs or len(crew.members) <= self._warm:
            return
        if asyncio.get_running_loop().time() - member.idle_since >= self._idle_s - 0.001:
            self._drop(member)
            self._spawn(self._end(member))

    async def _end(self, member: Member) -> None:
        await self._session.kill(member.actor)

    def _prefix_on(self, node: RayNode) -> str:
        """How the names of all workers of this kind on a node begin."""
        return f"{self._prefix}{node.node_id[:12]}-"

    def _drop(self, member: Member) -> None:
        crew = self._crews.get(member.node_id)
        if crew is not None and member in crew.members:
            crew.members.remove(member)


def make_sql_worker(name: str, node_id: str) -> Any:
    """Create a worker for SQL. Blocks."""
    from cluster.backends.ray.sql_worker import SqlWorker

    return waiting_actor(SqlWorker, name, node_id, name)


def waiting_actor(kind: type, name: str, node_id: str, *arguments: str) -> Any:
    """Create an actor that waits on a node for runs, without resources in Ray, and stays when its agent goes. Blocks."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return (
        ray.remote(kind)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            max_concurrency=64,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote(*arguments)
    )
