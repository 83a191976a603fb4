"""What runs have left in a Kubernetes cluster: found by this member's label alone, and removed when asked.

Secrets go first, and Kubernetes takes what they own with them; the rest is deleted by name. What is being deleted already is no leftover.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.backends.kubernetes.examining import access_of
from cluster.backends.kubernetes.inventory import IDENTITY
from cluster.backends.kubernetes.objects import CLUSTER_LABEL, RUN_ANNOTATION, RUN_LABEL, label_of
from cluster.backends.kubernetes.rayjobs import API as RAY_API
from cluster.errors import ForbiddenError, NotThereError
from cluster.leftovers import Kind, Leftover, Survey
from cluster.model import KubernetesEndpoint

# In the order in which they are removed.
_PLACES: tuple[tuple[Kind, str, str], ...] = (
    ("Secret", "/api/v1", "secrets"), ("Job", "/apis/batch/v1", "jobs"), ("RayJob", RAY_API, "rayjobs"), ("Service", "/api/v1", "services"),
    ("Pod", "/api/v1", "pods"),
)  # fmt: skip


def survey(endpoint: KubernetesEndpoint, cluster: str, remove: Sequence[Leftover] = ()) -> Survey:
    """Remove these, then list all of the member `cluster`. Blocks. Raises ClusterError."""
    return asyncio.run(_survey(endpoint, cluster, remove))


async def _survey(endpoint: KubernetesEndpoint, cluster: str, remove: Sequence[Leftover]) -> Survey:
    client = KubeClient(access_of(endpoint))
    try:
        identity = await client.get(IDENTITY)
        paths = {kind: f"{api}/namespaces/{endpoint.namespace}/{plural}" for kind, api, plural in _PLACES}
        for kind, path in paths.items():
            for item in remove:
                if item.kind == kind:
                    await client.delete(f"{path}/{item.name}")
        found = [item for kind, path in paths.items() for item in await _listed(client, kind, path, cluster)]
        return Survey(cluster_id=str(identity["metadata"]["uid"]), found=tuple(found))
    finally:
        await client.close()


async def _listed(client: KubeClient, kind: Kind, path: str, cluster: str) -> list[Leftover]:
    found: list[Document] = []
    try:
        async for page in client.pages(path, labelSelector=f"{CLUSTER_LABEL}={label_of(cluster)}"):
            found += page["items"]
    except (NotThereError, ForbiddenError):
        # A cluster without KubeRay, or where this member has never had a right to RayJobs.
        if kind != "RayJob":
            raise
    return [
        Leftover(kind=kind, name=metadata["name"], run_id=_run_of(metadata))
        for metadata in (item["metadata"] for item in found) if "deletionTimestamp" not in metadata
    ]  # fmt: skip


def _run_of(metadata: Document) -> str:
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    return str(annotations.get(RUN_ANNOTATION) or labels.get(RUN_LABEL, ""))
