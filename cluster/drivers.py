"""How an agent drives its cluster, and what a cluster that has no driver of ours cannot run.

`actors`: through Ray's driver and actors of ours, with everything. `job-api`: over HTTP through Ray's Job API, where Ray or Python differ
from the agent's, where the agent is on no node of the cluster, or where the operator wants it; that is less. `pods`: on Kubernetes, where
Jobs and their pods are all that there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.spec import JobSpec

Way = Literal["actors", "job-api", "pods"]
Asked = Literal["auto", "actors", "job-api"]
JOB_API_RUNS = (
    "jobs of kind command with one worker, whole accelerators and no inputs; "
    "it brings no result files and no progress, the log some half seconds late, and gives 2 s of grace"
)
PODS_RUN = "jobs of kind sql by DuckDB, command, training, and ray where it has KubeRay; with whole accelerators"
RUNS_ONLY: Mapping[Way, str] = {"actors": "", "job-api": JOB_API_RUNS, "pods": PODS_RUN}


class Driver(BaseModel):
    """How a member is driven. `why` says what speaks against actors of ours; empty for these. `namespace`: of its pods on Kubernetes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: Way = "actors"
    why: str = Field(default="", max_length=500)
    namespace: str = Field(default="", max_length=63, exclude_if=lambda value: not value)


ACTORS, BY_PODS = Driver(), Driver(way="pods")


def not_by(driver: Driver, spec: JobSpec) -> tuple[str, str] | None:
    """What a member that is driven so cannot do for a job, in words, and what would change it; None where it can run it."""
    if driver.way == "actors":
        return None
    missing = _not_by_pods(spec) if driver.way == "pods" else _not_by_job_api(spec)
    if not missing:
        return None
    if driver.way == "pods":
        return f"the cluster runs pods of Kubernetes, which cannot run {missing}", f"it runs {PODS_RUN}; choose a cluster of backend ray"
    message = f"the cluster is driven by Ray's Job API ({driver.why}), which cannot run {missing}"
    return message, f"it runs {JOB_API_RUNS}; run the agent on a node, with the cluster's own Ray and Python, for all others"


def _not_by_job_api(spec: JobSpec) -> str:
    if spec.kind != "command":
        return f"a job of kind {spec.kind}"
    if spec.resources.most > 1:
        return "a gang"
    return "a job with inputs" if spec.inputs else _share(spec)


def _not_by_pods(spec: JobSpec) -> str:
    if spec.kind == "map":
        return "a job of kind map"
    return "a statement for Daft" if spec.engine == "daft" else _share(spec)


def _share(spec: JobSpec) -> str:
    accelerator = spec.resources.accelerator
    return "a share of an accelerator" if accelerator is not None and accelerator.amount % 1 else ""
