"""How clusters become members: each under one name."""

from __future__ import annotations

from typing import Any

import httpx

from tests.network import Network

PRICES = {"cpu_hour": "0.1 CNY", "memory_gib_hour": "0.1 CNY", "transfer_gib": "0.1 CNY"}


def register(network: Network, name: str) -> str:
    """A pull member whose agent is the test; its agent's token."""
    document = {"name": name, "backend": "memory", "jurisdiction": "CN-SH", "prices": PRICES}
    network.ok(network.operator.post("/clusters", json=document))
    token: str = network.ok(network.operator.post("/tokens", json={"role": "agent", "cluster": name}))["token"]
    return token


def report(network: Network, name: str, token: str, remote_id: str) -> httpx.Response:
    """An agent's call with an inventory of that cluster."""
    document: dict[str, Any] = {"agent_id": f"agent-{name}", "reachable": True, "takes_over": True}
    document["inventory"] = {"nodes": [], "remote_id": remote_id}
    return httpx.post(f"{network.url}/v1/agents/{name}/sync", json=document, headers=network.bearer(token), trust_env=False)


def test_one_cluster_is_not_a_member_under_two_names(patient_network: Network) -> None:
    network = patient_network
    tokens = {name: register(network, name) for name in ("one", "two")}
    assert report(network, "one", tokens["one"], "0a").status_code == 200
    assert network.ok(network.operator.get("/clusters/one"))["remote_id"] == "0a"
    refused = report(network, "two", tokens["two"], "0a")
    assert refused.status_code == 409
    assert "this cluster is the member 'one' already" in refused.json()["detail"]
    assert network.ok(network.operator.get("/clusters/two"))["remote_id"] == ""


def test_a_cluster_that_is_forgotten_or_was_started_anew_may_join_under_another_name(patient_network: Network) -> None:
    network = patient_network
    tokens = {name: register(network, name) for name in ("one", "two", "three")}
    assert report(network, "one", tokens["one"], "0a").status_code == 200
    assert report(network, "one", tokens["one"], "0b").status_code == 200
    assert report(network, "two", tokens["two"], "0a").status_code == 200
    assert network.operator.delete("/clusters/one").status_code == 204
    assert report(network, "three", tokens["three"], "0b").status_code == 200


def test_members_that_tell_no_id_are_not_taken_for_each_other(patient_network: Network) -> None:
    tokens = {name: register(patient_network, name) for name in ("one", "two")}
    assert [report(patient_network, name, token, "").status_code for name, token in tokens.items()] == [200, 200]
