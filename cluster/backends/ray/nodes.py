"""Ray's nodes as cpn's inventory.

A node's name is Ray's own name for it and the first eight digits of its id: readable, stable for the node's life, and
different when the machine comes back as a new node. Accelerators are counted by Ray's resource GPU; their model is the
node's label `ray.io/accelerator-type` (Ray detects it, an operator may set it) or a resource `accelerator_type:MODEL`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.model import Inventory, Node, NodeAccelerator, Others

ACCELERATOR_LABEL = "ray.io/accelerator-type"
_ACCELERATOR_RESOURCE = "accelerator_type:"
_UNKNOWN_MODEL = "GPU"
_ID_LABEL = "ray.io/node-id"
NOBODY = Others()


@dataclass(frozen=True)
class RayNode:
    """What is needed to place an actor on a node."""

    node_id: str
    address: str


def node_name(entry: Mapping[str, Any]) -> str:
    """The name of a node in cpn."""
    return f"{entry['NodeName'][:240]}-{entry['NodeID'][:8]}"


def alive(entries: Iterable[Mapping[str, Any]]) -> dict[str, RayNode]:
    """Living nodes by name, from `ray.nodes()`."""
    return {node_name(entry): RayNode(entry["NodeID"], entry["NodeManagerAddress"]) for entry in entries if entry["Alive"]}


def inventory(
    entries: Iterable[Mapping[str, Any]], version: str, cluster_id: str = "", others: Mapping[str, Others] | None = None
) -> Inventory:  # fmt: skip
    """Living nodes by name, from `ray.nodes()`, with what Ray was told that they have, less what `others` hold of them by node id.

    `cluster_id` is Ray's own for the cluster.
    """
    held = others or {}
    nodes = sorted((_node(entry, held.get(entry["NodeID"])) for entry in entries if entry["Alive"]), key=lambda node: node.name)
    return Inventory(nodes=tuple(nodes), version=f"ray {version}", resizes=True, remote_id=cluster_id)


def _node(entry: Mapping[str, Any], others: Others | None) -> Node:
    resources: Mapping[str, float] = entry["Resources"]
    labels = {key[:128]: str(value)[:256] for key, value in entry.get("Labels", {}).items() if key != _ID_LABEL}
    less = others or NOBODY
    gpus = max(int(resources.get("GPU", 0)) - less.accelerators, 0)
    accelerators = (NodeAccelerator(model=_model(resources, labels), count=gpus),) if gpus else ()
    return Node(
        name=node_name(entry),
        cpu=max(round(float(resources.get("CPU", 0.0)) - less.cpu, 4), 0.0),
        memory_bytes=max(int(resources.get("memory", 0)) - less.memory_bytes, 0),
        accelerators=accelerators,
        labels=labels,
        object_store_bytes=int(resources.get("object_store_memory", 0)),
        others=others,
    )


def _model(resources: Mapping[str, float], labels: Mapping[str, str]) -> str:
    named = sorted(key.removeprefix(_ACCELERATOR_RESOURCE) for key in resources if key.startswith(_ACCELERATOR_RESOURCE))
    return labels.get(ACCELERATOR_LABEL) or next(iter(named), _UNKNOWN_MODEL)
