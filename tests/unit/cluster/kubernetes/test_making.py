"""What is made of a run, on servers that know Indexed Jobs, that drop what they do not know, and that remember an earlier start."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.making import Maker
from cluster.backends.kubernetes.objects import RunSettings
from cluster.errors import AlreadyThereError
from cluster.protocol import RunRequest
from tests.unit.cluster.control import run_request

SETTINGS = RunSettings(cluster="lab", namespace="cpn", image="cpn")
SECRETS, JOBS = "/api/v1/namespaces/cpn/secrets", "/apis/batch/v1/namespaces/cpn/jobs"


class Server:
    """The objects by their paths. `knows` says of each Job that is made whether the server that takes it knows Indexed Jobs."""

    def __init__(self, *knows: bool) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.knows = list(knows)
        self.calls: list[str] = []

    async def create(self, path: str, item: dict[str, Any], **query: str) -> dict[str, Any]:
        if query.get("dryRun"):
            return self._taken(item)
        name = f"{path}/{item['metadata']['name']}"
        if name in self.items:
            raise AlreadyThereError(name)
        data = {key: base64.b64encode(text.encode()).decode() for key, text in item.get("stringData", {}).items()}
        self.items[name] = {**item, "data": data, "metadata": {**item["metadata"], "uid": f"uid-{len(self.calls)}"}}
        self.calls.append(f"create {name}")
        return self.items[name]

    async def apply(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(f"apply {path}")
        made = self._taken(item) if path.startswith(JOBS) else item
        self.items[path] = {**made, "metadata": {**item["metadata"], "uid": f"uid-{len(self.calls)}"}}
        return self.items[path]

    async def get(self, path: str) -> dict[str, Any]:
        return self.items[path]

    async def delete(self, path: str, *, uid: str) -> None:
        assert self.items.pop(path)["metadata"]["uid"] == uid

    async def pages(self, path: str, **_query: str) -> AsyncIterator[dict[str, Any]]:
        yield {"items": [item for name, item in self.items.items() if name.startswith(f"{path}/")]}

    def _taken(self, item: dict[str, Any]) -> dict[str, Any]:
        known = self.knows.pop(0) if self.knows else False
        return item if known else {**item, "spec": {name: value for name, value in item["spec"].items() if name != "completionMode"}}

    def jobs(self) -> list[str]:
        return sorted(name.removeprefix(f"{JOBS}/") for name in self.items if name.startswith(JOBS))


def maker(server: Server, now: float = 1000.0) -> Maker:
    return Maker(cast(KubeClient, server), SETTINGS, lambda: now, 300.0)


def gang(*nodes: str) -> RunRequest:
    return run_request(nodes=nodes)


@pytest.mark.parametrize(
    ("knows", "nodes", "jobs"),
    [
        ((True, True), ("n1", "n2"), ["cpn-a-1"]),
        ((False,), ("n1", "n2"), ["cpn-a-1-0", "cpn-a-1-1"]),
        ((True, False), ("n1", "n2"), ["cpn-a-1-0", "cpn-a-1-1"]),
        ((), ("n1", "n1", "n2"), ["cpn-a-1-0", "cpn-a-1-1", "cpn-a-1-2"]),
        ((), ("n1",), ["cpn-a-1"]),
    ],
    ids=["known", "dropped", "known by one server of two", "no one template", "single"],
)
def test_a_gang_is_one_indexed_job_where_that_is_known_and_says_enough(
    knows: tuple[bool, ...], nodes: tuple[str, ...], jobs: list[str]
) -> None:
    server = Server(*knows)
    asyncio.run(maker(server).make(gang(*nodes), ""))
    assert server.jobs() == jobs


def test_making_a_run_again_changes_nothing() -> None:
    server = Server()
    asyncio.run(maker(server).make(gang("n1", "n2"), ""))
    before = dict(server.items)
    asyncio.run(maker(server, now=1500.0).make(gang("n1", "n2"), ""))
    assert server.items.keys() == before.keys()
    assert server.items[f"{SECRETS}/cpn-a-1"] == before[f"{SECRETS}/cpn-a-1"]


def test_the_time_to_start_is_set_anew_where_an_earlier_start_came_to_nothing() -> None:
    server = Server()

    async def scenario() -> None:
        made = maker(server)
        await made.make(gang("n1"), "")
        await server.delete(f"{JOBS}/cpn-a-1", uid=server.items[f"{JOBS}/cpn-a-1"]["metadata"]["uid"])
        assert await made.start_by("a-1") == 1300.0
        await maker(server, now=5000.0).make(gang("n1"), "")
        assert await made.start_by("a-1") == 5300.0
        owners = server.items[f"{JOBS}/cpn-a-1"]["metadata"]["ownerReferences"]
        assert owners[0]["uid"] == server.items[f"{SECRETS}/cpn-a-1"]["metadata"]["uid"]

    asyncio.run(scenario())


def test_a_secret_of_somebody_else_is_left_alone() -> None:
    server = Server()
    asyncio.run(server.create(SECRETS, {"metadata": {"name": "cpn-a-1"}, "stringData": {"password": "x"}}))
    with pytest.raises(AlreadyThereError, match="is not of run a-1"):
        asyncio.run(maker(server).make(gang("n1"), ""))
    assert server.jobs() == []


def test_requests_are_read_back_from_their_secrets() -> None:
    server = Server()

    async def scenario() -> None:
        made = maker(server)
        await made.make(gang("n1"), "")
        await server.create(SECRETS, {"metadata": {"name": "other"}, "stringData": {"request.json": "{}"}})
        assert await made.requests() == {"a-1": gang("n1")}

    asyncio.run(scenario())
