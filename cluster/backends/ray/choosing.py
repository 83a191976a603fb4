"""Which way a Ray cluster is driven: by actors of ours, or by its Job API.

Actors need the cluster's own Ray and Python here, to the last digit, and a node of the cluster on this machine. Both are asked of the
head in milliseconds. The operator may decide instead. Where no dashboard is named there is no choice: actors, or an error that says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Literal

from cluster.backends.ray.gcs import head_facts, sockets
from cluster.backends.ray.versions import Versions, differences
from cluster.drivers import ACTORS, Driver
from cluster.errors import AuthenticationError
from cluster.model import Endpoint, Inventory
from cluster.protocol import AdoptedRun, AheadFile, BringsAhead, ClusterBackend, GangSize, RunEvent, RunRequest
from cluster.scaling import Wanted

log = logging.getLogger("cpn.agent")
LIMIT_S = 5.0
BY_OPERATOR, ONLY_DASHBOARD = "its operator chose it", "only its dashboard is named"


def choose(endpoint: Endpoint, own: Versions) -> Driver:
    """How this endpoint is driven from this machine. Blocks for at most four times LIMIT_S.

    Raises UnreachableError, AuthenticationError.
    """
    if endpoint.driver == "job-api":
        return Driver(way="job-api", why=BY_OPERATOR)
    if endpoint.driver == "actors" or not endpoint.dashboard:
        return ACTORS
    if not endpoint.address:
        return Driver(way="job-api", why=ONLY_DASHBOARD)
    token = _token(endpoint)
    found = differences(head_facts(endpoint.address, token, LIMIT_S), own)
    if found:
        return Driver(way="job-api", why="; ".join(f"the cluster has {what} {theirs}, the agent {ours}" for what, theirs, ours in found))
    if not any(Path(name).is_socket() for name in sockets(endpoint.address, token, LIMIT_S)):
        return Driver(way="job-api", why="the agent runs on no node of the cluster")
    return ACTORS


def _token(endpoint: Endpoint) -> str:
    if not endpoint.token_file:
        return ""
    try:
        return Path(endpoint.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise AuthenticationError(f"the token file {endpoint.token_file} cannot be read: {error.strerror}") from error


class ChosenBackend:
    """A ClusterBackend that is what `choose` says when it is opened, and stays so for the life of its process."""

    def __init__(self, choose: Callable[[], Driver], make: Callable[[Driver], ClusterBackend]) -> None:
        self._choose, self._make = choose, make
        self._chosen: ClusterBackend | None = None

    @property
    def _backend(self) -> ClusterBackend:
        assert self._chosen is not None, "it is open"
        return self._chosen

    async def open(self) -> None:
        if self._chosen is None:
            driver = await asyncio.to_thread(self._choose)
            log.info("the cluster is driven by %s%s", driver.way, f": {driver.why}" if driver.why else "")
            self._chosen = self._make(driver)
        await self._chosen.open()

    async def inventory(self) -> Inventory:
        return await self._backend.inventory()

    async def start(self, run: RunRequest) -> None:
        await self._backend.start(run)

    async def stop(self, run_id: str, *, outcome: Literal["cancelled", "preempted", "lost"], grace_s: float) -> None:
        await self._backend.stop(run_id, outcome=outcome, grace_s=grace_s)

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:
        await self._backend.resize(run_id, size, grace_s=grace_s)

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        return await self._backend.adopt()

    def events(self) -> AsyncIterator[RunEvent]:
        return self._backend.events()

    async def forget(self, run_id: str) -> None:
        await self._backend.forget(run_id)

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        await self._backend.refuse_copies(versions)

    async def bring_ahead(self, files: Sequence[AheadFile]) -> None:
        if isinstance(self._backend, BringsAhead):
            await self._backend.bring_ahead(files)

    async def scale(self, wanted: Sequence[Wanted]) -> None:
        await self._backend.scale(wanted)

    async def close(self) -> None:
        if self._chosen is not None:
            await self._chosen.close()
