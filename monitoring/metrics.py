"""Metric families of the control plane, in Prometheus' naming: `cpn_` first, base units, bounded labels.

What happens is counted where it happens (cycles, outcomes, starts); what is (queue depths, cluster health,
computing power) is read from the store at the scrape, so it is right after a restart too.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.protocol import Usage
from monitoring.capacity import Capacity
from scheduler.cycle import CycleReport
from scheduler.links import MIB
from scheduler.reconcile import Reconciled
from scheduler.store.records import ClusterRecord

START_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)
CYCLE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


@dataclass(frozen=True)
class NetworkState:
    """What a scrape reads: (queue, state, number, oldest submission), members, computing power."""

    now: float
    queues: Sequence[tuple[str, str, int, float]]
    clusters: Sequence[ClusterRecord]
    capacity: Capacity


class Metrics:
    """All families of one control plane, in a registry of its own."""

    def __init__(self, read_state: Callable[[], NetworkState]) -> None:
        self.registry = CollectorRegistry()
        self._submitted = Counter("cpn_jobs_submitted", "Jobs accepted.", registry=self.registry)
        self._refused = Counter(
            "cpn_jobs_refused", "Submissions refused, by the first rule against them.", ["reason"], registry=self.registry
        )
        self._decisions = Counter(
            "cpn_decisions", "Waiting jobs judged by cycles, by outcome or blocker.", ["reason"], registry=self.registry
        )
        self._placements = Counter("cpn_placements", "Placements committed.", registry=self.registry)
        self._stale = Counter("cpn_placements_stale", "Placements dropped because the world had changed.", registry=self.registry)
        self._evictions = Counter(
            "cpn_evictions", "Runs ordered to end to make room, by the right to it.", ["reason"], registry=self.registry
        )
        self._cycle = Histogram(
            "cpn_cycle_duration_seconds", "Cycle duration by step.", ["step"], buckets=CYCLE_BUCKETS, registry=self.registry
        )
        self._ended = Counter("cpn_runs_ended", "Runs ended, by state and cause.", ["state", "cause"], registry=self.registry)
        self._start = Histogram(
            "cpn_start_latency_seconds", "From submission to start of the work.", buckets=START_BUCKETS, registry=self.registry
        )
        self._resizes = Counter(
            "cpn_resizes", "Changes of the size of running gangs that are over, and why they were ordered.", ["direction", "reason"],
            registry=self.registry,
        )  # fmt: skip
        self._cached = Counter("cpn_cache_inputs", "Inputs read from copies, by whether the copy was there.", ["cluster", "outcome"],
                               registry=self.registry)  # fmt: skip
        self._cache_evicted = Counter(
            "cpn_cache_evicted_copies", "Copies of data removed to make room for others.", ["cluster"], registry=self.registry
        )
        self._cache_evicted_bytes = Counter("cpn_cache_evicted_bytes", "Bytes of these copies.", ["cluster"], registry=self.registry)
        self._transferred = Counter("cpn_transferred_bytes", "Bytes brought in from other members.", ["cluster"], registry=self.registry)
        self._transferred_ahead = Counter(
            "cpn_transferred_ahead_bytes", "Of these what had come before the run that read it first.", ["cluster"], registry=self.registry
        )
        self._stale_reports = Counter("cpn_observations_stale", "Reports fenced off: not from a current run.", registry=self.registry)
        self.registry.register(_StateCollector(read_state))

    def saw_submission(self, count: int = 1) -> None:
        """A job was accepted, or an array of so many tasks."""
        self._submitted.inc(count)

    def saw_refusal(self, reason: str) -> None:
        """A submission was refused."""
        self._refused.labels(reason).inc()

    def saw_cycle(self, report: CycleReport) -> None:
        """A cycle ended."""
        self._placements.inc(report.placed)
        self._stale.inc(report.stale)
        if report.placed:
            self._decisions.labels("placed").inc(report.placed)
        for reason, count in sorted(report.blockers.items()):
            self._decisions.labels(reason).inc(count)
        for right, count in sorted(report.evicted.items()):
            self._evictions.labels(right.replace("-", "_")).inc(count)
        for step, seconds in report.steps.items():
            self._cycle.labels(step).observe(seconds)

    def saw_reports(self, done: Reconciled) -> None:
        """Reports of an agent, or a sweep, were taken in."""
        for (state, cause), count in Tally((state, cause) for _, state, cause in done.ended).items():
            self._ended.labels(state, cause).inc(count)
        for _, _, since_submitted in done.started:
            self._start.observe(since_submitted)
        for direction, why in done.resized:
            self._resizes.labels(direction, why.replace("-", "_")).inc()
        for cluster, used in done.caches:
            self._saw_copies(cluster, used)
        self._stale_reports.inc(done.stale)

    def _saw_copies(self, cluster: str, used: Usage) -> None:
        for outcome, count in (("hit", used.cache.hits), ("miss", used.cache.misses)):
            if count:
                self._cached.labels(cluster, outcome).inc(count)
        if used.cache.evicted:
            self._cache_evicted.labels(cluster).inc(used.cache.evicted)
        if used.cache.evicted_bytes:
            self._cache_evicted_bytes.labels(cluster).inc(used.cache.evicted_bytes)
        if used.transferred_bytes:
            self._transferred.labels(cluster).inc(used.transferred_bytes)
        if ahead := sum(one.size_bytes for one in used.transfers if one.ahead):
            self._transferred_ahead.labels(cluster).inc(ahead)


class _StateCollector(Collector):
    def __init__(self, read_state: Callable[[], NetworkState]) -> None:
        self._read_state = read_state

    def describe(self) -> Iterable[Metric]:
        # Empty on purpose: registering must not read the store.
        return []

    def collect(self) -> Iterable[Metric]:
        state = self._read_state()
        yield from _queue_families(state)
        yield from _cluster_families(state)
        yield from _capacity_families(state.capacity)


def _queue_families(state: NetworkState) -> Iterable[Metric]:
    depth = GaugeMetricFamily("cpn_jobs", "Jobs that are not final, by queue and state.", labels=["queue", "state"])
    age = GaugeMetricFamily("cpn_jobs_oldest_age_seconds", "Age of the oldest such job.", labels=["queue", "state"])
    for queue, job_state, count, oldest in state.queues:
        depth.add_metric([queue, job_state], count)
        age.add_metric([queue, job_state], max(state.now - oldest, 0.0))
    yield depth
    yield age


def _cluster_families(state: NetworkState) -> Iterable[Metric]:
    health = GaugeMetricFamily("cpn_cluster_health", "1 for the standing a cluster is in.", labels=["cluster", "health"])
    heard = GaugeMetricFamily("cpn_cluster_heard_age_seconds", "Time since the agent was last heard.", labels=["cluster"])
    speed = GaugeMetricFamily(
        "cpn_link_bytes_per_second", "Speed that transfers between members are expected to have, where it was measured.",
        labels=["source", "cluster"],
    )  # fmt: skip
    held = GaugeMetricFamily("cpn_cache_bytes", "Bytes that copies of data from elsewhere take.", labels=["cluster"])
    capacity = GaugeMetricFamily("cpn_cache_capacity_bytes", "Bytes that they may take.", labels=["cluster"])
    ahead = GaugeMetricFamily(
        "cpn_cache_ahead_bytes", "Of these bytes those that were brought ahead of a run, and read by none yet.", labels=["cluster"]
    )
    cordoned = GaugeMetricFamily("cpn_cluster_cordoned", "1 when nothing new is placed there.", labels=["cluster"])
    for cluster in state.clusters:
        for standing in ("healthy", "suspect", "lost"):
            health.add_metric([cluster.name, standing], float(cluster.health.value == standing))
        heard.add_metric([cluster.name], max(state.now - (cluster.heard_at or cluster.created_at), 0.0))
        cordoned.add_metric([cluster.name], float(cluster.cordon != "open"))
        for source in sorted(cluster.links):
            speed.add_metric([source, cluster.name], cluster.inbound.mib_s(source) * MIB)
        if cluster.copies is not None:
            held.add_metric([cluster.name], cluster.copies.used_bytes)
            capacity.add_metric([cluster.name], cluster.copies.capacity_bytes)
            ahead.add_metric([cluster.name], cluster.copies.ahead_bytes)
    yield from (health, heard, cordoned, speed, held, capacity, ahead)


def _capacity_families(capacity: Capacity) -> Iterable[Metric]:
    labels = ["cluster", "compute_class", "precision"]
    families = {
        kind: GaugeMetricFamily(f"cpn_{kind}_flops", f"Computing power, {words}, in FLOP/s.", labels=labels)
        for kind, words in (("rated", "as rated"), ("available", "usable now"), ("used", "held by placed and running work"))
    }
    for cluster, powers in capacity.by_cluster.items():
        for power in powers:
            key = [cluster, power.compute_class, power.precision]
            families["rated"].add_metric(key, power.rated)
            families["available"].add_metric(key, power.available)
            families["used"].add_metric(key, power.allocated)
    yield from families.values()
    unrated = GaugeMetricFamily("cpn_unrated_devices", "Hardware without a rating.", labels=["cluster"])
    counts: dict[str, int] = {}
    for item in capacity.unrated:
        counts[item.cluster] = counts.get(item.cluster, 0) + item.count
    for cluster in capacity.by_cluster:
        unrated.add_metric([cluster], counts.get(cluster, 0))
    yield unrated
