"""What the cluster says of our runs' pods and Jobs: watched, so that nobody asks again and again.

While the API server does not answer the board stays as it was, and `check` says so when that lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.informer import Informer, Watches
from cluster.backends.kubernetes.objects import CLUSTER_LABEL, RUN_LABEL, label_of
from cluster.backends.kubernetes.pods import PodFacts, read_pod
from cluster.backends.kubernetes.rayjobs import API as RAY_API
from cluster.backends.kubernetes.rayjobs import PLURAL as RAY_JOBS
from cluster.errors import ForbiddenError

Document = dict[str, Any]


class _Items:
    """The objects of one kind by name. `changed` is called with the run's label of each that is another than before, or gone."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._unseen: set[str] | None = None
        self._held: dict[str, Document] = {}

    def begin(self) -> None:
        self._unseen = set(self._held)

    def end(self) -> None:
        for name in sorted(self._unseen or ()):
            self._remove(name)
        self._unseen = None

    def put(self, item: Document) -> None:
        name = item["metadata"]["name"]
        if self._unseen is not None:
            self._unseen.discard(name)
        if self._held.get(name) != item:
            self._held[name] = item
            self._changed(_run_of(item))

    def drop(self, item: Document) -> None:
        self._remove(item["metadata"]["name"])

    def of(self, label: str) -> list[Document]:
        """Those of a run."""
        return [item for item in self._held.values() if _run_of(item) == label]

    def _remove(self, name: str) -> None:
        if (gone := self._held.pop(name, None)) is not None:
            self._changed(_run_of(gone))


class Board:
    """Pods and Jobs of one member, by the run's label. `changed` is called with that label; `seconds` is a clock that only goes forward."""

    def __init__(
        self, client: KubeClient, namespace: str, cluster: str, changed: Callable[[str], None], *, seconds: Callable[[], float]
    ) -> None:  # fmt: skip
        self._client, self._seconds = client, seconds
        self._selector = f"{CLUSTER_LABEL}={label_of(cluster)}"
        self._pods, self._jobs, self._rayjobs = _Items(changed), _Items(changed), _Items(changed)
        self._pod_path, self._job_path = f"/api/v1/namespaces/{namespace}/pods", f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._rayjob_path = f"{RAY_API}/namespaces/{namespace}/{RAY_JOBS}"
        self._watches = Watches("the pods and Jobs of its runs", seconds)
        self._rayjob_watches = Watches("the RayJobs of its runs", seconds)

    async def open(self) -> None:
        """List all, and begin to watch. Raises what the first lists raise; may be called again then."""
        for path, items in ((self._pod_path, self._pods), (self._job_path, self._jobs)):
            await self._watches.add(self._informer(path, items))

    async def add_rayjobs(self) -> None:
        """List and watch RayJobs too, for a cluster that has them. Raises what the list raises."""
        await self._rayjob_watches.add(self._informer(self._rayjob_path, self._rayjobs))

    async def drop_rayjobs(self) -> None:
        """Know of none any more, in a cluster that has no such kind."""
        await self._rayjob_watches.close()
        self._rayjobs.begin()
        self._rayjobs.end()

    @property
    def may_not_see_rayjobs(self) -> bool:
        """The right to them was taken away."""
        return isinstance(self._rayjob_watches.trouble, ForbiddenError)

    async def close(self) -> None:
        """Watch no more. Twice does no harm."""
        await self._watches.close()
        await self._rayjob_watches.close()

    def check(self, patience_s: float) -> None:
        """Raises UnreachableError when pods or Jobs could not be watched for so long."""
        self._watches.check(patience_s)

    def pods(self, run_id: str) -> list[PodFacts]:
        """The pods of a run, the oldest first."""
        return sorted(map(read_pod, self._pods.of(label_of(run_id))), key=lambda pod: (pod.created, pod.name))

    def jobs(self, run_id: str) -> list[Document]:
        """The Jobs of a run, or its RayJob."""
        label = label_of(run_id)
        return [*self._jobs.of(label), *self._rayjobs.of(label)]

    def _informer(self, path: str, items: _Items) -> Informer:
        return Informer(self._client, path, items, seconds=self._seconds, labels=self._selector)


def _run_of(item: Document) -> str:
    return str(item["metadata"].get("labels", {}).get(RUN_LABEL, ""))
