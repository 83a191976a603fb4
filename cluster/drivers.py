"""How an agent drives its cluster, and what a cluster that has no driver of ours cannot run.

`actors`: through Ray's driver and actors of ours, with everything. `job-api`: over HTTP through Ray's Job API, where Ray or Python differ
from the agent's, where the agent is on no node of the cluster, or where the operator wants it; that is less. `pods`: on Kubernetes, where
Jobs and their pods are all that there is, and where the agent tells what the cluster lacks at the moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.sizes import size
from workloads.spec import JobSpec

Way = Literal["actors", "job-api", "pods"]
Asked = Literal["auto", "actors", "job-api"]
JOB_API_RUNS = (
    "jobs of kind command with one worker, whole accelerators and no inputs; "
    "it brings no result files and no progress, the log some half seconds late, and gives 2 s of grace"
)
PODS_RUN = "jobs of kind sql by DuckDB, command, training, and ray where it has KubeRay; with whole accelerators"
RUNS_ONLY: Mapping[Way, str] = {"actors": "", "job-api": JOB_API_RUNS, "pods": PODS_RUN}


class Lack(StrEnum):
    """What a Kubernetes cluster may have and does not, in the order in which it is told."""

    KUBERAY = "kuberay"
    RAY_RIGHT = "ray_right"
    KUEUE = "kueue"
    SUSPENSION = "suspension"


# What is missing, in words with the name of the queue, and what would change it.
LACKS: Mapping[Lack, tuple[str, str]] = {
    Lack.KUBERAY: (
        "the cluster has no RayJob (ray.io/v1), by which Kubernetes members run kind ray",
        "ask its operator for KubeRay 1.0 or later, or choose another cluster",
    ),
    Lack.RAY_RIGHT: (
        "this agent has no right to the cluster's RayJobs, by which Kubernetes members run kind ray",
        "ask its operator to give it the rights of cpn's manifest, or choose another cluster",
    ),
    Lack.KUEUE: (
        "its runs are to wait in the LocalQueue {queue}, and the cluster has no Kueue (kueue.x-k8s.io/v1beta1)",
        "ask its operator for Kueue, or to name no queue, or choose another cluster",
    ),
    Lack.SUSPENSION: (
        "its runs are to wait in the LocalQueue {queue}, and this API server cannot suspend Jobs, so they would start past it",
        "ask its operator for a newer Kubernetes (1.24 can), or to name no queue, or choose another cluster",
    ),
}


class Driver(BaseModel):
    """How a member is driven. `why` says what speaks against actors of ours; empty for these.

    On Kubernetes: `namespace` of its pods, `queue` (a LocalQueue of Kueue) in which they wait, what it `lacks`, and how much a job may
    bring as files, environment, statement and command; 0: as much as it likes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: Way = "actors"
    why: str = Field(default="", max_length=500)
    namespace: str = Field(default="", max_length=63, exclude_if=lambda value: not value)
    queue: str = Field(default="", max_length=253, exclude_if=lambda value: not value)
    lacks: tuple[Lack, ...] = Field(default=(), max_length=len(Lack), exclude_if=lambda value: not value)
    most_code_bytes: int = Field(default=0, ge=0, exclude_if=lambda value: not value)


ACTORS, BY_PODS = Driver(), Driver(way="pods")


def not_by(driver: Driver, spec: JobSpec, *, has_store: bool = False) -> tuple[str, str] | None:
    """What a member that is driven so cannot do for a job, in words, and what would change it; None where it can run it. `has_store`: it
    was given a store, by which pods get files of any size."""
    if driver.way == "actors":
        return None
    if driver.way == "pods":
        return _not_by_pods(driver, spec, has_store=has_store)
    missing = _not_by_job_api(spec)
    if not missing:
        return None
    message = f"the cluster is driven by Ray's Job API ({driver.why}), which cannot run {missing}"
    return message, f"it runs {JOB_API_RUNS}; run the agent on a node, with the cluster's own Ray and Python, for all others"


def is_needed(lack: Lack, kind: str) -> bool:
    """Whether runs of this kind need what is lacking."""
    return lack is Lack.KUEUE or (kind == "ray") == (lack in (Lack.KUBERAY, Lack.RAY_RIGHT))


def lack_words(lack: Lack, queue: str) -> tuple[str, str]:
    """What is missing, and what would change it."""
    words, remedy = LACKS[lack]
    return words.format(queue=queue), remedy


def code_bytes(spec: JobSpec) -> int:
    """How much a job brings with it, as it is written for its cluster."""
    return len(json.dumps([dict(spec.files), dict(spec.env), spec.sql, spec.command], ensure_ascii=False, separators=(",", ":")).encode())


def _not_by_job_api(spec: JobSpec) -> str:
    if spec.kind != "command":
        return f"a job of kind {spec.kind}"
    if spec.resources.most > 1:
        return "a gang"
    return "a job with inputs" if spec.inputs else _share(spec)


def _not_by_pods(driver: Driver, spec: JobSpec, *, has_store: bool) -> tuple[str, str] | None:
    if found := _never_by_pods(spec):
        missing, remedy = found
        return f"the cluster runs pods of Kubernetes, which cannot run {missing}", f"{remedy}, or choose a cluster of backend ray"
    lack = next((lack for lack in driver.lacks if is_needed(lack, spec.kind)), None)
    if lack is not None:
        return lack_words(lack, driver.queue)
    carried = spec.model_copy(update={"files": {}}) if has_store else spec
    if driver.most_code_bytes and (bytes_ := code_bytes(carried)) > driver.most_code_bytes:
        message = f"the job brings {size(bytes_)} of files, environment and statement, and the cluster takes {size(driver.most_code_bytes)}"
        return (
            message,
            "bring files in the image or as a product, choose another cluster, or ask its operator to give it a store (--result-store)",
        )
    return None


def _never_by_pods(spec: JobSpec) -> tuple[str, str] | None:
    """What no Kubernetes member runs, and what would change it."""
    if spec.kind == "map":
        return "a job of kind map", "write the function as a program of kind command"
    if spec.is_for_daft:
        return "a statement for Daft", "leave out engine and resources.workers, by which DuckDB runs it"
    if _share(spec):
        return _share(spec), "ask for whole accelerators (count: 1)"
    if spec.kind == "ray" and spec.resources.cpu % 1:
        return f"a node of Ray with {spec.resources.cpu:g} cores", "ask for whole cores (resources.cpu: 1)"
    if spec.runtime_env is not None and spec.runtime_env.pip:
        remedy = "leave runtime_env.pip out and ask its operator for an image that has the packages"
        return "a job of kind ray that brings packages (runtime_env.pip)", remedy
    return None


def _share(spec: JobSpec) -> str:
    accelerator = spec.resources.accelerator
    return "a share of an accelerator" if accelerator is not None and accelerator.amount % 1 else ""
