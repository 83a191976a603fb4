"""`cpn bench distributed-sql`: TPC-H through `kind: sql` by DuckDB, by Daft on Ray, and as `engine: auto` chooses.

On a network of its own with one real Ray: every statement is a job, submitted over HTTP and waited for, so the times are what a buyer
waits. The engines take turns statement by statement. Rows are compared without an order, doubles to ten digits. On request a script
written by hand for Daft takes its turn too (`by_hand.py`); its rows are not compared, for Daft means something else by some statements.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from cluster.backends.ray.local import LocalRay
from cluster.model import ClusterSpec
from controlplane.api.schemas import LicenceRequest, VersionRequest
from controlplane.api.tenant_schemas import TenantRequest
from controlplane.client import Client
from controlplane.network import LocalNetwork, Member, NetworkError, Say
from controlplane.tpch import TABLES, make_data, queries
from controlplane.tpch.by_hand import plain_copies, run_by_hand
from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import Product, Replica
from workloads.resources import GIB, Money, format_memory
from workloads.spec import JobSpec

_TENANT, _MEMBER = "bench", "local"
_WAIT_S = 25.0
Row = tuple[object, ...]


@dataclass(frozen=True)
class Course:
    """What is measured: the scale factor, workers of a distributed run, and what each of them has."""

    scale: float
    workers: int
    memory_bytes: int = 4 * GIB
    names: tuple[str, ...] = ()
    by_hand: bool = False


class Peer:
    """The script written by hand, on the member's Ray."""

    def __init__(self, ray: LocalRay, files: dict[str, Path], folder: Path) -> None:
        self._ray, self._folder = ray, folder
        self._files = plain_copies(files, folder / "tables")

    def run(self, sql: str) -> dict[str, Any]:
        """What a query's entry says of it. Raises NetworkError."""
        tables = {name: path for name, path in self._files.items() if name in sql}
        seconds, cannot = run_by_hand(self._ray.address, self._ray.token_file, sql, tables, self._folder)
        return {"by_hand_s": seconds} | ({"by_hand_cannot": cannot} if cannot else {})


def run_distributed_sql(course: Course, folder: Path, *, say: Say) -> dict[str, Any]:
    """The document of the command; `folder` is the network's. Raises NetworkError, ClientError, DataUnavailableError."""
    data = make_data(folder / "tpch", course.scale)
    free = Money.parse("0.00 CNY")
    spec = ClusterSpec(
        name=_MEMBER, backend="ray", jurisdiction="ZZ", prices=Prices(cpu_hour=free, memory_gib_hour=free, transfer_gib=free)
    )
    member = Member(spec, cpus=course.workers, memory_bytes=course.workers * course.memory_bytes + GIB)
    with LocalNetwork(folder, 0, (member,), say=say) as network:
        network.start()
        network.attach(member)
        network.wait_healthy()
        peer = Peer(network.rays[_MEMBER], data, folder / "by-hand") if course.by_hand else None
        with network.operator() as client:
            _publish(client, data)
            return _measure(client, course, folder, peer, say)


def _publish(client: Client, data: dict[str, Path]) -> None:
    client.create_tenant(TenantRequest(name=_TENANT))
    for table, path in data.items():
        name = f"tpch/{table}"
        client.create_product(Product(name=name, owner="tpch", classification="public"))
        client.publish_version(name, VersionRequest(format="parquet", replicas=(Replica(cluster=_MEMBER, uri=path.as_uri()),)))
        client.grant(name, LicenceRequest(tenant=_TENANT, purposes=("research",)))


def _measure(client: Client, course: Course, folder: Path, peer: Peer | None, say: Say) -> dict[str, Any]:
    statements = queries(course.scale)
    # Both engines once beforehand: what a cold machine pays for is not theirs.
    for engine in ("duckdb", "daft"):
        _run(client, course, "q6", statements["q6"], engine, folder)
    if peer is not None:
        peer.run(statements["q6"])
    found: dict[str, Any] = {}
    for name in course.names or tuple(statements):
        found[name] = _compare(client, course, name, statements[name], folder) | (peer.run(statements[name]) if peer else {})
        say(f"{name}: {found[name]}")
    return {
        "scale": course.scale,
        "workers": course.workers,
        "memory": format_memory(course.memory_bytes),
        "queries": found,
        **ratios(found),
    }


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """`auto_vs_best`: how many times as long as the better engine of each query; `daft_vs_by_hand`: how many times as many rows in a
    second as the script, over the queries that both ran, if there is one."""
    best = sum(min(one["duckdb_s"], one["daft_s"] or math.inf) for one in found.values())
    both = [(one["by_hand_s"], one["daft_s"]) for one in found.values() if one.get("by_hand_s") and one["daft_s"]]
    compared = {"daft_vs_by_hand": round(sum(hand for hand, _ in both) / sum(daft for _, daft in both), 3)} if both else {}
    return {"auto_vs_best": round(sum(one["auto_s"] for one in found.values()) / best, 3)} | compared


def _compare(client: Client, course: Course, name: str, sql: str, folder: Path) -> dict[str, Any]:
    """One statement by every engine. `daft_s` is null for what Daft cannot run, with the reason."""
    choice = client.plan(_job(course, name, sql, "auto")).engine
    assert choice is not None, "a plan of a statement says what runs it"
    cannot = choice.reason.removeprefix("Daft cannot run it: ") if choice.reason.startswith("Daft cannot run it") else None
    duckdb_s, expected = _run(client, course, name, sql, "duckdb", folder)
    daft_s, rows = (None, expected) if cannot else _run(client, course, name, sql, "daft", folder)
    auto_s, chosen = _run(client, course, name, sql, "auto", folder)
    found: dict[str, Any] = {"duckdb_s": duckdb_s, "daft_s": daft_s, "auto_s": auto_s, "auto_engine": choice.engine}
    return found | {"equal": expected == rows == chosen} | ({"daft_cannot": cannot} if cannot else {})


def _job(course: Course, name: str, sql: str, engine: str) -> JobSpec:
    inputs = {table: f"tpch/{table}@1" for table in TABLES if table in sql}
    resources = {"cpu": 1, "memory": format_memory(course.memory_bytes), "workers": 1 if engine == "duckdb" else course.workers}
    document = {"name": name, "tenant": _TENANT, "kind": "sql", "purpose": "research", "inputs": inputs, "sql": sql, "engine": engine}
    return JobSpec.model_validate({**document, "resources": resources, "max_runtime": "2h"})


def _run(client: Client, course: Course, name: str, sql: str, engine: str, folder: Path) -> tuple[float, Counter[Row]]:
    """Seconds from the submission to the end, and the rows. Raises NetworkError when the job does not succeed."""
    began = time.perf_counter()
    job = client.submit(_job(course, name, sql, engine))
    while job.finished_at is None:
        job = client.job(job.id, wait_s=_WAIT_S, after_version=job.version)
    seconds = round(time.perf_counter() - began, 3)
    if job.state != "succeeded":
        raise NetworkError(f"{name} by {engine} ended as {job.state}: {job.message}")
    path = folder / f"{job.id}.parquet"
    client.download(job.id, "result.parquet", path)
    return seconds, rows_of(path)


def rows_of(path: Path) -> Counter[Row]:
    """The rows of a result as a bag."""
    table = pq.read_table(path)
    path.unlink()
    return Counter(tuple(map(_value, row)) for row in zip(*(column.to_pylist() for column in table.columns), strict=True))


def _value(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.9e}"
    return value.normalize() if isinstance(value, Decimal) else value
