"""KubeRay as far as runs meet it: its RayJob, with the fields that are used here, and a stand-in for its operator.

The operator itself cannot be had where the tests run. The kind's schema is written from its published fields (ray.io/v1): what is not
in it is pruned, so a field of another name would be seen. The stand-in makes the pod that submits, as the operator does, but what this
submits it runs itself: there is no Ray. It reports as the operator does.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.kube.applying import applied
from tests.kube.control_plane import Kubernetes
from tests.network import until

Object = dict[str, Any]
API, WAIT_S, LOOK_S = "/apis/ray.io/v1", 60.0, 0.05
MERGE = {"Content-Type": "application/merge-patch+json"}
TEXT, NUMBER, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
# A pod template's own fields are many, and another kind's.
TEMPLATE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _fields(required: tuple[str, ...] = (), **properties: Any) -> Object:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


HEAD = _fields(("template",), rayStartParams=TEXTS, template=TEMPLATE)
WORKERS = _fields(
    ("groupName", "maxReplicas", "minReplicas", "template"),
    groupName=TEXT, replicas=NUMBER, minReplicas=NUMBER, maxReplicas=NUMBER, rayStartParams=TEXTS, template=TEMPLATE,
)  # fmt: skip
RAY = _fields(("headGroupSpec",), rayVersion=TEXT, headGroupSpec=HEAD, workerGroupSpecs={"type": "array", "items": WORKERS})
SPEC = _fields(
    entrypoint=TEXT, submissionMode={**TEXT, "enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]}, backoffLimit=NUMBER,
    activeDeadlineSeconds=NUMBER, shutdownAfterJobFinishes=TRUTH, ttlSecondsAfterFinished=NUMBER, suspend=TRUTH,
    submitterConfig=_fields(backoffLimit=NUMBER), submitterPodTemplate=TEMPLATE, rayClusterSpec=RAY,
)  # fmt: skip
STATUS = _fields(jobDeploymentStatus=TEXT, jobStatus=TEXT, message=TEXT, reason=TEXT)
RAYJOBS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "rayjobs.ray.io"},
    "spec": {
        "group": "ray.io", "scope": "Namespaced",
        "names": {"kind": "RayJob", "plural": "rayjobs", "singular": "rayjob", "listKind": "RayJobList"},
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": _fields(spec=SPEC, status=STATUS)},
        }],
    },
}  # fmt: skip
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayjobs.ray.io"


def install(servers: Kubernetes) -> None:
    """Bring the kind; returns when it is served."""
    with servers.client() as api:
        applied(api, RAYJOBS)
        until(lambda: api.get(f"{API}/rayjobs").is_success, "RayJobs are served", WAIT_S)


def uninstall(servers: Kubernetes) -> None:
    """Take the kind away; returns when it is served no more."""
    with servers.client() as api:
        api.delete(DEFINITION)
        until(lambda: api.get(API).status_code == httpx.codes.NOT_FOUND, "RayJobs are gone", WAIT_S)


class KubeRay:
    """The stand-in for the operator, in one namespace. RayJobs that are suspended, and those that `refuses` names a reason for, wait."""

    def __init__(self, servers: Kubernetes, space: str, refuses: str = "") -> None:
        self._servers, self._space, self._refuses = servers, space, refuses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kuberay", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to look at RayJobs."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Raises what broke it, if something did."""
        self._stop.set()
        self._thread.join(WAIT_S)
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            with self._servers.client() as api:
                while not self._stop.wait(LOOK_S):
                    items = api.get(f"{API}/namespaces/{self._space}/rayjobs").json().get("items", [])
                    self._sweep(api, {item["metadata"]["uid"] for item in items})
                    for item in items:
                        self._reconcile(api, item)
        except BaseException as error:
            self._failure = error
            raise

    def _sweep(self, api: httpx.Client, there: set[str]) -> None:
        """Delete the Jobs of RayJobs that are gone. Kubernetes does so itself, once it has known the kind for half a minute."""
        path = f"/apis/batch/v1/namespaces/{self._space}/jobs"
        for job in api.get(path).json()["items"]:
            owners = job["metadata"].get("ownerReferences", [])
            if any(owner["kind"] == "RayJob" and owner["uid"] not in there for owner in owners):
                api.delete(f"{path}/{job['metadata']['name']}", params={"propagationPolicy": "Background"})

    def _reconcile(self, api: httpx.Client, item: Object) -> None:
        name, state = item["metadata"]["name"], item.get("status", {}).get("jobDeploymentStatus", "")
        if item["spec"].get("suspend"):
            return self._tell(api, name, state, jobDeploymentStatus="Suspended")
        if self._refuses:
            return self._tell(api, name, state, jobDeploymentStatus="Failed", reason="ValidationFailed", message=self._refuses)
        path = f"/apis/batch/v1/namespaces/{self._space}/jobs"
        found = api.get(f"{path}/{name}")
        if found.status_code == httpx.codes.NOT_FOUND:
            self._tell(api, name, state, jobDeploymentStatus="Initializing")
            api.post(path, json=submitter_of(item))
            return None
        ended = found.json()["status"]
        if ended.get("succeeded") or ended.get("failed"):
            words = ("Complete", "SUCCEEDED") if ended.get("succeeded") else ("Failed", "FAILED")
            return self._tell(api, name, state, jobDeploymentStatus=words[0], jobStatus=words[1])
        return self._tell(api, name, state, jobDeploymentStatus="Running", jobStatus="RUNNING")

    def _tell(self, api: httpx.Client, name: str, before: str, **status: str) -> None:
        if status["jobDeploymentStatus"] != before:
            api.patch(f"{API}/namespaces/{self._space}/rayjobs/{name}/status", json={"status": status}, headers=MERGE)


def submitter_of(item: Object) -> Object:
    """The Job that submits; it runs the entry point itself, with what the head would have."""
    template = item["spec"]["submitterPodTemplate"]
    head = item["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (container,), (main,) = template["spec"]["containers"], head["containers"]
    assert "command" not in container, "the operator gives the command"
    container |= {"command": shlex.split(item["spec"]["entrypoint"]), "volumeMounts": main["volumeMounts"]}
    container["env"] = [*main["env"], {"name": "RAY_ADDRESS", "value": "10.0.0.1:6379"}]
    template["spec"]["volumes"] = head["volumes"]
    metadata = item["metadata"]
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "ownerReferences": [owner]},
        "spec": {"backoffLimit": item["spec"]["submitterConfig"]["backoffLimit"], "template": template},
    }  # fmt: skip


@contextmanager
def running_kuberay(servers: Kubernetes, space: str, refuses: str = "") -> Iterator[KubeRay]:
    """The operator's stand-in, until the context ends."""
    operator = KubeRay(servers, space, refuses)
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()
