"""`python -m tests.benchmarks.bounds`: what watching a command costs, as a share of one core, and how far one gets before it is found out.

Commands of several shapes run on a leash, each once with limits and once without; the leash's own processor time is read from /proc. Then
one that writes to fresh memory as fast as it can is ended, and what it had by then is told.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.runs.leashed import put_on_leash, read_report
from tests.benchmarks.figures import aligned
from tests.ray import cpu_s
from workloads.resources import GIB, MIB

SLEEPS = "import time; time.sleep(600)"
HOLDS = f"held = bytearray(b'x') * ({{mib}} * {MIB}); {SLEEPS}"
THREADS = f"import threading, time\nfor _ in range(63): threading.Thread(target=time.sleep, args=(600,)).start()\n{SLEEPS}"
CHILDREN = f"import os\nfor _ in range(63):\n    if not os.fork(): break\n{SLEEPS}"
# Name, program, granted bytes.
SHAPES = (
    ("one process that waits, of 1 GiB", SLEEPS, GIB),
    ("one that holds 1,000 of 1,024 MiB", HOLDS.format(mib=1000), GIB),
    ("64 threads", THREADS, GIB),
    ("64 processes", CHILDREN, GIB),
    ("64 that share 300 MiB, of 1 GiB", f"held = bytearray(b'x') * (300 * {MIB})\n{CHILDREN}", GIB),
)
TAKES = f"held = []\nwhile True: held.append(bytearray(b'x') * (4 * {MIB}))"


def limits(memory_bytes: int) -> dict[str, Any]:
    """Those of a run that was granted so much memory."""
    return {"memory_bytes": memory_bytes, "shared": True, "tasks": 1024, "open_files": 16384, "file_bytes": 100 * GIB}


def share(program: str, bounds: Mapping[str, Any] | None, seconds: float) -> float:
    """Per cent of a core that the leash takes while the program lives."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "wb") as out:
        leashed = put_on_leash([sys.executable, "-c", program], output=out, env=dict(os.environ), cwd=Path(folder), limits=bounds)
        time.sleep(3.0)  # it has become what it is going to be
        before = cpu_s(leashed.process.pid)
        time.sleep(seconds)
        used = cpu_s(leashed.process.pid) - before
        leashed.stop(0.0)
        leashed.process.wait()
        leashed.close()
    return 100.0 * used / seconds


def taken(memory_bytes: int) -> int:
    """What a greedy program had when it was found out."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "wb") as out:
        argv = [sys.executable, "-c", TAKES]
        leashed = put_on_leash(argv, output=out, env=dict(os.environ), cwd=Path(folder), limits=limits(memory_bytes))
        with os.fdopen(os.dup(leashed.status), "rb") as status:
            last = [read_report(line) for line in status][-1]
        leashed.process.wait()
        leashed.close()
    assert last["reason"] == "memory", last
    return int(last["took"])


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=20.0, help="how long each command is watched")
    arguments.add_argument("--repeat", type=int, default=7, help="how often a greedy one is let loose")
    chosen = arguments.parse_args()
    rows = [["command", "watched", "not watched"]]
    for name, program, memory_bytes in SHAPES:
        shares = (share(program, bounds, chosen.seconds) for bounds in (limits(memory_bytes), None))
        rows.append([name, *(f"{one:.2f} %" for one in shares)])
    print(aligned(rows))
    rows = [["granted", "had at its end, median", "most"]]
    for memory_bytes in (64 * MIB, 512 * MIB, 2 * GIB):
        found = [taken(memory_bytes) / MIB for _ in range(chosen.repeat)]
        rows.append([f"{memory_bytes // MIB} MiB", f"{statistics.median(found):,.0f} MiB", f"{max(found):,.0f} MiB"])
    print(aligned(rows))


if __name__ == "__main__":
    main()
