"""Filters: what stands against clusters and nodes for one job. One rule, one small function, one signature.

A filter looks at every cluster or node at once and answers with its reason where the rule is against, 0 elsewhere.
The first filter that is against a row gives the row's reason, so the order of the tuples is the order of the rules:
what a right decides before what a person decides before what time decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, Bools, Ints, Snapshot
from scheduler.engine.windows import shut_by

Filter: TypeAlias = Callable[[Snapshot, int], Ints]


def policy(snapshot: Snapshot, job: int) -> Ints:
    """[C] What rights, residency or money forbid, as judged before the freeze."""
    reasons: Ints = snapshot.jobs.policy[job]
    return reasons


def unpaid_policy(snapshot: Snapshot, job: int) -> Ints:
    """[C] The same without the budget, which may pay for another hour."""
    reasons = snapshot.jobs.policy[job]
    return np.where(reasons == Reason.OVER_BUDGET, np.int64(Reason.FITS), reasons)


def unhealthy(snapshot: Snapshot, job: int) -> Ints:  # noqa: ARG001 - one signature for all filters
    """[C] Clusters that were not heard of lately or do not answer."""
    return _where(~snapshot.clusters.healthy, Reason.CLUSTER_UNHEALTHY)


def cordoned(snapshot: Snapshot, job: int) -> Ints:  # noqa: ARG001 - one signature for all filters
    """[C] Clusters whose operator wants no new work there."""
    return _where(snapshot.clusters.cordoned, Reason.CLUSTER_CORDONED)


def not_ready(snapshot: Snapshot, job: int) -> Ints:  # noqa: ARG001 - one signature for all filters
    """[N] Nodes that their cluster reports as not ready."""
    return _where(~snapshot.nodes.ready, Reason.NODE_NOT_READY)


def without_labels(snapshot: Snapshot, job: int) -> Ints:
    """[N] Nodes that lack a label that the job asks for."""
    carried: Bools = snapshot.nodes.label_ok[snapshot.jobs.label_class[job]]
    return _where(~carried, Reason.NODE_LABELS)


def without_model(snapshot: Snapshot, job: int) -> Ints:
    """[N] Nodes that have none of the accelerator model, used or not."""
    wanted = np.flatnonzero(snapshot.jobs.request[job, FIRST_ACCELERATOR:] > 0) + FIRST_ACCELERATOR
    return _where(np.any(snapshot.nodes.total[:, wanted] <= 0, axis=1), Reason.NODE_ACCELERATOR_MODEL)


def too_small(snapshot: Snapshot, job: int) -> Ints:
    """[N] Nodes that could not hold one worker if they were empty."""
    return _where((snapshot.nodes.total < snapshot.jobs.request[job]).any(axis=1), Reason.NODE_TOO_SMALL)


def maintained(snapshot: Snapshot, job: int) -> Ints:
    """[N] Nodes under maintenance, and those where the job could still run when it begins."""
    return _where(shut_by(snapshot, job, maintenance=True), Reason.MAINTENANCE)


def reserved(snapshot: Snapshot, job: int) -> Ints:
    """[N] Nodes that are reserved for others, and those where the job could still run when that begins."""
    return _where(shut_by(snapshot, job, maintenance=False), Reason.RESERVED_FOR_OTHERS)


def busy(snapshot: Snapshot, job: int) -> Ints:
    """[N] Nodes that cannot hold one worker now."""
    return _where((snapshot.nodes.free < snapshot.jobs.request[job]).any(axis=1), Reason.NODE_BUSY)


CLUSTER_FILTERS: tuple[Filter, ...] = (policy, unhealthy, cordoned)
# What stands against clusters at an hour that the budget pays for.
PAID: tuple[Filter, ...] = (unpaid_policy, unhealthy, cordoned)
# What does not change while a plan is made; only `busy` does. What windows shut now is open later.
LASTING_NODE_FILTERS: tuple[Filter, ...] = (not_ready, without_labels, without_model, too_small)
WINDOW_FILTERS: tuple[Filter, ...] = (maintained, reserved)
NODE_FILTERS: tuple[Filter, ...] = (*LASTING_NODE_FILTERS, *WINDOW_FILTERS, busy)


def first_reasons(filters: Sequence[Filter], snapshot: Snapshot, job: int) -> Ints:
    """The first reason of these filters for each row, 0 where none is against it."""
    found = filters[0](snapshot, job)
    for rule in filters[1:]:
        found = np.where(found == Reason.FITS, rule(snapshot, job), found)
    return found


def _where(against: Bools, reason: Reason) -> Ints:
    return against * np.int64(reason)


def closest(nodes: Ints) -> Reason:
    """The reason of a cluster that lacks room, from what stands against each of its nodes."""
    if not nodes.size:
        return Reason.NODE_NOT_READY
    return Reason.GANG_DOES_NOT_FIT if (nodes == Reason.FITS).any() else Reason(int(nodes.max()))


@dataclass(frozen=True, eq=False)
class Against:
    """The greatest obstacle at each cluster `clusters[C]`, and how many nodes of permitted clusters each reason takes out."""

    clusters: Ints
    nodes: tuple[tuple[Reason, int], ...]

    @classmethod
    def closest(cls, ways: Sequence[Against]) -> Against:
        """That of a job that could run in several ways: at each cluster the way that came closest, nodes of the closest in all."""
        clusters = np.max([way.clusters for way in ways], axis=0)
        return cls(clusters, max(ways, key=lambda way: int(way.clusters.max(initial=0))).nodes)
