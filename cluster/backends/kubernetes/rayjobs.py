"""A run of kind ray as a RayJob of KubeRay (ray.io/v1): a Ray of its own, as large as the run, for as long as the run.

Its nodes are the workers that were placed: the head is the first one, on its node; for the others there is a group on each node. What the
operator submits there is this package's own supervisor (pod_main.py), which starts the user's program, tells of it by records, and ends
it. These come out of the pod that submits: `ray job submit` prints what its job does. So that pod bears the labels of the run's one
worker, and everything else is as for a Job. Pure: requests in, documents out, and what a RayJob's status means.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cluster.backends.kubernetes.objects import (
    CONTAINER,
    RANK_LABEL,
    REQUEST_FOLDER,
    Place,
    RunSettings,
    deadline_of,
    metadata_of,
    name_of,
    pod_on,
    worker_container,
)
from cluster.backends.kubernetes.pod_main import RANK_VARIABLE
from cluster.errors import RunRejectedError
from cluster.protocol import RunRequest

Document = dict[str, Any]
GROUP, VERSION, KIND, PLURAL = "ray.io", "v1", "RayJob", "rayjobs"
API = f"/apis/{GROUP}/{VERSION}"
# The pod that submits: Ray's command line alone, which waits.
SUBMITTER = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
# KubeRay's words for a RayJob that will not come to an end by itself any more.
OVER = frozenset({"Failed", "ValidationFailed"})
_MOST_LETTERS = 1000


@dataclass(frozen=True)
class RayJobFacts:
    """What KubeRay says of a RayJob: `over`, it will not start any more; `waits`, why it has not begun yet, in its words."""

    over: bool
    suspended: bool
    waits: str


def check_ray_run(run: RunRequest) -> None:
    """Raises RunRejectedError for a run of kind ray that a RayJob cannot be."""
    if not run.command:
        raise RunRejectedError(f"run {run.run_id} is of kind ray and has no command")
    if run.cpu % 1:
        raise RunRejectedError(
            f"run {run.run_id} asks for {run.cpu:g} cores, and nodes of Ray on Kubernetes have whole ones; ask for cpu: 1"
        )
    if run.runtime_env and run.runtime_env.pip:
        raise RunRejectedError(
            f"run {run.run_id} brings packages (runtime_env.pip), and nodes of Ray on Kubernetes have those of the cluster's image alone; "
            "leave it out, and ask the operator for an image that has them"
        )


def rayjob_of(run: RunRequest, settings: RunSettings, place: Place, owner: Document) -> Document:
    """The RayJob of a run of kind ray. Nothing is tried again: that is decided where all clusters are known."""
    metadata = metadata_of(run, settings, name_of(run.run_id), owner)
    metadata["labels"] = metadata["labels"] | {RANK_LABEL: "0"}
    return {
        "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata,
        "spec": {
            "entrypoint": f"env {RANK_VARIABLE}=0 python -P -m cluster.backends.kubernetes.pod_main {REQUEST_FOLDER}",
            "submissionMode": "K8sJobMode",
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline_of(run, place),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "submitterConfig": {"backoffLimit": 0},
            "submitterPodTemplate": _submitter(run, settings, metadata),
            "rayClusterSpec": {
                "rayVersion": importlib.metadata.version("ray"),
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", **_start(run)},
                    "template": _node(run, settings, place, run.nodes[0], head=True),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": f"group-{number}", "replicas": count, "minReplicas": count, "maxReplicas": count,
                        "rayStartParams": _start(run), "template": _node(run, settings, place, node, head=False),
                    }
                    for number, (node, count) in enumerate(sorted(Counter(run.nodes[1:]).items()))
                ],
            },
        },
    }  # fmt: skip


def read_rayjob(item: Document) -> RayJobFacts:
    """What the status of a RayJob says. KubeRay is older or newer than what is known here: an unknown word is told as it is."""
    status, spec = item.get("status", {}), item.get("spec", {})
    state, words = str(status.get("jobDeploymentStatus", "")), str(status.get("message") or status.get("reason") or "")
    suspended = bool(spec.get("suspend")) or state in ("Suspending", "Suspended")
    text = ": ".join(filter(None, (state or "KubeRay has not looked at it yet", words)))
    return RayJobFacts(
        over=state in OVER or status.get("jobStatus") in ("FAILED", "STOPPED"), suspended=suspended, waits=text[:_MOST_LETTERS]
    )


def _start(run: RunRequest) -> dict[str, str]:
    """What a node of Ray has, as `ray start` takes it. Accelerators are known from the container's own limits."""
    return {"num-cpus": str(int(run.cpu)), "memory": str(run.memory_bytes)}


def _node(run: RunRequest, settings: RunSettings, place: Place, node: str, *, head: bool) -> Document:
    """The pod of one node of Ray. Only the head has the request, for the program runs there."""
    alone = run.model_copy(update={"nodes": (node,)})
    container = worker_container(alone, settings, place, None)
    # KubeRay gives it its command, which starts Ray.
    del container["command"]
    spec = pod_on([node], run, settings, container)
    if not head:
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "run"]
        container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "run"]
    container["name"] = "ray-head" if head else "ray-worker"
    # KubeRay restarts nodes of Ray that end; it does not take pods that never restart.
    del spec["restartPolicy"]
    metadata = metadata_of(run, settings, name_of(run.run_id))
    return {"metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]}, "spec": spec}


def _submitter(run: RunRequest, settings: RunSettings, metadata: Document) -> Document:
    """The pod whose log is heard. KubeRay gives it its command."""
    container: Document = {
        "name": CONTAINER, "image": settings.image, "resources": SUBMITTER,
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }  # fmt: skip
    spec = pod_on([run.nodes[0]], run, settings, container)
    spec["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    return {"metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]}, "spec": spec}
