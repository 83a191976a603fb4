"""What the nodes of a Ray cluster have of data from elsewhere, asked of the SQL worker that waits on each, and what they are to bring in.

A node that does not answer in time counts as it was when it last did; one that never did makes the whole unknown, for a version
counts only where every node has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cluster.backends.ray.session import Session
from cluster.errors import WorkerGoneError
from cluster.protocol import AheadFile
from cluster.replicas import CacheLimits, CacheState, FolderState, together

ANSWER_S = 2.0
AT_ONCE = 64
# So long a node goes on to bring in what nobody says any more that it is wanted: some looks long.
AHEAD_S = 30.0


class Copies:
    """The folders of copies of all nodes. One event loop."""

    def __init__(self, session: Session, limits: CacheLimits) -> None:
        self._session, self._limits = session, limits.model_dump()
        self._known: dict[str, FolderState] = {}
        self._unwanted: tuple[str, ...] = ()
        self._ahead: dict[str, list[dict[str, Any]]] = {}
        self._bringing: set[str] = set()

    def refuse(self, versions: Iterable[str]) -> None:
        """These may not lie here any more; they are removed with each look until they are told no more."""
        self._unwanted = tuple(sorted(versions))

    def bring(self, files: Sequence[AheadFile], node_ids: Mapping[str, str]) -> None:
        """These are to be brought to their nodes; `node_ids` are those of the cluster by name. That is said with each look."""
        self._ahead = {}
        for one in files:
            homes = dict[str, str]()
            for node in sorted(node_ids[name] for name in one.nodes if name in node_ids):
                # Of nodes that share a folder one is enough.
                known = self._known.get(node)
                homes.setdefault(known.folder if known else node, node)
            for node in sorted(homes.values()):
                self._ahead.setdefault(node, []).append(one.file.model_dump())

    def state(self, nodes: Collection[str]) -> CacheState | None:
        """What these nodes have, by their ids; None while one of them has not been heard. Others are forgotten."""
        self._known = {node: self._known[node] for node in sorted(nodes) if node in self._known}
        return together(list(self._known.values())) if len(self._known) == len(nodes) else None

    async def look(self, workers: Iterable[tuple[str, Any]]) -> None:
        """Ask the worker (node id, actor) of each node."""
        asked, turns = list(workers), asyncio.Semaphore(AT_ONCE)

        async def ask(node: str, actor: Any) -> None:
            async with turns:
                await self._say_ahead(node, actor)
                answer = await _answer(self._session.ask(actor, "copies", self._limits, list(self._unwanted)))
            if answer is not None:
                self._known[node] = FolderState.model_validate(answer)

        await asyncio.gather(*(ask(node, actor) for node, actor in asked))

    async def _say_ahead(self, node: str, actor: Any) -> None:
        """Say what is wanted ahead; nothing any more too, so that what is on its way stops."""
        files = self._ahead.get(node, [])
        if files or node in self._bringing:
            await _answer(self._session.ask(actor, "bring_ahead", self._limits, files, AHEAD_S))
            (self._bringing.add if files else self._bringing.discard)(node)


async def _answer(question: Any) -> dict[str, Any] | None:
    """None where the worker is gone, does not answer in time, cannot read its folder, or is of an agent before this question was."""
    import ray

    try:
        async with asyncio.timeout(ANSWER_S):
            found: dict[str, Any] = await question
            return found
    except (TimeoutError, WorkerGoneError, AttributeError, ray.exceptions.RayTaskError):
        return None
