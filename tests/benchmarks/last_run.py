"""The race for the last run of a licence: many tries, in each of which several buyers submit at once over HTTP for the one that is left.

In each try exactly one may be admitted; what was admitted is counted from the answers, from the licence and from the jobs stored. On
both databases, each behind a server in a process of its own.

    python -m tests.benchmarks.last_run --tries 1000 --buyers 4
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.test_catalogue import grant, publish, reads, table
from tests.network import PATIENT, node
from tests.postgres import postgres
from tests.served import ServedNetwork

DATABASES = ("sqlite", "postgresql")


def _race(network: ServedNetwork, clients: list[httpx.Client], licence: dict[str, Any]) -> tuple[Counter[int], float]:
    """How many were answered how, and the seconds from the first word to the last answer."""
    begin, answers = threading.Barrier(len(clients) + 1), Counter[int]()
    lock = threading.Lock()

    def submit(client: httpx.Client) -> None:
        begin.wait()
        status = client.post("/jobs", json=reads()).status_code
        with lock:
            answers[status] += 1

    threads = [threading.Thread(target=submit, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began
    left = network.ok(network.operator.get(f"/licences/{licence['id']}"))["runs_left"]
    if left != 0:
        raise RuntimeError(f"{left} runs are left of one, after {dict(answers)}")
    return answers, took_s


def _measure(network: ServedNetwork, folder: Path, tries: int, buyers: int) -> dict[str, Any]:
    network.add_tenant()
    network.add_cluster("sh", node())
    network.ok(network.operator.post("/clusters/sh:cordon"))
    publish(network, table(folder))
    wrong, seconds = Counter[str](), list[float]()
    clients = [network.client("buyer", tenant="acme") for _ in range(buyers)]
    try:
        for _ in range(tries):
            answers, took_s = _race(network, clients, grant(network, runs=1))
            seconds.append(took_s)
            if answers != Counter({201: 1, 403: buyers - 1}):
                wrong[json.dumps(dict(answers), sort_keys=True)] += 1
    finally:
        for client in clients:
            client.close()
    stored, cursor = 0, None
    while True:
        page = network.ok(network.operator.get("/jobs", params={"limit": 500, **({"cursor": cursor} if cursor else {})}))
        stored, cursor = stored + len(page["items"]), page["next_cursor"]
        if cursor is None:
            break
    return {
        "tries": tries, "buyers": buyers, "exactly_one_admitted": tries - wrong.total(), "otherwise": dict(wrong), "jobs_stored": stored,
        "race_ms_median": round(1000 * statistics.median(seconds), 1), "race_ms_largest": round(1000 * max(seconds), 1),
    }  # fmt: skip


def main() -> None:
    """Print the figures of each database as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--buyers", type=int, default=4)
    parser.add_argument("--database", choices=DATABASES, action="append")
    asked = parser.parse_args()
    for database in asked.database or DATABASES:
        with tempfile.TemporaryDirectory(prefix="cpn-race-") as name, ExitStack() as stack:
            folder, given = Path(name), dict[str, Any]()
            if database == "postgresql":
                given["database_url"] = stack.enter_context(postgres()).replace("postgresql+psycopg://", "postgresql://")
            network = stack.enter_context(ServedNetwork(folder / "data", **PATIENT, **given))
            print(json.dumps({"database": database, **_measure(network, folder, asked.tries, asked.buyers)}), flush=True)


if __name__ == "__main__":
    main()
