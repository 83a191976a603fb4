"""Alternatives: a job that may use one of several accelerator models is placed as the best of several jobs, of which one starts.

Each further way to run a job is a row of its own behind the rows of the jobs, alike in all but what it asks for, costs and takes. So
rooms and filters know nothing of alternatives; whoever places, promises a start or has others ended looks at all rows of a job
together, and a claim is for one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from scheduler.engine.plan import Eviction, Placement, Promise, Shrink
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Bools, Floats, Further, Ints, Jobs, Snapshot


def with_alternatives(snapshot: Snapshot) -> Snapshot:
    """The same world with all rows: those of the jobs, then the further ways to run some of them."""
    if snapshot.further is None:
        return snapshot
    windows, of = snapshot.windows, snapshot.further.of
    # A window is open to a job whatever the way it is run.
    windows = windows and replace(windows, open_to=np.concatenate([windows.open_to, windows.open_to[:, of]], axis=1))
    return replace(snapshot, jobs=joined_jobs(snapshot.jobs, snapshot.further.jobs), windows=windows, further=None)


def ways_of(snapshot: Snapshot) -> list[tuple[int, ...]]:
    """Of each job its rows in `with_alternatives`, in the order in which its placement's `choice` counts them."""
    rows: list[tuple[int, ...]] = [(job,) for job in range(len(snapshot.jobs.ids))]
    if snapshot.further is not None:
        for row, job in enumerate(snapshot.further.of.tolist(), start=len(rows)):
            rows[job] += (row,)
    return rows


def chosen_rows(snapshot: Snapshot, chosen: Sequence[Placement | Promise | Eviction | Shrink]) -> list[int]:
    """Of each part of a plan the row in `with_alternatives` of the way that its job is run by."""
    if snapshot.further is None:
        return [item.job for item in chosen]
    ways = ways_of(snapshot)
    return [ways[item.job][item.choice] for item in chosen]


def as_placed(snapshot: Snapshot, placements: Sequence[Placement]) -> Snapshot:
    """The world in which each placed job asks for what it was given; the others have the choice that they had."""
    if snapshot.further is None:
        return snapshot
    rows, every = np.arange(len(snapshot.jobs.ids)), with_alternatives(snapshot).jobs
    rows[[item.job for item in placements]] = chosen_rows(snapshot, placements)
    columns: dict[str, Any] = {item.name: getattr(every, item.name) for item in fields(Jobs) if item.name != "ids"}
    chosen = Jobs(snapshot.jobs.ids, **{name: column[rows] for name, column in columns.items()})
    return replace(snapshot, jobs=chosen)


def policies_of(snapshot: Snapshot, job: int) -> Ints:
    """[O, C] The rule of rights and money against a job at each cluster, by each of its ways."""
    first, further = snapshot.jobs.policy[job][None], snapshot.further
    return first if further is None else np.concatenate([first, further.jobs.policy[further.of == job]])


def permitted(snapshot: Snapshot, jobs: Ints) -> Bools:
    """[M, C] Where rights and money allow each of some different jobs, by one of its ways at least."""
    allowed: Bools = snapshot.jobs.policy[jobs] == Reason.FITS
    if snapshot.further is not None:
        place = np.full(len(snapshot.jobs.ids), -1)
        place[jobs] = np.arange(len(jobs))
        at = place[snapshot.further.of]
        np.logical_or.at(allowed, at[at >= 0], snapshot.further.jobs.policy[at >= 0] == Reason.FITS)
    return allowed


def with_lengths(snapshot: Snapshot, length_s: Sequence[Sequence[float]]) -> Snapshot:
    """The same world with how long each job runs in each of its ways: one number for each, in the order of `ways_of`."""
    ways = ways_of(snapshot)
    every: Floats = np.zeros(sum(map(len, ways)))
    for rows, lengths in zip(ways, length_s, strict=True):
        every[list(rows)] = lengths
    jobs, further = replace(snapshot.jobs, length_s=every[: len(ways)]), snapshot.further
    if further is not None:
        further = replace(further, jobs=replace(further.jobs, length_s=every[len(ways) :]))
    return replace(snapshot, jobs=jobs, further=further)


def joined_ways(first: Further | None, second: Further | None, begin: int) -> Further | None:
    """The ways of some jobs, and behind them those of others, whose rows begin at `begin` once they are together."""
    if second is None:
        return first
    second = replace(second, of=second.of + begin)
    return second if first is None else Further(np.concatenate([first.of, second.of]), joined_jobs(first.jobs, second.jobs))


def joined_jobs(first: Jobs, second: Jobs) -> Jobs:
    """The rows of one table of jobs behind those of another with the same columns."""
    columns: dict[str, Any] = {}
    for item in fields(Jobs):
        ours, theirs = getattr(first, item.name), getattr(second, item.name)
        columns[item.name] = ours + theirs if isinstance(ours, tuple) else np.concatenate([ours, theirs])
    return Jobs(**columns)
