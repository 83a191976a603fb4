"""Jobs that may wait for a cheaper hour, as buyers meet them: planned with their hours and prices, and explained while they wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.network import Network, job, node, until
from tests.served import Cpn

PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.00 CNY", "transfer_gib": "0.50 CNY"}


def cheap_in_two_hours() -> dict[str, Any]:
    """Tariffs that are half from the hour after the next one on, for six hours."""
    begin = datetime.now(UTC) + timedelta(hours=2)
    return {"time_zone": "UTC", "hours": [{"from": f"{begin:%H}:00", "to": f"{begin + timedelta(hours=6):%H}:00", "factor": 0.5}]}


def test_a_flexible_job_waits_and_says_for_what_and_starts_when_that_is_gone(patient_network: Network, tmp_path: Path) -> None:
    network, cpn = patient_network, Cpn(tmp_path / "cli", patient_network.url, patient_network.operator_token())
    network.add_cluster("sh", node("n1", 8, 32))
    tariffs = {"prices": {**PRICES, "tariffs": cheap_in_two_hours()}}
    network.ok(network.operator.patch("/clusters/sh", json=tariffs))
    deadline = (datetime.now(UTC) + timedelta(hours=12)).isoformat()
    asked = job("patient", kind="command", max_runtime="2h", flexible="cheapest", deadline=deadline)
    planned = network.ok(network.operator.post("/jobs:plan", json=asked))
    saving = planned["flexible"]["waits_for"]["saving"]
    assert (planned["chosen"], saving["cost_then"], planned["flexible"]["waits_for"]["cluster"]) == (None, "0.40 CNY", "sh")
    assert len(planned["flexible"]["starts"]) > 1
    said = cpn("job", "plan", "-f", cpn.write("job.json", asked)).out
    assert "would wait for a cheaper hour on sh" in said
    assert "0.40 CNY instead of" in said
    held = network.submit(asked)["id"]
    until(lambda: network.job(held)["cause"] == "cheaper_later", "the job is looked at")
    assert "it costs less at a later hour" in network.job(held)["message"]
    shown = network.ok(network.operator.get(f"/jobs/{held}/explanation"))
    assert shown["promise"]["saving"]["cost_then"] == "0.40 CNY"
    assert (shown["waiting"]["waits_for"]["reason"], shown["waiting"]["sooner"]) == ("cheaper_later", [])
    words = " ".join(cpn("job", "explain", held).out.split())
    assert "it waits for a cheaper hour: starts at about" in words
    assert "on sh, saves" in words
    assert "latest start" in words
    network.ok(network.operator.patch("/clusters/sh", json={"prices": PRICES}))
    done = network.wait(held)
    assert (done["state"], done["quote"]["total"]) == ("succeeded", "0.80 CNY")
    assert network.ok(network.operator.post("/jobs:plan", json=asked))["flexible"]["waits_for"] is None
    assert "it would start now" in cpn("job", "plan", "-f", cpn.write("job.json", asked)).out


def clean_in_two_hours() -> dict[str, Any]:
    """Electricity that emits a quarter from the hour after the next one on, for six hours."""
    begin = datetime.now(UTC) + timedelta(hours=2)
    hours = {"from": f"{begin:%H}:00", "to": f"{begin + timedelta(hours=6):%H}:00", "grams_per_kwh": 100}
    return {"grams_per_kwh": 400, "time_zone": "UTC", "hours": [hours], "watts": {"core": 10}}


def test_a_job_waits_for_the_cleanest_hour_and_says_so_and_starts_when_nothing_is_known(patient_network: Network, tmp_path: Path) -> None:
    network, cpn = patient_network, Cpn(tmp_path / "cli", patient_network.url, patient_network.operator_token())
    network.add_cluster("sh", node("n1", 8, 32), carbon=clean_in_two_hours())
    network.add_cluster("xx", node("n1", 8, 32))
    deadline = (datetime.now(UTC) + timedelta(hours=12)).isoformat()
    asked = job("green", kind="command", max_runtime="2h", flexible="cleanest", deadline=deadline, resources={"cpu": 1, "memory": "1GiB"})
    planned = network.ok(network.operator.post("/jobs:plan", json=asked))
    flexible, saving = planned["flexible"], planned["flexible"]["waits_for"]["saving"]
    assert (planned["chosen"], flexible["by"], flexible["unrated"], flexible["waits_for"]["cluster"]) == (None, "cleanest", ["xx"], "sh")
    # 10 W for two hours at 100 g/kWh.
    assert (saving["waits_for"], saving["carbon_g_then"]) == ("cleaner", pytest.approx(2.0))
    assert saving["carbon_part"] == pytest.approx(1 - saving["carbon_g_then"] / saving["carbon_g_now"])
    assert min(item["carbon_g"] for item in flexible["starts"]) == pytest.approx(2.0)
    assert {item["cluster"] for item in flexible["starts"]} == {"sh"}
    said = " ".join(cpn("job", "plan", "-f", cpn.write("job.json", asked)).out.split())
    for words in (
        "would wait for a cleaner hour on sh",
        "AT MOST CO2",
        "about 2 g of CO2 instead of",
        "nobody has said what runs emit there: xx",
    ):
        assert words in said
    held = network.submit(asked)["id"]
    until(lambda: network.job(held)["cause"] == "cleaner_later", "the job is looked at")
    assert "it emits less CO2 at a later hour" in network.job(held)["message"]
    shown = network.ok(network.operator.get(f"/jobs/{held}/explanation"))
    assert shown["promise"]["saving"]["carbon_g_then"] == pytest.approx(2.0)
    assert (shown["waiting"]["waits_for"]["reason"], shown["waiting"]["sooner"]) == ("cleaner_later", [])
    assert "it waits for a cleaner hour: starts at about" in " ".join(cpn("job", "explain", held).out.split())
    # Now no core is known to draw anything anywhere, so nothing can be estimated.
    network.ok(network.operator.patch("/clusters/sh", json={"carbon": {"grams_per_kwh": 400}}))
    assert network.wait(held)["state"] == "succeeded"
    flexible = network.ok(network.operator.post("/jobs:plan", json=asked))["flexible"]
    assert (flexible["waits_for"], flexible["starts"], flexible["unrated"]) == (None, [], ["sh", "xx"])
    assert "no cluster that may take it has an estimate of CO2 (sh, xx)" in cpn("job", "plan", "-f", cpn.write("job.json", asked)).out


def test_a_job_waits_for_the_hour_that_its_budget_pays_for_and_is_refused_where_there_is_none(
    patient_network: Network, tmp_path: Path
) -> None:
    network, cpn = patient_network, Cpn(tmp_path / "cli", patient_network.url, patient_network.operator_token())
    network.add_cluster("sh", node("n1", 8, 32))
    network.ok(network.operator.patch("/clusters/sh", json={"prices": {**PRICES, "tariffs": cheap_in_two_hours()}}))
    deadline = (datetime.now(UTC) + timedelta(hours=12)).isoformat()
    # Two hours are 0.80 CNY now and for as long as the dear hours last, and 0.40 CNY when all of it is cheap.
    asked = job("poor", kind="command", max_runtime="2h", flexible="cheapest", deadline=deadline, budget="0.40 CNY")
    path = cpn.write("job.json", asked)
    said = cpn("job", "plan", "-f", path).out
    assert "would wait for an hour that its budget pays for on sh" in said
    assert "over the budget" in said
    held = network.submit(asked)["id"]
    until(lambda: network.job(held)["cause"] == "affordable_later", "the job is looked at")
    shown = network.ok(network.operator.get(f"/jobs/{held}/explanation"))
    assert (shown["promise"]["saving"]["waits_for"], shown["promise"]["saving"]["cost_then"]) == ("affordable", "0.40 CNY")
    assert "it waits for an hour that its budget pays for: starts at about" in shown["summary"]
    answer = network.operator.post("/jobs", json={**asked, "budget": "0.39 CNY"})
    assert (answer.status_code, answer.json()["errors"][0]["reason"]) == (403, "over_budget")
    assert "costs less than 0.40 CNY" in answer.json()["errors"][0]["message"]
    network.ok(network.operator.post("/queues", json={"name": "inorder", "order": "strict"}))
    answer = network.operator.post("/jobs", json={**asked, "queue": "inorder"})
    assert answer.status_code == 403
    assert "in a strict queue nobody waits" in answer.json()["errors"][0]["message"]
    network.ok(network.operator.patch("/clusters/sh", json={"prices": {**PRICES, "cpu_hour": "0.20 CNY"}}))
    assert network.wait(held)["quote"]["total"] == "0.40 CNY"


def test_what_a_flexible_job_prefers_besides_is_refused_with_its_path(network: Network) -> None:
    asked = job("green", kind="command", flexible="cleanest", deadline="2030-01-01T00:00:00Z", placement={"prefer": "cheapest"})
    answer = network.operator.post("/jobs", json=asked)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "placement.prefer")
    assert "give flexible: cheapest" in answer.json()["errors"][0]["message"]
