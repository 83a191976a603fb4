"""A run as Kubernetes objects: a Secret, one Job or several, and for a gang the Service by which its workers find rank 0.

All names come from the run's id, so whoever makes them twice finds them. The Secret has the whole request, for an agent that knows
nothing of the run, and owns the others: when it goes, Kubernetes takes them with it. A gang is one Indexed Job where that can say where
its workers belong: one Job has one template, so either all of them share a node, or each has one of its own. Else each worker has a Job.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cluster.backends.kubernetes.claims import data_of
from cluster.backends.kubernetes.pod_main import HOST_VARIABLE, RANK_VARIABLE, REQUEST, SEATING
from cluster.data_claims import Claim
from cluster.deposits import PATIENCE_S
from cluster.errors import RunRejectedError
from cluster.kube_names import JOB_LABEL, PREFIX
from cluster.kube_names import name_of as name_of
from cluster.protocol import RunRequest
from cluster.runs.packages import package_of, packed

Document = dict[str, Any]
CLUSTER_LABEL, RUN_LABEL, RANK_LABEL = (f"{PREFIX}{word}" for word in ("cluster", "run", "rank"))
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
RUN_ANNOTATION = f"{PREFIX}run-id"
CONTAINER = "worker"
REQUEST_FOLDER, WORK_FOLDER = "/cpn/run", "/cpn/work"
# A Secret holds 1 MiB as base64 and all.
MOST_REQUEST_BYTES = 700_000
# What the supervisor beside the user's process takes, over what the job asked for.
OWN_MEMORY_BYTES = 256 * 1024 * 1024
DEADLINE_MARGIN_S = 120
_FIRST_PORT, _PORTS = 20_000, 10_000
_LABEL = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True)
class RunSettings:
    """How runs look on one cluster, as its operator registered it. `cluster` is the member's name, by which its objects are told apart.

    `tolerations` are Kubernetes' own documents; empty words leave the cluster's default. `local_queue`: that of Kueue where runs wait.
    `data_claims`: where replicas lie on volumes.
    """

    cluster: str
    namespace: str
    image: str
    priority_class: str = ""
    service_account: str = ""
    pull_secret: str = ""
    tolerations: tuple[Document, ...] = ()
    local_queue: str = ""
    data_claims: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class Place:
    """What makes a run's objects beside its request. `accelerator` is the resource's name at its nodes, `start_by` in Unix seconds,
    `start_limit_s` how long its pods may wait for that."""

    token: str
    start_by: float
    start_limit_s: float
    accelerator: str = ""


def label_of(text: str) -> str:
    """A text as the value of a label: itself where that is allowed."""
    return text if _LABEL.match(text) else f"h-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def labels_of(run: RunRequest, settings: RunSettings) -> dict[str, str]:
    """The labels of all of a run's objects."""
    return {
        "app.kubernetes.io/managed-by": "cpn", CLUSTER_LABEL: label_of(settings.cluster), JOB_LABEL: label_of(run.job_id),
        RUN_LABEL: label_of(run.run_id), f"{PREFIX}attempt": str(run.attempt), f"{PREFIX}kind": run.kind,
    }  # fmt: skip


def rank_of(item: Document) -> int | None:
    """Which worker a Job or pod of ours is, or is for; None when it is for all."""
    metadata = item["metadata"]
    text = metadata.get("labels", {}).get(RANK_LABEL) or metadata.get("annotations", {}).get(INDEX_ANNOTATION, "")
    return int(text) if text.isdigit() else None


def host_of(run: RunRequest, settings: RunSettings) -> str:
    """Where the workers of a gang find rank 0, within the cluster."""
    name = name_of(run.run_id)
    return f"{name}-0.{name}.{settings.namespace}.svc"


def port_of(run_id: str) -> int:
    """Where rank 0 listens for the gang to gather."""
    return _FIRST_PORT + zlib.crc32(run_id.encode()) % _PORTS


def secret_of(run: RunRequest, settings: RunSettings, place: Place) -> Document:
    """The request and what pods need to begin. Raises RunRejectedError when it is too large."""
    seating = {"port": port_of(run.run_id), "token": place.token, "start_by": place.start_by}
    request = as_stored(run).model_dump_json()
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata_of(run, settings, name_of(run.run_id)),
        "type": "Opaque", "immutable": True, "stringData": {REQUEST: request, SEATING: json.dumps(seating)},
    }  # fmt: skip


def as_stored(run: RunRequest) -> RunRequest:
    """The request as the run's Secret has it: without its files, where these lie in a store instead. Raises RunRejectedError."""
    size = _size(run)
    if size <= MOST_REQUEST_BYTES:
        return run
    less = run.model_copy(update={"files": {}, "package": package_of(packed(run.files))})
    if _size(less) > MOST_REQUEST_BYTES:
        raise RunRejectedError(
            f"run {run.run_id} has {_size(less)} bytes of environment and statement, and a Kubernetes cluster takes {MOST_REQUEST_BYTES}; "
            "bring data as a product"
        )
    if run.deposit is None:
        raise RunRejectedError(
            f"run {run.run_id} has {size} bytes of files, environment and statement, and a Kubernetes cluster takes "
            f"{MOST_REQUEST_BYTES}; bring files in an image or as a product, or have the operator name a store for what is larger "
            "(cpn cluster change CLUSTER --result-store s3://…)"
        )
    return less


def _size(run: RunRequest) -> int:
    return len(run.model_dump_json().encode())


