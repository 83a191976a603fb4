"""Figures as they are reported: quantiles of many measurements, and what they depend on."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

FLUSHES, FLUSHED_BYTES = 50, 4096
LOOPS, TURNS = 5, 300_000


def quantiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds, of at least one measurement; the percentile is one itself (nearest rank)."""
    ordered = sorted(value * 1000 for value in seconds)
    return {"p50": round(statistics.median(ordered), 2), "p95": round(ordered[-(-len(ordered) * 95 // 100) - 1], 2)}


def machine(folder: Path) -> str:
    """How fast and how busy this machine is: cores, load, what a loop in Python costs, and a flush to the disk of `folder`."""
    loop, flush = quantiles_ms(_loop_s() for _ in range(LOOPS)), quantiles_ms(_flushes(folder))
    return (
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, a loop of {TURNS:,} turns {loop['p50']} ms, "
        f"a flush to the disk {flush['p50']} ms (p95 {flush['p95']} ms)"
    )


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in user and system mode (proc(5): stat), which depends little on what else runs."""
    return _stat_s(pid, 11, 12)


def tree_cpu_s(pid: int) -> float:
    """The same of a process and all that descends from it, with those of its children that have ended and were waited for."""
    total, left = 0.0, [pid]
    while left:
        one = left.pop()
        # One that ends meanwhile counts with its parent the next time.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += _stat_s(one, 11, 12, 13, 14)
            for task in Path(f"/proc/{one}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
    return total


def _stat_s(pid: int, *places: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[place]) for place in places) / os.sysconf("SC_CLK_TCK")


def _loop_s() -> float:
    """Processor time of a fixed piece of work. It grows where a neighbour keeps the other half of the core busy."""
    began, total = time.process_time(), 0
    for turn in range(TURNS):
        total += turn * turn
    return time.process_time() - began


def _flushes(folder: Path) -> list[float]:
    """Small writes with fsync, as a commit makes."""
    path, times = folder / "flush", []
    with path.open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            began = time.perf_counter()
            file.write(os.urandom(FLUSHED_BYTES))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return times
