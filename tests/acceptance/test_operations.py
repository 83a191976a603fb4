"""What operators and SREs see: clusters, nodes, capacity, targets, metrics, health."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cluster.backends.memory import Behaviour
from scheduler.store.session import Store
from tests.network import Network, job, node, until

TARGET = {
    "name": "computing-power", "compute_class": "intelligent", "precision": "fp16", "baseline": "2PFLOPS", "baseline_date": "2020-12-31",
    "multiple": 4, "due": "2025-12-31", "scope": "the test network", "source": "made up for this test",
}  # fmt: skip


def samples(network: Network) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = httpx.get(f"{network.url}/metrics").text
    return {(item.name, tuple(sorted(item.labels.items()))): item.value for family in parse_text(text) for item in family.samples}


def test_nodes_show_what_is_held(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 16, "H200", 8), script=lambda _run: Behaviour(duration_s=60))
    request = {"cpu": 2, "memory": "4GiB", "accelerator": {"model": "H200", "count": 3}}
    network.wait(network.submit(job(kind="command", resources=request))["id"], "running")
    [shown] = network.ok(network.operator.get("/nodes"))["items"]
    assert (shown["cpu_used"], shown["memory_used_bytes"]) == (2, 4 * 1024**3)
    assert shown["accelerators"] == [{"model": "H200", "total": 8, "used": 3}]
    assert network.cluster("sh")["accelerators"] == shown["accelerators"]


def test_capacity_counts_rated_available_allocated_and_unrated(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 16, "H200", 8), node("n2", 8, 16, "Mystery", 2), script=lambda _run: Behaviour(duration_s=60))
    request = {"accelerator": {"model": "H200", "count": 4}}
    network.wait(network.submit(job(kind="command", resources=request))["id"], "running")
    capacity = network.ok(network.operator.get("/capacity"))
    [power] = [item for item in capacity["flops"] if (item["compute_class"], item["precision"]) == ("intelligent", "fp16")]
    assert power["rated"] == power["available"] > 1e15
    assert power["allocated"] == pytest.approx(power["rated"] / 2)
    assert {"cluster": "sh", "what": "Mystery", "count": 2} in capacity["unrated"]
    network.ok(network.operator.post("/clusters/sh:cordon"))
    cordoned = network.ok(network.operator.get("/capacity"))
    [power] = [item for item in cordoned["flops"] if (item["compute_class"], item["precision"]) == ("intelligent", "fp16")]
    assert power["available"] == 0 < power["rated"]


def test_a_target_is_measured_against_its_own_class_and_precision(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 16, "H200", 8))
    shown = network.ok(network.operator.post("/targets", json=TARGET))
    assert shown["target_flops"] == 8e15
    assert shown["ratio_to_baseline"] == pytest.approx(shown["rated_flops"] / 2e15)
    assert shown["met"] is (shown["rated_flops"] >= 8e15)
    [listed] = network.ok(network.operator.get("/capacity"))["targets"]
    assert listed == shown


@pytest.mark.parametrize(("change", "path"), [
    ({"baseline": 4500}, "baseline"), ({"baseline": "4500 horses"}, "baseline"), ({"source": ""}, "source"), ({"due": "2020-01-01"}, "due"),
])  # fmt: skip
def test_a_target_without_attribution_or_units_is_refused(bare: Network, change: dict[str, Any], path: str) -> None:
    answer = bare.operator.post("/targets", json={**TARGET, **change})
    assert answer.status_code == 422
    assert path in [item["path"] for item in answer.json()["errors"]]


def test_metrics_follow_what_happens(network: Network) -> None:
    network.add_cluster("sh")
    network.wait(network.submit(job())["id"])
    network.ok(network.operator.post("/clusters/sh:cordon"))
    network.submit(job("waits"))
    until(lambda: samples(network).get(("cpn_jobs", (("queue", "default"), ("state", "queued")))) == 1, "one job is queued")
    cordoned = ("cpn_decisions_total", (("reason", "cluster_cordoned"),))
    until(lambda: samples(network).get(cordoned, 0) >= 1, "it was decided about that job")
    found = samples(network)
    assert found["cpn_jobs_submitted_total", ()] == 2
    assert found["cpn_placements_total", ()] == 1
    assert found["cpn_runs_ended_total", (("cause", "finished"), ("state", "succeeded"))] == 1
    assert found["cpn_start_latency_seconds_count", ()] == 1
    assert found["cpn_cluster_health", (("cluster", "sh"), ("health", "healthy"))] == 1
    assert found["cpn_cluster_cordoned", (("cluster", "sh"),)] == 1
    assert found["cpn_cycle_duration_seconds_count", (("step", "place"),)] >= 1
    assert found["cpn_jobs_oldest_age_seconds", (("queue", "default"), ("state", "queued"))] >= 0


def test_metrics_are_readable_as_openmetrics_too(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 16, "H200", 8))
    answer = httpx.get(f"{network.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    names = {family.name for family in parse_openmetrics(answer.text)}
    assert {"cpn_rated_flops", "cpn_available_flops", "cpn_used_flops", "cpn_cluster_health", "cpn_cycle_duration_seconds"} <= names
    assert all(name.startswith("cpn_") for name in names)


def test_health_endpoints(bare: Network) -> None:
    assert httpx.get(f"{bare.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{bare.url}/readyz").json() == {"status": "ready"}


def test_a_database_that_is_away_is_said_to_be_and_work_goes_on_when_it_is_back(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network.add_cluster("sh")
    away = Store(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}")
    monkeypatch.setattr(network.plane.store, "engine", away.engine)
    for method, path, body in (("GET", "/readyz", None), ("GET", "/v1/jobs", None), ("POST", "/v1/jobs", job())):
        answer = network.operator.request(method, f"{network.url}{path}", json=body)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:cpn:problem:unavailable"), answer.text
        assert "the database does not answer" in answer.json()["detail"]
    assert httpx.get(f"{network.url}/healthz").status_code == 200
    until(lambda: "a cycle failed; nothing of it was stored" in caplog.text, "the cycle has met it")
    monkeypatch.undo()
    away.close()
    until(lambda: httpx.get(f"{network.url}/readyz").status_code == 200, "the server is ready again")
    assert network.wait(network.submit(job())["id"])["state"] == "succeeded"


def test_a_push_cluster_whose_endpoint_is_not_there_is_refused(bare: Network) -> None:
    prices = {"cpu_hour": "0.1 CNY", "memory_gib_hour": "0.1 CNY", "transfer_gib": "0.1 CNY"}
    document = {"name": "x", "backend": "ray", "mode": "push", "jurisdiction": "CN-SH", "prices": prices}
    for endpoint, path in (
        ({"address": "127.0.0.1:9"}, "endpoint.address"), ({"address": "nonsense"}, "endpoint.address"),
        ({"address": "127.0.0.1:9", "token_file": "/nowhere/token"}, "endpoint.token_file"),
    ):  # fmt: skip
        answer = bare.operator.post("/clusters", json={**document, "endpoint": endpoint})
        assert answer.status_code == 422, answer.text
        assert path in [item["path"] for item in answer.json()["errors"]]
    assert bare.ok(bare.operator.get("/clusters"))["items"] == []


def test_a_cluster_with_runs_is_not_removed(network: Network) -> None:
    network.add_cluster("sh", script=lambda _run: Behaviour(duration_s=60))
    running = network.submit(job())["id"]
    network.wait(running, "running")
    assert network.operator.delete("/clusters/sh").status_code == 409
    network.ok(network.operator.post(f"/jobs/{running}:cancel"))
    network.wait(running)
    assert network.operator.delete("/clusters/sh").status_code == 204
    assert network.operator.get("/clusters/sh").status_code == 404


def test_prices_of_one_cluster_are_in_one_currency(bare: Network) -> None:
    prices = {"cpu_hour": "0.1 CNY", "memory_gib_hour": "0.1 USD", "transfer_gib": "0.1 CNY"}
    answer = bare.operator.post("/clusters", json={"name": "x", "backend": "memory", "jurisdiction": "CN-SH", "prices": prices})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "prices.memory_gib_hour")
