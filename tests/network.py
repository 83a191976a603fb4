"""A whole network for tests: a control plane on a real port, members on the memory backend, agents that dial in.

Everything but the clusters themselves is the production code: HTTP, store, cycle, agents. Servers and agents
can be ended and started again at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from cluster.agent import Agent
from cluster.backends.memory import Behaviour, MemoryBackend, MemoryCluster, succeed_at_once
from cluster.link import HttpLink
from cluster.model import Node, NodeAccelerator
from cluster.protocol import RunFinished, RunRequest
from cluster.replicas import Pretended
from controlplane.daemon import OPERATOR_TOKEN, running_plane
from controlplane.http import plane_server
from controlplane.settings import Settings
from controlplane.wiring import ControlPlane
from scheduler.clock import SystemClock
from tests.databases import empty_database

GIB = 1024**3
Script = Callable[[RunRequest], Behaviour]


def node(name: str = "n1", cpu: float = 8, gib: float = 16, model: str = "", count: int = 0, **labels: str) -> Node:
    """A node in few words."""
    devices = (NodeAccelerator(model=model, count=count),) if model else ()
    return Node(name=name, cpu=cpu, memory_bytes=int(gib * GIB), accelerators=devices, labels=labels)


def job(name: str = "count", **fields: Any) -> dict[str, Any]:
    """A small SQL job; fields replace or add."""
    document = {"name": name, "tenant": "acme", "kind": "sql", "purpose": "research", "sql": "SELECT 1 AS one", "max_runtime": "1m"}
    if fields.get("kind", "sql") != "sql":
        del document["sql"]
        fields.setdefault("command", ["true"])
    return {**document, **fields}


class LoopThread:
    """The event loop that clusters in memory and their agents live in; it outlives every agent."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the loop's thread."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class RunningAgent:
    """One agent, which can be ended in good order or without warning."""

    def __init__(self, loop: LoopThread, name: str, url: str, token: str, cluster: MemoryCluster) -> None:
        self._loop, self._arguments = loop, (name, url, token, cluster)
        self._stop: asyncio.Event = loop.call(asyncio.Event)
        self._done = asyncio.run_coroutine_threadsafe(self._run(), loop.loop)

    async def _run(self) -> None:
        name, url, token, cluster = self._arguments
        link = HttpLink(url, token, name)
        agent = Agent(MemoryBackend(cluster), link, clock=SystemClock(), agent_id=f"agent-{id(self)}", inventory_interval_s=0.2)
        try:
            await agent.run(self._stop)
        finally:
            await link.close()

    @property
    def error(self) -> BaseException | None:
        """What ended it, when something did."""
        return self._done.exception() if self._done.done() and not self._done.cancelled() else None

    def stop(self) -> None:
        """End in good order."""
        self._loop.call(self._stop.set)
        with contextlib.suppress(Exception, CancelledError):
            self._done.result(10)
        assert self._done.done()

    def kill(self) -> None:
        """End at once, in the middle of whatever it does."""
        self._done.cancel()
        with contextlib.suppress(CancelledError):
            self._done.result(10)


def idle(cluster: MemoryCluster) -> bool:
    """Whether every run that the cluster knows has ended."""
    return all(isinstance(cluster.history(run.run_id)[-1], RunFinished) for run in cluster.known())


# For networks in which nothing is about silence: members are not given up while a busy machine lets their agents wait.
PATIENT: dict[str, Any] = {"suspect_after_s": 20.0, "lost_after_s": 40.0}


