"""The audit log of a served network: every act leaves its row, jobs without data leave none, and the chain holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.backends.memory import Behaviour
from cluster.replicas import Pretended
from scheduler.chain import AuditRow, Verifier
from scheduler.store import audit
from tests.acceptance.test_catalogue import grant, publish, reads, table
from tests.network import GIB, Network, job


def rows(network: Network) -> list[AuditRow]:
    """The whole log, which must be sound."""
    with network.plane.store.read() as conn:
        found = list(audit.all_rows(conn))
    verifier = Verifier()
    verifier.feed(found)
    assert verifier.close() == []
    return found


def told(network: Network, after: int = 0) -> list[tuple[str, str]]:
    """(act, subject) of the rows behind a number."""
    return [(row.act, row.subject) for row in rows(network) if row.sequence > after]


@pytest.fixture
def market(network: Network) -> Network:
    """Two members, of which the second one's runs take a minute."""
    network.add_cluster("sh", cpu_hour="0.90 CNY")
    network.add_cluster("gz", jurisdiction="CN-GZ", cpu_hour="0.10 CNY", script=lambda _run: Behaviour(duration_s=60))
    return network


def test_what_operators_do_is_written_down_with_who_did_it(market: Network, tmp_path: Path) -> None:
    me = next(row.subject for row in rows(market) if row.act == "token.created")
    before = rows(market)[-1].sequence
    publish(market, table(tmp_path), jurisdictions=["CN-SH"])
    licence = grant(market)
    ok, operator = market.ok, market.operator
    ok(operator.put("/products/nyc/flights", json={"name": "nyc/flights", "owner": "nyc", "classification": "restricted"}))
    ok(operator.delete(f"/products/nyc/flights/licences/{licence['id']}"))
    prices = {**ok(operator.get("/clusters/sh"))["prices"], "cpu_hour": "0.80 CNY"}
    ok(operator.patch("/clusters/sh", json={"prices": prices}))
    ok(operator.patch("/clusters/sh", json={"labels": {"tier": "gold"}}))
    ok(operator.post("/clusters/sh:cordon"))
    ok(operator.post("/tenants", json={"name": "globex"}))
    ok(operator.post("/queues", json={"name": "org"}))
    ok(operator.patch("/queues/org", json={"weight": 2}))
    token = ok(operator.post("/tokens", json={"role": "buyer", "tenant": "globex"}))
    ok(operator.delete(f"/tokens/{token['id']}"))
    assert told(market, before) == [
        ("product.published", "nyc/flights"), ("version.published", "nyc/flights@1"), ("licence.granted", licence["id"]),
        ("product.terms", "nyc/flights"), ("licence.revoked", licence["id"]), ("prices.changed", "sh"), ("cluster.changed", "sh"),
        ("cluster.cordoned", "sh"), ("tenant.created", "globex"), ("queue.created", "org"), ("queue.changed", "org"),
        ("token.created", token["id"]), ("token.revoked", token["id"]),
    ]  # fmt: skip
    found = [row for row in rows(market) if row.sequence > before]
    assert {row.actor for row in found} == {me}
    assert token["token"] not in "".join(row.document for row in found), "never a token's text"
    assert found[0].parsed()["product"]["jurisdictions"] == ["CN-SH"]


