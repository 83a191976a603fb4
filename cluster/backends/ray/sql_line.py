"""Statements that wait for a warm worker of their node, and how they are sent: several at a time.

A call of an actor costs about as much as a small statement. So a worker is given all that wait, but for its fair share with the others
that are free, and tells of their ends together. What it does not come to because one of them is not small comes back and goes to the
front of the line; for that, and where no worker has come free for PATIENCE_S, more are made. A statement whose worker died goes alone
the next time, so that what kills workers takes the same others with it only once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.backends.ray.nodes import RayNode
from cluster.backends.ray.pool import Member, WarmPool
from cluster.backends.ray.session import Session
from cluster.errors import ClusterError
from cluster.runs.attempt import NEXT_WAIT_S
from cluster.runs.outbox import Batch, Seen

MOST_TOGETHER = 16
PATIENCE_S = 0.2
# A line that moves gets one more worker when its first has waited for so long, as long as there are no more than a few.
LONGEST_WAIT_S, MOST_FOR_A_LINE = 1.0, 2
MOST_AT_ONCE = 4  # Workers that are made at once.


class Statement(Protocol):
    """What the line asks of a run. None of these raises."""

    def given(self, member: Member) -> bool:
        """The run goes to this worker now; False when it cannot."""

    def request(self) -> dict[str, Any]:
        """What the worker is told."""

    def seen(self) -> Seen:
        """What is known of the worker's news."""

    def hear(self, news: Batch) -> bool:
        """News; True when these were the last."""

    def given_back(self) -> bool:
        """The worker will not come to it; whether it goes into the line again."""

    def broke(self, error: Exception) -> None:
        """The worker is gone or failed, or none can be had."""

    def node_gone(self) -> None:
        """Its node is no part of the cluster any more, and it was not begun there."""


@dataclass(eq=False)
class Place:
    """A statement's place in the line of a node."""

    run_id: str
    node: RayNode
    statement: Statement
    alone: bool
    joined_at: float
    came_back: bool = False


@dataclass
class _Line:
    waiting: deque[Place] = field(default_factory=deque)
    moved_at: float = 0.0
    looks: bool = False
    dealing: bool = False


