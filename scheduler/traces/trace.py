"""A trace: jobs that were recorded somewhere, in the order of their submission, as arrays and nothing else.

Every format is brought to the same shape. A job is a gang of equal workers; what a worker asks for is written in
thousandths of a core, MiB and accelerators (whole, or thousandths of one). How long a job runs is its `work` divided by
the speed of its kind on the model that runs it: where a trace knows one kind of machine only, work is in seconds and
the speed is 1. Axes: J jobs, G groups (users, tenants, virtual clusters), K kinds.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

WHOLE = 1000
# When a trace begins that does not say it: a Monday, 1 January 2024, 0:00 UTC.
USUAL_BEGIN = 1_704_067_200.0


@dataclass(frozen=True)
class Kind:
    """Which models may run a kind of job, and how much work a second each of them does; None is any model, at speed 1."""

    speeds: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Flexible:
    """Of a job that may wait for a better hour: by what it goes, and when it has to have ended, in seconds as submissions are."""

    by: Literal["cheapest", "cleanest"]
    deadline_s: float


@dataclass(frozen=True, eq=False)
class Trace:
    """Jobs. `limit[J]` is the work that was asked for, `work[J]` what it came to, both without the speed of a model.

    A job of no workers could never be started; it is kept, so that it is counted. `dropped` counts rows that never ran. `begins_at` is
    time 0 by the calendar, in seconds since the epoch. `flexible` are the jobs, by row, that may wait for a better hour.
    """

    submit_s: Floats
    work: Floats
    limit: Floats
    workers: Ints
    cpu_milli: Ints
    memory_mib: Ints
    devices: Ints
    gpu_milli: Ints
    group: Ints
    kind: Ints
    groups: tuple[str, ...]
    kinds: tuple[Kind, ...]
    dropped: int = 0
    begins_at: float = USUAL_BEGIN
    flexible: Mapping[int, Flexible] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.submit_s)

    def part(self, first: int, last: int) -> Trace:
        """Jobs first … last - 1 alone, with time counted from the first of them."""
        rows = {column: getattr(self, column)[first:last] for column in COLUMNS}
        start = float(rows["submit_s"][0]) if len(rows["submit_s"]) else 0.0
        flexible = {
            row - first: Flexible(item.by, item.deadline_s - start) for row, item in self.flexible.items() if first <= row < last
        }  # fmt: skip
        return replace(self, **(rows | {"submit_s": rows["submit_s"] - start}), begins_at=self.begins_at + start, flexible=flexible)


MEASURED = ("submit_s", "work", "limit")
COLUMNS = (*MEASURED, "workers", "cpu_milli", "memory_mib", "devices", "gpu_milli", "group", "kind")


class Builder:
    """Takes jobs one by one, in any order, and makes a trace of them. Rows of a large file are never all objects at once: a job
    is 80 bytes from the first to the last.
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[Any]] = {name: array("d" if name in MEASURED else "q") for name in COLUMNS}
        self._groups: dict[str, int] = {}
        self._kinds: dict[object, int] = {}
        self._kind_rows: list[Kind] = []
        self.dropped = 0
        # Time 0 of the rows by the calendar, in seconds since the epoch; None where nobody knows it.
        self.zero_at: float | None = None
        self._flexible: dict[int, Flexible] = {}

    def kind(self, name: object, speeds: Mapping[str, float] | None) -> int:
        """The row of a kind; equal names are one kind."""
        if name not in self._kinds:
            self._kinds[name] = len(self._kind_rows)
            self._kind_rows.append(Kind(speeds))
        return self._kinds[name]

    def add(
        self, submit_s: float, work: float, *, limit: float | None = None, workers: int = 1, cpu_milli: int = 0, memory_mib: int = 0,
        devices: int = 0, gpu_milli: int = WHOLE, group: str = "", kind: int = 0, flexible: Flexible | None = None,
    ) -> None:  # fmt: skip
        """One job. Without a limit of its own, what it came to is what was asked for."""
        if flexible is not None:
            self._flexible[len(self._columns["submit_s"])] = flexible
        owner = self._groups.setdefault(group, len(self._groups))
        row = (submit_s, work, work if limit is None else limit, workers, cpu_milli, memory_mib, devices, gpu_milli, owner, kind)
        for name, value in zip(COLUMNS, row, strict=True):
            self._columns[name].append(value)

    def trace(self) -> Trace:
        """All of them, in the order of submission; equal times stay in the order of rows, and the first is at 0. It may be called once."""
        taken = {name: self._columns.pop(name) for name in COLUMNS}
        submit_s = _array(taken["submit_s"])
        order = None if (np.diff(submit_s) >= 0).all() else np.argsort(submit_s, kind="stable")
        columns = {}
        for name in COLUMNS:
            # One column is sorted after the other, and the unsorted one is let go.
            column = _array(taken.pop(name))
            columns[name] = column if order is None else column[order]
        kinds = tuple(self._kind_rows) or (Kind(),)
        first_s = float(columns["submit_s"][0]) if len(submit_s) else 0.0
        zero_at = USUAL_BEGIN - first_s if self.zero_at is None else self.zero_at
        flexible = self._flexible
        if flexible and order is not None:
            where = {row: place for place, row in enumerate(order.tolist()) if row in flexible}
            flexible = {where[row]: item for row, item in flexible.items()}
        found = Trace(
            **columns, groups=tuple(self._groups), kinds=kinds, dropped=self.dropped, begins_at=zero_at, flexible=flexible
        )  # fmt: skip
        return found.part(0, len(submit_s))


def _array(values: array[Any]) -> NDArray[Any]:
    """The numbers of an array where they lie."""
    kind = np.float64 if values.typecode == "d" else np.int64
    return np.frombuffer(values, dtype=kind) if values else np.zeros(0, dtype=kind)
