"""Jobs of Microsoft's Philly clusters (Jeon et al., USENIX ATC 2019), one row a job: submit_s, duration_s, num_gpus, vc.

The trace knows no model of accelerator and no requested time. Each GPU is a worker of its own, so that a job may span
nodes; no cores and no memory are asked for, because none were recorded.
"""

from __future__ import annotations

from pathlib import Path

from scheduler.traces.rows import table
from scheduler.traces.trace import Builder, Trace


def read_philly(path: Path) -> Trace:
    """The jobs of a file with the columns submit_s, duration_s, num_gpus and, where it is known, vc."""
    jobs = Builder()
    for row in table(path, ("submit_s", "duration_s", "num_gpus")):
        duration_s = row.number("duration_s")
        if duration_s == 0:
            jobs.dropped += 1
            continue
        jobs.add(row.number("submit_s"), duration_s, workers=row.whole("num_gpus", least=1), devices=1, group=row.text("vc"))
    return jobs.trace()
