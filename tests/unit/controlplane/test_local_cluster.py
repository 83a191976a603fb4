"""`cpn cluster start-local`: a Ray and an agent of our own as a member of a network, with both played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.errors import UnreachableError
from cluster.model import ClusterSpec
from controlplane import local_cluster
from controlplane.client import Client
from controlplane.local_cluster import LocalCluster, start_local
from controlplane.network import Member, NetworkError
from tests.unit.controlplane.cli_server import PRICES, SERVER, TOKEN, FakeServer, cluster, page, problem

MEMBER = Member(
    ClusterSpec.model_validate({"name": "lap", "backend": "ray", "jurisdiction": "ZZ", "prices": {**PRICES, "accelerator_hour": {}}}),
    cpus=2, memory_bytes=2**30, labels={"tier": "laptop"},
)  # fmt: skip
MADE = {"id": "tok-1", "role": "agent", "tenant": None, "cluster": "lap", "created_at": "2026-03-01T08:00:00Z", "expires_at": None,
        "revoked_at": None}  # fmt: skip


@dataclass
class Part:
    """A Ray or an agent, played: whether it runs, and how often it was started and stopped."""

    name: str = "the agent of lap"
    running: bool = False
    starts: int = 0
    stops: int = 0
    fails: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    address: str = "127.0.0.1:20000"
    token_file: Path = Path("/ray-token")
    log_file: Path = Path("/log")

    def start(self) -> None:
        self.starts, self.running = self.starts + 1, True

    def wait_ready(self) -> None:
        if self.fails:
            raise UnreachableError("Ray head lap ended while starting")

    def stop(self) -> None:
        self.stops, self.running = self.stops + 1, False

    def log_tail(self) -> str:
        return ""


@dataclass
class Bench:
    """What a local cluster needs, played."""

    folder: Path
    server: FakeServer
    said: list[str] = field(default_factory=list)
    ray: Part = field(default_factory=Part)
    agent: Part = field(default_factory=Part)

    def client(self) -> Client:
        return Client(SERVER, TOKEN, transport=httpx.MockTransport(self.server.handle))

    def make(self, client: Client) -> LocalCluster:
        def ray(name: str, directory: Path, **options: Any) -> Any:
            self.ray.options = {"name": name, "directory": directory, **options}
            return self.ray

        return LocalCluster(MEMBER, self.folder, client, say=self.said.append, environ={}, make_ray=ray)

    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.path.removeprefix('/v1')}" for request in self.server.requests]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    view = cluster(name="lap")
    server = FakeServer({
        "GET /clusters": page(), "POST /clusters": (201, view), "GET /clusters/lap": view,
        "POST /tokens": (201, {**MADE, "token": "cpn_agent_x"}), "DELETE /tokens/tok-1": MADE,
    })  # fmt: skip
    made = Bench(tmp_path / "lap", server)
    real: Callable[..., Any] = local_cluster.agent_beside

    def beside(*arguments: Any) -> Any:
        return made.agent, real(*arguments)[1]

    monkeypatch.setattr(local_cluster, "agent_beside", beside)
    return made


def test_a_new_name_is_registered_and_everything_that_was_started_is_stopped(bench: Bench) -> None:
    with bench.client() as client, bench.make(client) as running:
        running.start()
        assert (bench.ray.running, bench.agent.running) == (True, True)
        assert bench.ray.options["labels"] == {"tier": "laptop"}
    assert bench.asked() == ["GET /clusters", "POST /clusters", "POST /tokens", "GET /clusters/lap", "DELETE /tokens/tok-1"]
    assert (bench.ray.running, bench.agent.running) == (False, False)


def test_the_same_command_finds_its_member_again(bench: Bench) -> None:
    for _ in range(2):
        with bench.client() as client, bench.make(client) as running:
            running.start()
        bench.server.answers["GET /clusters"] = page(cluster(name="lap"))
    assert bench.asked().count("POST /clusters") == 1
    assert bench.ray.starts == bench.agent.starts == 2


def test_a_name_of_somebody_else_is_not_taken_over(bench: Bench) -> None:
    bench.server.answers["GET /clusters"] = page(cluster(name="lap"))
    with bench.client() as client, bench.make(client) as running, pytest.raises(NetworkError, match="there is a cluster 'lap' already"):
        running.start()
    assert (bench.ray.starts, bench.asked()) == (0, ["GET /clusters"])


def test_a_name_that_was_registered_anew_by_somebody_else_is_not_taken_over(bench: Bench) -> None:
    with bench.client() as client, bench.make(client) as running:
        running.start()
    bench.server.answers["GET /clusters"] = page(cluster(name="lap", created_at="2027-01-01T00:00:00Z"))
    with bench.client() as client, bench.make(client) as running, pytest.raises(NetworkError, match="was not started here"):
        running.start()


def test_two_at_once_are_refused(bench: Bench) -> None:
    with bench.client() as client, bench.make(client) as first:
        first.start()
        with bench.make(client) as second, pytest.raises(NetworkError, match="lap runs here already"):
            second.start()


def test_an_agent_that_ends_is_started_again_and_a_ray_that_ends_is_the_end(bench: Bench) -> None:
    with bench.client() as client, bench.make(client) as running:
        running.start()
        running.look()
        bench.agent.running = False
        running.look()
        assert (bench.agent.starts, bench.agent.running) == (2, True)
        bench.ray.running = False
        with pytest.raises(NetworkError, match="Ray lap has ended"):
            running.look()


def test_a_ray_that_does_not_start_registers_nothing_and_is_an_error_in_words(bench: Bench) -> None:
    bench.ray.fails = True
    with bench.client() as client, bench.make(client) as running, pytest.raises(NetworkError, match="ended while starting"):
        running.start()
    assert bench.asked() == ["GET /clusters"]
    assert bench.ray.stops == 1


def test_a_token_that_cannot_be_revoked_is_named(bench: Bench) -> None:
    bench.server.answers["DELETE /tokens/tok-1"] = problem(503, "unavailable", "later")
    with bench.client() as client, bench.make(client) as running:
        running.start()
    assert any("`cpn token revoke tok-1` does it later" in line for line in bench.said)


def test_the_command_ends_with_0_on_ctrl_c_and_with_1_when_it_breaks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench.make

    def interrupted(_running: LocalCluster) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local_cluster, "LocalCluster", lambda _member, _folder, client, **_more: made(client))
    monkeypatch.setattr(LocalCluster, "supervise", interrupted)
    with bench.client() as client:
        assert start_local(MEMBER, bench.folder, client, say=bench.said.append) == 0
        assert "lap stays registered" in bench.said[-1]
        bench.server.answers["GET /clusters"] = page(cluster(name="lap", created_at="2027-01-01T00:00:00Z"))
        assert start_local(MEMBER, bench.folder, client, say=bench.said.append) == 1
    assert bench.said[-1].startswith("error: there is a cluster 'lap' already")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["lap", "--labels", "tier"], "--labels: 'tier' is not KEY=VALUE"), (["lap", "--memory", "much"], "--memory 'much'"),
        (["Not A Name"], "name:"), (["lap", "--jurisdiction", "Shanghai"], "jurisdiction:"),
    ],
)  # fmt: skip
def test_wrong_options_end_with_2_and_nothing_is_asked(options: list[str], words: str) -> None:
    server = FakeServer()
    said = server.run("cluster", "start-local", *options)
    assert (said.exit_code, server.requests) == (2, [])
    assert words in said.stderr
