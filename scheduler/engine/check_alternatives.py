"""Check of alternatives: each placement names a way that its job has, and is proved as a job that has no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from scheduler.engine.plan import Placement, Plan, Promise
from scheduler.engine.snapshot import Jobs, Snapshot


def choice_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Placements and promises by a way that their job does not have."""
    given: list[Placement | Promise] = [*plan.placements, *plan.promises]
    faults = []
    for item in given:
        if item.job not in range(len(snapshot.jobs.ids)):
            faults.append(f"job row {item.job} is promised a start and is not there")
            continue
        others = 0 if snapshot.further is None else int((snapshot.further.of == item.job).sum())
        if not 0 <= item.choice <= others:
            faults.append(f"{snapshot.jobs.ids[item.job]} is given its alternative {item.choice}, and has {others}")
    return faults


def as_chosen(snapshot: Snapshot, given: Sequence[Placement | Promise]) -> Snapshot:
    """The world in which each job of these placements or promises asks for just what it is given."""
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
