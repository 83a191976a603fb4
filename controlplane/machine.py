"""This machine, as the member that `cpn up` makes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

CPU_MODEL_LABEL, CPU_CORES_LABEL = "cpn.dev/cpu-model", "cpn.dev/cpu-cores"
LABEL_LENGTH = 63
MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class Machine:
    """What a local Ray may use. `labels` name the processor, for its rating."""

    cpus: float
    memory_bytes: int
    gpus: int
    accelerator_model: str | None
    labels: dict[str, str]


def this_machine() -> Machine:
    """Processors, four fifths of the memory, and the NVIDIA accelerators of the most common model."""
    cpus = float(len(os.sched_getaffinity(0)))
    model, count = _accelerators()
    return Machine(cpus, int(_memory_bytes() * MEMORY_SHARE), count, model, cpu_labels(_read(Path("/proc/cpuinfo")), cpus))


def cpu_labels(cpuinfo: str, cpus: float) -> dict[str, str]:
    """The processor's model and physical cores from the text of /proc/cpuinfo; empty when it says nothing."""
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    labels = {}
    if label := label_value(fields.get("model name", "")):
        labels[CPU_MODEL_LABEL] = label
    cores, siblings = fields.get("cpu cores", ""), fields.get("siblings", "")
    if cores.isdigit() and siblings.isdigit() and 0 < int(cores) < int(siblings):
        labels[CPU_CORES_LABEL] = f"{cpus * int(cores) / int(siblings):g}"
    return labels


def label_value(text: str) -> str:
    """The text as Ray and Kubernetes take a label's value: letters, digits, `-_.`, 63 at most, no mark at either end."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:LABEL_LENGTH].strip("-_.")


def _memory_bytes() -> int:
    """The machine's memory, or less where a control group limits us."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(Path("/sys/fs/cgroup/memory.max")).strip()
    return min(total, int(limit)) if limit.isdigit() else total


def _accelerators() -> tuple[str | None, int]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, 0
    try:
        answer = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None, 0
    names = Counter(label_value(line) for line in answer.stdout.splitlines() if line.strip())
    return names.most_common(1)[0] if names else (None, 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
