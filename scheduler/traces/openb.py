"""Pods of the OpenB cluster (Weng et al., USENIX ATC 2023): cores, memory, and whole devices or a share of one.

A pod ran from `scheduled_time`, where it was scheduled, else from `creation_time`, to `deletion_time`. Its group is its
class of service. `gpu_spec` names the models that may run it, joined by `|`; lists without that column allow all.
"""

from __future__ import annotations

from pathlib import Path

from scheduler.traces.rows import Row, table
from scheduler.traces.trace import WHOLE, Builder, Trace


def read_openb(path: Path) -> Trace:
    """The pods of a list with times."""
    jobs = Builder()
    jobs.kind("", None)
    for row in table(path, ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time")):
        created, deleted = row.number("creation_time"), row.number("deletion_time")
        began = row.number("scheduled_time") if row.text("scheduled_time") else created
        if deleted < began:
            raise row.fault(f"{deleted:g} is before the pod began, {began:g}", "deletion_time")
        if deleted == began:
            jobs.dropped += 1
            continue
        devices = row.whole("num_gpu")
        jobs.add(
            created, deleted - began, cpu_milli=row.whole("cpu_milli"), memory_mib=row.whole("memory_mib"), devices=devices,
            gpu_milli=_share(row, devices), group=row.text("qos"), kind=_kind(jobs, row.text("gpu_spec")),
        )  # fmt: skip
    return jobs.trace()


def _share(row: Row, devices: int) -> int:
    """Thousandths of each device."""
    if devices != 1:
        return WHOLE
    milli = row.whole("gpu_milli", least=1)
    if milli > WHOLE:
        raise row.fault(f"{milli} is more than one device ({WHOLE})", "gpu_milli")
    return milli


def _kind(jobs: Builder, models: str) -> int:
    names = sorted({name for part in models.split("|") if (name := part.strip())})
    return jobs.kind("|".join(names), dict.fromkeys(names, 1.0) or None)
