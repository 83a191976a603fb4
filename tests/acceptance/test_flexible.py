"""Jobs that may wait for a cheaper hour, as buyers meet them: planned with their hours and prices, and explained while they wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
