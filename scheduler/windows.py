"""Windows: maintenance and reservations as people ask for them, what is wrong with them, and as the arrays of a decision.

A window is a time, from its beginning until right before its end, at which nodes of a cluster (all, where none are named) are not
for everybody: under maintenance for nobody, reserved for one tenant or one queue. Windows of the same nodes do not overlap, so
it is always clear what holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scheduler.engine.snapshot import Windows
from scheduler.errors import InvalidError, Problem
from scheduler.store.records import NodeRecord, QueueRecord, WindowRecord
from workloads.spec import JobSpec

MAINTENANCE, RESERVATION = "maintenance", "reservation"
# Queues with all above them, by name.
Lines: TypeAlias = Mapping[str, frozenset[str]]
# How long ago a window may have begun when it is asked for: clocks differ, and people type.
LATE_S = 60.0


@dataclass(frozen=True)
class Known:
    """What a window may name: nodes by cluster, queues, tenants; and the windows that are there."""

    nodes: Mapping[str, Sequence[NodeRecord]]
    queues: frozenset[str]
    tenants: frozenset[str]
    windows: Sequence[WindowRecord]


def refuse_faults(window: WindowRecord, known: Known, now: float) -> None:
    """Raises InvalidError with all that is wrong with a window."""
    problems = (*_time_faults(window, now), *_name_faults(window, known))
    problems = problems or tuple(_overlaps(window, known.windows))
    if problems:
        raise InvalidError(problems)


def _time_faults(window: WindowRecord, now: float) -> Iterator[Problem]:
    if window.ends_at <= window.begins_at:
        yield Problem("ends_at", "order", "it ends before it begins; give an end after begins_at")
    elif window.ends_at <= now:
        yield Problem("ends_at", "past", "it has ended already; give times to come")
    elif window.begins_at < now - LATE_S:
        yield Problem("begins_at", "past", "it has begun already; begin it now or later")


def _name_faults(window: WindowRecord, known: Known) -> Iterator[Problem]:
    if window.cluster not in known.nodes:
        there = ", ".join(sorted(known.nodes)) or "none"
        yield Problem("cluster", "unknown", f"there is no cluster {window.cluster!r}; there are: {there}")
    else:
        names = {row.node.name for row in known.nodes[window.cluster]}
        for place, name in enumerate(window.nodes):
            if name not in names:
                shown = ", ".join(sorted(names)[:20]) or "none"
                message = f"cluster {window.cluster!r} has no node {name!r}; it has: {shown}"
                yield Problem(f"nodes.{place}", "unknown", message)
    if window.tenant is not None and window.tenant not in known.tenants:
        yield Problem("tenant", "unknown", f"there is no tenant {window.tenant!r}; make it with `cpn tenant create`")
    if window.queue is not None and window.queue not in known.queues:
        yield Problem("queue", "unknown", f"there is no queue {window.queue!r}; there are: {', '.join(sorted(known.queues)) or 'none'}")


def _overlaps(window: WindowRecord, others: Sequence[WindowRecord]) -> Iterator[Problem]:
    for other in others:
        same_time = window.begins_at < other.ends_at and other.begins_at < window.ends_at
        shared = set(window.nodes) & set(other.nodes) if window.nodes and other.nodes else {"all nodes"}
        if other.cluster == window.cluster and other.name != window.name and same_time and shared:
            what = ", ".join(sorted(shared))
            message = f"{other.purpose} {other.name!r} has {what} at that time; choose other nodes or times, or remove it first"
            yield Problem("nodes", "overlap", message)


def fewest_nodes(rows: Sequence[NodeRecord], cpu: float, memory_bytes: float, taken: frozenset[str]) -> tuple[str, ...]:
    """The names of few whole nodes that together have so much, largest first; raises InvalidError where they do not."""
    free = [row.node for row in rows if row.node.name not in taken and row.node.ready]
    names: list[str] = []
    left_cpu, left_bytes = cpu, memory_bytes
    for node in sorted(free, key=lambda item: (-item.cpu if cpu > 0 else 0.0, -item.memory_bytes, item.name)):
        if left_cpu <= 0 and left_bytes <= 0:
            break
        names.append(node.name)
        left_cpu, left_bytes = left_cpu - node.cpu, left_bytes - node.memory_bytes
    if left_cpu > 0 or left_bytes > 0:
        path = "cpu" if left_cpu > 0 else "memory"
        message = "the cluster's ready nodes that are in no other window then do not have so much; ask for less, or another time"
        raise InvalidError((Problem(path, "too_much", message),))
    return tuple(sorted(names))


def taken_nodes(window: WindowRecord, others: Sequence[WindowRecord], rows: Sequence[NodeRecord]) -> frozenset[str]:
    """The nodes of a window's cluster that other windows have at some time of it."""
    names = [row.node.name for row in rows]
    return frozenset(
        name
        for other in others
        if other.cluster == window.cluster and window.begins_at < other.ends_at and other.begins_at < window.ends_at
        for name in (other.nodes or names)
    )


def window_arrays(
    windows: Sequence[WindowRecord], now: float, nodes: Sequence[tuple[str, str]], jobs: Sequence[JobSpec], lines: Lines
) -> Windows | None:  # fmt: skip
    """The windows that have not ended as arrays; `nodes` are (cluster, name) and `jobs` specs in the order of the snapshot."""
    open_ = [item for item in windows if item.ends_at > now]
    if not open_:
        return None
    covers = [_covered(item, nodes) for item in open_]
    open_to = [[is_open_to(item, spec, lines) for spec in jobs] for item in open_]
    return Windows(
        names=tuple(item.name for item in open_),
        begin_s=np.array([item.begins_at - now for item in open_], dtype=np.float64),
        end_s=np.array([item.ends_at - now for item in open_], dtype=np.float64),
        maintenance=np.array([item.purpose == MAINTENANCE for item in open_], dtype=np.bool_),
        covers=np.array(covers, dtype=np.bool_).reshape(len(open_), len(nodes)),
        open_to=np.array(open_to, dtype=np.bool_).reshape(len(open_), len(jobs)),
    )


def _covered(window: WindowRecord, nodes: Sequence[tuple[str, str]]) -> list[bool]:
    named = frozenset(window.nodes)
    return [cluster == window.cluster and (not named or name in named) for cluster, name in nodes]


def is_open_to(window: WindowRecord, spec: JobSpec, lines: Lines) -> bool:
    """Whether a job may be placed on a window's nodes while it lasts; a queue's are for all below it too."""
    if window.purpose == MAINTENANCE:
        return False
    return spec.tenant == window.tenant if window.tenant is not None else window.queue in lines.get(spec.queue, ())


def lines_of(queues: Sequence[QueueRecord]) -> Lines:
    """Each queue with all above it, by name."""
    above = {queue.name: queue.parent for queue in queues}

    def line(name: str | None) -> tuple[str, ...]:
        return () if name is None else (name, *line(above.get(name)))

    return {name: frozenset(line(name)) for name in above}