def test_what_is_refused_by_the_store_leaves_no_row(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    before = rows(market)[-1].sequence
    refused = [
        market.operator.post("/tenants", json={"name": "acme"}), market.operator.post("/queues", json={"name": "default"}),
        market.operator.delete("/tokens/tok-none"), market.operator.delete("/clusters/none"),
        market.operator.post("/products", json={"name": "nyc/flights", "owner": "nyc", "classification": "public"}),
    ]  # fmt: skip
    assert all(answer.is_client_error for answer in refused)
    assert told(market, before) == []


def test_a_server_that_starts_is_written_down_with_its_settings(network: Network) -> None:
    first = rows(network)[0]
    assert (first.act, first.actor, first.parsed()["allow_simulated"]) == ("server.started", "server", True)
    network.stop_server()
    network.start_server()
    assert [act for act, _ in told(network)].count("server.started") == 2


def test_a_job_with_inputs_is_followed_from_its_admission_to_its_result(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh", cpu_hour="0.90 CNY")
    network.add_cluster("gz", jurisdiction="CN-GZ", cpu_hour="0.10 CNY", copies=Pretended(capacity_bytes=GIB))
    version = publish(network, table(tmp_path))
    licence = grant(network)
    before = rows(network)[-1].sequence
    done = network.wait(network.submit(reads(max_runtime="1h"))["id"])
    assert (done["state"], done["cluster"]) == ("succeeded", "gz")
    found = [row for row in rows(network) if row.sequence > before]
    assert [row.act for row in found] == ["job.admitted", "run.placed", "data.moved", "run.ended", "result.delivered"]
    assert {(row.subject, row.tenant, row.products) for row in found} == {(done["id"], "acme", " nyc/flights ")}
    admitted, placed, moved, ended, _ = (row.parsed() for row in found)
    assert (admitted["purpose"], admitted["kind"], admitted["inputs"]) == ("research", "sql", {"flights": "nyc/flights@1"})
    run = f"{done['id']}-1"
    assert placed["licences"] == {"nyc/flights": licence["id"]}
    assert (placed["run"], placed["cluster"], placed["jurisdiction"]) == (run, "gz", "CN-GZ")
    assert placed["copied"] == ["nyc/flights@1"]
    assert moved["transfers"] == [{"from": "sh", "sha256": version["sha256"], "bytes": version["size_bytes"], "ahead": False}]
    assert (ended["run"], ended["state"], ended["cause"]) == (run, "succeeded", "finished")
    assert [row.actor for row in found[1:]] == ["scheduler", "agent/gz", "agent/gz", "agent/gz"]


def test_jobs_without_inputs_leave_no_row(market: Network) -> None:
    before = rows(market)[-1].sequence
    only = {"clusters": ["sh"]}
    for submitted in (
        market.submit(job("first", placement=only)),
        market.submit(job("second", kind="command", array="0-9", placement=only)),
    ):
        market.wait(submitted["id"])
    assert told(market, before) == []


def test_refusals_by_policy_are_written_down_however_a_job_comes(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    before = rows(market)[-1].sequence
    command = job("script", kind="command", inputs={"flights": "nyc/flights@1"})
    assert market.operator.post("/jobs", json=reads()).status_code == 403
    assert market.operator.post("/jobs", json=command).status_code == 403
    items = [{"job": reads(name="one")}, {"job": command}, {"job": job("free")}]
    assert market.ok(market.operator.post("/jobs:batch", json={"items": items}))["refused"] == 2
    assert told(market, before) == [("job.refused", name) for name in ("count", "script", "one", "script")]
    first = next(row for row in rows(market) if row.sequence > before)
    assert [item["reason"] for item in first.parsed()["problems"]] == ["licence_missing"]


def test_an_array_is_admitted_and_withdrawn_as_one(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    market.ok(market.operator.post("/clusters/sh:cordon"))
    market.ok(market.operator.post("/clusters/gz:cordon"))
    before = rows(market)[-1].sequence
    submitted = market.submit(job("script", kind="command", inputs={"flights": "nyc/flights@1"}, array="0-49"))
    market.ok(market.operator.post(f"/jobs/{submitted['id']}:cancel"))
    market.ok(market.operator.post(f"/jobs/{submitted['id']}:cancel"))
    assert told(market, before) == [("job.admitted", submitted["id"]), ("job.withdrawn", submitted["id"])]
    single = market.submit(reads())
    market.ok(market.operator.post(f"/jobs/{single['id']}:cancel"))
    assert told(market, before)[2:] == [("job.admitted", single["id"]), ("job.withdrawn", single["id"])]


def test_a_run_that_is_given_up_is_ended_by_the_server(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), jurisdictions=["CN-GZ"])
    grant(market)
    submitted = market.submit(reads(retry={"attempts": 1}))
    market.wait(submitted["id"], "running")
    market.agents["gz"].kill()
    market.wait(submitted["id"], seconds=30)
    [ended] = [row for row in rows(market) if row.act == "run.ended"]
    assert (ended.actor, ended.parsed()["state"]) == ("server", "lost")
