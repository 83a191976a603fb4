"""A Kubernetes member as tests drive it: its backend on the real control plane, with nodes that the test names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.backend import KubernetesBackend
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.objects import RunSettings
from cluster.data_claims import read_claim
from cluster.model import Inventory, Node
from tests.kube.control_plane import ADMIN
from tests.kube.kubelet import Kubelet

IMAGE = "local/cpn"
GIB = 2**30


class FixedStock:
    """The stand-in's nodes as they were when they were registered. `resources` are names of accelerators by model."""

    def __init__(self, kubelet: Kubelet, resources: Mapping[str, str] | None = None) -> None:
        self.names = [node["metadata"]["name"] for node in kubelet.nodes]
        self.resources = resources or {}

    async def open(self) -> None:
        """It knows them already."""

    async def read(self) -> Inventory:
        return Inventory(nodes=tuple(Node(name=name, cpu=8.0, memory_bytes=16 * GIB) for name in self.names))

    def resource_of(self, node: str, model: str) -> str:
        return self.resources.get(model, "") if node in self.names else ""

    async def close(self) -> None:
        """It has no line to anybody."""


def namespace(kubelet: Kubelet, name: str) -> str:
    """A namespace of the test's own."""
    kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def member(
    kubelet: Kubelet, space: str, directory: Path, user: str = ADMIN, *, image: str = IMAGE, local_queue: str = "",
    data_claims: tuple[str, ...] = (), **limits: Any,
) -> KubernetesBackend:  # fmt: skip
    """A connection to the cluster, not open yet, as a user of it."""
    client = KubeClient(Access(kubelet.servers.kubeconfig(user), namespace=space))
    return KubernetesBackend(client, FixedStock(kubelet), settings_of(space, image, local_queue, data_claims), directory, **limits)


def settings_of(space: str, image: str = IMAGE, local_queue: str = "", data_claims: tuple[str, ...] = ()) -> RunSettings:
    """How runs look in a namespace of a test's own."""
    claims = tuple(map(read_claim, data_claims))
    return RunSettings(cluster="lab", namespace=space, image=image, local_queue=local_queue, data_claims=claims)
