"""How much of its node a process of user code may hold, by what the run was granted; and what is said when that was not enough.

All kinds of user code have the same limits, wherever they run. What our own processes take that drive a run (a statement on Daft, the
partitions of a map) is not the user's, and they have limits of their own. Why it is these, and not others: docs/decisions/0048.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.runs.bounds import room_for_a_file
from workloads.resources import GIB, MIB, format_memory

FILE_VARIABLE, TASKS_VARIABLE = "CPN_RUN_FILE_GIB", "CPN_RUN_TASKS"
OPEN_FILES = 16_384
FEWEST_TASKS, TASKS_PER_CORE = 1024, 128
# Before a program of kind ray and a function over partitions begin, Ray's connection and Arrow are in their processes.
_BEFORE_BYTES = {"ray": 256 * MIB, "map": 128 * MIB}
_OURS = frozenset({"sql"})
_TOO_LARGE = ("File too large", "[Errno 27]")


def limits_of(run: Mapping[str, Any], work: Path, *, lanes: int = 0) -> dict[str, Any] | None:
    """The limits of a worker's process that runs in `work`, as its leash takes them; None for a process that is ours.

    `lanes`: it is one of so many that share the worker of a run of kind map.
    """
    kind = run["kind"]
    if kind in _OURS or (kind == "map" and not lanes):
        return None
    return {
        "memory_bytes": run["memory_bytes"] // max(lanes, 1) + _BEFORE_BYTES.get(kind, 0),
        "shared": kind != "ray",
        "tasks": most_tasks(run["cpu"]),
        "open_files": OPEN_FILES,
        "file_bytes": most_file_bytes(work),
    }


def most_tasks(cpu: float) -> int:
    """Processes and threads at once; as many as the operator says, else by the cores."""
    named = os.environ.get(TASKS_VARIABLE, "")
    return int(named) if named.isdecimal() and int(named) else max(FEWEST_TASKS, TASKS_PER_CORE * math.ceil(cpu))


def most_file_bytes(work: Path) -> int:
    """The size of one file; as the operator says, else so that the disk below `work` is not full of it."""
    named = os.environ.get(FILE_VARIABLE, "")
    if named.isdecimal() and int(named):
        return int(named) * GIB
    return room_for_a_file(str(work))


def memory_words(took: int, run: Mapping[str, Any], lanes: int = 1) -> str:
    """What is said of a process that took more memory than it was granted."""
    used, granted = took - _BEFORE_BYTES.get(run["kind"], 0), format_memory(run["memory_bytes"])
    grant = f"{granted} that resources.memory grants to a worker"
    if lanes > 1:
        part = f"{run['memory_bytes'] / lanes / MIB:,.0f} MiB"
        grant = f"{part} that each of the {lanes} processes of a worker has of its {granted} (resources.memory)"
    return f"out of memory: it used {used / MIB:,.0f} MiB of the {grant}; ask for more memory, or hold less at a time"


def tasks_words(took: int, run: Mapping[str, Any]) -> str:
    """What is said of a run with more processes than it may have."""
    return (
        f"it had {took:,} processes and threads at once, more than the {most_tasks(run['cpu']):,} that a worker with"
        f" {run['cpu']:g} cores may have; start fewer, or ask for more resources.cpu"
    )


def hint(lines: Sequence[str], limits: Mapping[str, Any] | None) -> str:
    """What its last words do not say by themselves of a limit that they ran into; empty for all others."""
    if limits is None or not any(sign in line for line in lines for sign in _TOO_LARGE):
        return ""
    return f"; no file of a run may be larger than {limits['file_bytes'] / GIB:,.1f} GiB on this node ({FILE_VARIABLE} of its operator)"
