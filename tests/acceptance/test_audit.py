"""The audit log of a served network: every act leaves its row, jobs without data leave none, and the chain holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from cluster.backends.memory import Behaviour
from cluster.replicas import Pretended
from scheduler.chain import Act, AuditRow, Verifier, canonical
from scheduler.store import audit
from scheduler.store.audit import Entry
from scheduler.store.session import Store
from scheduler.store.tables import audit as audit_table
from scheduler.store.tables import runs as runs_table
from tests.acceptance.test_catalogue import grant, publish, reads, table
from tests.network import GIB, Network, job, until


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


def test_who_comes_too_late_for_the_last_run_of_a_licence_is_written_down(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), jurisdictions=["CN-SH"])
    grant(market, runs=1)
    market.ok(market.operator.post("/clusters/sh:cordon"))
    before = rows(market)[-1].sequence
    verdict = market.ok(market.operator.post("/jobs:batch", json={"items": [{"job": reads(name="one")}, {"job": reads(name="two")}]}))
    assert [item["verdict"] for item in verdict["items"]] == ["accepted", "refused"]
    assert told(market, before) == [("job.admitted", verdict["items"][0]["id"]), ("job.refused", "two")]
    assert [item["reason"] for item in rows(market)[-1].parsed()["problems"]] == ["licence_spent"]


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


def test_who_may_read_it(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    market.add_tenant("globex")
    market.operator.post("/jobs", json=reads())
    market.operator.post("/jobs", json=reads(tenant="globex"))
    with market.client("buyer", tenant="acme") as acme, market.client("viewer") as viewer, market.client("agent", cluster="sh") as agent:
        seen = market.ok(acme.get("/audit", params={"limit": 1000}))["items"]
        assert {row["tenant"] for row in seen} == {"acme"}
        assert {row["act"] for row in seen} >= {"tenant.created", "licence.granted", "token.created", "job.admitted"}
        assert acme.get("/audit", params={"tenant": "globex"}).status_code == 403
        assert len(market.ok(viewer.get("/audit", params={"limit": 1000}))["items"]) == len(rows(market))
        for path in ("/audit:verify", "/audit:export", "/audit:prove?product=nyc/flights"):
            assert acme.get(path).status_code == 403, path
            assert viewer.get(path).status_code == 200, path
        assert agent.get("/audit").status_code == 403


def test_rows_are_found_by_filters_and_page_by_page(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    licence = grant(market)

    def found(**params: Any) -> list[str]:
        return [row["act"] for row in market.ok(market.operator.get("/audit", params=params))["items"]]

    assert found(product="nyc/flights") == ["licence.granted", "version.published", "product.published"]
    assert found(subject=licence["id"]) == ["licence.granted"]
    assert found(act="cluster.registered") == ["cluster.registered"] * 2
    assert found(**{"from": "2999-01-01T00:00:00Z"}) == found(to="1999-01-01T00:00:00Z") == []
    numbers, cursor = [], None
    while not numbers or cursor is not None:
        page = market.ok(market.operator.get("/audit", params={"limit": 3, **({"cursor": cursor} if cursor else {})}))
        numbers += [row["sequence"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert numbers == [row.sequence for row in reversed(rows(market))]
    for wrong in ({"act": "licence.eaten"}, {"from": "yesterday"}, {"limit": 0}, {"cursor": "x"}):
        assert market.operator.get("/audit", params=wrong).status_code in (400, 422)


def verdict(network: Network, **params: Any) -> tuple[list[tuple[str, int]], str]:
    """What all pages together tell: the faults, and the head."""
    faults, cursor = list[tuple[str, int]](), None
    while True:
        page = network.ok(network.operator.get("/audit:verify", params={**params, **({"cursor": cursor} if cursor else {})}))
        faults += [(fault["kind"], fault["sequence"]) for fault in page["faults"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return faults, page["head"]


def tamper(network: Network, *statements: Any) -> None:
    for statement in statements:
        network.plane.store.write(lambda tx, statement=statement: tx.conn.execute(statement))  # type: ignore[misc]


def test_what_is_done_to_the_log_is_found_in_pages_as_at_once(market: Network) -> None:
    sound, head = verdict(market)
    assert (sound, head) == ([], rows(market)[-1].hash)
    assert verdict(market, limit=2, head=head) == ([], head)
    last = rows(market)[-1].sequence
    tamper(market, update(audit_table).where(audit_table.c.sequence == 3).values(document="{}"))
    tamper(market, delete(audit_table).where(audit_table.c.sequence == 5))
    tamper(market, delete(audit_table).where(audit_table.c.sequence == last))
    expected = [("changed", 3), ("missing", 5), ("truncated", last - 1)]
    assert verdict(market, head=head)[0] == expected
    for limit in (1, 2, 3):
        assert sorted(verdict(market, head=head, limit=limit)[0]) == expected
    for wrong in ({"head": "abc"}, {"cursor": "e30"}, {"cursor": "bm9uZQ"}, {"limit": 0}):
        assert market.operator.get("/audit:verify", params=wrong).status_code in (400, 422)


def proof(network: Network, **params: Any) -> Any:
    return network.ok(network.operator.get("/audit:prove", params={"product": "nyc/flights", **params}))


def test_a_proof_lists_the_runs_and_finds_one_that_lies_outside_the_terms(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh", cpu_hour="0.90 CNY")
    network.add_cluster("us", jurisdiction="US", cpu_hour="0.10 CNY")
    publish(network, table(tmp_path), jurisdictions=["CN"])
    licence = grant(network)
    done = [network.wait(network.submit(reads(name=f"run-{number}"))["id"]) for number in range(3)]
    network.wait(network.submit(job("free"))["id"])
    found = proof(network)
    assert (found["holds"], found["outside"], found["faults"], found["head"]) == (True, 0, [], rows(network)[-1].hash)
    assert {(run["job"], run["cluster"], run["licence"]) for run in found["runs"]} == {(item["id"], "sh", licence["id"]) for item in done}
    assert proof(network, **{"from": "2999-01-01T00:00:00Z"})["runs"] == []
    assert network.operator.get("/audit:prove", params={"product": "nyc/none"}).status_code == 404
    assert network.operator.get("/audit:prove").status_code == 422

    # Somebody moves a run in the tables, where the log does not follow.
    tamper(network, update(runs_table).where(runs_table.c.job_id == done[0]["id"]).values(cluster="us"))
    found = proof(network)
    assert (found["holds"], found["outside"]) == (False, 1)
    assert [run["against"] for run in found["runs"] if run["against"]] == [["the tables have it at us, and the audit log at sh"]]
    tamper(network, update(runs_table).where(runs_table.c.job_id == done[0]["id"]).values(cluster="sh"))

    # A run that the scheduler would not have placed, written down with all that belongs to it.
    placed = next(row for row in rows(network) if row.act == "run.placed")
    told = {**placed.parsed(), "cluster": "us", "jurisdiction": "US", "run": "job-x-1"}
    forged = Entry(Act.RUN_PLACED, "job-x", "scheduler", placed.at, told, "acme", ["nyc/flights"])
    network.plane.store.write(lambda tx: audit.append(tx.conn, [forged]))
    found = proof(network)
    assert (found["holds"], found["outside"], found["faults"]) == (False, 1, [])
    [outside] = [run for run in found["runs"] if run["against"]]
    assert (outside["run"], outside["cluster"]) == ("job-x-1", "us")
    assert "may not be processed in US" in outside["against"][0]

    # The same, made to look right: then the chain tells.
    made = canonical({**told, "jurisdiction": "CN-SH", "cluster": "sh"})
    tamper(network, update(audit_table).where(audit_table.c.subject == "job-x").values(document=made))
    found = proof(network)
    assert (found["holds"], found["outside"], [fault["kind"] for fault in found["faults"]]) == (False, 0, ["changed"])


def test_a_log_that_begins_later_than_its_network_begins_with_what_holds(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh")
    publish(network, table(tmp_path))
    licence = grant(network)
    before = network.wait(network.submit(reads())["id"])
    network.stop_server()
    store = Store(network.settings.store_url)
    store.write(lambda tx: tx.conn.execute(delete(audit_table)))
    store.close()
    network.start_server()
    assert told(network)[:5] == [
        ("cluster.registered", "sh"), ("product.published", "nyc/flights"), ("version.published", "nyc/flights@1"),
        ("licence.granted", licence["id"]), ("server.started", rows(network)[4].subject),
    ]  # fmt: skip
    until(lambda: network.cluster("sh")["health"] == "healthy", "the member is back")
    done = network.wait(network.submit(reads())["id"])
    found = proof(network)
    assert found["holds"], "what ran before the log began is not in it"
    assert [run["job"] for run in found["runs"]] == [done["id"]] != [before["id"]]
