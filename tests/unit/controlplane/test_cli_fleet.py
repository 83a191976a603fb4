"""Clusters, products, queues, tokens, capacity: what the commands send and show."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.api.schemas import TargetView
from controlplane.cli import session
from controlplane.cli.capacity import target_line
from tests.unit.controlplane.cli_server import PRICES, SERVER, T0, FakeServer, cluster, page, problem, queue_view

PRICE_OPTIONS = ("--cpu-price", "0.40 CNY", "--memory-price", "0.02 CNY", "--transfer-price", "0.50 CNY")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    return fake


def _token(**fields: Any) -> dict[str, Any]:
    document = {"id": "tok-1", "role": "agent", "tenant": None, "cluster": "sh", "created_at": T0, "expires_at": None, "revoked_at": None}
    return {**document, **fields}


def test_a_cluster_is_registered_by_options(server: FakeServer) -> None:
    server.answers["POST /clusters"] = (201, cluster())
    result = server.run(
        "cluster", "register", "sh", "--backend", "ray", "--jurisdiction", "CN-SH", "--mode", "push", *PRICE_OPTIONS,
        "--label", "tier=gold",
        "--accelerator-price", "H200=35.00 CNY", "--address", "10.0.0.5:6379", "--token-file", "/t", "--inbound-bandwidth", "250",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert server.sent() == {
        "name": "sh", "backend": "ray", "mode": "push", "jurisdiction": "CN-SH", "labels": {"tier": "gold"}, "on_lease_lost": "stop",
        "inbound_bandwidth_mib_s": 250.0,
        "prices": PRICES,
        "endpoint": {"address": "10.0.0.5:6379", "dashboard": "", "token_file": "/t", "driver": "auto"}, "carbon": None, "ray_jobs": None,
        "security_level": 0,
    }  # fmt: skip


@pytest.mark.parametrize("option", ["--no-join-token", "--no-agent-token"])
def test_in_pull_mode_the_agents_command_is_told(server: FakeServer, tmp_path: Path, option: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "name: sh\nbackend: ray\njurisdiction: CN-SH\nprices: {cpu_hour: 1.00 CNY, memory_gib_hour: 0.02 CNY, transfer_gib: 0.50 CNY}\n"
    )
    server.answers |= {"POST /clusters": (201, cluster()), "POST /tokens": (201, _token(role="join", token="cpn_join_x", expires_at=T0))}
    result = server.run("cluster", "register", "-f", str(file), "--cpu-price", "0.40 CNY", "-o", "json")
    assert server.sent(0)["prices"]["cpu_hour"] == "0.40 CNY"
    assert server.sent(1) == {"role": "join", "tenant": None, "cluster": "sh", "expires_in": None}
    assert json.loads(result.stdout) == cluster()
    assert f"CPN_SERVER={SERVER} cpn agent --join cpn_join_x --address" in result.stderr
    assert "cpn_" not in server.run("cluster", "register", "-f", str(file), option).stderr
    assert [request.method for request in server.requests[2:]] == ["POST"]


def test_a_join_token_is_printed_alone_and_used_ones_are_told_apart(server: FakeServer) -> None:
    made = _token(id="tok-1", role="join", token="cpn_join_x", expires_at=T0)
    server.answers |= {"POST /tokens": (201, made), "GET /clusters/sh": cluster()}
    result = server.run("cluster", "token", "sh", "--expires-in", "30m")
    assert server.sent(0) == {"role": "join", "tenant": None, "cluster": "sh", "expires_in": "30m"}
    assert result.stdout == "cpn_join_x\n"
    assert f"CPN_SERVER={SERVER} cpn agent --join TOKEN --address" in result.stderr
    assert server.run("cluster", "token", "sh", "--expires-in", "soon").exit_code == 2
    plain = [
        {key: value for key, value in item.items() if key != "token"} for item in (made, {**made, "id": "tok-2"}, _token(id="tok-2-agent"))
    ]
    server.answers["GET /tokens"] = page(*plain)
    lines = server.run("token", "list").stdout.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("tok-")] == ["valid", "used", "valid"]


def test_a_cluster_without_prices_is_refused_before_asking(server: FakeServer) -> None:
    result = server.run("cluster", "register", "sh", "--backend", "ray", "--jurisdiction", "Shanghai", "--label", "gold")
    assert (result.exit_code, server.requests) == (2, [])
    result = server.run("cluster", "register", "sh", "--backend", "ray", "--jurisdiction", "Shanghai")
    assert result.exit_code == 2
    assert "jurisdiction: " in result.stderr
    assert "prices: this field is required; add it" in result.stderr


def test_clusters_are_listed_and_shown(server: FakeServer) -> None:
    flops = [{"compute_class": "general", "precision": "fp32", "rated": 8e12, "available": 8e12, "allocated": 0.0}]
    server.answers |= {
        "GET /clusters": page(cluster()),
        "GET /clusters/sh": cluster(flops=flops, unrated=[{"cluster": "sh", "what": "X1", "count": 2}]),
    }
    assert "2/8 H200" in server.run("cluster", "list").stdout
    details = server.run("cluster", "show", "sh").stdout
    for words in ("35.00 CNY", "8 TFLOPS", "unrated: 2 of X1"):
        assert words in details


@pytest.mark.parametrize(("verb", "state"), [("cordon", "cordoned"), ("uncordon", "open"), ("drain", "draining")])
def test_a_cluster_is_taken_out_and_back(server: FakeServer, verb: str, state: str) -> None:
    server.answers[f"POST /clusters/sh:{verb}"] = cluster(cordon=state)
    assert server.run("cluster", verb, "sh").stdout == f"sh is {state}; 0 runs there\n"


def test_removing_needs_no_answer(server: FakeServer) -> None:
    server.answers["DELETE /clusters/sh"] = (204, None)
    assert server.run("cluster", "remove", "sh").stdout == "removed sh\n"


NO_TERMS = {
    "security_level": 0, "delivery": "rows", "min_group": 10, "hidden_columns": [], "masked_columns": {}, "kinds": [], "algorithms": [],
    "may_copy": True, "sample": False,
}  # fmt: skip
PRODUCT = {
    "name": "o/flights", "owner": "o", "description": "", "classification": "internal", "purposes": ["research"], "jurisdictions": [],
    "price": {"per_run": "0.50 CNY", "per_gib": None},
}  # fmt: skip
VERSION = {
    "product": "o/flights", "version": 1, "format": "parquet", "size_bytes": 2048, "rows": 336776, "sha256": "0" * 64,
    "columns": [{"name": "carrier", "type": "VARCHAR"}], "replicas": [{"cluster": "sh", "uri": "file:///f.parquet"}],
}  # fmt: skip
VIEW = {"product": PRODUCT, "versions": [VERSION], "created_at": T0}


@pytest.fixture
def product_file(tmp_path: Path) -> str:
    path = tmp_path / "product.yaml"
    path.write_text(
        "name: o/flights\nowner: o\nclassification: internal\npurposes: [research]\nprice: {per_run: 0.50 CNY}\n"
        "format: parquet\nreplicas: [{cluster: sh, uri: 'file:///f.parquet'}]\n"
    )
    return str(path)


def test_a_product_is_published_with_a_version(server: FakeServer, product_file: str) -> None:
    server.answers |= {"POST /products": (201, VIEW), "POST /products/o/flights/versions": (201, VERSION), "GET /products/o/flights": VIEW}
    result = server.run("product", "publish", "-f", product_file)
    assert result.stdout == "published o/flights@1: 336,776 rows, 2.0 KiB of parquet, at sh\n"
    assert server.sent(0) == {**PRODUCT, **NO_TERMS}
    assert server.sent(1) == {"format": "parquet", "replicas": VERSION["replicas"], "columns": None}


def test_other_terms_need_to_be_meant(server: FakeServer, product_file: str) -> None:
    server.answers |= {
        "POST /products": problem(409, "conflict", "o/flights is there with other terms"), "PUT /products/o/flights": VIEW,
        "POST /products/o/flights/versions": (201, VERSION), "GET /products/o/flights": VIEW,
    }  # fmt: skip
    refused = server.run("product", "publish", "-f", product_file)
    assert refused.exit_code == 1
    assert "--update-terms" in refused.stderr
    assert server.run("product", "publish", "-f", product_file, "--update-terms").exit_code == 0
    assert [request.method for request in server.requests][1:3] == ["POST", "PUT"]


def test_half_a_version_is_refused(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "product.yaml"
    path.write_text("name: o/flights\nowner: o\nclassification: internal\nformat: parquet\n")
    result = server.run("product", "publish", "-f", str(path))
    assert (result.exit_code, server.requests) == (2, [])
    assert "replicas: this field is required; add it" in result.stderr


def test_a_licence_is_granted_until_a_day(server: FakeServer) -> None:
    licence = {
        "id": "lic-1", "tenant": "acme", "product": "o/flights", "purposes": ["research"], "jurisdictions": ["CN"],
        "expires_at": "2027-01-01T00:00:00Z", "revoked": False,
    }  # fmt: skip
    server.answers |= {
        "POST /products/o/flights/licences": (201, licence),
        "DELETE /products/o/flights/licences/lic-1": {**licence, "revoked": True},
    }
    options = ("--tenant", "acme", "--purpose", "research", "--jurisdiction", "CN", "--expires")
    result = server.run("product", "grant", "o/flights", *options, "2027-01-01T00:00:00Z")
    assert server.sent() == {
        "tenant": "acme", "purposes": ["research"], "jurisdictions": ["CN"], "expires_at": "2027-01-01T00:00:00Z", "runs": None,
        "gib": None,
        "kinds": [], "consent": "",
    }  # fmt: skip
    assert "acme may use o/flights for research" in result.stdout
    assert server.run("product", "grant", "o/flights", *options, "2027-01-01").exit_code == 0
    assert server.run("product", "grant", "o/flights", *options, "soon").exit_code == 2
    assert "revoked lic-1" in server.run("product", "revoke", "o/flights", "lic-1").stdout


def test_what_is_no_product_name_is_usage(server: FakeServer) -> None:
    for name in ("flights", "o/", "a/b/c"):
        assert server.run("product", "show", name).exit_code == 2
    assert server.requests == []


def test_a_token_is_shown_once(server: FakeServer) -> None:
    server.answers["POST /tokens"] = (201, _token(role="buyer", tenant="acme", cluster=None, token="cpn_buyer_x"))
    result = server.run("token", "create", "--role", "buyer", "--tenant", "acme", "--expires-in", "30d")
    assert result.stdout == "cpn_buyer_x\n"
    assert server.sent()["expires_in"] == "30d"
    assert server.run("token", "create", "--role", "buyer", "--expires-in", "soon").exit_code == 2
    assert server.run("token", "create", "--role", "king").exit_code == 2


def _target(rated: float, **fields: Any) -> TargetView:
    document: dict[str, Any] = {
        "name": "computing-power", "compute_class": "general", "precision": "fp32", "baseline_flops": 4.5e18,
        "baseline_date": "2020-12-31",
        "multiple": 4.0, "target_flops": 18e18, "due": "2025-12-31", "scope": "s", "source": "x", "rated_flops": rated,
        "ratio_to_baseline": rated / 4.5e18, "missing_flops": max(18e18 - rated, 0.0), "met": rated >= 18e18,
    }  # fmt: skip
    return TargetView.model_validate({**document, **fields})


@pytest.mark.parametrize(
    ("rated", "today", "parts"),
    [
        (18e15, date(2025, 1, 1), ("18 PFLOPS of 18 EFLOPS (fp32, general): 0.1 % [", "missing 17.98 EFLOPS; due 2025-12-31")),
        (1.0, date(2025, 1, 1), ("less than 0.1 %", "[░░░")),
        (0.0, date(2025, 1, 1), ("0.0 %",)),
        (9e18, date(2026, 1, 1), ("50.0 % [████████████░░░░░░░░░░░░]", "was due 2025-12-31")),
        (17.9999e18, date(2025, 1, 1), ("99.9 %", "░]")),
        (18e18, date(2026, 1, 1), ("100.0 %", "met; due 2025-12-31", "█]")),
        (36e18, date(2026, 1, 1), ("200.0 %", "█]")),
    ],
)
def test_a_target_is_one_line(rated: float, today: date, parts: tuple[str, ...]) -> None:
    line = target_line(_target(rated), today)
    assert line.startswith("computing-power: ")
    for part in parts:
        assert part in line


def test_capacity_shows_classes_unrated_and_targets(server: FakeServer) -> None:
    flops = {"compute_class": "general", "precision": "fp32", "rated": 8e12, "available": 8e12, "allocated": 2e12}
    server.answers["GET /capacity"] = {
        "at": T0, "flops": [flops], "by_cluster": {"gz": [], "sh": [flops]},
        "unrated": [{"cluster": "gz", "what": "Ascend-910B", "count": 8}],
        "rated_share": 0.5, "targets": [_target(18e15).model_dump(mode="json")],
    }  # fmt: skip
    result = server.run("capacity")
    for words in ("25.0%", "Ascend-910B", "50% of the hardware has a rating", "computing-power: 18 PFLOPS of 18 EFLOPS"):
        assert words in result.stdout


def test_a_target_is_set_by_options(server: FakeServer) -> None:
    server.answers["POST /targets"] = (201, _target(0.0).model_dump(mode="json"))
    options = {
        "--class": "general", "--precision": "fp32", "--baseline": "4500PFLOPS", "--baseline-date": "2020-12-31", "--due": "2025-12-31",
        "--scope": "data centres", "--source": "an example",
    }  # fmt: skip
    flat = [part for pair in options.items() for part in pair]
    assert server.run("target", "set", "computing-power", *flat).exit_code == 0
    assert (server.sent()["baseline"], server.sent()["multiple"]) == ("4.5 EFLOPS", 4.0)
    assert server.run("target", "set", "computing-power", *flat[:-2]).exit_code == 2


def test_queues_and_nodes_are_tables(server: FakeServer) -> None:
    queue = queue_view("fast", weight=2.0, queued=3, running=1, dominant_share=0.125)
    node = {
        "cluster": "sh", "name": "n1", "ready": True, "cpu": 8.0, "cpu_used": 2.0, "memory_bytes": 2**34, "memory_used_bytes": 2**30,
        "accelerators": [], "labels": {"tier": "gold"}, "seen_at": T0,
    }  # fmt: skip
    server.answers |= {"GET /queues": page(queue), "GET /queues/fast": queue, "GET /nodes": page(node), "GET /clusters": page()}
    assert "12.5%" in server.run("queue", "list").stdout
    assert "no limit" in server.run("queue", "show", "fast").stdout
    assert "tier=gold" in server.run("node", "list", "--cluster", "sh").stdout
    assert server.requests[-2].url.params["cluster"] == "sh"
    for trouble, shown in (
        ("taint a=b:NoSchedule", "not ready: taint a=b:NoSchedule"),
        ("not ready: lost", "not ready: lost"),
        ("", "not ready"),
    ):
        server.answers["GET /nodes"] = page(node | {"ready": False, "trouble": trouble})
        assert shown in server.run("node", "list").stdout


def test_links_are_lines_with_their_basis(server: FakeServer) -> None:
    measured = {
        "source": "sh", "cluster": "gz", "mib_s": 20.123, "origin": "measured", "declared_mib_s": 400.0, "transfers": 3, "capped": True,
        "last_at": "2026-07-01T00:00:00Z",
    }  # fmt: skip
    declared = {**measured, "source": "gz", "cluster": "sh", "mib_s": 100.0, "origin": "declared", "transfers": 0, "capped": False}
    server.answers["GET /links"] = page(measured, {**declared, "last_at": None})
    lines = server.run("link", "list", "--cluster", "gz").stdout.splitlines()
    assert [line.split()[:4] for line in lines[2:]] == [["sh", "gz", "20.12", "measured,"], ["gz", "sh", "100", "declared"]]
    server.answers["GET /links"] = page()
    assert "there are no two clusters yet" in server.run("link", "list").stdout


def test_learned_speeds_are_a_line_for_each_model(server: FakeServer) -> None:
    speed = {"value": 2.0, "origin": "learned", "runs": 12, "precision": None, "words": "learned from 12 runs"}
    models = [
        {"model": "H200", "speed": speed, "runs": 7, "median_steps_per_s": 8.5, "median_run_s": 90.0},
        {"model": "A100", "speed": {**speed, "value": 1.0}, "runs": 5, "median_steps_per_s": None, "median_run_s": None},
    ]
    server.answers["GET /speeds"] = page({"tenant": "acme", "kind": "training", "name": "fit", "models": models})
    heading, _, *rows = [line.split() for line in server.run("speed", "list", "--tenant", "acme").stdout.splitlines()]
    assert [heading, *rows] == [
        ["TENANT", "KIND", "NAME", "MODEL", "SPEED", "FROM", "RUNS", "STEPS/S", "RUN", "TIME"],
        ["acme", "training", "fit", "H200", "2.00", "learned", "from", "12", "runs", "7", "8.5", "1m30s"],
        ["acme", "training", "fit", "A100", "1.00", "learned", "from", "12", "runs", "5", "-", "-"],
    ]
    assert server.requests[-1].url.params["tenant"] == "acme"
    server.answers["GET /speeds"] = page()
    assert server.run("speed", "list").stdout == "no run on accelerators has been measured yet\n"


@pytest.mark.parametrize(
    ("options", "document", "sent"),
    [
        (["--no-carbon"], None, {"carbon": None}),
        (["--ray-jobs", "--on-lease-lost", "continue"], None, {"ray_jobs": {}, "on_lease_lost": "continue"}),
        (["--no-ray-jobs"], None, {"ray_jobs": None}),
        (["--wheelhouse", "/w"], None, {"ray_jobs": {"runtime_env": ["env_vars", "py_modules", "pip"], "wheelhouse": "/w"}}),
        (["-f"], {"carbon": None, "labels": {"tier": "gold"}}, {"carbon": None, "labels": {"tier": "gold"}}),
        (["-f"], {"inbound_bandwidth_mib_s": 50.0}, {"inbound_bandwidth_mib_s": 50.0}),
    ],
)
def test_change_sends_what_is_given_and_no_more(
    server: FakeServer, tmp_path: Path, options: list[str], document: dict[str, Any] | None, sent: dict[str, Any]
) -> None:
    server.answers |= {"PATCH /clusters/sh": cluster(), "GET /clusters/sh": cluster(carbon={"grams_per_kwh": 5}, ray_jobs={})}
    (tmp_path / "c.json").write_text(json.dumps(document))
    result = server.run("cluster", "change", "sh", *options, *([str(tmp_path / "c.json")] if document else []))
    assert result.exit_code == 0, result.output
    assert server.sent() == sent
    assert "nothing to remove" not in result.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--no-carbon", "no carbon is declared at sh"),
        ("--no-tariffs", "no tariffs are declared at sh"),
        ("--no-ray-jobs", "no jobs of kind ray are allowed at sh"),
    ],
)
def test_change_says_when_there_is_nothing_to_remove(server: FakeServer, option: str, words: str) -> None:
    server.answers |= {"PATCH /clusters/sh": cluster(), "GET /clusters/sh": cluster()}
    result = server.run("cluster", "change", "sh", option)
    assert result.exit_code == 0
    assert f"{option}: there was nothing to remove, for {words}" in result.stderr


def test_change_takes_tariffs_away_and_keeps_the_prices(server: FakeServer) -> None:
    night = {"time_zone": "UTC", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.5}]}
    plain = cluster()["prices"]
    server.answers["GET /clusters/sh"] = cluster(prices={**plain, "tariffs": night})
    server.answers["PATCH /clusters/sh"] = cluster()
    assert server.run("cluster", "change", "sh", "--no-tariffs").exit_code == 0
    sent = server.sent()["prices"]
    assert "tariffs" not in sent
    assert sent["cpu_hour"] == plain["cpu_hour"]


@pytest.mark.parametrize(
    ("options", "document", "words"),
    [
        ([], None, "nothing to change"),
        (["--no-carbon"], {"carbon": {"grams_per_kwh": 5}}, "the document declares carbon"),
        (["--no-tariffs"], {"prices": {}}, "the document has prices"),
        (["--no-ray-jobs", "--wheelhouse", "/w"], None, "leave one of them out"),
        (["--wheelhouse", "w"], None, "absolute path"),
        ([], {"colour": "blue"}, "colour"),
    ],
)
def test_change_says_what_does_not_go_together(
    server: FakeServer, tmp_path: Path, options: list[str], document: dict[str, Any] | None, words: str
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(document))
    result = server.run("cluster", "change", "sh", *options, *(["-f", str(tmp_path / "c.json")] if document else []))
    assert result.exit_code == 2
    assert words in result.stderr
    assert not server.requests