class Network:
    """A control plane and its members. Use as a context manager."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        timings: dict[str, Any] = {"suspect_after_s": 2.0, "lost_after_s": 4.0, "lease_s": 30.0, "sweep_interval_s": 0.1}
        self.settings = Settings(data_dir=data_dir, port=free_port(), allow_simulated=True, **{**timings, **settings})
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self.clusters: dict[str, MemoryCluster] = {}
        self.agents: dict[str, RunningAgent] = {}
        self._tokens: dict[str, str] = {}
        self._server = ExitStack()
        self.loop = LoopThread()
        self.plane: ControlPlane

    def __enter__(self) -> Network:
        self.start_server()
        self.operator = httpx.Client(base_url=f"{self.url}/v1", headers=self.bearer(self.operator_token()), timeout=70, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self.agents.values():
            agent.stop()
        self.loop.close()
        self.operator.close()
        self.stop_server()

    def start_server(self) -> None:
        """Start the control plane on the same data and port."""
        self._server = ExitStack()
        if not self.settings.database_url and not self.settings.data_dir.exists():
            self.settings.data_dir.mkdir(mode=0o700, parents=True)
            (self.settings.data_dir / "cpn.sqlite").write_bytes(empty_database())
        self.plane = self._server.enter_context(running_plane(self.settings))
        server = plane_server(self.plane)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.settings.port))
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
        thread.start()

        def end() -> None:
            self.plane.announce_stop()
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()

        self._server.callback(end)
        until(lambda: server.started, "the server starts")

    def stop_server(self) -> None:
        """End the control plane; its data stays."""
        self._server.close()

    def operator_token(self) -> str:
        return (self.settings.data_dir / OPERATOR_TOKEN).read_text().strip()

    @staticmethod
    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    def client(self, role: str, **binding: str) -> httpx.Client:
        """A client with a fresh token of a role."""
        token = self.ok(self.operator.post("/tokens", json={"role": role, **binding}))["token"]
        return httpx.Client(base_url=f"{self.url}/v1", headers=self.bearer(token), timeout=70, trust_env=False)

    @staticmethod
    def ok(answer: httpx.Response) -> Any:
        """The document of a good answer."""
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def add_cluster(
        self,
        name: str,
        *nodes: Node,
        jurisdiction: str = "CN-SH",
        cpu_hour: str = "0.40 CNY",
        script: Script | None = None,
        agent: bool = True,
        copies: Pretended | None = None,
        **fields: Any,
    ) -> MemoryCluster:
        """Register a member and let its agent report; fields are further ones of its registration."""
        prices = {
            "cpu_hour": cpu_hour,
            "memory_gib_hour": "0.02 CNY",
            "transfer_gib": "0.50 CNY",
            "accelerator_hour": {"H200": "20.00 CNY"},
        }
        document = {"name": name, "backend": "memory", "jurisdiction": jurisdiction, "prices": prices, **fields}
        self.ok(self.operator.post("/clusters", json=document))
        self._tokens[name] = self.ok(self.operator.post("/tokens", json={"role": "agent", "cluster": name}))["token"]
        self.clusters[name] = MemoryCluster(nodes or (node(),), script or succeed_at_once, copies=copies)
        if agent:
            self.start_agent(name)
        return self.clusters[name]

    def start_agent(self, name: str) -> RunningAgent:
        """Start (another) agent of a member and wait until the member is healthy."""
        self.agents[name] = RunningAgent(self.loop, name, self.url, self._tokens[name], self.clusters[name])
        until(lambda: self.cluster(name)["health"] == "healthy", f"{name} is healthy")
        return self.agents[name]

    def cluster(self, name: str) -> Any:
        return self.ok(self.operator.get(f"/clusters/{name}"))

    def add_tenant(self, name: str = "acme") -> None:
        self.ok(self.operator.post("/tenants", json={"name": name}))

    def submit(self, document: dict[str, Any], **headers: str) -> Any:
        return self.ok(self.operator.post("/jobs", json=document, headers=headers))

    def job(self, job_id: str) -> Any:
        return self.ok(self.operator.get(f"/jobs/{job_id}"))

    def wait(self, job_id: str, *states: str, seconds: float = 20.0) -> Any:
        """The job as soon as it is in one of these states (any final one when none is named)."""
        wanted = states or ("succeeded", "failed", "cancelled")
        deadline, version, found = time.monotonic() + seconds, 0, {}
        while time.monotonic() < deadline:
            found = self.ok(self.operator.get(f"/jobs/{job_id}", params={"wait_s": 1, "after_version": version}))
            version = found["version"]
            if found["state"] in wanted:
                return found
        raise AssertionError(f"{job_id} is {found.get('state')} ({found.get('message')}), not {wanted}, after {seconds} s")

    def moves(self, job_id: str) -> list[tuple[str, str]]:
        """(state, cause) in order."""
        return [(item["finish"], item["cause"]) for item in self.ok(self.operator.get(f"/jobs/{job_id}/events"))["items"]]


def until(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Wait for a condition of something real; fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
