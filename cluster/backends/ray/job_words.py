"""A run as a job of Ray's Job API: what is submitted for it, and what its log says.

A job's name is made of the run's id alone, so it is found again by whoever looks. Its metadata hold the request without what only the
node needs, so that a later agent knows the run's epoch. The log has Ray's own lines first, then ours (see `job_entry.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.backends.ray import job_entry
from cluster.backends.ray.job_api import document
from cluster.protocol import RunRequest
from cluster.runs import bounds
from cluster.runs.limits import OPEN_FILES, most_tasks
from workloads.runners.process import PASSED_ON, PASSED_ON_PREFIX, thread_variables

PREFIX = "cpn-run-"
MOST_LOG = 1024**2
KEPT = "cpn_run"
_ENTRY = "cpn_entry.py"
_PROGRAMS: Mapping[str, Any] = {_ENTRY: job_entry, "cpn_bounds.py": bounds}
_LOCALE = tuple(f"{PASSED_ON_PREFIX}{name}" for name in ("ALL", "CTYPE", "MESSAGES", "NUMERIC", "TIME"))
# Python 3.8 and later answers to it on every node that runs Ray.
ENTRYPOINT = f"python3 {_ENTRY}"


def job_name(run_id: str) -> str:
    """The submission id of a run."""
    return PREFIX + run_id


def mark_of(run: RunRequest) -> str:
    """What our lines in a run's log begin with: the same for every agent, and unlike what a command prints."""
    return hashlib.sha256(f"{run.run_id} {run.epoch}".encode()).hexdigest()[:16]


def files_of(run: RunRequest, start_by: float) -> dict[str, str]:
    """What lies beside the entry program; it starts nothing after `start_by`, by the node's clock."""
    programs = {name: Path(module.__file__).read_text(encoding="utf-8") for name, module in _PROGRAMS.items()}
    identity = {
        "CPN_JOB_ID": run.job_id, "CPN_RUN_ID": run.run_id, "CPN_ATTEMPT": str(run.attempt), "CPN_RANK": "0", "RANK": "0",
        "CPN_WORLD_SIZE": "1", "WORLD_SIZE": "1",
    }  # fmt: skip
    described = {
        "run_id": run.run_id, "mark": mark_of(run), "command": list(run.command), "files": run.files, "start_by": start_by,
        "environment": {"PYTHONUNBUFFERED": "1", **thread_variables(run.cpu), **run.env, **identity},
        "passed_on": sorted({*PASSED_ON, *_LOCALE}),
        "max_runtime_s": run.max_runtime_s, "grace_s": 5.0, "most_log": MOST_LOG,
        "limits": {"memory_bytes": run.memory_bytes, "tasks": most_tasks(run.cpu), "open_files": OPEN_FILES},
    }  # fmt: skip
    return {**programs, job_entry.RUN_FILE: document(described)}


def place_of(run: RunRequest, node: Mapping[str, Any], shares_address: bool) -> dict[str, Any]:
    """The fields of a submission that bind it to its node and its resources.

    Each node has a resource by its address; where several have the same one, its id is named too, which older Rays do not know.
    """
    fields: dict[str, Any] = {
        "entrypoint_num_cpus": run.cpu, "entrypoint_memory": run.memory_bytes, "entrypoint_num_gpus": run.accelerator_count,
        "entrypoint_resources": {f"node:{node['NodeManagerAddress']}": 0.001},
    }  # fmt: skip
    if shares_address:
        fields["entrypoint_label_selector"] = {"ray.io/node-id": node["NodeID"]}
    return {name: value for name, value in fields.items() if value}


def kept_of(run: RunRequest) -> dict[str, str]:
    """The metadata of a run's job."""
    return {KEPT: run.model_copy(update={"files": {}, "env": {}}).model_dump_json()}


def run_of(metadata: Mapping[str, str] | None) -> RunRequest | None:
    """The run that a job was submitted for; None for a job that is not ours."""
    try:
        return RunRequest.model_validate_json((metadata or {})[KEPT])
    except (KeyError, ValidationError):
        return None


@dataclass(frozen=True)
class JobLog:
    """A run's log apart from what is between its lines: when it began, its own text, and how it ended, as far as it has come."""

    began: float | None
    text: str
    ended: Mapping[str, Any] | None


def read_log(whole: str, mark: str) -> JobLog:
    """The parts of a job's log. What broke off in the middle of a line of ours is not read yet."""
    sign = f"{job_entry.SEPARATOR}{mark} "
    begins = whole.find(sign)
    if begins < 0:
        return JobLog(None, "", None)
    first, after = _fields(whole, begins + len(sign))
    if first is None:
        return JobLog(None, "", None)
    if "ended" in first:
        return JobLog(None, "", first)
    ends = whole.find(sign, after)
    if ends < 0:
        return JobLog(first["began"], _surely_text(whole[after:], sign), None)
    last, _ = _fields(whole, ends + len(sign))
    return JobLog(first["began"], whole[after:ends], last)


def _surely_text(text: str, sign: str) -> str:
    """Without what may be the beginning of a sign, or of a character."""
    begun = next((length for length in range(len(sign) - 1, 0, -1) if text.endswith(sign[:length])), 0)
    return text[: len(text) - begun].rstrip("\ufffd")


def _fields(whole: str, at: int) -> tuple[dict[str, Any] | None, int]:
    end = whole.find("\n", at)
    if end < 0:
        return None, at
    try:
        found = json.loads(whole[at:end])
    except ValueError:
        return None, end + 1
    return (found if isinstance(found, dict) else None), end + 1
