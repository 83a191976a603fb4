"""What rights cost: admission decisions with many products and licences, the audit log's rows, and reading the log through.

Decisions are made by the code that a submission goes through (`scheduler.admission.examine`), alone and then over HTTP by clients of a
server in this process, one by one and in batches. About half of the jobs are refused. The log's rows are written as a job with one input
writes them, then verified, and a product proved. Rates are the median of some rounds, with the slowest and the fastest.

    python -m tests.benchmarks.admission --products 1000 --licences 10000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import httpx

from cluster.model import ClusterSpec
from scheduler import acts
from scheduler.admission import examine
from scheduler.chain import Act, Verifier
from scheduler.errors import RefusedError
from scheduler.proof import Prover
from scheduler.store import access, audit, catalogue, fleet
from scheduler.store.audit import Entry
from scheduler.store.session import Store, Transaction
from tests.benchmarks.figures import aligned
from tests.network import Network
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion
from workloads.spec import JobSpec

PURPOSES = ("research", "marketing", "audit")
PLACES = {"sh": "CN-SH", "gz": "CN-GZ", "bj": "CN-BJ", "cq": "CN-CQ"}
PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.50 CNY"}
CLIENTS, IN_BATCH, PER_COMMIT = 4, 100, 100
TENANTS = 100


def furnish(tx: Transaction, products: int, licences: int, random: Random, now: float) -> None:
    """Members that are not there, so that nothing is placed while decisions are counted; tenants, products and their licences."""
    for name, jurisdiction in PLACES.items():
        spec = ClusterSpec.model_validate({"name": name, "backend": "memory", "jurisdiction": jurisdiction, "prices": PRICES})
        fleet.add_cluster(tx.conn, spec, now)
        audit.append(tx.conn, [acts.of_cluster(Act.CLUSTER_REGISTERED, spec, "tok-o", now)])
    for number in range(TENANTS):
        access.add_tenant(tx.conn, f"t{number}", now)
    for number in range(products):
        _publish(tx, number, random, now)
    entries = []
    for number in range(licences):
        licence = Licence(
            id=f"lic-{number:06}", tenant=f"t{random.randrange(TENANTS)}", product=_name(random.randrange(products)),
            purposes=tuple(random.sample(PURPOSES, 2)), jurisdictions=random.choice([(), (), ("CN-SH",), ("CN-GZ", "CN-BJ")]),
        )  # fmt: skip
        catalogue.add_licence(tx.conn, licence, now)
        entries.append(acts.of_licence(Act.LICENCE_GRANTED, licence, "tok-o", now))
    audit.append(tx.conn, entries)


def _publish(tx: Transaction, number: int, random: Random, now: float) -> None:
    product = Product(name=_name(number), owner="o", classification="restricted", jurisdictions=random.choice([(), ("CN",), ("CN-SH",)]))
    version = ProductVersion.model_validate({
        "product": product.name, "version": 1, "format": "parquet", "size_bytes": 10**9, "rows": 10**6, "sha256": f"{number:064x}",
        "columns": [{"name": "a", "type": "BIGINT"}], "replicas": [{"cluster": random.choice(sorted(PLACES)), "uri": f"file:///{number}"}],
    })  # fmt: skip
    catalogue.add_product(tx.conn, product, now)
    catalogue.add_version(tx.conn, version, now)
    told = [acts.of_product(Act.PRODUCT_PUBLISHED, product, "tok-o", now), acts.of_version(Act.VERSION_PUBLISHED, version, "tok-o", now)]
    audit.append(tx.conn, told)


def _name(number: int) -> str:
    return f"o/p{number}"


def asked(store: Store, count: int, random: Random) -> list[dict[str, Any]]:
    """So many jobs of one input each. Half of their tenants have a licence for it, though not for each purpose or place."""
    with store.read() as conn:
        products = [product.name for product, _ in catalogue.list_products(conn)]
        held = [licence for name in products for licence in catalogue.licences_for(conn, name)]
    found = []
    for number in range(count):
        licence = random.choice(held)
        tenant = licence.tenant if random.random() < 0.7 else f"t{random.randrange(TENANTS)}"
        found.append({
            "name": f"j{number}", "tenant": tenant, "kind": "command", "command": ["true"], "purpose": random.choice(PURPOSES),
            "inputs": {"data": f"{licence.product}@1"}, "max_runtime": "10m",
        })  # fmt: skip
    return found


def decided(store: Store, specs: Sequence[JobSpec], now: float) -> int:
    """Decide on each, by itself; how many were refused."""
    refused = 0
    for spec in specs:
        with store.read() as conn:
            try:
                examine(conn, spec, now)
            except RefusedError:
                refused += 1
    return refused


def submitted(clients: Sequence[httpx.Client], documents: Sequence[dict[str, Any]], batch: int) -> None:
    """Submit over HTTP, `batch` in a request, all clients at once."""
    parts = [documents[begin : begin + batch] for begin in range(0, len(documents), batch)]

    def work(one: int) -> None:
        for part in parts[one :: len(clients)]:
            if batch == 1:
                answer = clients[one].post("/jobs", json=part[0])
                assert answer.status_code in (201, 403), answer.text
            else:
                answer = clients[one].post("/jobs:batch", json={"items": [{"job": document} for document in part]})
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(work, range(len(clients))))


def told_of_a_job(number: int, now: float) -> list[Entry]:
    """What one job with one input, which is copied, leaves in the log."""
    name, job, run = _name(number % 7), f"job-{number:012}", f"job-{number:012}-1"
    asked_for = {
        "purpose": "research", "kind": "sql", "inputs": {"data": f"{name}@1"}, "only": {"jurisdictions": [], "clusters": []},
    }  # fmt: skip
    placed = {
        **asked_for, "run": run, "attempt": 1, "cluster": "sh", "jurisdiction": "CN-SH", "nodes": ["n1"],
        "licences": {name: "lic-000000"}, "copied": [f"{name}@1"],
    }  # fmt: skip
    moved = {"run": run, "cluster": "sh", "transfers": [{"from": "gz", "sha256": "a" * 64, "bytes": 10**9, "ahead": False}]}
    ended = {"run": run, "cluster": "sh", "state": "succeeded", "cause": "finished", "started_at": now}
    files = {"run": run, "cluster": "sh", "files": [{"name": "result.parquet", "size_bytes": 1000, "sha256": "b" * 64}]}
    admitted = {**asked_for, "name": "j", "queue": "default", "array": None, "spec_sha256": "c" * 64}
    steps = [
        (Act.JOB_ADMITTED, admitted), (Act.RUN_PLACED, placed), (Act.DATA_MOVED, moved), (Act.RUN_ENDED, ended),
        (Act.RESULT_DELIVERED, files),
    ]  # fmt: skip
    return [Entry(act, job, "scheduler", now, document, "t1", [name]) for act, document in steps]


def written(store: Store, count: int, now: float) -> None:
    """The rows of so many jobs, those of PER_COMMIT jobs in a transaction, as a cycle or a report has them."""
    for begin in range(0, count, PER_COMMIT):
        entries = [item for number in range(begin, begin + PER_COMMIT) for item in told_of_a_job(number, now)]
        store.write(lambda tx, entries=entries: audit.append(tx.conn, entries))  # type: ignore[misc]


def verified(store: Store) -> int:
    """How many rows were read and verified."""
    verifier = Verifier()
    with store.read() as conn:
        verifier.feed(audit.all_rows(conn))
    assert not verifier.close()
    return verifier.rows


def proved(store: Store) -> int:
    """How many rows were read to judge the runs of one product."""
    prover = Prover(_name(0))
    with store.read() as conn:
        prover.take(audit.all_rows(conn))
    return prover.proof().rows


def rated(what: str, rounds: int, count: int, work: Callable[[], object]) -> list[str]:
    """A row of the table: so many of these a second, and the processor time of this process for each, in the median of the rounds."""
    rates, used = [], []
    for _ in range(rounds):
        began, used_before = time.perf_counter(), time.process_time()
        work()
        rates.append(count / (time.perf_counter() - began))
        used.append((time.process_time() - used_before) / count * 1e6)
    return [what, *(f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))), f"{median(used):,.0f}"]


def measure(network: Network, arguments: argparse.Namespace) -> list[list[str]]:
    """The table."""
    store, random, rounds = network.plane.store, Random(arguments.seed), arguments.rounds
    now = network.plane.clock.now()
    store.write(lambda tx: furnish(tx, arguments.products, arguments.licences, random, now))
    documents = asked(store, arguments.decisions, random)
    specs = [JobSpec.model_validate(document) for document in documents]
    refused = decided(store, specs, now)
    print(f"{len(specs)} jobs, of which {refused} are refused; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows = [["", "median/s", "least/s", "most/s", "processor us each"]]
    rows.append(rated("decisions, examine alone", rounds, len(specs), lambda: decided(store, specs, now)))
    headers = Network.bearer(network.operator_token())
    clients = [httpx.Client(base_url=f"{network.url}/v1", headers=headers, timeout=120, trust_env=False) for _ in range(CLIENTS)]
    for words, batch in (("decisions over HTTP, one by one", 1), (f"decisions over HTTP, {IN_BATCH} a batch", IN_BATCH)):
        rows.append(rated(words, rounds, len(documents), lambda batch=batch: submitted(clients, documents, batch)))  # type: ignore[misc]
    for client in clients:
        client.close()
    per_job = len(told_of_a_job(0, now))
    jobs = max(arguments.rows // per_job // PER_COMMIT, 1) * PER_COMMIT
    rows.append(rated(f"jobs' rows written, {per_job} each", rounds, jobs, lambda: written(store, jobs, now)))
    with store.read() as conn:
        count, _ = audit.head(conn)
    rows.append(rated("rows verified", rounds, count, lambda: verified(store)))
    rows.append(rated("rows read for a proof", rounds, count, lambda: proved(store)))
    print(f"{count:,} rows in the log at the end, {_size(network) / count:,.0f} bytes of database a row")
    return rows


def _size(network: Network) -> int:
    return (network.settings.data_dir / "cpn.sqlite").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("products", 1000), ("licences", 10_000), ("decisions", 1000), ("rounds", 5), ("rows", 50_000), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder) / "data", per_queue=1) as network:
        print(aligned(measure(network, arguments)))


if __name__ == "__main__":
    main()
