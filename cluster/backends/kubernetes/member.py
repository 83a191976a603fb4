"""A Kubernetes cluster as its agent drives it: the nodes that are watched and the runs in its namespace, as one backend."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from cluster.backends.kubernetes.backend import KubernetesBackend
from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.backends.kubernetes.examining import access_of
from cluster.backends.kubernetes.inventory import IsOurs, KubeInventory
from cluster.backends.kubernetes.objects import CLUSTER_LABEL, RunSettings, label_of
from cluster.backends.kubernetes.taints import OF_DEVICES, read_toleration
from cluster.data_claims import read_claim
from cluster.model import KubernetesEndpoint


def kubernetes_member(cluster: str, endpoint: KubernetesEndpoint, directory: Path) -> KubernetesBackend:
    """The backend of the member `cluster`. Nothing is asked before it is opened."""
    client = KubeClient(access_of(endpoint))
    tolerations = tuple(read_toleration(text) for text in endpoint.tolerations)
    stock = KubeInventory(client, ours(cluster, endpoint.namespace), tolerations=tolerations)
    return KubernetesBackend(client, stock, run_settings(cluster, endpoint), directory)


def run_settings(cluster: str, endpoint: KubernetesEndpoint) -> RunSettings:
    """How runs look there. They put up with the very taints with which a node is called ready."""
    tolerations = (*OF_DEVICES, *(read_toleration(text) for text in endpoint.tolerations))
    return RunSettings(
        cluster=cluster, namespace=endpoint.namespace, image=endpoint.image or usual_image(), priority_class=endpoint.priority_class,
        service_account=endpoint.service_account, pull_secret=endpoint.pull_secret,
        local_queue=endpoint.local_queue,
        tolerations=tuple(dict(item.document()) for item in tolerations),
        data_claims=tuple(map(read_claim, endpoint.data_claims)),
    )  # fmt: skip


def usual_image() -> str:
    """The image that has this very package."""
    return f"cpn:{importlib.metadata.version('cpn')}"


def ours(cluster: str, namespace: str) -> IsOurs:
    """Whether a pod belongs to a run of this member: what it holds is booked by the control plane."""
    label = label_of(cluster)

    def is_ours(pod: Document) -> bool:
        metadata = pod["metadata"]
        return metadata.get("namespace") == namespace and (metadata.get("labels") or {}).get(CLUSTER_LABEL) == label

    return is_ours
