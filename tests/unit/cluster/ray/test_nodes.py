"""What `ray.nodes()` says, as the inventory of a member."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.ray.nodes import RayNode, alive, inventory, node_name
from cluster.model import Node, NodeAccelerator, Others


def entry(name: str = "machine", node_id: str = "0123456789abcdef", **changes: Any) -> dict[str, Any]:
    resources = {"CPU": 4.0, "memory": 2.0**30, "object_store_memory": 1e8, f"node:{name}": 1.0}
    return {
        "NodeID": node_id, "Alive": True, "NodeManagerAddress": "10.0.0.1", "NodeName": name, "Resources": resources,
        "Labels": {"ray.io/node-id": node_id, "tier": "gold"}, **changes,
    }  # fmt: skip


def test_a_node_has_what_ray_was_told() -> None:
    (node,) = inventory([entry()], "2.60.0").nodes
    assert node == Node(
        name="machine-01234567", cpu=4.0, memory_bytes=2**30, labels={"tier": "gold"}, object_store_bytes=100_000_000
    )  # fmt: skip
    assert inventory([], "2.60.0").version == "ray 2.60.0"


def test_what_others_hold_is_left_out() -> None:
    resources = {"CPU": 4.0, "memory": 1000.0, "GPU": 2.0}
    others = Others(cpu=1.5, memory_bytes=400, accelerators=1)
    (node,) = inventory([entry(Resources=resources)], "", others={"0123456789abcdef": others}).nodes
    assert (node.cpu, node.memory_bytes, node.others) == (2.5, 600, others)
    assert node.accelerators == (NodeAccelerator(model="GPU", count=1),)
    (full,) = inventory([entry(Resources={"CPU": 1.0, "GPU": 1.0})], "", others={"0123456789abcdef": others}).nodes
    assert (full.cpu, full.memory_bytes, full.accelerators) == (0.0, 0, ())


def test_only_living_nodes_count_and_come_in_order() -> None:
    entries = [entry("b", "b" * 16), entry("a", "a" * 16), entry("c", "c" * 16, Alive=False)]
    assert [node.name for node in inventory(entries, "").nodes] == ["a-aaaaaaaa", "b-bbbbbbbb"]
    assert alive(entries) == {"b-bbbbbbbb": RayNode("b" * 16, "10.0.0.1"), "a-aaaaaaaa": RayNode("a" * 16, "10.0.0.1")}


def test_a_machine_that_came_back_is_another_node() -> None:
    assert node_name(entry(node_id="1" * 16)) != node_name(entry(node_id="2" * 16))


@pytest.mark.parametrize(
    ("resources", "labels", "accelerators"),
    [
        ({}, {}, ()),
        ({"GPU": 0.0}, {"ray.io/accelerator-type": "H200"}, ()),
        ({"GPU": 8.0}, {"ray.io/accelerator-type": "H200"}, (NodeAccelerator(model="H200", count=8),)),
        ({"GPU": 2.0, "accelerator_type:A100": 1.0}, {}, (NodeAccelerator(model="A100", count=2),)),
        ({"GPU": 2.0, "accelerator_type:A100": 1.0}, {"ray.io/accelerator-type": "H200"}, (NodeAccelerator(model="H200", count=2),)),
        ({"GPU": 1.0}, {}, (NodeAccelerator(model="GPU", count=1),)),
    ],
)
def test_accelerators_are_named_by_label_or_resource(
    resources: dict[str, float], labels: dict[str, str], accelerators: tuple[NodeAccelerator, ...]
) -> None:
    (node,) = inventory([entry(Resources=resources, Labels=labels)], "").nodes
    assert node.accelerators == accelerators


def test_what_is_missing_is_nothing_and_what_is_long_is_cut() -> None:
    (node,) = inventory([entry("n" * 300, Resources={}, Labels={"k" * 200: "v" * 300})], "").nodes
    assert (node.cpu, node.memory_bytes, len(node.name)) == (0.0, 0, 249)
    assert node.labels == {"k" * 128: "v" * 256}
