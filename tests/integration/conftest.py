"""An agent's process that is connected to the small Ray of all tests, and what a run leaves there: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ray import GIB, Connection, RayAgent, SmallRay
from tests.ray_left import leaving_nothing
from tests.ray_nodes import joined_node


@pytest.fixture(scope="module")
def connection(ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("agent")
    with RayAgent(folder / "agent.log") as agent:
        yield agent.connect(ray_head, folder / "data")


@pytest.fixture(scope="module")
def node(connection: Connection) -> str:
    return connection.node()


@pytest.fixture
def member(connection: Connection, ray_head: SmallRay) -> Iterator[Connection]:
    """Nothing of a run may be left: no process, directory, actor or placement group."""
    with leaving_nothing(connection, ray_head):
        yield connection


@pytest.fixture(scope="module")
def second(ray_head: SmallRay, connection: Connection) -> Iterator[str]:
    """Another node of the cluster, of 2 cores and 2 GiB."""
    with joined_node(ray_head, connection, cpus=2, memory_bytes=2 * GIB) as name:
        yield name
