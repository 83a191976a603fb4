"""Promised starts as buyers and operators meet them: a large job is told when it starts, others for whom they wait."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from tests.network import PATIENT, Network, job, node, until
from tests.served import Cpn


@pytest.fixture
def network(patient_network: Network) -> Network:
    """With a second tenant."""
    patient_network.add_tenant("other")
    return patient_network


def asking(name: str, cpu: int, max_runtime: str, **fields: Any) -> dict[str, Any]:
    return job(name, kind="command", resources={"cpu": cpu, "memory": "1GiB"}, max_runtime=max_runtime, **fields)


def submit(network: Network, document: dict[str, Any]) -> str:
    return str(network.submit(document)["id"])


def test_a_large_job_is_promised_a_start_and_small_ones_go_in_front_only_if_they_are_done_by_then(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh", node("n1", 8, 32), script=lambda _run: Behaviour(duration_s=600.0))
    operator = Cpn(tmp_path / "cli", network.url, network.operator_token())
    network.wait(submit(network, asking("holder", 4, "30m")), "running")
    large = submit(network, asking("large", 8, "10m"))
    until(lambda: "in use now" in network.job(large)["message"], "the large job is looked at")
    network.wait(submit(network, asking("short", 2, "5m")), "running")
    long = submit(network, asking("long", 2, "2h"))
    until(lambda: "kept for a job" in network.job(long)["message"], "the long job is looked at")
    shown = network.ok(network.operator.get(f"/jobs/{large}/explanation"))
    promise = shown["promise"]
    assert (promise["cluster"], promise["nodes"]) == ("sh", ["n1"])
    asked_at = datetime.fromisoformat(network.job(large)["submitted_at"])
    assert 1700 < (datetime.fromisoformat(promise["start_at"]) - asked_at).total_seconds() < 1900
    assert "it is expected to start on sh at" in shown["summary"]
    words = operator("job", "explain", long).out
    assert f"there is room, but it is kept for job {large}, which is expected to start at" in " ".join(words.split())
    assert "lower max_runtime so that it ends before then" in words
    # Another tenant learns when, but not for whom; a plan is judged by the same rule.
    with network.client("buyer", tenant="other") as stranger:
        planned = network.ok(stranger.post("/jobs:plan", json=asking("late", 2, "2h", tenant="other")))
        assert planned["chosen"] is None
        [obstacle] = planned["verdicts"][0]["obstacles"]
        assert obstacle["reason"] == "reserved_for_another"
        assert "kept for a job of another tenant" in obstacle["message"]
        assert large not in obstacle["message"]
        assert network.ok(stranger.post("/jobs:plan", json=asking("early", 2, "5m", tenant="other")))["chosen"] == "sh"


def test_without_backfilling_nothing_is_promised(tmp_path: Path) -> None:
    with Network(tmp_path / "data", backfill="none", **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", node("n1", 8, 32), script=lambda _run: Behaviour(duration_s=600.0))
        network.wait(submit(network, asking("holder", 4, "30m")), "running")
        large = submit(network, asking("large", 8, "10m"))
        network.wait(submit(network, asking("long", 2, "2h")), "running")
        assert network.ok(network.operator.get(f"/jobs/{large}/explanation"))["promise"] is None


def test_a_job_with_a_choice_is_promised_the_model_that_is_free_first_and_shares_of_it_do_not_delay_it(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 32, "H200", 1), node("n2", 8, 32, "A100", 1), script=lambda _run: Behaviour(duration_s=600.0))

    def on(name: str, max_runtime: str, **accelerator: Any) -> str:
        return submit(network, job(name, kind="command", resources={"cpu": 1, "accelerator": accelerator}, max_runtime=max_runtime))

    network.wait(on("whole", "2h", model="H200"), "running")
    network.wait(on("half", "30m", model="A100", share=0.5), "running")
    head = on("head", "10m", any_of=[{"model": "H200"}, {"model": "A100"}])
    until(lambda: "in use now" in network.job(head)["message"], "it is looked at")
    network.wait(on("short", "5m", model="A100", share=0.25), "running")
    long = on("long", "2h", model="A100", share=0.25)
    until(lambda: "kept for a job" in network.job(long)["message"], "the long one is looked at")
    promise = network.ok(network.operator.get(f"/jobs/{head}/explanation"))["promise"]
    assert (promise["nodes"], promise["accelerator_model"]) == (["n2"], "A100")
    asked_at = datetime.fromisoformat(network.job(head)["submitted_at"])
    assert 1700 < (datetime.fromisoformat(promise["start_at"]) - asked_at).total_seconds() < 1900
    with network.client("buyer", tenant="other") as stranger:
        share = {"cpu": 1, "accelerator": {"model": "A100", "share": 0.25}}
        late = job("late", kind="command", tenant="other", resources=share, max_runtime="2h")
        planned = network.ok(stranger.post("/jobs:plan", json=late))
        assert planned["verdicts"][0]["obstacles"][0]["reason"] == "reserved_for_another"
