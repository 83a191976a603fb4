"""The Standard Workload Format: one job a line, 18 numbers, -1 for what is not known, comments behind `;`.

Chapin et al., Benchmarks and Standards for the Evaluation of Parallel Job Schedulers, JSSPP 1999. Processors are the
larger of allocated and requested, the requested time is the run time where the log has none, and what never ran (run time
0 or unknown) is dropped and counted. A job whose processors are not known is kept, and can never be started. Where the header
says `UnixStartTime`, that is time 0 by the calendar.
"""

from __future__ import annotations

import re
from pathlib import Path

from scheduler.errors import TraceError
from scheduler.traces.rows import Row, lines
from scheduler.traces.trace import Builder, Trace

FIELDS = (
    "job", "submit", "wait", "run time", "allocated processors", "average CPU time", "used memory", "requested processors",
    "requested time", "requested memory", "status", "user", "group", "executable", "queue", "partition", "preceding job", "think time",
)  # fmt: skip
COLUMN = {name: f"{number} ({name})" for number, name in enumerate(FIELDS, start=1)}
UNKNOWN = -1
_STARTS = re.compile(r"\s*UnixStartTime:\s*([0-9]{1,12})\s*$")


def read_swf(path: Path) -> Trace:
    """The jobs of a log. A processor is one core of a list of nodes, and one unit of a pool."""
    jobs, seen = Builder(), False
    for number, text in lines(path):
        cells, _, comment = text.partition(";")
        if jobs.zero_at is None and (found := _STARTS.match(comment)):
            jobs.zero_at = float(found[1])
        seen = seen or bool(text.strip())
        if cells.strip():
            _add(jobs, _row(str(path), number, cells.split()))
    if not seen:
        raise TraceError("is empty", file=str(path))
    return jobs.trace()


def _row(file: str, number: int, cells: list[str]) -> Row:
    if len(cells) != len(FIELDS):
        raise TraceError(f"a job has {len(FIELDS)} columns, and here are {len(cells)}", file=file, line=number)
    return Row(file, number, dict(zip(COLUMN.values(), cells, strict=True)))


def _add(jobs: Builder, row: Row) -> None:
    submit_s, run_s = row.number(COLUMN["submit"]), row.number(COLUMN["run time"], least=UNKNOWN)
    allocated = row.whole(COLUMN["allocated processors"], least=UNKNOWN)
    requested, asked_s = row.whole(COLUMN["requested processors"], least=UNKNOWN), row.number(COLUMN["requested time"], least=UNKNOWN)
    user = row.text(COLUMN["user"])
    if run_s <= 0:
        jobs.dropped += 1
        return
    jobs.add(
        submit_s, run_s, limit=asked_s if asked_s > 0 else run_s, workers=max(allocated, requested, 0), cpu_milli=1000,
        group="" if user == str(UNKNOWN) else user,
    )  # fmt: skip
