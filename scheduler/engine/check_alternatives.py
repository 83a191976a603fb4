"""Check of alternatives: each part of a plan names a way that its job has, and is proved as for a job that has no other.

That a job finds no room without others being ended is proved for all of its ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from scheduler.engine.plan import Eviction, Placement, Plan, Promise, Shrink
from scheduler.engine.snapshot import Ints, Jobs, Snapshot

Given: TypeAlias = Placement | Promise | Eviction | Shrink


def choice_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Parts of a plan that are by a way which their job does not have."""
    given: list[Given] = [*plan.placements, *plan.promises, *plan.evictions, *plan.shrinks]
    faults = []
    for item in given:
        if item.job not in range(len(snapshot.jobs.ids)):
            faults.append(f"job row {item.job} is promised a start, or room, and is not there")
            continue
        others = 0 if snapshot.further is None else int((snapshot.further.of == item.job).sum())
        if not 0 <= item.choice <= others:
            faults.append(f"{snapshot.jobs.ids[item.job]} is given its alternative {item.choice}, and has {others}")
    return faults


def as_chosen(snapshot: Snapshot, given: Sequence[Given]) -> Snapshot:
    """The world in which each job of these parts of a plan asks for just what it is given."""
    if snapshot.further is None:
        return snapshot
    of = snapshot.further.of
    chosen = {item.job: int(np.flatnonzero(of == item.job)[item.choice - 1]) for item in given if item.choice}
    jobs, rows = np.array(list(chosen.keys()), dtype=np.int64), np.array(list(chosen.values()), dtype=np.int64)
    columns: dict[str, Any] = {}
    for item in fields(Jobs):
        column = getattr(snapshot.jobs, item.name)
        if isinstance(column, np.ndarray):
            columns[item.name] = column.copy()
            columns[item.name][jobs] = getattr(snapshot.further.jobs, item.name)[rows]
    return replace(snapshot, jobs=replace(snapshot.jobs, **columns))


@dataclass(frozen=True, eq=False)
class Ways:
    """A world with jobs as a plan has chosen, and behind them rows for all their ways, so that others than the chosen one can be tried.

    `of` is the job of each row.
    """

    snapshot: Snapshot
    of: Ints

    def rows(self, job: int) -> list[int]:
        """The rows of all ways to run a job, behind the one of the way that was chosen."""
        found: list[int] = np.flatnonzero(self.of == job).tolist()
        return found


def with_all_ways(snapshot: Snapshot, plan: Plan) -> Ways:
    """The world in which jobs ask for what they were placed in or for what room is made, and where any is made with all other ways."""
    chosen, own = as_chosen(snapshot, (*plan.placements, *plan.shrinks, *plan.evictions)), np.arange(len(snapshot.jobs.ids))
    if snapshot.further is None or not (plan.shrinks or plan.evictions):
        return Ways(chosen, own)
    of = np.concatenate([own, own, snapshot.further.of])
    columns: dict[str, Any] = {}
    for item in fields(Jobs):
        parts = [getattr(jobs, item.name) for jobs in (chosen.jobs, snapshot.jobs, snapshot.further.jobs)]
        columns[item.name] = np.concatenate(parts) if isinstance(parts[0], np.ndarray) else tuple(chain.from_iterable(parts))
    windows = chosen.windows and replace(chosen.windows, open_to=chosen.windows.open_to[:, of])
    return Ways(replace(chosen, jobs=Jobs(**columns), windows=windows, further=None), of)
