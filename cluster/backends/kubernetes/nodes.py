"""Kubernetes' nodes as cpn's inventory: what a node lets pods have, less what the pods of others hold of it.

A node takes runs when it is ready, not cordoned, under no pressure, and has no taint that they do not put up with. Accelerators are known
by the resource of their device plugin; their model is what the plugin's label says, or the operator's own, `cpn.dev/accelerator-model`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.backends.kubernetes.taints import Toleration, untolerated
from cluster.backends.kubernetes.takes import Take, amounts, is_device
from cluster.model import Node, NodeAccelerator, Others

Document = Mapping[str, Any]
MODEL_LABEL = "cpn.dev/accelerator-model"
# The label by which each vendor's plugin or feature discovery names the model, the most precise first.
PRODUCT_LABELS: Mapping[str, tuple[str, ...]] = {
    "nvidia.com": ("nvidia.com/gpu.product",),
    "amd.com": ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name", "amd.com/gpu.family", "beta.amd.com/gpu.family"),
    "huawei.com": ("node.kubernetes.io/npu.chip.name",),
}
MANY_PODS = 1_000_000  # Where a node does not say how many it takes.
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


@dataclass(frozen=True, slots=True)
class Device:
    """Accelerators of a node: what pods ask for, what model they are, how many there are."""

    resource: str
    model: str
    count: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What is kept of a node. `trouble` says why it takes no runs; empty: it does."""

    name: str
    cpu_milli: int
    memory_bytes: int
    pods: int
    devices: tuple[Device, ...]
    labels: Mapping[str, str]
    trouble: str


class Use:
    """What the pods of others hold of one node together."""

    __slots__ = ("cpu_milli", "devices", "memory_bytes", "pods")

    def __init__(self) -> None:
        self.cpu_milli = self.memory_bytes = self.pods = 0
        self.devices: Counter[str] = Counter()

    def add(self, take: Take, times: int = 1) -> None:
        """Count a pod in, or out with -1."""
        self.cpu_milli += times * take.cpu_milli
        self.memory_bytes += times * take.memory_bytes
        self.pods += times
        for resource, count in take.devices:
            self.devices[resource] += times * count


NO_USE = Use()


def machine_of(node: Document, tolerations: Sequence[Toleration] = ()) -> Machine:
    """What is kept of a node's document."""
    metadata, status = node["metadata"], node.get("status", {})
    labels = metadata.get("labels") or {}
    given = amounts(status.get("allocatable"))
    devices = tuple(Device(name, _model(name, labels), given[name]) for name in sorted(given) if is_device(name))
    # The same keys at thousands of nodes are one text each.
    kept = {sys.intern(key[:128]): str(value)[:256] for key, value in labels.items()}
    return Machine(
        metadata["name"], given["cpu"], given["memory"], given.get("pods", MANY_PODS), devices, kept, _trouble(node, tolerations),
    )  # fmt: skip


def node_of(machine: Machine, use: Use = NO_USE) -> Node:
    """The node as cpn books it: what is left when others have what they hold."""
    counts: Counter[str] = Counter()
    for device in machine.devices:
        counts[device.model] += max(device.count - use.devices[device.resource], 0)
    trouble = machine.trouble or ("" if use.pods < machine.pods else f"it has no room for more than its {machine.pods} pods")
    return Node(
        name=machine.name, cpu=max(machine.cpu_milli - use.cpu_milli, 0) / 1000,
        memory_bytes=max(machine.memory_bytes - use.memory_bytes, 0),
        accelerators=tuple(NodeAccelerator(model=model, count=counts[model]) for model in counts), labels=dict(machine.labels),
        ready=not trouble, trouble=trouble[:200], others=_others(use),
    )  # fmt: skip


def _others(use: Use) -> Others | None:
    devices = sum(use.devices.values())
    if not (use.cpu_milli or use.memory_bytes or devices):
        return None
    return Others(cpu=use.cpu_milli / 1000, memory_bytes=use.memory_bytes, accelerators=devices)


def _model(resource: str, labels: Mapping[str, str]) -> str:
    """The model behind a resource. A part of a device is a model of its own, for it is not as fast as the whole."""
    vendor, _, what = resource.partition("/")
    if vendor == "nvidia.com" and what.startswith("mig-"):
        whole = labels.get(MODEL_LABEL) or labels.get("nvidia.com/gpu.product") or "NVIDIA"
        return whole if "-MIG-" in whole else f"{whole}-{what.upper()}"
    if own := labels.get(MODEL_LABEL):
        return own
    product = next((labels[key] for key in PRODUCT_LABELS.get(vendor, ()) if labels.get(key)), "")
    if vendor == "huawei.com":
        # The resource of a part of a chip ends in its cores; the label names the chip.
        return f"Ascend{product}" if product and "-" not in what else what
    return product or ("GPU" if what == "gpu" else resource)


def _trouble(node: Document, tolerations: Sequence[Toleration]) -> str:
    """Why a node takes no runs."""
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    conditions = {item.get("type"): item for item in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    if metadata.get("deletionTimestamp"):
        return "it is being removed"
    if ready.get("status") != "True":
        return _said("not ready", ready) if ready else "its kubelet has not reported yet"
    if spec.get("unschedulable"):
        return "it is cordoned"
    for name in PRESSURES:
        if conditions.get(name, {}).get("status") == "True":
            return _said(name, conditions[name])
    if taint := untolerated(spec.get("taints") or (), tolerations):
        return f"taint {taint}"
    system = (metadata.get("labels") or {}).get("kubernetes.io/os", "linux")
    return "" if system == "linux" else f"it runs {system}"


def _said(what: str, condition: Document) -> str:
    words = condition.get("message") or condition.get("reason") or ""
    return f"{what}: {words}" if words else what
