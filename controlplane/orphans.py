"""`cpn cluster doctor`: what runs that are over have left on a member's cluster, and its removal.

What is there is compared with the runs that the network has, asked after the cluster was looked at, so that a run which began meanwhile
is none of what was found. A run that has just ended is being cleared up by its agent; so what looks orphaned is looked at a second time
after a pause, and only what still is counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cluster.errors import ClusterError
from cluster.leftovers import Leftover, Survey, orphans
from cluster.model import KubernetesEndpoint
from controlplane.client import Client

SETTLE_S = 3.0
Look = Callable[[str, Path | None, list[Leftover]], Survey]


class OrphanReport(BaseModel):
    """What was found, and what of it is gone. `silent`: nodes, by Ray's id, and actors that did not answer; what they have
    is not known."""

    model_config = ConfigDict(extra="forbid")

    cluster: str
    orphans: list[Leftover]
    removed: list[Leftover]
    silent: list[str]

    @property
    def clean(self) -> bool:
        """Nothing is left of it, and every node has answered."""
        return len(self.removed) == len(self.orphans) and not self.silent


def find_orphans(
    client: Client, cluster: str, address: str, token_file: Path | None, *, fix: bool,
    look: Look | None = None, pause: Callable[[float], None] = time.sleep,
) -> OrphanReport:  # fmt: skip
    """Compare and, with `fix`, remove. Raises ClientError, ClusterError: among others when this is not that member's cluster."""
    look = look or _by_ray
    found = look(address, token_file, [])
    left = _orphans(client, cluster, found)
    if left:
        pause(SETTLE_S)
        found = look(address, token_file, [])
        still = set(_orphans(client, cluster, found))
        left = [item for item in left if item in still]
    removed: list[Leftover] = []
    if fix and left:
        found = look(address, token_file, left)
        removed = [item for item in left if item not in set(found.found) and item.node not in found.silent]
    return OrphanReport(cluster=cluster, orphans=left, removed=removed, silent=list(found.silent))


def in_kubernetes(endpoint: KubernetesEndpoint, cluster: str) -> Look:
    """How a Kubernetes cluster is looked at; it needs no address."""
    from cluster.backends.kubernetes.sweeping import survey

    return lambda _address, _token_file, remove: survey(endpoint, cluster, remove)


def _by_ray(address: str, token_file: Path | None, remove: list[Leftover]) -> Survey:
    from cluster.backends.ray.sweeping import survey

    return survey(address, token_file, remove)


def _orphans(client: Client, cluster: str, found: Survey) -> list[Leftover]:
    runs = client.cluster_runs(cluster)
    if found.cluster_id != runs.remote_id:
        told = "its agent has not told yet which cluster it speaks for" if not runs.remote_id else "the address is another cluster's"
        raise ClusterError(f"this is not known to be the cluster of {cluster}: {told}; nothing was touched")
    return orphans(found.found, set(runs.here), {*runs.here, *runs.elsewhere})
