"""Links as operators set them and buyers meet them: a price, a breadth and a length for each way, in plans, quotes and receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.network import Network, job, node
from tests.served import Cpn

PRICES = {"cpu_hour": "0.00 CNY", "memory_gib_hour": "0.00 CNY", "transfer_gib": "1024.00 CNY"}


@pytest.fixture
def shop(patient_network: Network, tmp_path: Path) -> Network:
    """Data at bj, which is to be read at sh."""
    network = patient_network
    for name in ("bj", "sh"):
        network.add_cluster(name, node("n1", 8, 32))
        network.ok(network.operator.patch(f"/clusters/{name}", json={"prices": PRICES, "inbound_bandwidth_mib_s": 1.0}))
    path = tmp_path / "flights.parquet"
    pq.write_table(pa.table({"carrier": ["F9"] * 1000}), path)
    network.ok(network.operator.post("/products", json={"name": "nyc/flights", "owner": "nyc", "classification": "public"}))
    version = {"format": "parquet", "replicas": [{"cluster": "bj", "uri": path.as_uri()}]}
    network.ok(network.operator.post("/products/nyc/flights/versions", json=version))
    return network


@pytest.fixture
def cpn(shop: Network, tmp_path: Path) -> Cpn:
    return Cpn(tmp_path / "cli", shop.url, shop.operator_token())


def at_sh(network: Network) -> tuple[Any, Any]:
    """(the transfer, the line of its price) of a plan for sh."""
    asked = job("far", inputs={"flights": "nyc/flights@1"}, sql="SELECT * FROM flights", placement={"clusters": ["sh"]})
    planned = network.ok(network.operator.post("/jobs:plan", json=asked))
    [verdict] = [item for item in planned["verdicts"] if item["cluster"] == "sh"]
    [line] = [line for line in verdict["quote"]["lines"] if line["item"] == "transfer"]
    return verdict, line


def test_a_link_has_its_own_price_breadth_and_length(shop: Network, cpn: Cpn) -> None:
    before, line = at_sh(shop)
    assert (line["unit_price"], line["source"]) == ("1024.00 CNY", "bj")
    shown = cpn("link", "set", "bj", "sh", "--price", "2048.00 CNY", "--bandwidth", "4", "--latency", "2s").out
    assert [words for words in ("bj", "sh", "2048.00 CNY", "2000") if words not in shown] == []
    after, line = at_sh(shop)
    assert line["unit_price"] == "2048.00 CNY"
    assert after["transfer_s"] == pytest.approx(2.0 + before["transfer_s"] / 4)
    [link] = [item for item in cpn("link", "list", "-o", "json").document["items"] if item["cluster"] == "sh"]
    assert (link["declared_mib_s"], link["latency_ms"], link["price_gib"]) == (4.0, 2000.0, "2048.00 CNY")
    [other] = [item for item in cpn("link", "list", "-o", "json").document["items"] if item["cluster"] == "bj"]
    assert (other["declared_mib_s"], other["latency_ms"], other["price_gib"]) == (1.0, 0.0, "1024.00 CNY")
    cpn("link", "set", "bj", "sh", "--price", "default")
    assert at_sh(shop)[1]["unit_price"] == "1024.00 CNY"
    assert at_sh(shop)[0]["transfer_s"] == after["transfer_s"]
    cpn("link", "set", "bj", "sh", "--bandwidth", "default", "--latency", "default")
    assert at_sh(shop)[0]["transfer_s"] == before["transfer_s"]


def test_a_receipt_charges_a_transfer_by_the_price_of_its_link(shop: Network, cpn: Cpn) -> None:
    cpn("link", "set", "bj", "sh", "--price", "2048.00 CNY")
    asked = job("far", inputs={"flights": "nyc/flights@1"}, sql="SELECT * FROM flights", placement={"clusters": ["sh"]})
    done = shop.wait(shop.submit(asked)["id"])
    receipt = shop.ok(shop.operator.get(f"/jobs/{done['id']}/receipt"))
    [line] = [line for line in receipt["lines"] if line["item"] == "transfer"]
    assert (line["unit_price"], line["source"]) == ("2048.00 CNY", "bj")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("bj", "sh"), 2, "give --price, --bandwidth or --latency"),
        (("bj", "bj", "--latency", "1ms"), 2, "name two clusters"),
        (("bj", "sh", "--price", "1.00 USD"), 2, "give it in CNY"),
        (("bj", "sh", "--price", "cheap"), 2, "price_gib"),
        (("bj", "sh", "--bandwidth", "0"), 2, "bandwidth_mib_s"),
        (("bj", "sh", "--bandwidth", "fast"), 2, "write MiB a second"),
        (("bj", "sh", "--latency", "30"), 2, "write a time, like 30ms"),
        (("gz", "sh", "--latency", "30ms"), 1, "gz"),
        (("bj", "gz", "--latency", "30ms"), 1, "gz"),
    ],
)
def test_what_is_no_link_is_refused_with_what_to_do(shop: Network, cpn: Cpn, arguments: tuple[str, ...], status: int, words: str) -> None:
    assert words in cpn("link", "set", *arguments, status=status).err
    assert at_sh(shop)[1]["unit_price"] == "1024.00 CNY"
