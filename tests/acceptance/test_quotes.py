"""Quotes that hold: a plan's prices are those of the job that is submitted with it in time, whatever they have become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from tests.network import Network, job, node
from tests.served import Cpn

CHEAP = {"cpu_hour": "3.60 CNY", "memory_gib_hour": "0.00 CNY", "transfer_gib": "0.00 CNY"}
DEAR = {**CHEAP, "cpu_hour": "36.00 CNY"}
ASKED: dict[str, Any] = {"kind": "command", "max_runtime": "1h", "resources": {"cpu": 1}}


@pytest.fixture
def shop(patient_network: Network) -> Network:
    patient_network.add_cluster("sh", node("n1", 8, 32), script=lambda _run: Behaviour(duration_s=1.0))
    cost(patient_network, CHEAP)
    return patient_network


def cost(network: Network, prices: dict[str, str]) -> None:
    network.ok(network.operator.patch("/clusters/sh", json={"prices": prices}))


def plan(network: Network, **fields: Any) -> Any:
    return network.ok(network.operator.post("/jobs:plan", json=job("work", **ASKED, **fields)))


def refused(network: Network, **fields: Any) -> tuple[int, str, str]:
    answer = network.operator.post("/jobs", json=job("work", **ASKED, **fields))
    [problem] = answer.json()["errors"]
    return answer.status_code, problem["path"], problem["reason"]


def test_prices_that_were_raised_since_do_not_hold_for_a_job_with_a_quote(shop: Network) -> None:
    planned = plan(shop)
    assert planned["verdicts"][0]["quote"]["total"] == "3.60 CNY"
    cost(shop, DEAR)
    with_quote = shop.submit(job("held", **ASKED, budget="3.60 CNY", quote=planned["quote_id"]))
    without = shop.submit(job("today", **ASKED))
    held, today = (shop.wait(one["id"]) for one in (with_quote, without))
    assert (held["quote"]["total"], today["quote"]["total"]) == ("3.60 CNY", "36.00 CNY")
    receipt = shop.ok(shop.operator.get(f"/jobs/{held['id']}/receipt"))
    assert {line["unit_price"] for line in receipt["lines"] if line["item"] == "cpu"} == {"3.60 CNY"}
    assert receipt["quote_total"] == "3.60 CNY"
    assert refused(shop, budget="3.60 CNY")[2] == "over_budget"
    again = shop.ok(shop.operator.post("/jobs:plan", json=job("work", **ASKED, quote=planned["quote_id"])))
    assert (again["verdicts"][0]["quote"]["total"], "quote_id" in again) == ("3.60 CNY", False)


def test_a_price_that_fell_since_counts_in_the_receipt(shop: Network) -> None:
    planned = plan(shop)
    cost(shop, {**CHEAP, "cpu_hour": "0.36 CNY"})
    done = shop.wait(shop.submit(job("held", **ASKED, quote=planned["quote_id"]))["id"])
    receipt = shop.ok(shop.operator.get(f"/jobs/{done['id']}/receipt"))
    assert {line["unit_price"] for line in receipt["lines"] if line["item"] == "cpu"} == {"0.36 CNY"}


def test_the_command_line_names_the_quote_and_shows_it_beside_what_was_charged(shop: Network, tmp_path: Path) -> None:
    cpn = Cpn(tmp_path, shop.url, shop.operator_token())
    file = cpn.write("job.json", job("work", **ASKED))
    shown = cpn("job", "plan", "-f", file).out
    [quote] = [word for word in shown.split() if word.startswith("quote-")]
    assert "these prices hold until" in shown
    cost(shop, DEAR)
    submitted = cpn("job", "submit", "-f", file, "--quote", quote, "-o", "json").document
    shop.wait(submitted["id"])
    shown = cpn("job", "receipt", submitted["id"]).out.splitlines()
    [heading], [row] = ([line for line in shown if line.startswith(begin)] for begin in ("ITEM", "cpu"))
    assert heading.split()[-4:] == ["UNIT", "PRICE", "QUOTED", "AMOUNT"]
    assert re.split(" {2,}", row)[-3:-1] == ["3.60 CNY", "3.60 CNY"]
    assert "quote" in cpn("job", "submit", "-f", file, "--quote", "mine", status=2).err


def test_a_quote_is_its_tenants_and_must_be_one(shop: Network) -> None:
    planned = plan(shop)
    shop.add_tenant("globex")
    other = shop.operator.post("/jobs", json={**job("work", **ASKED), "tenant": "globex", "quote": planned["quote_id"]})
    assert (other.status_code, other.json()["errors"][0]["reason"]) == (422, "unknown")
    assert refused(shop, quote="quote-0123456789abcdef") == (422, "quote", "unknown")
    assert refused(shop, quote="mine")[:2] == (422, "quote")
    flexible = {"flexible": "cheapest", "deadline": "2099-01-01T00:00:00Z"}
    assert refused(shop, quote=planned["quote_id"], **flexible)[:2] == (422, "quote")
    assert "quote_id" not in plan(shop, **flexible)


def test_a_quote_that_is_over_is_refused_with_when_it_was(tmp_path: Path) -> None:
    with Network(tmp_path / "data", quote_validity_s=0.001) as shop:
        shop.add_tenant()
        shop.add_cluster("sh", node("n1", 8, 32))
        planned = plan(shop)
        answer = shop.operator.post("/jobs", json=job("work", **ASKED, quote=planned["quote_id"]))
        assert answer.status_code == 422
        assert "held its prices until" in answer.json()["detail"]
        assert "ask for another with `cpn job plan`" in answer.json()["detail"]


def test_a_server_may_hold_no_prices(tmp_path: Path) -> None:
    with Network(tmp_path / "data", quote_validity_s=0.0) as shop:
        shop.add_tenant()
        shop.add_cluster("sh", node("n1", 8, 32))
        assert plan(shop).keys().isdisjoint({"quote_id", "quote_expires_at"})
