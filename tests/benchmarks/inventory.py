"""`python -m tests.benchmarks.inventory`: what it takes to tell a server of a cluster of many nodes in one `sync`.

The nodes carry what Ray gives to machines with accelerators: ten labels, eight devices. Told are all nodes (a first report, and one after
a node joined) and a cache of copies by itself. Bytes are counted; seconds are processor time, medians; memory is what
Python holds at the most while the server takes the report in. `http` is the whole call over a real port, wall clock, agent and server in
one process. The store is SQLite, durable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from cluster.health import HealthPolicy
from cluster.inventory_news import InventoryNews
from cluster.link import HttpLink
from cluster.model import Inventory, Node, NodeAccelerator
from cluster.protocol import SyncRequest
from cluster.replicas import MOST_TOLD, CacheState
from scheduler.bells import Bells
from scheduler.freeze import freeze, read_world
from scheduler.reconcile import absorb
from scheduler.store import fleet
from scheduler.store.session import Store
from tests.databases import empty_database
from tests.network import Network
from tests.records import cluster_spec

AGENT = "agent-1"
GIB = 1024**3


def machine(number: int) -> Node:
    """A node as Ray's inventory has it: its name, what it has, and the labels of a cloud."""
    labels = {
        "ray.io/accelerator-type": "H200", "ray.io/availability-zone": f"cn-shanghai-{number % 3}", "ray.io/region": "cn-shanghai",
        "ray.io/market-type": "on-demand", "ray.io/node-group": f"h200-8-group-{number % 10}", "cpn/rack": f"rack-{number // 16:04d}",
        "kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": "gpu-h200-8x-large", "team": "research", "tier": "gold",
    }  # fmt: skip
    return Node(
        name=f"10.{number // 250}.{number % 250}.17-{number:08x}", cpu=192.0, memory_bytes=2048 * GIB,
        accelerators=(NodeAccelerator(model="H200", count=8),), labels=labels, object_store_bytes=200 * GIB,
    )  # fmt: skip


def inventory(nodes: int, copies: int = 0) -> Inventory:
    """That many machines, and a cache that holds copies of that many versions."""
    versions = tuple(f"{number:064x}" for number in range(copies))
    cache = CacheState(capacity_bytes=64 * GIB * nodes, used_bytes=copies * GIB, copies=copies * nodes, versions=versions)
    return Inventory(nodes=tuple(map(machine, range(nodes))), version="ray 2.60.0", resizes=True, cache=cache, remote_id="ab" * 28)


def first(nodes: int) -> SyncRequest:
    """The first report of an agent."""
    return SyncRequest(agent_id=AGENT, reachable=True, takes_over=True, known_runs=(), inventory=inventory(nodes))


def cache_alone(nodes: int, copies: int) -> SyncRequest:
    """What an agent tells when its caches changed and nothing else."""
    news = InventoryNews()
    for held in (0, copies):
        news.saw(inventory(nodes, held))
        request = news.add_to(SyncRequest(agent_id=AGENT, reachable=True))
        news.accepted(request)
    return request


def _median_s(times: int, work: Callable[[], object]) -> float:
    spent = []
    for _ in range(times):
        began = process_time()
        work()
        spent.append(process_time() - began)
    return statistics.median(spent)


class Server:
    """The part of a server that takes a report in, on a store of its own."""

    def __init__(self, folder: Path) -> None:
        path = folder / "cpn.sqlite"
        path.write_bytes(empty_database())
        self._store = Store(f"sqlite:///{path}")
        self._store.write(lambda tx: fleet.add_cluster(tx.conn, cluster_spec(), 0.0))

    def take_in(self, text: bytes) -> None:
        """Parse and store a report, durably."""
        report = SyncRequest.model_validate_json(text)
        self._store.write(lambda tx: absorb(tx, Bells(), "sh", report, 1.0, HealthPolicy()))

    def look(self) -> int:
        """Read the network as a decision does; how many nodes there are."""
        fleet._read_node.cache_clear()
        with self._store.read() as conn:
            return len(freeze(read_world(conn, 2.0), (), {}).snapshot.nodes.names)

    def close(self) -> None:
        self._store.close()


def measure(nodes: int, copies: int, times: int) -> dict[str, Any]:
    """All figures for a cluster of this size."""
    whole, cache = first(nodes), cache_alone(nodes, copies)
    news, texts = InventoryNews(), {"nodes": whole.model_dump_json().encode(), "cache": cache.model_dump_json().encode()}
    same = (inventory(nodes), inventory(nodes))
    news.saw(same[0])
    found: dict[str, Any] = {
        "nodes": nodes, "copies": copies, "bytes": {name: len(text) for name, text in texts.items()},
        "agent_ms": {
            "compare": 1e3 * _median_s(times, lambda: news.saw(same[1])), "write": 1e3 * _median_s(times, whole.model_dump_json),
            "write_cache": 1e3 * _median_s(times, cache.model_dump_json),
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.take_in(texts["nodes"])
        found["server_ms"] = {name: 1e3 * _median_s(times, lambda text=text: server.take_in(text)) for name, text in texts.items()}
        found["server_ms"]["read_for_a_decision"] = 1e3 * _median_s(times, server.look)
        tracemalloc.start()
        server.take_in(texts["nodes"])
        found["server_peak_mib"] = tracemalloc.get_traced_memory()[1] / 1024**2
        tracemalloc.stop()
        assert server.look() == nodes
        server.close()
    with tempfile.TemporaryDirectory() as folder:
        found["http_ms"] = {name: 1e3 * value for name, value in _over_http(Path(folder), nodes, copies, times).items()}
    return found


def _over_http(folder: Path, nodes: int, copies: int, times: int) -> dict[str, float]:
    with Network(folder / "data", suspect_after_s=20.0, lost_after_s=40.0) as network:
        network.add_cluster("sh", agent=False)
        token = network.plane.tokens.create("agent", cluster="sh")[1]

        async def calls() -> dict[str, float]:
            link = HttpLink(network.url, token, "sh")
            await link.sync(first(nodes))
            spent = {}
            for name, request in (("nodes", first(nodes).model_copy(update={"takes_over": False})), ("cache", cache_alone(nodes, copies))):
                walls = []
                for _ in range(times):
                    began = perf_counter()
                    await link.sync(request)
                    walls.append(perf_counter() - began)
                spent[name] = statistics.median(walls)
            await link.close()
            return spent

        return asyncio.run(calls())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=MOST_TOLD, help=f"versions in the cache, {MOST_TOLD} at most")
    parser.add_argument("--times", type=int, default=15)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.nodes, asked.copies, asked.times), indent=1))


if __name__ == "__main__":
    main()
