"""What the cluster says of our runs' pods and Jobs: listed once, then watched, so that nobody asks again and again.

While the API server does not answer the board stays as it was. When it answers again, or no longer keeps what happened meanwhile, all
is listed anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.objects import CLUSTER_LABEL, RUN_LABEL, label_of
from cluster.backends.kubernetes.pods import PodFacts, read_pod
from cluster.backends.kubernetes.rayjobs import API as RAY_API
from cluster.backends.kubernetes.rayjobs import PLURAL as RAY_JOBS
from cluster.errors import ClusterError, ExpiredError

log = logging.getLogger(__name__)
Document = dict[str, Any]
AGAIN_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Board:
    """Pods and Jobs of one member, by the run's label. `changed` is called with that label."""

    def __init__(self, client: KubeClient, namespace: str, cluster: str, changed: Callable[[str], None]) -> None:
        self._client, self._changed = client, changed
        self._selector = f"{CLUSTER_LABEL}={label_of(cluster)}"
        self._paths = {"pods": f"/api/v1/namespaces/{namespace}/pods", "jobs": f"/apis/batch/v1/namespaces/{namespace}/jobs"}
        self._rayjobs = f"{RAY_API}/namespaces/{namespace}/{RAY_JOBS}"
        self._items: dict[str, dict[str, Document]] = {kind: {} for kind in self._paths}
        self._watches: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """List all, and begin to watch. Raises what the first lists raise."""
        versions = {kind: await self._list(kind) for kind in self._paths}
        self._watches = [asyncio.create_task(self._follow(kind, version), name=f"watch {kind}") for kind, version in versions.items()]

    async def add_rayjobs(self) -> None:
        """List and watch RayJobs too, for a cluster that has them. Raises what the list raises."""
        if RAY_JOBS not in self._paths:
            self._paths[RAY_JOBS], self._items[RAY_JOBS] = self._rayjobs, {}
            try:
                version = await self._list(RAY_JOBS)
            except ClusterError:
                del self._paths[RAY_JOBS]
                raise
            self._watches.append(asyncio.create_task(self._follow(RAY_JOBS, version), name=f"watch {RAY_JOBS}"))

    async def close(self) -> None:
        """Watch no more. Twice does no harm."""
        for watch in self._watches:
            watch.cancel()
        if self._watches:
            await asyncio.wait(self._watches)
        self._watches = []

    def pods(self, run_id: str) -> list[PodFacts]:
        """The pods of a run, the oldest first."""
        wanted = label_of(run_id)
        found = [read_pod(item) for item in self._items["pods"].values() if _run_of(item) == wanted]
        return sorted(found, key=lambda pod: (pod.created, pod.name))

    def jobs(self, run_id: str) -> list[Document]:
        """The Jobs of a run, or its RayJob."""
        wanted = label_of(run_id)
        items = (*self._items["jobs"].values(), *self._items.get(RAY_JOBS, {}).values())
        return [item for item in items if _run_of(item) == wanted]

    async def _list(self, kind: str) -> str:
        """Take over all that there is; its resource version."""
        found: dict[str, Document] = {}
        version = ""
        async for page in self._client.pages(self._paths[kind], labelSelector=self._selector):
            version = page["metadata"]["resourceVersion"]
            found |= {item["metadata"]["name"]: item for item in page["items"]}
        held = self._items[kind]
        self._items[kind] = found
        for name in sorted(held.keys() | found.keys()):
            if held.get(name) != found.get(name):
                self._changed(_run_of(found.get(name) or held[name]))
        return version

    async def _follow(self, kind: str, version: str) -> None:
        tries = 0
        while True:
            try:
                version = version or await self._list(kind)
                async for event in self._client.watch(self._paths[kind], version, labelSelector=self._selector):
                    tries, version = 0, event.item["metadata"]["resourceVersion"]
                    self._take(kind, event.type, event.item)
            except ExpiredError:
                version = ""
            except ClusterError as error:
                log.warning("%s are not watched now, trying again: %s", kind, error)
                version = ""
                await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
                tries += 1

    def _take(self, kind: str, event: str, item: Document) -> None:
        if event == "BOOKMARK":
            return
        name = item["metadata"]["name"]
        if event == "DELETED":
            with contextlib.suppress(KeyError):
                del self._items[kind][name]
        else:
            self._items[kind][name] = item
        self._changed(_run_of(item))


def _run_of(item: Document) -> str:
    return str(item["metadata"].get("labels", {}).get(RUN_LABEL, ""))
