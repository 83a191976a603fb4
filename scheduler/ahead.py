"""Ahead: which data clusters are going to need for jobs that wait, and do not hold; it may be brought there while they wait.

Where a job will run is known of those that are promised a start, and of those for which others are told to end. A version is wanted
ahead only where the job may run, rights and residency included, and only where the cluster's cache is known. What starts first comes
first, and all of it together takes at most half of the cache of each node, for the other half is for runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cluster.health import Health
from cluster.protocol import AheadFile, InputFile
from cluster.replicas import MOST_AHEAD
from scheduler.assess import InputData, assess, is_copied
from scheduler.dispatch import input_file
from scheduler.engine.reasons import Reason
from scheduler.forecast import Promises
from scheduler.freeze import Candidate
from scheduler.market import Market
from scheduler.store.records import ClaimRecord, ClusterRecord
from workloads.spec import JobSpec

# A job that chose a later hour may wait for many. Its data comes this long before its start, and twice what it is expected to take.
BEFORE_S = 600.0


@dataclass(frozen=True)
class Awaited:
    """A waiting job whose start at a cluster is foreseen, on these nodes, in seconds since the epoch. `chosen`: it waits for that hour."""

    job_id: str
    cluster: str
    nodes: tuple[str, ...]
    start_at: float
    spec: JobSpec
    inputs: tuple[InputData, ...]
    chosen: bool = False


@dataclass(frozen=True)
class Planned:
    """A version that is wanted ahead, and the waiting jobs that it is for."""

    wanted: AheadFile
    jobs: tuple[str, ...]


def foreseen(promises: Promises, claims: Sequence[ClaimRecord], candidates: Iterable[Candidate]) -> list[tuple[Candidate, Awaited]]:
    """The jobs that read something and whose place is known; what they read is still to be looked up."""
    concerned = {item.job_id for item in promises} | {item.job_id for item in claims}
    by_id = {one.id: one for one in candidates if one.id in concerned and one.spec.inputs} if concerned else {}
    found = [
        (by_id[item.job_id], item.cluster, item.nodes, item.start_at, item.saving is not None) for item in promises if item.job_id in by_id
    ]
    # Whoever was given room starts as soon as it is free.
    found += [(by_id[item.job_id], item.cluster, tuple(item.nodes), 0.0, False) for item in claims if item.job_id in by_id]
    return [
        (candidate, Awaited(candidate.id, cluster, nodes, start_at, candidate.spec, (), chosen))
        for candidate, cluster, nodes, start_at, chosen in found
    ]


def with_inputs(found: Iterable[tuple[Candidate, Awaited]], market: Market) -> list[Awaited]:
    """The same with what they read; a job of which something is not in the catalogue any more is left out."""
    known = [item for candidate, item in found if set(candidate.spec.inputs.values()) <= market.versions.keys()]
    return [replace(item, inputs=market.inputs(item.spec, item.job_id)) for item in known]


def planned(awaited: Iterable[Awaited], clusters: Iterable[ClusterRecord], now: float) -> dict[str, tuple[Planned, ...]]:
    """By cluster what is wanted ahead there, in the order in which it is to come."""
    by_name = {cluster.name: cluster for cluster in clusters}
    plans: dict[str, _Plan] = {}
    for item in sorted(awaited, key=lambda item: (item.start_at, item.job_id, item.cluster)):
        cluster = by_name.get(item.cluster)
        if cluster is not None and _is_usable(cluster) and _may_run(item, cluster, now):
            plans.setdefault(cluster.name, _Plan(cluster)).add(item, now)
    return {name: found for name, plan in sorted(plans.items()) if (found := plan.all())}


def _is_usable(cluster: ClusterRecord) -> bool:
    known = cluster.copies is not None and cluster.copies.folder_bytes > 0
    return known and cluster.health is Health.HEALTHY and cluster.cordon == "open"


def _may_run(item: Awaited, cluster: ClusterRecord, now: float) -> bool:
    """As for a run; but money may be short now and not at the hour that it waits for."""
    against = assess(item.spec, item.inputs, cluster.spec, now, cluster.inbound, cluster.driver).against
    return all(one.reason is Reason.OVER_BUDGET for one in against)


class _Plan:
    """What one cluster is to bring in, and what that takes on each node."""

    def __init__(self, cluster: ClusterRecord) -> None:
        assert cluster.copies is not None
        self._cluster, self._held, self._most_bytes = cluster, cluster.copies.held, cluster.copies.folder_bytes // 2
        self._taken: Counter[str] = Counter()
        self._found: dict[str, Planned] = {}

    def add(self, item: Awaited, now: float) -> None:
        """What a job reads there, as far as there is room for it."""
        for data in sorted(item.inputs, key=lambda data: data.version.ref):
            version = data.version
            if version.sha256 in self._held or not is_copied(version, self._cluster.name) or not self._is_due(item, data, now):
                continue
            file = input_file(item.spec, data, self._cluster.name, self._cluster.spec.jurisdiction, self._cluster.inbound, now)
            self._want(item, file)

    def all(self) -> tuple[Planned, ...]:
        """In the order in which it is to come."""
        return tuple(self._found.values())

    def _is_due(self, item: Awaited, data: InputData, now: float) -> bool:
        if not item.chosen:
            return True
        return item.start_at - now <= BEFORE_S + 2 * self._cluster.inbound.move_of(data.version, self._cluster.name).seconds

    def _want(self, item: Awaited, file: InputFile) -> None:
        before = self._found.get(file.sha256)
        if before is None and len(self._found) >= MOST_AHEAD:
            return
        nodes = set(before.wanted.nodes) if before else set[str]()
        for node in sorted(set(item.nodes) - nodes):
            if self._taken[node] + file.size_bytes <= self._most_bytes:
                self._taken[node] += file.size_bytes
                nodes.add(node)
        if not nodes:
            return
        if before is not None:
            # Whoever may have it longest decides how long it may be brought.
            ends = (before.wanted.file.until, file.until)
            file = before.wanted.file.model_copy(update={"until": None if None in ends else max(end for end in ends if end is not None)})
        jobs = tuple(dict.fromkeys((*before.jobs, item.job_id) if before else (item.job_id,)))
        self._found[file.sha256] = Planned(AheadFile(file=file, nodes=tuple(sorted(nodes))), jobs)
