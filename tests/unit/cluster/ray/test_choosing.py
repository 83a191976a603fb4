"""Which way a cluster is driven, and that it stays so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.backends.memory import MemoryBackend, MemoryCluster
from cluster.backends.ray.choosing import ChosenBackend, choose
from cluster.backends.ray.gcs import sockets
from cluster.backends.ray.versions import Versions
from cluster.drivers import ACTORS, Driver
from cluster.errors import AuthenticationError, UnreachableError
from cluster.model import Endpoint, Node
from cluster.protocol import AheadFile, BringsAhead, InputFile
from cluster.replicas import Pretended
from tests.fake_head import FakeHead, fake_head

OWN = Versions("2.60.0", "3.11.7", "0.1.0")
URL = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def head() -> Iterator[FakeHead]:
    with fake_head(FakeHead()) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("secret")
    return str(tmp_path / "token")


@pytest.mark.parametrize(
    ("given", "own", "why"),
    [
        ({}, OWN, None),
        ({"dashboard": URL}, OWN, None),
        ({}, replace(OWN, ray="2.9.3"), None),
        ({"dashboard": URL, "driver": "actors"}, replace(OWN, ray="2.9.3"), None),
        ({"dashboard": URL, "driver": "job-api"}, OWN, "its operator chose it"),
        ({"dashboard": URL, "address": ""}, OWN, "only its dashboard is named"),
        ({"dashboard": URL}, replace(OWN, ray="2.9.3"), "the cluster has Ray 2.60.0, the agent 2.9.3"),
        ({"dashboard": URL}, replace(OWN, ray="2.9.3", python="3.12.1"),
         "the cluster has Ray 2.60.0, the agent 2.9.3; the cluster has Python 3.11.7, the agent 3.12.1"),
    ],
)  # fmt: skip
def test_actors_are_used_where_they_can_be(head: FakeHead, token_file: str, given: dict[str, Any], own: Versions, why: str | None) -> None:
    endpoint = Endpoint.model_validate({"address": head.address, "token_file": token_file, **given})
    assert choose(endpoint, own) == (ACTORS if why is None else Driver(way="job-api", why=why))


def test_an_agent_on_no_node_goes_by_the_job_api(token_file: str, tmp_path: Path) -> None:
    with fake_head(FakeHead(socket=str(tmp_path / "nowhere"))) as head:
        endpoint = Endpoint(address=head.address, token_file=token_file, dashboard=URL)
        assert sockets(head.address, "secret", 5.0) == (str(tmp_path / "nowhere"),)
        assert choose(endpoint, OWN) == Driver(way="job-api", why="the agent runs on no node of the cluster")


def test_a_head_that_does_not_say_is_asked_again(head: FakeHead, token_file: str, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        choose(Endpoint(address="127.0.0.1:9", token_file=token_file, dashboard=URL), OWN)
    with pytest.raises(AuthenticationError):
        choose(Endpoint(address=head.address, dashboard=URL), OWN)
    with pytest.raises(AuthenticationError, match="cannot be read"):
        choose(Endpoint(address=head.address, dashboard=URL, token_file=str(tmp_path / "none")), OWN)


def test_the_choice_is_made_once_and_only_after_the_head_has_answered() -> None:
    answers: list[Driver | Exception] = [UnreachableError("away"), Driver(way="job-api", why="so"), ACTORS]
    made: list[str] = []

    def ask() -> Driver:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def make(driver: Driver) -> MemoryBackend:
        made.append(driver.way)
        return MemoryBackend(MemoryCluster([Node(name="n1", cpu=1, memory_bytes=1)]))

    async def scenario() -> None:
        backend = ChosenBackend(ask, make)
        await backend.close()
        with pytest.raises(UnreachableError):
            await backend.open()
        await backend.open()
        await backend.open()
        assert [node.name for node in (await backend.inventory()).nodes] == ["n1"]
        await backend.close()

    asyncio.run(scenario())
    assert made == ["job-api"]
    assert answers == [ACTORS]


def test_what_is_wanted_ahead_is_passed_on_to_who_brings_it_and_to_nobody_else() -> None:
    cluster = MemoryCluster([Node(name="n1", cpu=1, memory_bytes=1)], copies=Pretended(100))
    data = InputFile(ref="nyc/a@1", uri="/a", format="csv", size_bytes=10, sha256="a" * 64, local=False, source="sh")

    async def scenario() -> None:
        for made in (MemoryBackend(cluster), cast("MemoryBackend", object())):
            backend = ChosenBackend(lambda: ACTORS, lambda _driver, made=made: made)  # type: ignore[misc]
            backend._chosen = made
            assert isinstance(backend, BringsAhead)
            await backend.bring_ahead([AheadFile(file=data, nodes=("n1",))])

    asyncio.run(scenario())
    assert cluster.copies is not None
    assert cluster.copies.state().ahead == ("a" * 64,)
