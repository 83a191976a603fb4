"""How an agent drives its cluster, and what a cluster that has no driver of ours cannot run.

`actors`: through Ray's driver and actors of ours, with everything. `job-api`: over HTTP through Ray's Job API, where Ray or Python differ
from the agent's, where the agent is on no node of the cluster, or where the operator wants it; that is less.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.spec import JobSpec

Way = Literal["actors", "job-api"]
Asked = Literal["auto", "actors", "job-api"]
JOB_API_RUNS = (
    "jobs of kind command with one worker, whole accelerators and no inputs; "
    "it brings no result files and no progress, the log some half seconds late, and gives 2 s of grace"
)


class Driver(BaseModel):
    """How a member is driven. `why` says what speaks against actors of ours; empty for these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: Way = "actors"
    why: str = Field(default="", max_length=500)


ACTORS = Driver()


def not_by(driver: Driver, spec: JobSpec) -> tuple[str, str] | None:
    """What a member that is driven so cannot do for a job, in words, and what would change it; None where it can run it."""
    if driver.way == "actors":
        return None
    resources, missing = spec.resources, ""
    if spec.kind != "command":
        missing = f"a job of kind {spec.kind}"
    elif resources.most > 1:
        missing = "a gang"
    elif spec.inputs:
        missing = "a job with inputs"
    elif resources.accelerator is not None and resources.accelerator.amount % 1:
        missing = "a share of an accelerator"
    if not missing:
        return None
    message = f"the cluster is driven by Ray's Job API ({driver.why}), which cannot run {missing}"
    return message, f"it runs {JOB_API_RUNS}; run the agent on a node, with the cluster's own Ray and Python, for all others"
