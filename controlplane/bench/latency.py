"""How long a person waits for a small job on an idle network, beside Ray's own Job API on the same cluster.

The network is the one of `cpn up`: a server with a durable store, one real Ray on this machine, its agent, all in processes of
their own. Rounds are interleaved, so that whatever else the machine does falls on all alike: a SQL job, a command job, and
the same empty command submitted to Ray's Job API, each after a rest, because what one leaves behind (Ray ends processes for seconds)
would fall on the next. *Start* and *done* count from the moment before the request: start is when the control plane knew that the
work had begun, done is when the waiting client has the end in its hands.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from controlplane.api.schemas import VersionRequest
from controlplane.api.tenant_schemas import TenantRequest
from controlplane.bench.errors import BenchError
from controlplane.bench.figures import quantiles_ms
from controlplane.bench.networks import CLUSTER, TENANT, one_ray
from controlplane.client import Client
from controlplane.network import LocalNetwork, Say
from scheduler.lifecycle import FINAL, State
from workloads.catalogue.product import Product, Replica
from workloads.spec import JobSpec

WARM_UP, TOLD_EVERY = 3, 10
PRODUCT = "bench/orders"
ROWS = 10_000
SQL = "SELECT region, count(*) AS orders, avg(amount) AS amount FROM orders GROUP BY region ORDER BY region"
LOOK_S, REST_S = 0.005, 0.5
ONLY_THE_END = 2**31
RAY_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
START, DONE = "submit → start", "submit → done"

Times = dict[str, dict[str, list[float]]]  # Seconds by kind of job and step.


def run_latency(folder: Path, n: int, say: Say) -> dict[str, Any]:
    """Run `n` rounds on a network in `folder`. Raises BenchError, NetworkError, ClientError."""
    times: Times = {kind: defaultdict(list) for kind in ("sql", "command", "ray job")}
    with one_ray(folder, say, dashboard=True) as network, network.operator() as client, _job_api(network) as ray:
        inputs = _furnish(client, folder)
        submissions: dict[str, Callable[[], dict[str, float]]] = {
            "sql": lambda: _through_cpn(client, _spec(kind="sql", sql=SQL, inputs=inputs)),
            "command": lambda: _through_cpn(client, _spec(kind="command", command=["true"])),
            "ray job": lambda: _through_ray(ray),
        }
        for number in range(-WARM_UP, n):
            for kind, submit in submissions.items():
                time.sleep(REST_S)
                measured = submit()
                for step, seconds in measured.items() if number >= 0 else ():
                    times[kind][step].append(seconds)
            if number >= 0 and (number + 1) % TOLD_EVERY == 0:
                say(f"{number + 1} of {n} rounds")
    for kind, steps in times.items():
        for step, values in steps.items():
            found = quantiles_ms(values)
            say(f"{kind + ':':<9}{step:<24} p50 {found['p50']:8.1f} ms  p95 {found['p95']:8.1f} ms")
    return document_of(n, times)


def document_of(n: int, times: Times) -> dict[str, Any]:
    """The figures that are promised to stay: each kind's quantiles, and how many times the peer's median ours is."""

    def spread(kind: str, *steps: str) -> dict[str, dict[str, float]]:
        names = {START: "submit_to_start_ms", DONE: "submit_to_done_ms"}
        return {names[step]: quantiles_ms(times[kind][step]) for step in steps}

    sql, command, ray = spread("sql", START, DONE), spread("command", START, DONE), spread("ray job", DONE)
    peer = ray["submit_to_done_ms"]["p50"]
    return {
        "n": n, "cpn_sql": sql, "cpn_command": command, "ray_job": ray,
        "ratio_sql": round(peer / sql["submit_to_done_ms"]["p50"], 2),
        "ratio_command": round(peer / command["submit_to_done_ms"]["p50"], 2),
    }  # fmt: skip


@contextmanager
def _job_api(network: LocalNetwork) -> Iterator[httpx.Client]:
    head = network.rays[CLUSTER]
    with httpx.Client(base_url=head.dashboard, headers={"Authorization": f"Bearer {head.token}"}, timeout=60, trust_env=False) as ray:
        yield ray


def _furnish(client: Client, folder: Path) -> dict[str, str]:
    """A tenant and a small public product that lies at the cluster; the inputs of a job that reads it."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    path = folder / "orders.parquet"
    regions = [("north", "east", "south", "west")[number % 4] for number in range(ROWS)]
    pq.write_table(pa.table({"region": regions, "amount": [float(number % 997) for number in range(ROWS)]}), path)
    client.create_tenant(TenantRequest(name=TENANT))
    client.create_product(Product(name=PRODUCT, owner="bench", classification="public"))
    version = client.publish_version(PRODUCT, VersionRequest(format="parquet", replicas=(Replica(cluster=CLUSTER, uri=path.as_uri()),)))
    return {"orders": version.ref}


def _spec(**fields: Any) -> JobSpec:
    return JobSpec.model_validate({"name": "small", "tenant": TENANT, "purpose": "research", "max_runtime": "1m", **fields})


def _through_cpn(client: Client, spec: JobSpec) -> dict[str, float]:
    """Submit, wait for the end, and read from the stored events when each step was taken."""
    began = time.time()
    job = client.submit(spec)
    acknowledged = time.time()
    while State(job.state) not in FINAL:
        job = client.job(job.id, wait_s=30.0, after_version=ONLY_THE_END)
    done = time.time()
    if job.state != State.SUCCEEDED or job.started_at is None:
        raise BenchError(f"{job.id} is {job.state}: {job.message}")
    moves = {event.finish: event.at.timestamp() for event in client.events(job.id).items}
    steps = [state.value for state in (State.QUEUED, State.PLACED, State.STARTING, State.RUNNING, State.SUCCEEDED)]
    between = {f"{first} → {then}": moves[then] - moves[first] for first, then in pairwise(steps)}
    return {
        START: job.started_at.timestamp() - began, DONE: done - began,
        "submit → acknowledged": acknowledged - began, **between, "succeeded → seen": done - moves[State.SUCCEEDED.value],
    }  # fmt: skip


def _through_ray(ray: httpx.Client) -> dict[str, float]:
    """`ray job submit -- true` without the time of its command line; looked at every few milliseconds."""
    began = time.time()
    identity = ray.post("/api/jobs/", json={"entrypoint": "true"}).raise_for_status().json()["submission_id"]
    while True:
        found = ray.get(f"/api/jobs/{identity}").raise_for_status().json()
        now = time.time()
        if found["status"] in RAY_ENDED:
            break
        time.sleep(LOOK_S)
    if found["status"] != "SUCCEEDED":
        raise BenchError(f"Ray's job {identity} is {found['status']}: {found.get('message')}")
    return {DONE: now - began}
