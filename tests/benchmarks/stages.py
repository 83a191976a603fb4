"""What a job that does nothing costs the server, stage by stage, in processor time, from a request's bytes to the report of its end.

Everything is done one after the other in this process, on a durable store in a temporary folder, by the code that a server runs; what
is left out is the socket, and waiting. So the figures say where the time goes, and depend little on what else the machine does.

    python -m tests.benchmarks.stages --jobs 2000 --batch 100
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.backends.memory import MemoryCluster
from cluster.model import ClusterSpec, Inventory, Node
from cluster.protocol import Observation, RunEvent, SyncReply, SyncRequest
from cluster.shipping import without_implied
from controlplane.api.app import create_app
from controlplane.collector import calm_collector
from controlplane.settings import Settings
from controlplane.wiring import ControlPlane
from scheduler.lifecycle import State
from scheduler.store import access, fleet, jobs
from scheduler.store.migrate import migrate
from scheduler.store.session import Store
from workloads.catalogue.pricing import Prices
from workloads.resources import GIB, Money

CLUSTER, TENANT, AGENT = "local", "acme", "stages"
NODES, CORES, MEMORY_GIB = 16, 64, 256
CLIENTS = 4  # Each has one request on its way.
EVENTS = 600  # In one report, as agents send them.
JOB = {
    "name": "no-op", "tenant": TENANT, "purpose": "research", "kind": "command", "command": ["true"], "max_runtime": "1m",
    "resources": {"cpu": 1, "memory": "1GiB"},
}  # fmt: skip


class Stages:
    """A control plane without threads or sockets, and how much processor time each stage of its work has used, in seconds."""

    def __init__(self, folder: Path) -> None:
        store = Store(f"sqlite:///{folder}/cpn.db")
        migrate(store)
        self.plane = ControlPlane(Settings(data_dir=folder), store)
        self.plane.cycle._timer = time.process_time
        self.app = create_app(self.plane)
        self.used: dict[str, float] = defaultdict(float)
        self.tokens: dict[str, str] = {}
        self.nodes = [Node(name=f"n{number:02}", cpu=CORES, memory_bytes=MEMORY_GIB * GIB) for number in range(NODES)]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is used while the context lasts."""
        began = time.process_time()
        try:
            yield
        finally:
            self.used[name] += time.process_time() - began

    def furnish(self) -> None:
        """A tenant, a queue, a member with nodes, and tokens."""
        plane, now = self.plane, self.plane.clock.now()
        prices = Prices(cpu_hour=Money.parse("0.40 CNY"), memory_gib_hour=Money.parse("0.02 CNY"), transfer_gib=Money.parse("0.50 CNY"))
        spec = ClusterSpec(name=CLUSTER, backend="memory", jurisdiction="CN-SH", prices=prices)
        plane.store.write(lambda tx: access.add_tenant(tx.conn, TENANT, now))
        plane.store.write(lambda tx: fleet.add_queue(tx.conn, "default", 1.0, None, now))
        plane.store.write(lambda tx: fleet.add_cluster(tx.conn, spec, now))
        self.tokens = {"buyer": plane.tokens.create("operator")[1], "agent": plane.tokens.create("agent", cluster=CLUSTER)[1]}

    async def ask(self, path: str, body: bytes, who: str) -> bytes:
        """One request to the application, without a socket; its answer. Raises RuntimeError for anything but success."""
        parts: list[bytes] = []
        status = 0
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "asgi": {"version": "3.0"},
            "headers": [
                (b"authorization", f"Bearer {self.tokens[who]}".encode()), (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ],
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await self.app(scope, receive, send)
        answer = b"".join(parts)
        if not 200 <= status < 300:
            raise RuntimeError(f"{path}: HTTP {status}: {answer.decode()}")
        return answer

    async def sync(self, report: bytes) -> bytes:
        """The answer to a report of the agent."""
        return await self.ask(f"/v1/agents/{CLUSTER}/sync", report, "agent")


async def submit(stages: Stages, count: int, batch: int) -> None:
    """Submit so many jobs, `batch` in a request, by some clients at once."""
    text = json.dumps(JOB)
    with stages.stage("submit"):
        for begin in range(0, count, batch * CLIENTS):
            sizes = [min(batch, count - at) for at in range(begin, min(begin + batch * CLIENTS, count), batch)]
            asked = [("/v1/jobs", text) if batch == 1 else ("/v1/jobs:batch", _items(text, size)) for size in sizes]
            await asyncio.gather(*(stages.ask(path, body.encode(), "buyer") for path, body in asked))


def _items(text: str, count: int) -> str:
    return '{"items":[' + ",".join([f'{{"job":{text}}}'] * count) + "]}"


def decide(stages: Stages, count: int) -> None:
    """Run cycles until so many jobs are placed."""
    placed = 0
    while placed < count:
        report = stages.plane.cycle.run()
        placed += report.placed
        for step, seconds in report.steps.items():
            stages.used[f"cycle: {step}"] += seconds


class Member:
    """A member in memory, with what its agent does for each order."""

    def __init__(self, stages: Stages) -> None:
        self._stages, self._acknowledged = stages, 0
        self._cluster, self._told = MemoryCluster(stages.nodes), list[RunEvent]()
        self._cluster.listen(self._told.append)

    async def begin(self) -> None:
        """Speak for the cluster from now on."""
        inventory = Inventory(nodes=tuple(self._stages.nodes), version="memory")
        hello = SyncRequest(agent_id=AGENT, reachable=True, inventory=inventory, takes_over=True, known_runs=())
        await self._stages.sync(hello.model_dump_json().encode())

    async def work(self) -> None:
        """Carry out orders, and report, until there is nothing to do."""
        stages = self._stages
        while True:
            with stages.stage("sync: orders"):
                answer = await stages.sync(self._report())
            with stages.stage("agent: reads orders"):
                orders = SyncReply.model_validate_json(answer).instructions
            if not orders:
                return
            with stages.stage("member"):
                for order in orders:
                    if order.action == "start" and order.run is not None:
                        self._cluster.start(order.run)
                    else:
                        self._cluster.forget(order.run_id)
            self._acknowledged = orders[-1].sequence
            for begin in range(0, len(self._told), EVENTS):
                with stages.stage("agent: writes reports"):
                    told = self._report(*(Observation(epoch=1, event=event) for event in self._told[begin : begin + EVENTS]))
                with stages.stage("sync: reports"):
                    await stages.sync(told)
            self._told.clear()

    def _report(self, *observations: Observation) -> bytes:
        told = without_implied(observations)
        report = SyncRequest(agent_id=AGENT, reachable=True, observations=told, acknowledged=self._acknowledged)
        return report.model_dump_json().encode()


async def measure(folder: Path, count: int, batch: int, most: int = NODES * CORES // 2) -> dict[str, float]:
    """Seconds of processor time by stage, of `count` jobs, of which `most` are on their way at once."""
    stages = Stages(folder)
    stages.furnish()
    member = Member(stages)
    await member.begin()
    calm_collector()
    for begin in range(0, count, most):
        wave = min(most, count - begin)
        await submit(stages, wave, batch)
        decide(stages, wave)
        await member.work()
    with stages.plane.store.read() as conn:
        ended = jobs.list_jobs(conn, state=State.SUCCEEDED.value, limit=count + 1)
    if len(ended) != count:
        raise RuntimeError(f"{len(ended)} of {count} jobs have ended")
    stages.plane.store.close()
    return dict(stages.used)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--wave", type=int, default=NODES * CORES // 2, help="how many are submitted before there is a decision")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        used = asyncio.run(measure(Path(folder), given.jobs, given.batch, given.wave))
    for name, seconds in used.items():
        print(f"{name:24} {seconds / given.jobs * 1000:7.3f} ms a job")
    print(f"{'in all':24} {sum(used.values()) / given.jobs * 1000:7.3f} ms a job")


if __name__ == "__main__":
    main()
