"""Nodes that are not there: shown, asked for while a job waits for them, used when they come, and given up when they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.scaling import NodeType, Scaling, Wanted
from tests.network import PATIENT, Network, job, node, until

LARGE: dict[str, Any] = {"kind": "command", "resources": {"cpu": 12, "memory": "1GiB"}}
BIG = NodeType(name="big", cpu=16, memory_bytes=2**36, most=2)


def scaling_of(network: Network) -> Any:
    return network.cluster("sh")["scaling"]


def scalable(network: Network) -> Any:
    """A member with a node of 4 cores, and an autoscaler that can bring two of 16."""
    cluster = network.add_cluster("sh", node("n1", 4, 8))
    cluster.scaling = Scaling(types=(BIG,))
    until(lambda: scaling_of(network), "the server knows what there may be")
    return cluster


def test_a_job_waits_for_nodes_that_are_asked_for_and_runs_on_them(patient_network: Network) -> None:
    network = patient_network
    cluster = scalable(network)
    (verdict,) = network.ok(network.operator.post("/jobs:plan", json=job(**LARGE)))["verdicts"]
    assert (verdict["verdict"], verdict["start_s"]) == ("busy", 120.0)
    assert [item["reason"] for item in verdict["obstacles"]] == ["node_too_small", "scaling_up"]
    assert "big (0 of at most 2 are there), usually in 120 s" in verdict["obstacles"][1]["message"]
    assert cluster.wanted == (), "a question asks for nothing"
    waiting = network.submit(job(**LARGE))["id"]
    until(lambda: cluster.wanted == (Wanted(node_type="big", count=1),), "a node is asked for")
    until(lambda: network.job(waiting)["cause"] == "scaling_up", "the job says what it waits for")
    explained = network.ok(network.operator.get(f"/jobs/{waiting}/explanation"))
    assert "scaling_up" in [item["reason"] for item in explained["verdicts"][0]["obstacles"]]
    assert (scaling_of(network)["types"][0]["wanted"], network.cluster("sh")["cpu"]) == (1, 4.0), "what is not there is no capacity"
    cluster.nodes["big-1"] = node("big-1", 16, 64)
    cluster.scaling = Scaling(types=(BIG.model_copy(update={"present": 1}),))
    done = network.wait(waiting)
    assert (done["state"], done["nodes"]) == ("succeeded", ["big-1"])
    until(lambda: cluster.wanted == (), "nothing is asked for any more")
    assert scaling_of(network)["types"][0]["wanted"] == 0


def test_a_cancelled_job_asks_for_nothing(patient_network: Network) -> None:
    cluster = scalable(patient_network)
    waiting = patient_network.submit(job(**LARGE))["id"]
    until(lambda: cluster.wanted, "a node is asked for")
    patient_network.ok(patient_network.operator.post(f"/jobs/{waiting}:cancel"))
    until(lambda: cluster.wanted == (), "nothing is asked for any more")


@pytest.fixture
def hasty(tmp_path: Path) -> Any:
    with Network(tmp_path / "data", scale_up_limit_s=0.2, **PATIENT) as running:
        running.add_tenant()
        yield running


def test_nodes_that_do_not_come_are_asked_for_no_more_for_a_while(hasty: Network) -> None:
    cluster = scalable(hasty)
    cluster.scaling = Scaling(types=(BIG,), trouble="1 of big could not be started: no quota")
    waiting = hasty.submit(job(**LARGE))["id"]

    def gave_up() -> bool:
        return scaling_of(hasty)["types"][0]["rests_until"] is not None

    until(gave_up, "it is given up")
    until(lambda: scaling_of(hasty)["trouble"] != "", "what the autoscaler says is shown")
    assert hasty.job(waiting)["state"] == "queued"
