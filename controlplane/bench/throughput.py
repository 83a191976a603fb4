"""How many jobs a second the control plane carries from submission to receipt, durably, and over HTTP.

The server is a process of its own, and so are the clients. The member is one that runs nothing (the `memory` backend), with its agent in
this process, or a real Ray on this machine with an agent of its own, whose warm workers answer a small statement. The account is made
from the store afterwards: every acknowledged job must have ended once, by one run that was started once, with one receipt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx

import controlplane
from cluster.model import ClusterSpec, Node
from controlplane.api.schemas import TokenRequest
from controlplane.api.tenant_schemas import TenantRequest
from controlplane.bench.errors import BenchError
from controlplane.bench.figures import cpu_s
from controlplane.bench.memory_member import MemoryMember
from controlplane.bench.networks import ANY_PORT, CLUSTER, TENANT, one_ray
from controlplane.client import Client
from controlplane.daemon import SERVER_FILE
from controlplane.network import LocalNetwork, Say
from controlplane.settings import Settings, load
from scheduler.store.account import Account, account_of
from scheduler.store.session import Store
from workloads.catalogue.pricing import Prices
from workloads.resources import GIB, Money
from workloads.spec import JobSpec

Backend = Literal["memory", "ray"]
NODES, CORES, MEMORY_GIB, RAY_CORES = 16, 64, 256, 4
LOOK_S, ENDS_WITHIN_S, HEALTHY_WITHIN_S = 0.1, 900.0, 60.0
MIB = 1024**2
ROOT = Path(controlplane.__file__).parents[1]


def run_throughput(folder: Path, *, jobs: int, backend: Backend, clients: int, batch: int, say: Say) -> dict[str, Any]:
    """Submit `jobs` jobs that do nothing and count them in the store when all have ended. Raises BenchError, NetworkError, ClientError."""
    environ = {**os.environ, "CPN_ALLOW_SIMULATED": "1", "CPN_MAX_BATCH": str(max(batch, 1000))}
    with _network(backend, folder, say, environ) as (network, member):
        say(f"{jobs:,} jobs, {batch} a request, {clients} clients")
        before_s, own_before_s = cpu_s(_server_pid(folder)), time.process_time()
        told = _submit(network, _spec(backend), jobs, clients, batch)
        say(f"submitted after {told['ended'] - told['began']:.1f} s")
        _await_end(network, jobs, member)
        used_s, peak_mib, own_s = cpu_s(_server_pid(folder)) - before_s, _peak_mib(folder), time.process_time() - own_before_s
        started = dict(member.cluster.started) if member else {}
    settings = load(environ, data_dir=folder)
    found = _account(settings, told["ids"])
    times = {"server": used_s, "member with its agent": own_s if member else 0.0, "clients": told["used_s"]}
    say("processor time, ms for a job: " + ", ".join(f"{name} {seconds / jobs * 1000:.3f}" for name, seconds in times.items() if seconds))
    return document_of(jobs, backend, batch, told, found, started, peak_mib, settings)


def document_of(
    jobs: int, backend: Backend, batch: int, told: Mapping[str, Any], found: Account, started: Mapping[str, int], peak_mib: float,
    settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    """The figures that are promised to stay. `wall_s` is from the first request to the last end."""
    submit_s, wall_s = told["ended"] - told["began"], found.last_end - told["began"]
    return {
        "jobs": jobs, "backend": backend, "batch": batch, "submitted_per_s": round(jobs / submit_s, 1),
        "completed_per_s": round(jobs / wall_s, 1), "wall_s": round(wall_s, 3), "lost": jobs - found.whole,
        "doubled": found.doubled + sum(times > 1 for times in started.values()), "peak_rss_mib": round(peak_mib, 1),
        "store": "postgresql" if settings.database_url else "sqlite",
    }  # fmt: skip


def _account(settings: Settings, ids: list[str]) -> Account:
    store = Store(settings.store_url)
    try:
        with store.read() as conn:
            return account_of(conn, ids)
    finally:
        store.close()


@contextmanager
def _network(
    backend: Backend, folder: Path, say: Say, environ: Mapping[str, str]
) -> Iterator[tuple[LocalNetwork, MemoryMember | None]]:  # fmt: skip
    if backend == "ray":
        with one_ray(folder, say, cpus=RAY_CORES, environ=environ) as network, network.operator() as client:
            client.create_tenant(TenantRequest(name=TENANT))
            yield network, None
        return
    nodes = [Node(name=f"n{number:02}", cpu=CORES, memory_bytes=MEMORY_GIB * GIB) for number in range(NODES)]
    with LocalNetwork(folder, ANY_PORT, (), say=say, environ=environ) as network:
        network.start()
        with network.operator() as client:
            token = _furnish(client)
            with MemoryMember(CLUSTER, network.url, token, nodes) as member:
                _await_healthy(client)
                yield network, member


def _furnish(client: Client) -> str:
    """The tenant and the member; the token of its agent."""
    client.create_tenant(TenantRequest(name=TENANT))
    prices = Prices(cpu_hour=Money.parse("0.40 CNY"), memory_gib_hour=Money.parse("0.02 CNY"), transfer_gib=Money.parse("0.50 CNY"))
    client.register_cluster(ClusterSpec(name=CLUSTER, backend="memory", jurisdiction="CN-SH", prices=prices))
    return client.create_token(TokenRequest(role="agent", cluster=CLUSTER)).token


def _await_healthy(client: Client) -> None:
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    while client.cluster(CLUSTER).health != "healthy":
        if time.monotonic() > deadline:
            raise BenchError(f"the member is not healthy after {HEALTHY_WITHIN_S:g} s")
        time.sleep(LOOK_S)


def _spec(backend: Backend) -> JobSpec:
    what: dict[str, Any] = {"kind": "command", "command": ["true"]} if backend == "memory" else {"kind": "sql", "sql": "SELECT 1 AS one"}
    # What does nothing needs little: with a core for each statement it would be measured how few cores this machine's Ray has.
    asked = {"cpu": 1, "memory": "1GiB"} if backend == "memory" else {"cpu": 0.1, "memory": "128MiB"}
    return JobSpec.model_validate({
        "name": "no-op", "tenant": TENANT, "purpose": "research", "max_runtime": "1m", "resources": asked, **what,
    })  # fmt: skip


def _submit(network: LocalNetwork, spec: JobSpec, jobs: int, clients: int, batch: int) -> dict[str, Any]:
    """Let the clients' process submit; what it reports."""
    url = httpx.URL(network.url)
    command = [sys.executable, "-m", "controlplane.bench.submitters", url.host, str(url.port), str(jobs), str(clients), str(batch)]
    body = json.dumps(spec.model_dump(mode="json", exclude_unset=True))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{body}\n{network.operator_token}\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "ready":
            raise BenchError("the clients did not start")
        process.stdin.write("go\n")
        process.stdin.close()
        line = process.stdout.readline()
    if not line:
        raise BenchError("the clients ended before all was submitted; what they met is said above")
    told: dict[str, Any] = json.loads(line)
    return told


def _await_end(network: LocalNetwork, jobs: int, member: MemoryMember | None) -> None:
    """Until every job has ended. The member is asked where there is one of ours, because every question to the server costs it time."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    with network.operator() as client:
        while not (_forgotten(member, jobs) if member else _all_ended(client)):
            if time.monotonic() > deadline:
                raise BenchError(f"not all jobs have ended within {ENDS_WITHIN_S:g} s")
            time.sleep(LOOK_S)


def _forgotten(member: MemoryMember, jobs: int) -> bool:
    """Whether all was started and forgotten again, which the control plane orders after the end is durable."""
    started, known = member.counts()
    return started >= jobs and not known


def _all_ended(client: Client) -> bool:
    return not any(client.jobs(state=state, limit=1).items for state in ("queued", "placed", "starting", "running"))


def _server_pid(folder: Path) -> int:
    return int(json.loads((folder / SERVER_FILE).read_text())["pid"])


def _peak_mib(folder: Path) -> float:
    """The most memory that the server had resident (proc(5): status)."""
    lines = Path(f"/proc/{_server_pid(folder)}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MIB for line in lines if line.startswith("VmHWM:"))
