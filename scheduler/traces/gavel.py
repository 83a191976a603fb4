"""Training jobs with a measured speed on each accelerator model (Narayanan et al., Gavel, OSDI 2020).

A trace says what arrives and how many steps it takes: arrival_s, job_type, num_workers, total_steps. How many steps a second
each model does for a (job type, number of workers) stands in a second file, `throughputs.csv` beside the trace: columns
job_type, num_workers, and one `…_steps_per_s` for each model; 0 is a model that cannot run the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scheduler.errors import TraceError
from scheduler.traces.rows import table
from scheduler.traces.trace import Builder, Trace

SUFFIX = "_steps_per_s"
Speeds = dict[tuple[str, int], Mapping[str, float]]


def read_gavel(path: Path, throughputs: Path | None = None) -> Trace:
    """The jobs of a trace, with speeds from `throughputs`, else from `throughputs.csv` in the folder of the trace."""
    speeds, jobs = read_speeds(throughputs or path.parent / "throughputs.csv"), Builder()
    for row in table(path, ("arrival_s", "job_type", "num_workers", "total_steps")):
        name, workers = row.text("job_type"), row.whole("num_workers", least=1)
        if (name, workers) not in speeds:
            raise row.fault(f"no speeds are known for {name!r} with {workers} workers", "job_type")
        steps = row.number("total_steps")
        if steps == 0:
            jobs.dropped += 1
            continue
        kind = jobs.kind((name, workers), speeds[name, workers])
        jobs.add(row.number("arrival_s"), steps, workers=workers, devices=1, group=name, kind=kind)
    return jobs.trace()


def read_speeds(path: Path) -> Speeds:
    """Steps a second by model, for each job type and number of workers."""
    if not path.is_file():
        raise TraceError("there is no such file; it says how fast each model is, and lies beside the trace", file=str(path))
    found: Speeds = {}
    for row in table(path, ("job_type", "num_workers")):
        rates = {name.removesuffix(SUFFIX).upper(): row.number(name) for name in row.cells if name.endswith(SUFFIX)}
        if not rates:
            raise row.fault(f"the header has no column that ends in {SUFFIX}")
        found[row.text("job_type"), row.whole("num_workers", least=1)] = rates
    return found
