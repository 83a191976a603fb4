"""Quotas of queues: what is wrong with a queue as it is asked for, what is doubtful about it, and what queues used lately.

Amounts are mappings from a resource (`cpu` in cores, `memory` in bytes, accelerators by model) to a number. What cannot be
meant is refused with its path: a parent that is not there, a tree that closes in a circle, a resource that nobody has. What may
be meant for tomorrow (quotas above the capacity, children's above their parent's) is kept and shown as a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from scheduler.engine.evictable import PreemptionPolicy
from scheduler.errors import InvalidError, Problem
from scheduler.store.records import PastRun, QueueRecord, RunRecord

Amounts = Mapping[str, float]

# After so many half-lives less than one part in a hundred of a use is left.
HALF_LIVES = 7


def refuse_faults(queue: QueueRecord, others: Sequence[QueueRecord], models: Iterable[str]) -> None:
    """Raises InvalidError with all that is wrong with a queue beside others; `models` are the accelerators that may be named."""
    problems = (*_parent_faults(queue, {item.name: item for item in others}), *_amount_faults(queue, ("cpu", "memory", *sorted(models))))
    if problems:
        raise InvalidError(problems)


def _parent_faults(queue: QueueRecord, others: Mapping[str, QueueRecord]) -> Iterator[Problem]:
    if queue.parent is None:
        return
    if queue.parent != queue.name and queue.parent not in others:
        known = ", ".join(sorted(others)) or "none"
        yield Problem("parent", "unknown", f"there is no queue {queue.parent!r}; there are: {known}")
        return
    way = [queue.name]
    above: str | None = queue.parent
    while above is not None and above not in way:
        way.append(above)
        above = others[above].parent if above in others else None
    if above is not None:
        circle = " below ".join([*way, above])
        yield Problem("parent", "cycle", f"the queues would form a circle ({circle}); choose a parent that is not below {queue.name!r}")


def _amount_faults(queue: QueueRecord, known: Sequence[str]) -> Iterator[Problem]:
    for field in ("quota", "borrow_limit", "lend_limit"):
        for resource in sorted(getattr(queue, field)):
            if resource not in known:
                yield Problem(f"{field}.{resource}", "unknown", f"there is no resource {resource!r}; name one of: {', '.join(known)}")
    for resource in sorted(queue.lend_limit):
        if resource in known and not queue.quota.get(resource):
            message = f"there is no quota of {resource} that could be lent; give the quota too, or leave the limit out"
            yield Problem(f"lend_limit.{resource}", "no_quota", message)


def ceiling(queue: QueueRecord, resource: str) -> float:
    """The most that a queue may hold: its quota and what it may borrow; no limit where no borrowing limit is given."""
    limit = queue.borrow_limit.get(resource)
    return math.inf if limit is None else queue.quota.get(resource, 0.0) + limit


def kept(queue: QueueRecord, resource: str) -> float:
    """What a queue keeps of its quota even while it does not use it."""
    quota = queue.quota.get(resource, 0.0)
    return max(quota - queue.lend_limit.get(resource, math.inf), 0.0)


def warnings(queue: QueueRecord, queues: Sequence[QueueRecord], capacity: Amounts) -> tuple[str, ...]:
    """What of a queue's quotas cannot be kept as things are."""
    by_name, found = {item.name: item for item in queues}, []
    children = [item for item in queues if item.parent == queue.name]
    for resource in sorted({name for item in (queue, *children) for name in item.quota}):
        own, lent = queue.quota.get(resource, 0.0), sum(item.quota.get(resource, 0.0) for item in children)
        if children and lent > own:
            found.append(f"quotas of the queues below it come to {shown(resource, lent)}, more than its own {shown(resource, own)}")
        tops = sum(item.quota.get(resource, 0.0) for item in queues if item.parent is None)
        if queue.parent is None and own and tops > capacity.get(resource, 0.0):
            there = shown(resource, capacity.get(resource, 0.0))
            found.append(f"quotas at the top come to {shown(resource, tops)}, more than the network's {there}")
        for above in _above(queue, by_name):
            if own > ceiling(above, resource):
                most = shown(resource, ceiling(above, resource))
                found.append(f"its quota of {shown(resource, own)} is more than {above.name} may hold ({most})")
    return tuple(found)


def preemption_of(queue: QueueRecord, by_name: Mapping[str, QueueRecord]) -> PreemptionPolicy:
    """Whom a queue's jobs may have ended: its own word, else that of the nearest queue above it, else nobody."""
    for item in (queue, *_above(queue, by_name)):
        if item.preemption is not None:
            return PreemptionPolicy[item.preemption.upper().replace("-", "_")]
    return PreemptionPolicy.NEVER


def _above(queue: QueueRecord, by_name: Mapping[str, QueueRecord]) -> Iterator[QueueRecord]:
    while queue.parent is not None and queue.parent in by_name:
        queue = by_name[queue.parent]
        yield queue


def shown(resource: str, amount: float) -> str:
    """An amount with its unit, for people: `64 cpu`, `256 GiB memory`."""
    return f"{amount / 1024**3:g} GiB memory" if resource == "memory" else f"{amount:g} {resource}"


def layout(queue: QueueRecord, by_name: Mapping[str, QueueRecord]) -> Literal["pack", "spread"]:
    """How a queue lays its work out over nodes: as it says itself, else as the next one above that does; at the top it packs."""
    return next((item.layout for item in (queue, *_above(queue, by_name)) if item.layout is not None), "pack")


def recent_use(runs: Iterable[RunRecord | PastRun], now: float, half_life_s: float) -> dict[str, dict[str, float]]:
    """What queues held on average lately, by queue and resource: what was held a half-life ago counts half.

    The weight of a moment is exp(-λ age) λ, which comes to 1 over all of the past: a queue that always held 8 cores used 8.
    """
    rate, used = math.log(2) / half_life_s, dict[str, dict[str, float]]()
    for run in runs:
        end = now if run.finished_at is None else min(run.finished_at, now)
        begin = min(run.placed_at, end)
        share = (math.exp(-rate * (now - end)) - math.exp(-rate * (now - begin))) * _workers(run, end)
        of_queue = used.setdefault(run.queue, {})
        for resource, amount in _held(run.held):
            of_queue[resource] = of_queue.get(resource, 0.0) + amount * share
    return used


def _workers(run: RunRecord | PastRun, end: float) -> float:
    """How many workers a run had; of one whose size changed the mean."""
    sizing, started_at = run.sizing, run.started_at
    if sizing is None or started_at is None or end <= started_at:
        return len(run.nodes)
    return sizing.used(started_at, end) / (end - started_at)


def _held(held: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    yield "cpu", float(str(held["cpu"]))
    yield "memory", float(str(held["memory_bytes"]))
    if held["accelerator_count"] and held["accelerator_model"]:
        yield str(held["accelerator_model"]), float(str(held["accelerator_count"]))