class SqlLine:
    """The lines of all nodes before the workers of a pool. One event loop."""

    def __init__(self, session: Session, pool: WarmPool, spawn: Callable[[Awaitable[None]], object]) -> None:
        self._session, self._pool, self._spawn = session, pool, spawn
        self._lines: dict[str, _Line] = {}
        self._leaving: dict[str, tuple[list[str], asyncio.Task[None]]] = {}
        pool.on_free = self.deal

    def join(self, run_id: str, node: RayNode, statement: Statement, *, alone: bool = False) -> Place:
        """Wait for a worker of the node; the statement is told when it has one."""
        place = Place(run_id, node, statement, alone, asyncio.get_running_loop().time())
        self._lines.setdefault(node.node_id, _Line()).waiting.append(place)
        self.deal(node.node_id)
        return place

    def know(self, nodes: Iterable[RayNode]) -> None:
        """The nodes that live now. Who waits for another one is told: Ray may take minutes to say that nothing can be started there."""
        living = {node.node_id for node in nodes}
        for node_id in sorted(self._lines.keys() - living):
            waiting = self._lines[node_id].waiting
            while waiting:
                waiting.popleft().statement.node_gone()

    def leave(self, place: Place) -> None:
        """Wait no more."""
        line = self._lines[place.node.node_id]
        if place in line.waiting:
            line.waiting.remove(place)

    def follow(self, run_id: str, statement: Statement, member: Member) -> None:
        """Hear of a statement that an earlier agent gave to a worker."""
        self._pool.hold(member)
        place = Place(run_id, self._pool.node_with(member), statement, alone=True, joined_at=asyncio.get_running_loop().time())
        self._spawn(self._talk(member, (place,), known=True))

    async def forget(self, member: Member, run_id: str) -> None:
        """Have a worker drop what it knows of a run, together with others that are to be forgotten now. Raises WorkerGoneError."""
        run_ids, sent = self._leaving.get(member.name, ([], None))
        if sent is None:
            sent = asyncio.create_task(self._forget(member, run_ids))
            self._leaving[member.name] = run_ids, sent
        run_ids.append(run_id)
        await asyncio.shield(sent)

    async def _forget(self, member: Member, run_ids: list[str]) -> None:
        await asyncio.sleep(0)
        del self._leaving[member.name]
        await self._session.ask(member.actor, "forget", run_ids)

    def deal(self, node_id: str) -> None:
        """A statement came or a worker of the node is free: once all that comes in this moment is here, who waits is sent."""
        line = self._lines.get(node_id)
        if line is not None and line.waiting and not line.dealing:
            line.dealing = True
            asyncio.get_running_loop().call_soon(self._deal, node_id, line)

    def _deal(self, node_id: str, line: _Line) -> None:
        line.dealing = False
        free = self._pool.free_on(node_id)
        for left, member in zip(range(len(free), 0, -1), free, strict=True):
            together = self._share(line, -(-len(line.waiting) // left))
            given = tuple(place for place in together if place.statement.given(member))
            if given:
                member.runs += len(given)
                self._spawn(self._talk(member, given))
        if line.waiting:
            self._look(node_id, line)

    @staticmethod
    def _share(line: _Line, most: int) -> list[Place]:
        """The first of the line who go together."""
        share: list[Place] = []
        while line.waiting and len(share) < min(most, MOST_TOGETHER):
            if share and (share[0].alone or line.waiting[0].alone):
                break
            share.append(line.waiting.popleft())
        return share

    async def _talk(self, member: Member, places: Sequence[Place], *, known: bool = False) -> None:
        """Have a worker run statements, and pass on its news until all are over."""
        line = self._lines.setdefault(member.node_id, _Line())
        requests = [place.statement.request() for place in places] if not known else []
        left = {place.run_id: place for place in places}
        try:
            while left:
                seen = {run_id: dict(place.statement.seen()) for run_id, place in left.items()}
                arguments = (requests, seen) if requests else (seen,)
                news = await self._session.ask(member.actor, "run" if requests else "next", *arguments, NEXT_WAIT_S)
                requests, back = [], list[Place]()
                for run_id, batch in news.items():
                    if batch.pop("returned", False):
                        back.append(left.pop(run_id))
                    elif left[run_id].statement.hear(batch):
                        del left[run_id]
                if len(left) + len(back) < len(seen):
                    line.moved_at = asyncio.get_running_loop().time()
                self._come_back(member, line, back)
        except Exception as error:  # whatever breaks here, the runs must end
            for place in left.values():
                place.statement.broke(error)

    def _come_back(self, member: Member, line: _Line, places: Sequence[Place]) -> None:
        again = [place for place in places if place.statement.given_back()]
        for place in reversed(again):
            place.came_back = True
            line.waiting.appendleft(place)
        for _ in places:
            self._pool.give_back(member)
        self.deal(member.node_id)

    def _look(self, node_id: str, line: _Line) -> None:
        """Make more workers for who waits, or look again when it is time to."""
        loop, (made, starting) = asyncio.get_running_loop(), self._pool.made_on(node_id)
        first = line.waiting[0]
        stuck = sum(place.came_back for place in line.waiting)
        waited_since = max(line.moved_at, first.joined_at)
        if not made or stuck or loop.time() >= waited_since + PATIENCE_S:
            wanted = min(max(stuck, 1), MOST_AT_ONCE) - starting
        else:
            wanted = int(made < MOST_FOR_A_LINE and loop.time() >= first.joined_at + LONGEST_WAIT_S) - starting
        for _ in range(wanted):
            self._spawn(self._add(first.node, line))
        if not line.looks:
            line.looks = True
            loop.call_later(PATIENCE_S, self._look_again, node_id, line)

    def _look_again(self, node_id: str, line: _Line) -> None:
        line.looks = False
        if line.waiting:
            self._look(node_id, line)

    async def _add(self, node: RayNode, line: _Line) -> None:
        try:
            await self._pool.add(node)
        except ClusterError as error:
            if line.waiting:
                line.waiting.popleft().statement.broke(error)
