"""A budget that does not pay for all of max_runtime: refused, or, where that is asked for, spent to its end and not beyond."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from tests.network import Network, job, node

# A core and a GiB for 3 seconds come to 0.0003 CNY each.
PRICES = {"cpu_hour": "0.36 CNY", "memory_gib_hour": "0.36 CNY", "transfer_gib": "0.00 CNY"}


@pytest.fixture
def shop(patient_network: Network) -> Network:
    patient_network.add_cluster("sh", node("n1", 8, 32), script=lambda run: Behaviour(duration_s=run.max_runtime_s + 60))
    patient_network.ok(patient_network.operator.patch("/clusters/sh", json={"prices": PRICES}))
    return patient_network


def asked(**fields: Any) -> dict[str, Any]:
    return job("work", kind="command", max_runtime="10h", resources={"cpu": 1, "memory": "1GiB"}, retry={"attempts": 1}, **fields)


def test_the_run_gets_the_time_that_its_budget_pays_for_and_is_stopped_before_it_would_be_exceeded(shop: Network) -> None:
    document = asked(budget="0.0006 CNY", stop_at_budget=True)
    [verdict] = shop.ok(shop.operator.post("/jobs:plan", json=document))["verdicts"]
    assert (verdict["verdict"], verdict["quote"]["runtime_s"], verdict["quote"]["total"]) == ("chosen", 3.0, "0.0006 CNY")
    done = shop.wait(shop.submit(document)["id"], seconds=40)
    assert (done["state"], done["cause"]) == ("failed", "budget")
    assert "stopped after 3s, before it would exceed the budget of 0.0006 CNY" in done["message"]
    receipt = shop.ok(shop.operator.get(f"/jobs/{done['id']}/receipt"))
    assert Decimal(receipt["total"].split()[0]) <= Decimal("0.0006")
    assert receipt["wall_s"] >= 2.9


def test_a_budget_that_pays_for_all_of_it_changes_nothing(shop: Network) -> None:
    document = asked(budget="7.20 CNY", stop_at_budget=True)
    [verdict] = shop.ok(shop.operator.post("/jobs:plan", json=document))["verdicts"]
    assert (verdict["quote"]["total"], "runtime_s" in verdict["quote"]) == ("7.20 CNY", False)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"budget": "0.0006 CNY"}, 403, "or give stop_at_budget: true to be stopped before it is exceeded"),
        ({"budget": "0.0001 CNY", "stop_at_budget": True}, 403, "it does not pay for a second there"),
        ({"budget": "9.00 USD", "stop_at_budget": True}, 403, "give the budget in CNY"),
        ({"stop_at_budget": True}, 422, "give a budget, or leave it out"),
        ({"budget": "1.00 CNY", "stop_at_budget": True, "flexible": "cheapest", "deadline": "2099-01-01T00:00:00Z"}, 422,
         "leave one of them out"),
    ],
)  # fmt: skip
def test_what_a_budget_cannot_do_is_refused_with_what_to_change(shop: Network, fields: dict[str, Any], status: int, words: str) -> None:
    answer = shop.operator.post("/jobs", json=asked(**fields))
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_an_elastic_gang_is_cut_by_its_workers_and_not_by_its_time(shop: Network) -> None:
    document = {**asked(budget="1.00 CNY", stop_at_budget=True), "resources": {"workers": {"min": 1, "max": 4}}}
    answer = shop.operator.post("/jobs", json=document)
    assert (answer.status_code, "give resources.workers as one number" in answer.json()["detail"]) == (422, True)
