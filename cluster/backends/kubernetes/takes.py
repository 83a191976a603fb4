"""What a pod takes of its node, by the rules by which Kubernetes' own scheduler counts.

Containers count together. Init containers run before them one after the other, so of these the largest counts where it is more;
those that are restarted always (sidecars) run on beside all that come later. What the pod itself asks for goes before the sum of its
containers, and what the cluster adds for its way of running pods is added. A container that is being resized counts as the larger one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from kubernetes.utils.quantity import parse_quantity

Document = Mapping[str, Any]
ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Take:
    """Thousandths of a core, bytes, and whole devices by resource name, sorted."""

    cpu_milli: int
    memory_bytes: int
    devices: tuple[tuple[str, int], ...] = ()


def is_device(resource: str) -> bool:
    """Whether a resource of nodes is accelerators: what the device plugins of NVIDIA, AMD and Ascend call theirs, and others like them."""
    vendor, slash, what = resource.partition("/")
    if not slash or vendor.endswith("kubernetes.io"):
        return False
    return what in ("gpu", "npu") or what.startswith(("gpu.", "mig-")) or (vendor == "huawei.com" and what.startswith("Ascend"))


def take_of(pod: Document) -> Take | None:
    """What a pod holds of its node; None for one that is bound to none, or is over."""
    spec = pod["spec"]
    if not spec.get("nodeName") or pod.get("status", {}).get("phase") in ENDED:
        return None
    asked = _asked(spec, pod.get("status", {}))
    devices = sorted((name, amount) for name, amount in asked.items() if amount and is_device(name))
    return Take(asked["cpu"], asked["memory"], tuple(devices))


def amounts(resources: Mapping[str, Any] | None) -> Counter[str]:
    """Quantities by resource as whole numbers, rounded up: thousandths of cores, bytes, devices. What is no quantity counts nothing."""
    found: Counter[str] = Counter()
    for name, text in (resources or {}).items():
        found[name] = _whole(str(text), 1000 if name == "cpu" else 1)
    return found


@lru_cache(maxsize=4096)
def _whole(text: str, times: int) -> int:
    try:
        amount: int = ceil(parse_quantity(text) * times)
        return max(amount, 0)
    except (ValueError, ArithmeticError):
        return 0


def _asked(spec: Document, status: Document) -> Counter[str]:
    allocated = {item["name"]: item.get("allocatedResources") for item in status.get("containerStatuses") or ()}
    together = _sum(amounts(_requests(item)) | amounts(allocated.get(item["name"])) for item in spec.get("containers") or ())
    beside, highest = Counter[str](), Counter[str]()
    for item in spec.get("initContainers") or ():
        asked = amounts(_requests(item))
        if item.get("restartPolicy") == "Always":
            beside += asked
            highest |= beside
        else:
            highest |= beside + asked
    total = (together + beside) | highest
    for name, amount in amounts(_requests(spec)).items():
        total[name] = amount
    return total + amounts(spec.get("overhead"))


def _requests(item: Document) -> Mapping[str, Any] | None:
    resources: Mapping[str, Any] = item.get("resources") or {}
    requests: Mapping[str, Any] | None = resources.get("requests")
    return requests


def _sum(parts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total
