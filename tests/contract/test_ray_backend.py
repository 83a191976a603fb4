"""The Ray backend keeps the promises of every backend, on a real Ray.

The backends live in one child process, for a process speaks to one Ray cluster and the test's own shall speak to none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from cluster.model import Inventory
from cluster.protocol import AdoptedRun, ClusterBackend, GangSize, RunEvent, RunRequest
from tests.contract.backend_suite import FAIL_EXIT_CODE, LOG_TEXT, BehaviourName, ElasticSuite
from tests.ray import WAIT_S, Connection, RayAgent, SmallRay, StopOutcome
from tests.ray_runs import command

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

BEHAVIOURS: dict[BehaviourName, tuple[str, ...]] = {
    "ok": ("true",),
    "fail": ("sh", "-c", f"exit {FAIL_EXIT_CODE}"),
    "slow": ("sleep", "600"),
    "logs": ("cat", "log"),
}


class DistantBackend:
    """A connection as the protocol's backend: the same calls, awaited."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def open(self) -> None:
        await asyncio.to_thread(self._connection.open)

    async def inventory(self) -> Inventory:
        return await asyncio.to_thread(self._connection.inventory)

    async def start(self, run: RunRequest) -> None:
        await asyncio.to_thread(self._connection.start, run)

    async def stop(self, run_id: str, *, outcome: StopOutcome, grace_s: float) -> None:
        await asyncio.to_thread(self._connection.stop, run_id, outcome, grace_s)

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:
        await asyncio.to_thread(self._connection.resize, run_id, size, grace_s)

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        return await asyncio.to_thread(self._connection.adopt)

    async def events(self) -> AsyncIterator[RunEvent]:
        position = 0
        while (event := await asyncio.to_thread(self._connection.next_event, position)) is not None:
            position += 1
            yield event

    async def forget(self, run_id: str) -> None:
        await asyncio.to_thread(self._connection.forget, run_id)

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        await asyncio.to_thread(self._connection.refuse_copies, tuple(versions))

    async def close(self) -> None:
        await asyncio.to_thread(self._connection.close)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayAgent]:
    with RayAgent(tmp_path_factory.mktemp("agent") / "agent.log") as agent:
        yield agent


@pytest.fixture(scope="module")
def node(agent: RayAgent, ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the head's one node."""
    connection = agent.connect(ray_head, tmp_path_factory.mktemp("look"))
    name = connection.node()
    connection.close()
    return name


class TestRayBackend(ElasticSuite):
    timeout_s = WAIT_S

    @pytest.fixture(autouse=True)
    def _keep(self, agent: RayAgent, ray_head: SmallRay, node: str, tmp_path: Path) -> None:
        self.agent, self.head, self.node, self.directory = agent, ray_head, node, tmp_path / "agent"

    @pytest.fixture
    def backend(self) -> ClusterBackend:
        return DistantBackend(self.agent.connection(self.head, self.directory))

    def another(self, backend: ClusterBackend) -> ClusterBackend:  # noqa: ARG002
        return DistantBackend(self.agent.connection(self.head, self.directory))

    def make_run(self, run_id: str, behaviour: BehaviourName, *, workers: int = 1, node: str | None = None) -> RunRequest:
        return command(node or self.node, *BEHAVIOURS[behaviour], workers=workers, run_id=run_id, files={"log": LOG_TEXT})
