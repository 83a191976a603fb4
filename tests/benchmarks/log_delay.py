"""How late a line of a running command is with whoever follows its log: seconds from its writing to the waiting client.

The network is that of `cpn bench latency`: a server, one real Ray, its agent, each in processes of their own.

    python -m tests.benchmarks.log_delay --lines 100
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from controlplane.api.schemas import TenantRequest
from controlplane.bench.networks import TENANT, one_ray
from workloads.spec import JobSpec

PROGRAM = """\
import sys, time
for _ in range(int(sys.argv[1])):
    print(f"at {time.time()}", flush=True)
    time.sleep(0.23)
"""


def measure(folder: Path, lines: int) -> list[float]:
    """The delay of each line, in seconds."""
    spec = JobSpec.model_validate({
        "name": "talk", "tenant": TENANT, "kind": "command", "purpose": "research", "command": [sys.executable, "main.py", str(lines)],
        "files": {"main.py": PROGRAM}, "max_runtime": "10m", "resources": {"cpu": 1, "memory": "256MiB"},
    })  # fmt: skip
    delays, rest = list[float](), b""
    with one_ray(folder, lambda text: print(text, file=sys.stderr)) as network, network.operator() as client:
        client.create_tenant(TenantRequest(name=TENANT))
        job = client.submit(spec)
        for piece in client.logs(job.id, follow=True):
            now = time.time()
            *whole, rest = (rest + piece).split(b"\n")
            delays += [now - float(line.split()[1]) for line in whole if line.startswith(b"at ")]
    if len(delays) != lines:
        raise RuntimeError(f"{len(delays)} lines came of {lines}")
    return delays


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100, help="one every 0.23 s")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} before", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        delays = sorted(measure(Path(folder), asked.lines))
    print(f"load {os.getloadavg()[0]:.1f} at the end", file=sys.stderr)
    at = {"median_s": statistics.median(delays), "p95_s": delays[int(0.95 * (len(delays) - 1))], "max_s": delays[-1]}
    print(json.dumps({"lines": len(delays), **{name: round(value, 3) for name, value in at.items()}}))


if __name__ == "__main__":
    main()
