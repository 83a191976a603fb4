"""Forecast: how long work lasts, from what it may last and from how like jobs kept to that, as arrays for a decision.

People ask for far more time than they need, and each asks in the same way from job to job. So a run is expected to end when
half of its like have ended by then, and a job that would go in front of another to be done when nine in ten would be. Where like jobs are
unknown, the limit stands. Promises that a decision made are kept with names and times, so that people can be told of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scheduler.device_books import device_rows
from scheduler.engine.alternatives import chosen_rows, with_alternatives, with_lengths
from scheduler.engine.later import open_now
from scheduler.engine.lengths import LONG, USUAL, Parts, lasting_on_s, lasting_s
from scheduler.engine.plan import Plan
from scheduler.engine.reasons import LATER, Reason
from scheduler.engine.snapshot import Floats, Later, Promised, Running
from scheduler.flexible import Courses
from scheduler.freeze import Candidate, Frozen, World, held_vector, node_rows
from scheduler.mixture import Scoring
from scheduler.past import Past, group_of_spec
from scheduler.store.session import Connection


@dataclass(frozen=True)
class Forecast:
    """What is known of lengths: the group and the limit of each run, and the parts of their limits that groups used."""

    limits: Mapping[str, tuple[str, float]]
    parts: Parts


@dataclass(frozen=True)
class Saving:
    """What a job costs now where it costs least, and at its promised start; `latest_at` is when it has to be placed there at the latest.

    `carbon_g_now` and `carbon_g_then` are its grams of CO2 there and then, None where they are unknown. One that waits for a cleaner
    hour (`reason`) is compared with where it would emit least now.
    """

    cost_now: float
    cost_then: float
    currency: str
    latest_at: float
    reason: Reason = Reason.CHEAPER_LATER
    carbon_g_now: float | None = None
    carbon_g_then: float | None = None


@dataclass(frozen=True, eq=False)
class StandingPromise:
    """A start that a waiting job is promised, in seconds since the epoch. `request` is what each worker takes, by resource.

    `saving` is why it waits, where it waits for a cheaper or cleaner hour.
    """

    job_id: str
    tenant: str
    cluster: str
    nodes: tuple[str, ...]
    request: Mapping[str, float]
    start_at: float
    end_at: float
    saving: Saving | None = None


Promises = tuple[StandingPromise, ...]
NO_PROMISES: Promises = ()


@dataclass(frozen=True)
class Kept:
    """What a server has promised at its latest cycle, what it remembers of lengths, and what it decides by."""

    promises: Promises
    past: Past
    scoring: Scoring = field(default_factory=Scoring)


def look_ahead(conn: Connection, world: World, past: Past) -> Forecast:
    """Read what is known of the lengths of runs."""
    return Forecast(past.limits(conn, (run.id for run in world.runs)), past.parts(conn, world.now))


def with_forecast(frozen: Frozen, forecast: Forecast, heads: int) -> Frozen:
    """The same frozen world with the lengths of jobs and the ends of runs, so that `heads` blocked jobs can be promised a start."""
    lengths = [lengths_of(forecast.parts, candidate, LONG) for candidate in frozen.candidates]
    snapshot = replace(with_lengths(frozen.snapshot, lengths), running=_running(frozen, forecast), heads=heads)
    return replace(frozen, snapshot=snapshot)


def lengths_of(parts: Parts, candidate: Candidate, quantile: float) -> tuple[float, ...]:
    """Seconds that a job will run in each of its ways."""
    group, limit_s = group_of_spec(candidate.spec), candidate.spec.max_runtime
    speeds = {way.model: 1.0 / way.slowdown for way in candidate.ways if way.model is not None}
    if not speeds:
        return tuple(lasting_s(parts, group, limit_s, quantile) for _ in candidate.ways)
    return tuple(lasting_on_s(parts, group, model, speeds, limit_s, quantile) for model in speeds)


def with_promises(frozen: Frozen, promises: Sequence[StandingPromise]) -> Frozen:
    """The same frozen world with room kept for others; what is promised on nodes that are gone is left out."""
    rows, resources = node_rows(frozen.snapshot), frozen.snapshot.resources
    kept = []
    for item in promises:
        nodes = [rows[item.cluster, name] for name in item.nodes if (item.cluster, name) in rows]
        request: Floats = np.array([item.request.get(resource, 0.0) for resource in resources])
        start_s, end_s = (max(at - frozen.world.now, 0.0) for at in (item.start_at, item.end_at))
        if nodes and end_s > 0:
            kept.append(Promised(np.array(nodes, dtype=np.int64), request, start_s, end_s))
    return replace(frozen, snapshot=replace(frozen.snapshot, promised=tuple(kept)))


def promises_of(frozen: Frozen, plan: Plan) -> Promises:
    """The promises of a plan with names and times."""
    snapshot, now, found, savings = frozen.snapshot, frozen.world.now, [], _savings(frozen, plan)
    requests = with_alternatives(snapshot).jobs.request[chosen_rows(snapshot, plan.promises)] if plan.promises else ()
    for item, amounts in zip(plan.promises, requests, strict=True):
        request = dict(zip(snapshot.resources, amounts.tolist(), strict=True))
        nodes = tuple(snapshot.nodes.names[node] for node in item.nodes)
        job, cluster = frozen.candidates[item.job], snapshot.clusters.names[item.cluster]
        found.append(
            StandingPromise(
                job.id, job.spec.tenant, cluster, nodes, request, now + item.start_s, now + item.end_s, savings.get(item.job)
            )
        )  # fmt: skip
    return tuple(found)


def chosen_hours(promises: Promises) -> list[float]:
    """When jobs start that wait for a cheaper or cleaner hour, in seconds since the epoch."""
    return [item.start_at for item in promises if item.saving is not None]


def _savings(frozen: Frozen, plan: Plan) -> dict[int, Saving]:
    """By row of the job, what those save that wait for a cheaper or cleaner hour."""
    rows, found, courses = {item.job: item for item in plan.unplaced}, dict[int, Saving](), Courses.of(frozen)
    for item in plan.promises if frozen.snapshot.later else ():
        candidate, reason = frozen.candidates[item.job], rows[item.job].blocker
        ways = {table.choice: table for table in frozen.snapshot.later if table.job == candidate.id}
        if ways and reason in LATER:
            there, now = (item.cluster, item.choice), _least_now(list(ways.values()))
            latest_at = frozen.world.now + float(ways[item.choice].latest_s[item.cluster])
            grams_now, grams_then = courses.grams(candidate, *now), courses.grams(candidate, *there)
            found[item.job] = Saving(
                courses.price(candidate, *now).at(0.0), courses.price(candidate, *there).at(item.start_s),
                frozen.world.clusters[item.cluster].spec.prices.currency, latest_at, reason,
                grams_now.at(0.0) if grams_now else None, grams_then.at(item.start_s) if grams_then else None,
            )  # fmt: skip
    return found


def _least_now(ways: Sequence[Later]) -> tuple[int, int]:
    """The cluster where, and the way by which, a job costs least if it is placed now; where its budget pays, if it does anywhere."""
    paid = any(open_now(table).any() for table in ways)
    costs = [np.where(open_now(table) if paid else table.latest_s > -np.inf, table.cost[:, 0], np.inf) for table in ways]
    way = min(range(len(ways)), key=lambda row: float(costs[row].min(initial=np.inf)))
    return int(costs[way].argmin()), ways[way].choice


def _running(frozen: Frozen, forecast: Forecast) -> Running:
    world, snapshot = frozen.world, frozen.snapshot
    rows, waits = node_rows(snapshot), dict(zip(snapshot.clusters.names, snapshot.clusters.wait_s.tolist(), strict=True))
    ends, seats = [], []
    for number, run in enumerate(world.runs):
        group, limit_s = forecast.limits.get(run.id, ("", np.inf))
        starts_s = 0.0 if run.started_at is not None else max(run.placed_at + waits.get(run.cluster, 0.0) - world.now, 0.0)
        elapsed_s = max(world.now - run.started_at, 0.0) if run.started_at is not None else 0.0
        ends.append(starts_s + lasting_s(forecast.parts, group, limit_s, USUAL, elapsed_s))
        seats += [(number, rows[run.cluster, name]) for name in run.nodes if (run.cluster, name) in rows]
    held = [held_vector(run.held, snapshot.resources) for run in world.runs]
    return Running(
        ids=tuple(run.id for run in world.runs), request=np.array(held).reshape(len(held), len(snapshot.resources)),
        ends_s=np.array(ends, dtype=np.float64), run=np.array([run for run, _ in seats], dtype=np.int64),
        node=np.array([node for _, node in seats], dtype=np.int64), device=device_rows(world.runs, rows, snapshot.resources),
    )  # fmt: skip