def service_of(run: RunRequest, settings: RunSettings, owner: Document) -> Document:
    """The headless Service of a gang; it names pods before they are ready, for they have to gather first."""
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": metadata_of(run, settings, name_of(run.run_id), owner),
        "spec": {
            "clusterIP": "None", "publishNotReadyAddresses": True, "selector": {RUN_LABEL: label_of(run.run_id)},
            "ports": [{"name": "gather", "port": port_of(run.run_id), "protocol": "TCP"}],
        },
    }  # fmt: skip


def fits_one_template(nodes: tuple[str, ...]) -> bool:
    """Whether one Job's template says where each worker belongs."""
    counts = Counter(nodes)
    return len(counts) == 1 or set(counts.values()) == {1}


def jobs_of(run: RunRequest, settings: RunSettings, place: Place, owner: Document, *, indexed: bool) -> list[Document]:
    """The Jobs of a run. `indexed`: the server has Indexed Jobs."""
    name = name_of(run.run_id)
    if len(run.nodes) == 1:
        return [_job(run, settings, place, owner, name, 0)]
    if indexed and fits_one_template(run.nodes):
        return [_job(run, settings, place, owner, name, None)]
    return [_job(run, settings, place, owner, f"{name}-{rank}", rank) for rank in range(len(run.nodes))]


def _job(run: RunRequest, settings: RunSettings, place: Place, owner: Document, name: str, rank: int | None) -> Document:
    """The Job of one worker, or of all with a rank of None."""
    metadata = metadata_of(run, settings, name, owner)
    labels = metadata["labels"] | ({} if rank is None else {RANK_LABEL: str(rank)})
    spec: Document = {
        # What is tried again is decided where all clusters are known.
        "backoffLimit": 0,
        "activeDeadlineSeconds": deadline_of(run, place),
        "template": {"metadata": {"labels": labels, "annotations": metadata["annotations"]}, "spec": _pod(run, settings, place, rank)},
    }
    if rank is None:
        spec |= {"completionMode": "Indexed", "completions": len(run.nodes), "parallelism": len(run.nodes)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**metadata, "labels": labels}, "spec": spec}


def deadline_of(run: RunRequest, place: Place) -> int:
    """After how many seconds Kubernetes ends a run that nobody has ended."""
    putting_s = 0.0 if run.deposit is None else PATIENCE_S
    return int(place.start_limit_s + run.max_runtime_s + putting_s) + DEADLINE_MARGIN_S


def _pod(run: RunRequest, settings: RunSettings, place: Place, rank: int | None) -> Document:
    name = name_of(run.run_id)
    nodes = sorted(set(run.nodes)) if rank is None else [run.nodes[rank]]
    spec = pod_on(nodes, run, settings, worker_container(run, settings, place, rank))
    if len(nodes) > 1:
        spec["affinity"]["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {RUN_LABEL: label_of(run.run_id)}}},
        ]}  # fmt: skip
    if len(run.nodes) > 1:
        # Pods of an Indexed Job are named so by Kubernetes.
        spec |= {"subdomain": name} if rank is None else {"subdomain": name, "hostname": f"{name}-{rank}"}
    return spec


def pod_on(nodes: list[str], run: RunRequest, settings: RunSettings, container: Document) -> Document:
    """A pod of a run that may be on these nodes alone, with what its one container mounts."""
    spec: Document = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]} for node in nodes
        ]}}},
        "containers": [container],
        "volumes": [
            {"name": "run", "secret": {"secretName": name_of(run.run_id)}},
            {"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}, *data_of(run, settings.data_claims)[0],
        ],
    }  # fmt: skip
    if settings.tolerations:
        spec["tolerations"] = list(settings.tolerations)
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    if settings.pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.pull_secret}]
    return spec


def worker_container(run: RunRequest, settings: RunSettings, place: Place, rank: int | None) -> Document:
    """The container of one worker, or of all with a rank of None."""
    asked: dict[str, str] = {"cpu": f"{round(run.cpu * 1000)}m"}
    if run.accelerator_count:
        asked[place.accelerator] = str(int(run.accelerator_count))
    environment = [{"name": "CPN_WORK_DIR", "value": WORK_FOLDER}]
    if rank is not None:
        environment.append({"name": RANK_VARIABLE, "value": str(rank)})
    if len(run.nodes) > 1:
        environment.append({"name": HOST_VARIABLE, "value": host_of(run, settings)})
    return {
        "name": CONTAINER, "image": settings.image,
        "command": ["python", "-P", "-m", "cluster.backends.kubernetes.pod_main", REQUEST_FOLDER],
        "env": environment,
        "resources": {
            "requests": {**asked, "memory": str(run.memory_bytes)}, "limits": {**asked, "memory": str(run.memory_bytes + OWN_MEMORY_BYTES)},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "run", "mountPath": REQUEST_FOLDER, "readOnly": True}, {"name": "work", "mountPath": WORK_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"}, *data_of(run, settings.data_claims)[1],
        ],
    }  # fmt: skip


def metadata_of(run: RunRequest, settings: RunSettings, name: str, owner: Document | None = None) -> Document:
    """Name, labels and annotations of an object of a run; Kubernetes removes it with its owner."""
    metadata: Document = {
        "name": name, "namespace": settings.namespace, "labels": labels_of(run, settings), "annotations": {RUN_ANNOTATION: run.run_id},
    }  # fmt: skip
    if owner is not None:
        reference = {"apiVersion": "v1", "kind": "Secret", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        metadata["ownerReferences"] = [reference]
    return metadata
