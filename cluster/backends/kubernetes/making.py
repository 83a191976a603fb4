"""Making and removing a run's objects, so that repeating either does no harm.

The Secret comes first and is made once: whoever finds it there goes on with what it says. All else is applied, which a second time
changes nothing. What was made is read back, because servers drop fields in silence that they do not know.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.backends.kubernetes import kueue
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.objects import (
    CLUSTER_LABEL,
    RUN_LABEL,
    Place,
    RunSettings,
    fits_one_template,
    jobs_of,
    label_of,
    name_of,
    rank_of,
    secret_of,
    service_of,
)
from cluster.backends.kubernetes.packing import put_files
from cluster.backends.kubernetes.pod_main import REQUEST, SEATING
from cluster.backends.kubernetes.rayjobs import API as RAY_API
from cluster.backends.kubernetes.rayjobs import PLURAL as RAY_JOBS
from cluster.backends.kubernetes.rayjobs import rayjob_of
from cluster.errors import AlreadyThereError, ConflictError, NotThereError
from cluster.protocol import RunRequest

log = logging.getLogger(__name__)
Document = dict[str, Any]
_PROBE = RunRequest(
    run_id="probe-of-indexed-jobs", job_id="probe", attempt=1, epoch=0, kind="command", command=("true",), cpu=0.001, memory_bytes=2**20,
    nodes=("node", "node"), max_runtime_s=1.0,
)  # fmt: skip


@dataclass
class Maker:
    """Makes the objects of runs on one cluster. `indexed`: its server has Indexed Jobs; None as long as nobody has looked.
    `has_rayjobs`: KubeRay's kinds are there; `suspends`: it keeps a Job's suspension, None like `indexed`."""

    client: KubeClient
    settings: RunSettings
    now: Callable[[], float]
    start_limit_s: float
    indexed: bool | None = field(default=None)
    has_rayjobs: bool = field(default=False)
    suspends: bool | None = field(default=None)

    async def look(self) -> None:
        """Find out what the server can do, by what it makes of an Indexed Job that it is only asked about."""
        owner = {"metadata": {"name": "probe", "uid": "00000000-0000-0000-0000-000000000000"}}
        (job,) = jobs_of(_PROBE, self.settings, Place("", 0.0, 1.0), owner, indexed=True)
        del job["metadata"]["ownerReferences"]
        job["spec"]["suspend"] = True
        answer = await self.client.create(self._jobs, job, dryRun="All")
        self.indexed = answer["spec"].get("completionMode") == "Indexed"
        self.suspends = answer["spec"].get("suspend") is True

    async def serves_rayjobs(self) -> bool:
        """Whether the cluster has KubeRay's kinds now; they may come later. Raises ClusterError."""
        return await self._serves(RAY_API, RAY_JOBS)

    async def serves_queues(self) -> bool:
        """Whether the cluster has Kueue now. Raises ClusterError."""
        return await self._serves(kueue.API, kueue.WORKLOADS)

    async def admission(self, uid: str) -> str:
        """Why the Job or RayJob with this uid is suspended. Raises ClusterError."""
        found: list[Document] = []
        async for page in self.client.pages(f"{kueue.API}/namespaces/{self.settings.namespace}/{kueue.WORKLOADS}"):
            found += page["items"]
        return kueue.waits_for(self.settings.local_queue, found, uid)

    async def make(self, run: RunRequest, accelerator: str) -> None:
        """All objects of a run; those that are there stay. Raises ClusterError, RunRejectedError."""
        if self.indexed is None and len(run.nodes) > 1 and run.kind != "ray" and fits_one_template(run.nodes):
            await self.look()
        place = Place(secrets.token_hex(16), self.now() + self.start_limit_s, self.start_limit_s, accelerator)
        owner = await self._owner(run, place)
        if len(run.nodes) > 1 and run.kind != "ray":
            await self._apply(self._services, service_of(run, self.settings, owner))
        if run.kind == "ray":
            await self._place(self._rayjobs, rayjob_of(run, self.settings, place, owner))
            return
        jobs = jobs_of(run, self.settings, place, owner, indexed=bool(self.indexed))
        for job in jobs:
            made = await self._place(self._jobs, job)
            if made["spec"].get("completionMode") != job["spec"].get("completionMode", made["spec"].get("completionMode")):
                # A server behind the same address that is older than the one that was asked.
                self.indexed = False
                await self.client.delete(f"{self._jobs}/{job['metadata']['name']}", uid=made["metadata"]["uid"])
                return await self.make(run, accelerator)

    async def is_there(self, run_id: str) -> bool:
        """Whether there are Jobs or pods of a run."""
        for collection in (*self._makers, self._pods):
            async for page in self.client.pages(collection, labelSelector=_selector(run_id)):
                if page["items"]:
                    return True
        return False

    def check(self, run: RunRequest) -> None:
        """Raises RunRejectedError for a run that cannot be made into objects."""
        secret_of(run, self.settings, Place("", 0.0, 0.0))

    async def requests(self) -> dict[str, RunRequest]:
        """The runs whose Secrets are there, by id."""
        found: dict[str, RunRequest] = {}
        async for page in self.client.pages(self._secrets, labelSelector=self._ours):
            for item in page["items"]:
                run = request_in(item)
                if run is not None:
                    found[run.run_id] = run
        return found

    async def start_by(self, run_id: str) -> float | None:
        """When a run's pods must have begun, in Unix seconds; None when its Secret is gone."""
        try:
            item = await self.client.get(f"{self._secrets}/{name_of(run_id)}")
        except NotThereError:
            return None
        return _start_by(item)

    async def end(self, run: RunRequest, ranks: set[int] | None, grace_s: float) -> int:
        """Delete Jobs, so that no pod is made again, and pods with their grace, of all workers or of some; how many pods are there yet.

        Called again with a shorter grace, that counts; 0 takes a pod off the books whatever its node does.
        """
        for collection in self._makers:
            async for page in self.client.pages(collection, labelSelector=_selector(run.run_id)):
                for job in page["items"]:
                    if ranks is None or rank_of(job) in (*ranks, None):
                        await self._delete(collection, job)
        left = 0
        async for page in self.client.pages(self._pods, labelSelector=_selector(run.run_id)):
            for pod in page["items"]:
                if ranks is None or rank_of(pod) in ranks:
                    left += 1
                    await self._delete(self._pods, pod, grace_s=round(grace_s))
        return left

    async def remove(self, run_id: str) -> None:
        """Delete all of a run's objects. The Secret goes first: then Kubernetes takes the rest, whatever becomes of us."""
        name = name_of(run_id)
        await self.client.delete(f"{self._secrets}/{name}")
        await self.client.delete(f"{self._services}/{name}")
        for collection in (*self._makers, self._pods):
            async for page in self.client.pages(collection, labelSelector=_selector(run_id)):
                for item in page["items"]:
                    await self._delete(collection, item)

    async def remove_orphans(self, runs: set[str]) -> None:
        """Delete Jobs, pods and Services of this member whose run, by its label, is none of these: nobody follows them."""
        for collection in (*self._makers, self._services, self._pods):
            async for page in self.client.pages(collection, labelSelector=self._ours):
                for item in page["items"]:
                    if item["metadata"]["labels"].get(RUN_LABEL) not in runs:
                        log.warning("%s belongs to no run that is known here; it is removed", item["metadata"]["name"])
                        await self._delete(collection, item)

    async def _owner(self, run: RunRequest, place: Place) -> Document:
        """The run's Secret. One from a start that came to nothing is made anew, for pods go by the time that it tells."""
        path = f"{self._secrets}/{name_of(run.run_id)}"
        await put_files(run)
        try:
            return await self.client.create(self._secrets, secret_of(run, self.settings, place))
        except AlreadyThereError:
            found = await self.client.get(path)
        kept = request_in(found)
        if kept is None or kept.run_id != run.run_id:
            raise AlreadyThereError(f"the Secret {name_of(run.run_id)} in {self.settings.namespace} is not of run {run.run_id}")
        if _start_by(found) > place.start_by - self.start_limit_s / 2 or await self.is_there(run.run_id):
            return found
        await self.client.delete(path, uid=found["metadata"]["uid"])
        return await self.client.create(self._secrets, secret_of(run, self.settings, place))

    async def _delete(self, collection: str, item: Document, *, grace_s: int | None = None) -> None:
        metadata = item["metadata"]
        with contextlib.suppress(ConflictError):  # another one has its name by now
            await self.client.delete(f"{collection}/{metadata['name']}", uid=metadata["uid"], grace_s=grace_s)

    async def _place(self, collection: str, item: Document) -> Document:
        """Make what makes pods. One that waits in a queue is made once: to apply it again would suspend it again."""
        if not self.settings.local_queue:
            return await self._apply(collection, item)
        try:
            return await self.client.create(collection, kueue.queued(item, self.settings.local_queue))
        except AlreadyThereError:
            return item

    async def _serves(self, api: str, plural: str) -> bool:
        try:
            served = await self.client.get(api)
        except NotThereError:
            return False
        return any(item.get("name") == plural for item in served.get("resources", ()))

    async def _apply(self, collection: str, item: Document) -> Document:
        return await self.client.apply(f"{collection}/{item['metadata']['name']}", item)

    def _core(self, kind: str) -> str:
        return f"/api/v1/namespaces/{self.settings.namespace}/{kind}"

    @property
    def _ours(self) -> str:
        return f"{CLUSTER_LABEL}={label_of(self.settings.cluster)}"

    @property
    def _secrets(self) -> str:
        return self._core("secrets")

    @property
    def _rayjobs(self) -> str:
        return f"{RAY_API}/namespaces/{self.settings.namespace}/{RAY_JOBS}"

    @property
    def _makers(self) -> tuple[str, ...]:
        """The collections of what makes pods."""
        return (self._jobs, self._rayjobs) if self.has_rayjobs else (self._jobs,)

    @property
    def _services(self) -> str:
        return self._core("services")

    @property
    def _pods(self) -> str:
        return self._core("pods")

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.settings.namespace}/jobs"


def request_in(secret: Document) -> RunRequest | None:
    """The run that a Secret of ours is about; None for one that is not as we make them."""
    try:
        return RunRequest.model_validate_json(base64.b64decode(secret["data"][REQUEST]))
    except (KeyError, ValueError):
        return None


def _start_by(secret: Document) -> float:
    return float(json.loads(base64.b64decode(secret["data"][SEATING]))["start_by"])


def _selector(run_id: str) -> str:
    return f"{RUN_LABEL}={label_of(run_id)}"
