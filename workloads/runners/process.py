"""What a process of user code is given: its environment and its command line.

The environment starts from a short list of harmless variables, never from all of the agent's: secrets of
the agent, of Ray or of the machine must not reach user code by being forgotten here. The run's own facts
come last, so that a job cannot pass itself off as another.

| variable | value |
|---|---|
| CPN_JOB_ID, CPN_RUN_ID, CPN_ATTEMPT | which job, which run, the number of the attempt from 1 |
| CPN_RANK and RANK, CPN_WORLD_SIZE and WORLD_SIZE | this worker's place in the gang, and its size |
| CPN_INPUTS | a JSON file: alias → {"path": …, "format": …} |
| CPN_INPUT_<ALIAS> | the path of one input, its alias in capitals |
| CPN_OUTPUT_DIR | files written here become the result |
| CPN_PROGRESS_FILE | append JSON lines here to report progress (see workloads.runners.progress) |
| CPN_ACCELERATOR_DEVICES | with accelerators: the numbers of this worker's devices on its node, like 0,1 |
| CPN_ACCELERATOR_SHARE | with a share of an accelerator: which part of the device, like 0.25 |
| OMP_NUM_THREADS and its like | how many cores it has, for libraries that start as many threads; `env` may say otherwise |
| MASTER_ADDR, MASTER_PORT | of a gang: where rank 0 listens for its peers |
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.catalogue.product import Format

# Found in the base environment and passed on: to find programs and libraries, to write text, to see the accelerators assigned.
PASSED_ON = frozenset({
    "PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES",
})  # fmt: skip
PASSED_ON_PREFIX = "LC_"
# How many threads OpenMP and the libraries for it, Rust, Go, joblib and Python itself take unless they are told otherwise.
THREAD_NAMES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS", "GOMAXPROCS", "LOKY_MAX_CPU_COUNT", "PYTHON_CPU_COUNT",
)  # fmt: skip
PYTHON_NAMES = frozenset({"python", "python3"})


@dataclass(frozen=True)
class RunIdentity:
    """Which worker of which run this process is; ranks count from 0. `devices` are its accelerators, `share` its part of one.

    `elastic`: the gang may grow and shrink while it runs; `world_size` is what it was when this process began. `cpu`: cores of this worker.
    """

    job_id: str
    run_id: str
    attempt: int
    rank: int = 0
    world_size: int = 1
    devices: tuple[int, ...] = ()
    share: float | None = None
    elastic: bool = False
    cpu: float = 1.0


@dataclass(frozen=True)
class RunPaths:
    """The folders and files of one worker. The caller makes them, with `inputs_document` and, for an elastic gang, `gang_document`."""

    work_dir: Path
    output_dir: Path
    inputs_file: Path
    progress_file: Path
    gang_file: Path

    @property
    def temporary_dir(self) -> Path:
        """TMPDIR of the process."""
        return self.work_dir / "tmp"


@dataclass(frozen=True)
class InputPath:
    """One input as the process reads it."""

    path: Path
    format: Format


def environment(
    base: Mapping[str, str], run: RunIdentity, paths: RunPaths, inputs: Mapping[str, InputPath], user: Mapping[str, str], *,
    master: tuple[str, int] | None = None,
) -> dict[str, str]:  # fmt: skip
    """All variables of a worker's process. `base` is the agent's environment, `user` the job's `env`, `master` of a gang."""
    variables = {name: value for name, value in base.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIX)}
    variables |= {"HOME": str(paths.work_dir), "TMPDIR": str(paths.temporary_dir), "PYTHONUNBUFFERED": "1"}
    variables |= thread_variables(run.cpu)
    variables |= user
    variables |= {
        "CPN_JOB_ID": run.job_id, "CPN_RUN_ID": run.run_id, "CPN_ATTEMPT": str(run.attempt),
        "CPN_RANK": str(run.rank), "RANK": str(run.rank), "CPN_WORLD_SIZE": str(run.world_size), "WORLD_SIZE": str(run.world_size),
        "CPN_INPUTS": str(paths.inputs_file), "CPN_OUTPUT_DIR": str(paths.output_dir), "CPN_PROGRESS_FILE": str(paths.progress_file),
    }  # fmt: skip
    variables |= {f"CPN_INPUT_{alias.upper()}": str(found.path) for alias, found in inputs.items()}
    if run.elastic:
        variables["CPN_GANG_FILE"] = str(paths.gang_file)
    if run.devices:
        variables["CPN_ACCELERATOR_DEVICES"] = ",".join(str(number) for number in run.devices)
    if run.share is not None:
        variables["CPN_ACCELERATOR_SHARE"] = f"{run.share:g}"
    if master is not None:
        variables |= {"MASTER_ADDR": master[0], "MASTER_PORT": str(master[1])}
    return variables


def thread_variables(cpu: float) -> dict[str, str]:
    """Names under which libraries look for how many threads to start, with the cores that there are for them."""
    return dict.fromkeys(THREAD_NAMES, str(math.ceil(cpu)))


def inputs_document(inputs: Mapping[str, InputPath]) -> str:
    """The text of the file behind CPN_INPUTS."""
    entries = {alias: {"path": str(found.path), "format": found.format} for alias, found in sorted(inputs.items())}
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def gang_document(generation: int, nodes: Sequence[str]) -> str:
    """The text of the file behind CPN_GANG_FILE: how often the gang has changed, and the node of each worker by rank."""
    return json.dumps({"generation": generation, "world_size": len(nodes), "nodes": list(nodes)}, ensure_ascii=False) + "\n"


def resolve_command(command: Sequence[str]) -> list[str]:
    """The argument list to start: a leading `python` or `python3` is the interpreter that runs this, with its libraries."""
    first, *rest = command
    return [sys.executable if first in PYTHON_NAMES else first, *rest]
