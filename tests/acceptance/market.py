"""A served network with something of everything, for tests of the command line: two tenants, a product, a member and its script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.backends.memory import Behaviour
from cluster.protocol import Preview, RunRequest
from tests.network import job, node
from tests.served import Cpn, ServedNetwork

PRODUCT = "nyc/flights"
# Members and server have time to miss each other while a busy machine starts a server again.
PATIENT = {"suspect_after_s": 60.0, "lease_s": 180.0, "lost_after_s": 240.0}
TOP = Preview(columns=("carrier", "delay"), types=("VARCHAR", "DOUBLE"), rows=(("F9", 20.22), ("EV", 19.96)), total_rows=2)
MANIFEST = """
name: {name}
tenant: {tenant}
queue: analytics
kind: {kind}
purpose: research
resources: {{cpu: 1, memory: 1GiB}}
max_runtime: 10m
{what}
"""
SQL = "inputs: {flights: nyc/flights@1}\nsql: SELECT carrier, avg(dep_delay) AS delay FROM flights GROUP BY carrier"


def behave(run: RunRequest) -> Behaviour:
    """What the member does: a statement has two rows, and a command's first word says how it goes."""
    word = run.command[0] if run.command else "query"
    return {
        "query": Behaviour(preview=TOP),
        "report": Behaviour(log=("one\n", "two\n"), progress=({"loss": 0.5}, {"loss": 0.25})),
        "talk": Behaviour(duration_s=300, log=tuple(f"line {number}\n" for number in range(600))),
        "sleep": Behaviour(duration_s=300),
        "fail": Behaviour(outcome="failed", exit_code=3, message="exit code 3; last log lines:\nboom", log=("boom\n",)),
        "garble": Behaviour(outcome="failed", exit_code=3, message="exit code 3; last log lines:\nbo\0om", log=("bo\0om\n",)),
    }[word]


def manifest(cpn: Cpn, name: str, what: str = SQL, *, tenant: str = "acme", kind: str = "sql") -> str:
    """A manifest in somebody's folder; its name there."""
    return cpn.write(f"{name}.yaml", MANIFEST.format(name=name, tenant=tenant, kind=kind, what=what))


def work(cpn: Cpn, word: str, *, tenant: str = "acme") -> str:
    """A manifest of a command that does what `behave` says of its word."""
    return manifest(cpn, word, f"command: [{word}]", tenant=tenant, kind="command")


@dataclass(frozen=True)
class Market:
    """The network, its operator, and a buyer of each tenant."""

    network: ServedNetwork
    operator: Cpn
    acme: Cpn
    globex: Cpn


@contextmanager
def open_market(folder: Path, **settings: Any) -> Iterator[Market]:
    """A market that has one ended job."""
    with ServedNetwork(folder / "data", **PATIENT, **settings) as network:
        operator = network.cpn(folder / "operator")
        network.add_cluster("sh", node("n1", 8, 16, "H200", 8, tier="gold"), script=behave)
        _furnish(operator)
        acme, globex = (_buyer(network, operator, folder / tenant, tenant) for tenant in ("acme", "globex"))
        network.wait(network.submit(job("first"))["id"], seconds=60)
        yield Market(network, operator, acme, globex)


def _furnish(operator: Cpn) -> None:
    for tenant in ("acme", "globex"):
        operator("tenant", "create", tenant)
    operator("queue", "create", "analytics", "--weight", "2")
    path = operator.folder / "flights.parquet"
    pq.write_table(pa.table({"carrier": ["F9", "EV"], "dep_delay": [20.22, 19.96]}), path)
    product = {"name": PRODUCT, "owner": "nyc", "classification": "restricted", "purposes": ["research"], "price": {"per_run": "0.50 CNY"}}
    version = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": path.as_uri()}]}
    operator("product", "publish", "-f", operator.write("product.yaml", {**product, **version}))
    operator("product", "grant", PRODUCT, "--tenant", "acme", "--purpose", "research")
    target = ("--class", "intelligent", "--precision", "fp16", "--baseline", "2 PFLOPS", "--baseline-date", "2020-12-31")
    operator("target", "set", "computing-power", *target, "--due", "2030-12-31", "--scope", "this network", "--source", "made up")


def _buyer(network: ServedNetwork, operator: Cpn, folder: Path, tenant: str) -> Cpn:
    token = operator("token", "create", "--role", "buyer", "--tenant", tenant).out.strip()
    return network.cpn(folder, token)
