"""`cpn simulate --from-store`: what a network ran is replayed on the network as it is, and as it might be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.backends.memory import Behaviour
from tests.network import PATIENT, Network, job, node
from tests.served import Cpn


def _busy(_request: object) -> Behaviour:
    return Behaviour(duration_s=0.3)


def test_the_networks_own_history_is_replayed(tmp_path: Path) -> None:
    with Network(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        network.ok(network.operator.post("/queues", json={"name": "lab", "weight": 2.0}))
        cpn = Cpn(tmp_path / "me", network.url, network.operator_token())
        assert "no member has a ready node" in cpn("simulate", "--from-store", "--policy", "fifo", status=2).err
        network.add_cluster("sh", node("n1", 4, 16, "H200", 2), script=_busy)
        assert "no job has run and ended yet" in cpn("simulate", "--from-store", "--policy", "fifo", status=2).err
        gpu = {"cpu": 2, "memory": "4GiB", "accelerator": {"model": "H200", "count": 2}}
        patient = {"flexible": "cheapest", "deadline": (datetime.now(UTC) + timedelta(hours=12)).isoformat()}
        ran = [
            network.submit(
                job(f"j{row}", kind="command", queue=("lab", "default")[row % 2], resources=gpu, **(patient if row == 2 else {}))
            )
            for row in range(3)
        ]
        network.submit(job("never", resources={"cpu": 64}))
        for item in ran:
            network.wait(item["id"])
        said = cpn(
            "simulate", "--from-store", "--policy", "fifo,cpn-live", "--what-if", "+2 nodes H200x2 at sh", "-o", "json",
        )  # fmt: skip
        document = said.document
        assert document["network"]["nodes"] == 1
        # It starts as the others do, on the server because no hour is cheaper, and here because nobody is promised a start.
        assert "1 jobs are flexible; they wait under cpn-live with --backfill" in said.err
        promised = cpn("simulate", "--from-store", "--policy", "cpn-live", "--backfill", "easy", "-o", "json")
        assert "flexible" not in promised.err
        assert promised.document["policies"]["cpn-live"]["finished"] == 3
        for policy in ("fifo", "cpn-live"):
            base, more = document["policies"][policy], document["what_ifs"][0]["policies"][policy]
            assert (base["jobs"], base["finished"], base["rejected"]) == (3, 3, 0)
            assert base["mean_wait_s"] > 0.0
            assert more["mean_wait_s"] == pytest.approx(0.0)
            assert base["makespan_s"] >= 0.6
            assert base["cost"] > 0.0
            assert base["flops_delivered"] > 0.0
        table = cpn("simulate", "--from-store", "--last", "2", "--policy", "fifo").out
        assert "1 rows of the trace never ran" in table
        # A buyer replays what that tenant ran; another network may be given.
        token = network.ok(network.operator.post("/tokens", json={"role": "buyer", "tenant": "acme"}))["token"]
        buyer = Cpn(tmp_path / "buyer", network.url, token)
        path = buyer.write("network.yaml", NETWORK)
        found = buyer("simulate", "--from-store", "--network", path, "--policy", "cpn-live", "-o", "json").document
        assert found["policies"]["cpn-live"]["mean_wait_s"] == pytest.approx(0.0)


NETWORK = """clusters:
  - name: bj
    prices: {cpu_hour: 0.10 CNY, memory_gib_hour: 0.01 CNY, transfer_gib: 0.10 CNY}
    nodes: [{count: 9, shape: H200x8, cpu: 96, memory: 1TiB}]
"""
