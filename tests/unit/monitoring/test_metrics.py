"""Metrics: the families that operators build on, with bounded labels, in both of Prometheus' text forms."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from cluster.health import Health
from cluster.protocol import Usage
from cluster.replicas import CacheCounts, CacheState, Transfer
from monitoring.capacity import measure
from monitoring.metrics import Metrics, NetworkState
from scheduler.cycle import CycleReport
from scheduler.engine.reasons import Reason
from scheduler.lifecycle import ENDS, Cause, State
from scheduler.links import MIB, Sample
from scheduler.reconcile import Reconciled
from scheduler.sizes import WHY_WORDS, Resized
from scheduler.store.records import ClusterRecord
from tests.records import NOW, machine, member, run

EPYC = {"cpn.dev/cpu-model": "AMD EPYC 7763"}
FAMILIES = {
    "cpn_jobs": ("gauge", {"queue", "state"}),
    "cpn_jobs_oldest_age_seconds": ("gauge", {"queue", "state"}),
    "cpn_jobs_submitted": ("counter", set()),
    "cpn_jobs_refused": ("counter", {"reason"}),
    "cpn_decisions": ("counter", {"reason"}),
    "cpn_placements": ("counter", set()),
    "cpn_placements_stale": ("counter", set()),
    "cpn_evictions": ("counter", {"reason"}),
    "cpn_cycle_duration_seconds": ("histogram", {"step"}),
    "cpn_runs_ended": ("counter", {"state", "cause"}),
    "cpn_start_latency_seconds": ("histogram", set()),
    "cpn_resizes": ("counter", {"direction", "reason"}),
    "cpn_observations_stale": ("counter", set()),
    "cpn_cluster_health": ("gauge", {"cluster", "health"}),
    "cpn_cluster_heard_age_seconds": ("gauge", {"cluster"}),
    "cpn_cluster_cordoned": ("gauge", {"cluster"}),
    "cpn_cache_inputs": ("counter", {"cluster", "outcome"}),
    "cpn_cache_evicted_copies": ("counter", {"cluster"}),
    "cpn_cache_evicted_bytes": ("counter", {"cluster"}),
    "cpn_transferred_bytes": ("counter", {"cluster"}),
    "cpn_transferred_ahead_bytes": ("counter", {"cluster"}),
    "cpn_cache_ahead_bytes": ("gauge", {"cluster"}),
    "cpn_cache_bytes": ("gauge", {"cluster"}),
    "cpn_cache_capacity_bytes": ("gauge", {"cluster"}),
    "cpn_link_bytes_per_second": ("gauge", {"source", "cluster"}),
    "cpn_rated_flops": ("gauge", {"cluster", "compute_class", "precision"}),
    "cpn_available_flops": ("gauge", {"cluster", "compute_class", "precision"}),
    "cpn_used_flops": ("gauge", {"cluster", "compute_class", "precision"}),
    "cpn_unrated_devices": ("gauge", {"cluster"}),
}
BOUNDED = {
    "state": {state.value for state in State},
    "cause": {cause.value for cause in Cause},
    "reason": {reason.label for reason in Reason} | {"placed"} | {why.replace("-", "_") for why in WHY_WORDS},
    "direction": {"grown", "shrunk", "refused"},
    "health": {health.value for health in Health},
    "step": {"freeze", "place", "check", "commit"},
    "compute_class": {"general", "intelligent", "super"},
    "precision": {"fp64", "fp32", "tf32", "fp16"},
    "cluster": {"sh", "gz", "new"},
    "source": {"sh", "gz", "new"},
    "outcome": {"hit", "miss"},
    "queue": {"default", "fast"},
}


def with_data(cluster: ClusterRecord) -> ClusterRecord:
    """With a link that was measured, and copies."""
    samples = tuple(Sample(mib * MIB, 2.0, NOW) for mib in (20, 40, 10))
    return replace(cluster, links={"gz": samples}, copies=CacheState(capacity_bytes=100, used_bytes=70, copies=2, ahead_bytes=30))


def state() -> NetworkState:
    """Three members, one of them lost and one never heard; two queues."""
    members = [
        with_data(member("sh")),
        member("gz", health=Health.LOST, cordon="draining"),
        replace(member("new", health=Health.SUSPECT), heard_at=None),
    ]  # fmt: skip
    nodes = [machine("sh", models={"H200": 2, "a cat": 3}, **EPYC), machine("gz", **EPYC)]
    queues = [("default", "queued", 3, NOW - 90.0), ("default", "running", 1, NOW + 5.0), ("fast", "placed", 2, NOW)]
    return NetworkState(NOW + 10.0, queues, members, measure(members, nodes, [run("sh", ["n1"], cpu=2)]))


def busy() -> Metrics:
    """A control plane to which everything has happened."""
    metrics = Metrics(state)
    metrics.saw_submission()
    metrics.saw_refusal("licence_purpose")
    metrics.saw_cycle(
        CycleReport(
            considered=6, placed=3, stale=1, blockers=Counter(node_busy=2, queue_limit=1), evicted=Counter({"reclaim-quota": 2}),
            steps={"freeze": 0.001, "place": 0.01, "check": 0.001, "commit": 0.002},
        )
    )  # fmt: skip
    ended = [("a-1", "succeeded", "finished"), ("b-1", "lost", "cluster_lost"), ("c-1", "succeeded", "finished")]
    resized = [Resized("grown", "idle-room"), Resized("shrunk", "grown-room"), Resized("grown", "idle-room")]
    counts = CacheCounts(hits=2, misses=1, evicted=3, evicted_bytes=300)
    moved = tuple(Transfer(source="gz", size_bytes=size, seconds=1.0, ahead=size > 30) for size in (20, 50))
    used = [("sh", Usage(cache=counts, transferred_bytes=70, transfers=moved)), ("gz", Usage()), ("sh", Usage(cache=CacheCounts(hits=1)))]
    metrics.saw_reports(Reconciled(ended=ended, started=[("sh", 0.01, 0.03), ("sh", 1.0, 42.0)], stale=4, resized=resized, caches=used))
    return metrics


def scraped(metrics: Metrics, accept: str = "") -> dict[str, Metric]:
    """The families as a scraper reads them. Text of the older form names counters with their suffix."""
    encode, content_type = choose_encoder(accept)
    read = read_open_metrics if "openmetrics" in content_type else read_text
    found = {family.name: family for family in read(encode(metrics.registry).decode())}
    return {name: family for name, family in found.items() if not name.endswith("_created")}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "text/plain; version=0.0.4"])
def test_every_family_is_there_with_its_type_its_labels_and_a_description(accept: str) -> None:
    found = scraped(busy(), accept)
    assert {name: family.type for name, family in found.items()} == {name: kind for name, (kind, _) in FAMILIES.items()}
    for name, family in found.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == FAMILIES[name][1], name
        assert family.documentation.endswith("."), name


def test_labels_take_known_values_only() -> None:
    for family in scraped(busy()).values():
        for sample in family.samples:
            for label, text in sample.labels.items():
                assert label == "le" or text in BOUNDED[label], (sample.name, label, text)


def test_names_are_of_one_kind_and_in_base_units() -> None:
    for name in FAMILIES:
        assert re.fullmatch(r"cpn_[a-z_]+", name)
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mib|tflops|percent|total)$", name)


def test_what_happened_is_counted() -> None:
    metrics = busy()
    expected: list[tuple[str, dict[str, str], float]] = [
        ("cpn_jobs_submitted_total", {}, 1),
        ("cpn_jobs_refused_total", {"reason": "licence_purpose"}, 1),
        ("cpn_placements_total", {}, 3),
        ("cpn_placements_stale_total", {}, 1),
        ("cpn_evictions_total", {"reason": "reclaim_quota"}, 2),
        ("cpn_decisions_total", {"reason": "placed"}, 3),
        ("cpn_decisions_total", {"reason": "node_busy"}, 2),
        ("cpn_decisions_total", {"reason": "queue_limit"}, 1),
        ("cpn_runs_ended_total", {"state": "succeeded", "cause": "finished"}, 2),
        ("cpn_runs_ended_total", {"state": "lost", "cause": "cluster_lost"}, 1),
        ("cpn_observations_stale_total", {}, 4),
        ("cpn_cache_inputs_total", {"cluster": "sh", "outcome": "hit"}, 3),
        ("cpn_cache_inputs_total", {"cluster": "sh", "outcome": "miss"}, 1),
        ("cpn_cache_evicted_copies_total", {"cluster": "sh"}, 3),
        ("cpn_cache_evicted_bytes_total", {"cluster": "sh"}, 300),
        ("cpn_transferred_bytes_total", {"cluster": "sh"}, 70),
        ("cpn_transferred_ahead_bytes_total", {"cluster": "sh"}, 50),
        ("cpn_resizes_total", {"direction": "grown", "reason": "idle_room"}, 2),
        ("cpn_resizes_total", {"direction": "shrunk", "reason": "grown_room"}, 1),
        ("cpn_start_latency_seconds_count", {}, 2),
        ("cpn_start_latency_seconds_sum", {}, 42.03),
        ("cpn_start_latency_seconds_bucket", {"le": "0.05"}, 1),
        ("cpn_start_latency_seconds_bucket", {"le": "0.02"}, 0),
        ("cpn_cycle_duration_seconds_count", {"step": "place"}, 1),
        ("cpn_cycle_duration_seconds_sum", {"step": "commit"}, 0.002),
    ]
    assert [value(metrics, name, **labels) for name, labels, _ in expected] == pytest.approx([count for _, _, count in expected])


def test_what_is_comes_from_the_store_at_each_scrape() -> None:
    metrics = Metrics(state)
    expected: list[tuple[str, dict[str, str], float]] = [
        ("cpn_jobs", {"queue": "default", "state": "queued"}, 3),
        ("cpn_jobs", {"queue": "fast", "state": "placed"}, 2),
        ("cpn_jobs_oldest_age_seconds", {"queue": "default", "state": "queued"}, 100),
        ("cpn_jobs_oldest_age_seconds", {"queue": "default", "state": "running"}, 5),
        ("cpn_cluster_health", {"cluster": "sh", "health": "healthy"}, 1),
        ("cpn_cache_bytes", {"cluster": "sh"}, 70),
        ("cpn_cache_capacity_bytes", {"cluster": "sh"}, 100),
        ("cpn_cache_ahead_bytes", {"cluster": "sh"}, 30),
        ("cpn_link_bytes_per_second", {"source": "gz", "cluster": "sh"}, 10 * MIB),
        ("cpn_cluster_health", {"cluster": "sh", "health": "lost"}, 0),
        ("cpn_cluster_health", {"cluster": "gz", "health": "lost"}, 1),
        ("cpn_cluster_health", {"cluster": "new", "health": "suspect"}, 1),
        ("cpn_cluster_heard_age_seconds", {"cluster": "new"}, 10),
        ("cpn_cluster_cordoned", {"cluster": "sh"}, 0),
        ("cpn_cluster_cordoned", {"cluster": "gz"}, 1),
        ("cpn_unrated_devices", {"cluster": "sh"}, 3),
        ("cpn_unrated_devices", {"cluster": "new"}, 0),
    ]
    assert [value(metrics, name, **labels) for name, labels, _ in expected] == [count for _, _, count in expected]


def test_computing_power_is_shown_by_member_class_and_precision() -> None:
    metrics, fp64 = Metrics(state), {"compute_class": "general", "precision": "fp64"}
    core = 2.45e9 * 16
    assert value(metrics, "cpn_rated_flops", cluster="sh", **fp64) == pytest.approx(8 * core)
    assert value(metrics, "cpn_used_flops", cluster="sh", **fp64) == pytest.approx(2 * core)
    assert value(metrics, "cpn_rated_flops", cluster="gz", **fp64) == pytest.approx(8 * core)
    assert value(metrics, "cpn_available_flops", cluster="gz", **fp64) == 0
    assert value(metrics, "cpn_rated_flops", cluster="sh", compute_class="intelligent", precision="fp16") == pytest.approx(2 * 989.5e12)


def test_a_member_has_exactly_one_standing() -> None:
    sums: Counter[str] = Counter()
    for sample in scraped(Metrics(state))["cpn_cluster_health"].samples:
        sums[sample.labels["cluster"]] += int(sample.value)
    assert sums == {"sh": 1, "gz": 1, "new": 1}


def test_an_age_is_never_negative() -> None:
    early = replace(state(), now=NOW - 3600.0)
    metrics = Metrics(lambda: early)
    assert all(sample.value >= 0 for name, family in scraped(metrics).items() if name.endswith("age_seconds") for sample in family.samples)


def test_a_quiet_network_shows_counters_at_zero_and_reads_nothing_before_the_first_scrape() -> None:
    reads: list[int] = []

    def read() -> NetworkState:
        reads.append(1)
        return NetworkState(NOW, [], [], measure([], [], []))

    metrics = Metrics(read)
    assert reads == []
    assert set(scraped(metrics)) == set(FAMILIES)
    assert reads == [1]
    assert value(metrics, "cpn_placements_total") == 0


def test_two_control_planes_do_not_share_their_counts() -> None:
    first, second = busy(), Metrics(state)
    assert (value(first, "cpn_jobs_submitted_total"), value(second, "cpn_jobs_submitted_total")) == (1, 0)


@pytest.mark.parametrize("finish", sorted(ENDS))
def test_every_end_of_a_run_can_be_counted(finish: Any) -> None:
    metrics = Metrics(state)
    metrics.saw_reports(Reconciled(ended=[("a-1", finish.value, "exit")]))
    assert value(metrics, "cpn_runs_ended_total", state=finish.value, cause="exit") == 1
