"""Tariffs as operators and buyers meet them: written with the prices, seen at the cluster, in plans, quotes and receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.backends.memory import Behaviour
from tests.network import Network, job, node
from tests.served import Cpn

PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.00 CNY", "transfer_gib": "0.50 CNY"}
HALF = {"time_zone": "Asia/Shanghai", "hours": [{"from": "00:00", "to": "24:00", "factor": 0.5}]}


def price(network: Network, cluster: str, tariffs: Any) -> None:
    network.ok(network.operator.patch(f"/clusters/{cluster}", json={"prices": {**PRICES, "tariffs": tariffs}}))


def test_half_price_hours_are_quoted_charged_and_told(patient_network: Network, tmp_path: Path) -> None:
    network, cpn = patient_network, Cpn(tmp_path / "cli", patient_network.url, patient_network.operator_token())
    network.add_cluster("sh", node("n1", 8, 32), script=lambda _run: Behaviour(duration_s=0.2))
    price(network, "sh", HALF)
    asked = job("work", kind="command", max_runtime="10h", budget="2.00 CNY")
    planned = network.ok(network.operator.post("/jobs:plan", json=asked))
    assert planned["verdicts"][0]["quote"]["total"] == "2.00 CNY"
    assert planned["verdicts"][0]["quote"]["hours"] == [{"factor": 0.5, "hours": "10"}]
    assert "10 h at 0.5 of the price" in cpn("job", "plan", "-f", cpn.write("job.json", asked)).out
    assert network.ok(network.operator.get("/clusters/sh"))["tariff"] == {"factor": 0.5, "changes_at": None, "next_factor": None}
    assert "hours cost 0.5 of these prices" in cpn("cluster", "show", "sh").out
    done = network.wait(network.submit(asked)["id"])
    assert (done["state"], done["quote"]["total"]) == ("succeeded", "2.00 CNY")
    receipt = network.ok(network.operator.get(f"/jobs/{done['id']}/receipt"))
    assert [item["factor"] for item in receipt["hours"]] == [0.5]
    assert "at 0.5 of the price" in cpn("job", "receipt", done["id"]).out
    price(network, "sh", None)
    refused = network.operator.post("/jobs", json=asked)
    assert (refused.status_code, refused.json()["errors"][0]["reason"]) == (403, "over_budget")


def test_a_cluster_file_with_bad_tariffs_is_refused_with_its_fields(tmp_path: Path) -> None:
    cpn = Cpn(tmp_path / "cli", "http://127.0.0.1:9", "none")
    document = {
        "name": "gz", "backend": "ray", "jurisdiction": "CN-GZ",
        "prices": {**PRICES, "tariffs": {"time_zone": "Guizhou", "hours": [{"from": "22:00", "to": "22:00", "factor": -1}]}},
    }  # fmt: skip
    said = cpn("cluster", "register", "-f", cpn.write("cluster.json", document), status=2).err
    assert "prices.tariffs.time_zone: 'Guizhou' is not a time zone; name one of the IANA time zones" in said
    assert "prices.tariffs.hours.0.factor" in said
