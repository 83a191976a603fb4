"""Members as registered and as seen: strict at the edge, and equal after a way through the store."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cluster.model import ClusterSpec, Endpoint, Inventory, Node, NodeAccelerator

PRICES = {
    "cpu_hour": "0.40 CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.50 CNY", "accelerator_hour": {"H200": "20.00 CNY"},
}  # fmt: skip
NODE = Node(
    name="n1", cpu=7.5, memory_bytes=2**34, accelerators=(NodeAccelerator(model="H200", count=8),), labels={"tier": "gold"}, ready=False
)


def spec(**fields: Any) -> ClusterSpec:
    return ClusterSpec.model_validate({"name": "sh-1", "backend": "ray", "jurisdiction": "CN-SH", "prices": PRICES, **fields})


def faults(error: ValidationError) -> list[str]:
    return [".".join(map(str, item["loc"])) for item in error.errors()]


def test_what_is_left_out_has_a_usual_value() -> None:
    found = spec()
    assert (found.mode, found.labels, found.inbound_bandwidth_mib_s, found.endpoint) == ("pull", {}, 100.0, Endpoint())


def test_a_member_reads_back_equal_from_its_json() -> None:
    endpoint = {"address": "10.0.0.1:6379", "dashboard": "http://10.0.0.1:8265", "token_file": "/etc/cpn/token"}
    found = spec(mode="push", labels={"tier": "gold"}, inbound_bandwidth_mib_s=12.5, endpoint=endpoint)
    assert ClusterSpec.model_validate(found.model_dump(mode="json")) == found
    assert ClusterSpec.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "Shanghai"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"backend": "slurm"}, "backend"),
        ({"mode": "both"}, "mode"),
        ({"jurisdiction": "Shanghai"}, "jurisdiction"),
        ({"jurisdiction": "cn"}, "jurisdiction"),
        ({"prices": {item: price for item, price in PRICES.items() if item != "cpu_hour"}}, "prices.cpu_hour"),
        ({"prices": {**PRICES, "cpu_hour": 0.4}}, "prices.cpu_hour"),
        ({"prices": {**PRICES, "cpu_hour": "0.40"}}, "prices.cpu_hour"),
        ({"prices": {**PRICES, "transfer_gib": "0.50 USD"}}, "prices.transfer_gib"),
        ({"inbound_bandwidth_mib_s": 0}, "inbound_bandwidth_mib_s"),
        ({"inbound_bandwidth_mib_s": "fast"}, "inbound_bandwidth_mib_s"),
        ({"labels": {"tier": 1}}, "labels.tier"),
        ({"labels": {"tier": "x" * 257}}, "labels.tier"),
        ({"endpoint": {"adress": "10.0.0.1:6379"}}, "endpoint.adress"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_fault_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    assert faults(caught.value) == [path]


def test_an_inventory_reads_back_equal_from_its_json() -> None:
    found = Inventory(nodes=(NODE, Node(name="n2", cpu=0, memory_bytes=0)), version="2.60")
    assert Inventory.model_validate_json(found.model_dump_json()) == found
    assert Node.model_validate(NODE.model_dump(mode="json")) == NODE


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"cpu": -1}, "cpu"),
        ({"cpu": float("nan")}, "cpu"),
        ({"cpu": float("inf")}, "cpu"),
        ({"cpu": "8"}, "cpu"),
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"memory_bytes": 1.5}, "memory_bytes"),
        ({"accelerators": [{"model": "H200", "count": -1}]}, "accelerators.0.count"),
        ({"accelerators": [{"model": "H200", "count": 1, "free": 1}]}, "accelerators.0.free"),
        ({"ready": 1}, "ready"),
        ({"free": 3}, "free"),
    ],
)
def test_a_node_that_cannot_be_is_refused(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Node.model_validate({"name": "n1", "cpu": 1, "memory_bytes": 1, **fields})
    assert faults(caught.value) == [path]


def test_what_is_known_of_a_member_does_not_change_under_the_hand() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        NODE.cpu = 16.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        spec().mode = "push"  # type: ignore[misc]
