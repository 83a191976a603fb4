"""A result of many bytes on its way from a node over its agent and the server to a buyer's folder, and what others notice of that.

The network is that of `cpn bench latency`: a server, one real Ray, its agent, each in processes of their own. The command makes one sparse
file, which takes no time; from its node on every byte is read, sent, checked and written. Told are the peaks of resident memory of
server and agent, the seconds of each step, and how long the server takes for a small question meanwhile. Needs three times the room on
the disk.

    python -m tests.benchmarks.large_result --gib 10
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cluster.runs.bounds import descendants
from controlplane.api.schemas import TenantRequest
from controlplane.bench.networks import TENANT, one_ray
from controlplane.cli.results import download_all
from controlplane.client import Client
from workloads.resources import GIB
from workloads.spec import JobSpec

STATES = ("succeeded", "failed", "cancelled")


class Meanwhile:
    """Asks the server a small question again and again, and notes how long each answer takes."""

    def __init__(self, client: Client) -> None:
        self._client, self._over = client, threading.Event()
        self.waits = list[float]()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Meanwhile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.1):
            began = time.perf_counter()
            self._client.tenants()
            self.waits.append(time.perf_counter() - began)

    def told(self) -> dict[str, float]:
        """Milliseconds."""
        ordered = sorted(self.waits)
        at = {"p50": statistics.median(ordered), "p95": ordered[int(0.95 * (len(ordered) - 1))], "max": ordered[-1]}
        return {name: round(1e3 * value, 1) for name, value in at.items()}


def peak_mib(pid: int) -> float:
    """Resident memory of a process at the most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return round(int(lines["VmHWM"].split()[0]) / 1024, 1)


def measure(folder: Path, size: int) -> dict[str, Any]:
    """Run it once. Raises RuntimeError when the job does not succeed."""
    spec = JobSpec.model_validate({
        "name": "large", "tenant": TENANT, "kind": "command", "purpose": "research", "max_runtime": "1h",
        "command": ["sh", "-c", f'truncate -s {size} "$CPN_OUTPUT_DIR/large"'], "resources": {"cpu": 1, "memory": "256MiB"},
    })  # fmt: skip
    environ = {**os.environ, "CPN_MAX_RESULT_BYTES": str(size)}
    with one_ray(folder / "network", lambda text: print(text, file=sys.stderr), environ=environ) as network, network.operator() as client:
        client.create_tenant(TenantRequest(name=TENANT))
        (agent,) = network.agents.values()
        # Each is the only child of what watches over it.
        pids = {name: descendants(child.pid)[0] for name, child in (("server", network.server), ("agent", agent))}
        before = {name: peak_mib(pid) for name, pid in pids.items()}
        began = time.perf_counter()
        with Meanwhile(network.operator()) as bringing:
            job = client.submit(spec)
            while job.state not in STATES:
                job = client.job(job.id, wait_s=30.0, after_version=job.version)
        brought = time.perf_counter()
        if job.state != "succeeded":
            raise RuntimeError(f"{job.state}: {job.message}")
        with Meanwhile(network.operator()) as fetching:
            download_all(client, client.result(job.id), folder / "mine")
        fetched = time.perf_counter()
        if (arrived := (folder / "mine" / "large").stat().st_size) != size:
            raise RuntimeError(f"{arrived} bytes arrived of {size}")
        after = {name: peak_mib(pid) for name, pid in pids.items()}
    return {
        "gib": size / GIB, "to_server_s": round(brought - began, 1), "to_buyer_s": round(fetched - brought, 1),
        "peak_rss_mib": {name: {"before": before[name], "after": after[name]} for name in pids},
        "question_ms": {"to_server": bringing.told(), "to_buyer": fetching.told()},
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="where there is room; default: a temporary one")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} before", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        print(json.dumps(measure(Path(folder), int(asked.gib * GIB))))
    print(f"load {os.getloadavg()[0]:.1f} at the end", file=sys.stderr)


if __name__ == "__main__":
    main()
