"""Data from elsewhere through the HTTP API and the command line: brought in once, measured, counted as there, and withdrawn."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.backends.memory import Behaviour
from cluster.replicas import Pretended
from tests.acceptance.test_catalogue import grant, publish, reads
from tests.network import Network, job, until
from tests.served import Cpn

MIB = 1024**2
AT_GZ = {"clusters": ["gz"]}


@pytest.fixture
def market(patient_network: Network, tmp_path: Path) -> Network:
    """Flights of more than 1 MiB at sh, and gz with room for copies; data comes there at 20 MiB/s, and 400 were declared."""
    network = patient_network
    network.add_cluster("sh")
    network.add_cluster("gz", jurisdiction="CN-GZ", copies=Pretended(64 * MIB, mib_s=20.0), inbound_bandwidth_mib_s=400.0)
    path = tmp_path / "flights.parquet"
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(40_000))
    pq.write_table(pa.table({"carrier": [noise.hex()]}), path, compression="none")
    publish(network, path.as_uri())
    return network


def plan_at_gz(network: Network) -> Any:
    verdicts = network.ok(network.operator.post("/jobs:plan", json=reads(placement=AT_GZ)))["verdicts"]
    return next(verdict for verdict in verdicts if verdict["cluster"] == "gz")


def items(verdict: Any) -> set[str]:
    return {line["item"] for line in verdict["quote"]["lines"]}


def link(network: Network) -> Any:
    (found,) = network.ok(network.operator.get("/links", params={"cluster": "gz"}))["items"]
    return found


def metric(network: Network, name: str, labels: str = 'cluster="gz"') -> float:
    lines = (line.rsplit(" ", 1) for line in network.operator.get(f"{network.url}/metrics").text.splitlines() if not line.startswith("#"))
    return float(dict(lines).get(f"{name}{{{labels}}}", "nan"))


def test_a_cache_told_by_itself_changes_the_cache_and_no_node(market: Network) -> None:
    market.agents["gz"].stop()
    state = {"capacity_bytes": 9, "used_bytes": 5, "copies": 1}
    nodes = [{"name": "n1", "cpu": 4.0, "memory_bytes": 2**30}]
    with market.client("agent", cluster="gz") as client:

        def tell(**fields: Any) -> tuple[list[str], Any]:
            market.ok(client.post("/agents/gz/sync", json={"agent_id": "one", "reachable": True, **fields}))
            found = market.ok(market.operator.get("/nodes", params={"cluster": "gz"}))["items"]
            return [item["name"] for item in found], market.cluster("gz")["cache"]

        assert tell(takes_over=True, known_runs=[], inventory={"nodes": nodes}) == (["n1"], None)
        assert tell(cache={"state": state}) == (["n1"], state)
        assert tell() == (["n1"], state)
        assert tell(cache={"state": None}) == (["n1"], None)
        assert tell(cache={"state": state}, inventory={"nodes": []}) == ([], None), "an inventory says all"
        answer = client.post("/agents/gz/sync", json={"agent_id": "one", "reachable": True, "cache": {"state": {"copies": -1}}})
        paths = {item["path"]: item["message"] for item in answer.json()["errors"]}
        assert paths["cache.state.copies"] == "it must be greater than or equal to 0"
        assert paths["cache.state.used_bytes"] == "this field is required; add it"


def test_what_was_brought_in_once_counts_as_there_and_its_link_as_measured(market: Network) -> None:
    grant(market)
    before = plan_at_gz(market)
    size = before["transfer_bytes"]
    assert size > 2 * MIB
    assert before["transfer_s"] == pytest.approx(size / MIB / 400)
    assert "transfer" in items(before)
    assert (link(market)["origin"], link(market)["mib_s"], link(market)["last_at"]) == ("declared", 400.0, None)

    done = market.wait(market.submit(reads(placement=AT_GZ))["id"])
    assert done["state"] == "succeeded"
    found = link(market)
    assert (found["source"], found["origin"], found["transfers"], found["capped"]) == ("sh", "measured", 1, False)
    assert (found["mib_s"], found["declared_mib_s"]) == (pytest.approx(20.0), 400.0)
    until(lambda: (market.cluster("gz")["cache"] or {}).get("copies") == 1, "the copy is told")
    assert market.cluster("gz")["cache"] == {"capacity_bytes": 64 * MIB, "used_bytes": size, "copies": 1}
    after = plan_at_gz(market)
    assert (after["transfer_bytes"], after["transfer_s"]) == (0, 0.0)
    assert "transfer" not in items(after)
    assert metric(market, "cpn_transferred_bytes_total") == size
    assert metric(market, "cpn_cache_inputs_total", 'cluster="gz",outcome="miss"') == 1


def test_a_run_is_charged_for_what_was_brought_in_for_it_and_says_so(market: Network) -> None:
    grant(market)
    asked = [{"job": reads(name=name, placement=AT_GZ)} for name in ("a", "b")]
    both = market.ok(market.operator.post("/jobs:batch", json={"items": asked}))
    jobs = [item["id"] for item in both["items"]]
    assert [market.wait(job_id)["state"] for job_id in jobs] == ["succeeded"] * 2
    receipts = [market.ok(market.operator.get(f"/jobs/{job_id}/receipt")) for job_id in jobs]
    lines = sorted(
        (line for receipt in receipts for line in receipt["lines"] if line["item"] == "transfer"), key=lambda line: line["amount"]
    )
    assert [(line["quantity"] == "0", line.get("note", "")) for line in lines] == [
        (True, "nothing was brought in; a copy was there"), (False, ""),
    ]  # fmt: skip
    assert {receipt["quote_total"] for receipt in receipts} == {receipts[0]["quote_total"]}, "both were quoted with the transfer"


def test_data_comes_over_the_link_that_is_known_to_be_fastest(market: Network, tmp_path: Path) -> None:
    """Flights lie at bj and sh. As declared both links are alike, so bj is first by name; then it is known to be slow."""
    market.add_cluster("bj", jurisdiction="CN-BJ")
    path = tmp_path / "again.parquet"
    pq.write_table(pa.table({"carrier": ["AA" * MIB]}), path, compression="none", use_dictionary=False)
    two = [{"cluster": name, "uri": path.as_uri()} for name in ("sh", "bj")]
    (tmp_path / "other.parquet").write_bytes((tmp_path / "flights.parquet").read_bytes())
    alone = [{"cluster": "bj", "uri": (tmp_path / "other.parquet").as_uri()}]
    for replicas in (two, alone):
        market.ok(market.operator.post("/products/nyc/flights/versions", json={"format": "parquet", "replicas": replicas}))
    grant(market)

    def moves() -> Any:
        asked = reads(placement=AT_GZ) | {"inputs": {"flights": "nyc/flights@2"}}
        verdicts = market.ok(market.operator.post("/jobs:plan", json=asked))["verdicts"]
        verdict = next(one for one in verdicts if one["cluster"] == "gz")
        (transfer,) = verdict["transfers"]
        (line,) = (line for line in verdict["quote"]["lines"] if line["item"] == "transfer")
        assert (transfer["ref"], transfer["price"], transfer["seconds"]) == ("nyc/flights@2", line["amount"], verdict["transfer_s"])
        return transfer

    assert (moves()["source"], moves()["others"], moves()["mib_s"]) == ("bj", ["sh"], 400.0)
    market.wait(market.submit(reads(placement=AT_GZ) | {"inputs": {"flights": "nyc/flights@3"}})["id"])
    found = moves()
    assert (found["source"], found["others"], found["mib_s"]) == ("sh", ["bj"], 400.0)
    done = market.submit(reads(name="b", placement=AT_GZ) | {"inputs": {"flights": "nyc/flights@2"}})["id"]
    assert market.wait(done)["state"] == "succeeded"
    links = market.ok(market.operator.get("/links", params={"cluster": "gz"}))["items"]
    assert {(item["source"], item["transfers"]) for item in links} == {("bj", 1), ("sh", 1)}


def holding(network: Network) -> str:
    """A job that has all cores of gz until it is cancelled."""
    network.clusters["gz"]._script = lambda run: Behaviour(duration_s=600.0 if run.kind == "command" else 0.0)
    held = network.submit(job("holder", kind="command", resources={"cpu": 8, "memory": "1GiB"}, max_runtime="30m", placement=AT_GZ))["id"]
    network.wait(held, "running")
    return str(held)


def test_what_a_waiting_job_reads_is_brought_while_it_waits_and_paid_for_by_it(market: Network) -> None:
    grant(market)
    size = plan_at_gz(market)["transfer_bytes"]
    holder = holding(market)
    waiting = [market.submit(reads(name=name, placement=AT_GZ))["id"] for name in ("first", "second")]
    until(lambda: (market.cluster("gz")["cache"] or {}).get("copies") == 1, "its data has come")
    assert (market.job(waiting[0])["state"], market.job(holder)["state"]) == ("queued", "running")
    assert metric(market, "cpn_cache_ahead_bytes") == size
    planned = plan_at_gz(market)
    assert (planned["transfer_bytes"], planned["transfer_s"]) == (0, 0.0)
    assert "transfer" in items(planned), "who reads it first pays for it"
    market.ok(market.operator.post(f"/jobs/{holder}:cancel"))
    assert [market.wait(job_id)["state"] for job_id in waiting] == ["succeeded"] * 2
    receipts = [market.ok(market.operator.get(f"/jobs/{job_id}/receipt")) for job_id in waiting]
    assert sum(line["quantity"] != "0" for receipt in receipts for line in receipt["lines"] if line["item"] == "transfer") == 1, "once"
    assert (link(market)["origin"], link(market)["transfers"], link(market)["mib_s"]) == ("measured", 1, pytest.approx(20.0))
    assert metric(market, "cpn_transferred_ahead_bytes_total") == metric(market, "cpn_transferred_bytes_total") == size
    until(lambda: metric(market, "cpn_cache_ahead_bytes") == 0, "nothing is left that no run has read")


def test_explain_says_what_is_brought_meanwhile_and_nothing_comes_without_a_right(market: Network) -> None:
    licence = grant(market)
    gz = market.clusters["gz"]
    assert gz.copies is not None
    holding(market)
    # Nothing fits into half of it, and then something does.
    gz.copies._capacity_bytes = 3 * MIB
    until(lambda: (market.cluster("gz")["cache"] or {}).get("capacity_bytes") == 3 * MIB, "its agent has told")
    waiting = market.submit(reads(placement=AT_GZ))["id"]

    def told() -> Any:
        return market.ok(market.operator.get(f"/jobs/{waiting}/explanation"))

    until(lambda: told()["promise"], "it is promised a start")
    assert (told()["brought_ahead"], gz.copies.state().copies) == ([], 0)
    gz.copies.bring = lambda _wanted: None  # type: ignore[method-assign] - it is on its way for as long as the test looks
    gz.copies._capacity_bytes = 64 * MIB
    until(lambda: told()["brought_ahead"], "its data is wanted there")
    (coming,) = told()["brought_ahead"]
    assert (coming["ref"], coming["cluster"], coming["source"]) == ("nyc/flights@1", "gz", "sh")
    assert "meanwhile its data is brought to gz: nyc/flights@1 (2.4 MiB)" in told()["summary"]
    market.ok(market.operator.delete(f"/products/nyc/flights/licences/{licence['id']}"))
    until(lambda: not told()["brought_ahead"], "nobody may have it there any more")


def test_copies_go_when_the_last_licence_at_their_place_ends_and_so_does_what_was_brought_ahead(market: Network, tmp_path: Path) -> None:
    path = tmp_path / "again.parquet"
    pq.write_table(pa.table({"carrier": ["AA"]}), path)
    again = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": path.as_uri()}]}
    market.ok(market.operator.post("/products/nyc/flights/versions", json=again))
    licence = grant(market)
    market.wait(market.submit(reads(placement=AT_GZ))["id"])
    holding(market)
    market.submit(reads(placement=AT_GZ) | {"inputs": {"flights": "nyc/flights@2"}})
    until(lambda: (market.cluster("gz")["cache"] or {}).get("copies") == 2, "one was read, and one has come ahead")
    assert metric(market, "cpn_cache_ahead_bytes") == path.stat().st_size
    market.ok(market.operator.delete(f"/products/nyc/flights/licences/{licence['id']}"))
    until(lambda: market.cluster("gz")["cache"]["copies"] == 0, "both are removed")
    assert market.cluster("gz")["cache"]["used_bytes"] == 0
    assert metric(market, "cpn_cache_ahead_bytes") == 0


def test_inputs_larger_than_every_cache_are_refused_with_sizes_and_a_remedy(market: Network, tmp_path: Path) -> None:
    grant(market)
    until(lambda: market.cluster("gz")["cache"] is not None, "its agent has told")
    small = market.clusters["gz"].copies
    assert small is not None
    waiting = market.submit(reads(name="early", start_after="2099-01-01T00:00:00Z", placement=AT_GZ))["id"]
    small._capacity_bytes = MIB
    until(lambda: market.cluster("gz")["cache"]["capacity_bytes"] == MIB, "its agent has told that there is less room")
    verdict = plan_at_gz(market)
    assert (verdict["verdict"], [item["reason"] for item in verdict["obstacles"]]) == ("refused", ["data_too_large"])
    (obstacle,) = verdict["obstacles"]
    assert obstacle["message"].startswith("the inputs that have to be copied there take 2.4 MiB (nyc/flights@1 2.4 MiB)")
    assert obstacle["message"].endswith("and its cache holds 1.0 MiB")
    assert "raise CPN_CACHE_GIB of its agent, or run at sh" in obstacle["remedy"]
    answer = market.operator.post("/jobs", json=reads(placement=AT_GZ))
    manifest = tmp_path / "job.json"
    manifest.write_text(json.dumps(reads(placement=AT_GZ)))
    operator = Cpn(tmp_path / "cli", market.url, market.operator_token())
    for verb, words in (("plan", "refused at every cluster"), ("submit", "Policy forbids this")):
        said = operator("job", verb, "-f", str(manifest), status=4)
        assert words in said.out + said.err
        assert "nyc/flights@1 2.4 MiB), and its cache holds 1.0 MiB" in said.out + said.err
    errors = {item["reason"]: item["message"] for item in answer.json()["errors"]}
    assert (answer.status_code, set(errors)) == (403, {"data_too_large", "job_cluster"})
    assert errors["data_too_large"] == f"gz: {obstacle['message']} ({obstacle['remedy']})"
    assert market.wait(market.submit(reads())["id"])["runs"][0]["cluster"] == "sh", "another cluster takes it"
    # What was submitted while there was room is not placed there in vain, and says what it waits for.
    told = market.ok(market.operator.get(f"/jobs/{waiting}/explanation"))
    assert [item["reason"] for one in told["verdicts"] if one["cluster"] == "gz" for item in one["obstacles"]] == ["data_too_large"]


def test_links_are_asked_for_by_a_cluster_that_there_is(market: Network) -> None:
    answer = market.operator.get("/links", params={"cluster": "mars"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no cluster 'mars'")
    first = market.ok(market.operator.get("/links", params={"limit": 1}))
    rest = market.ok(market.operator.get("/links", params={"cursor": first["next_cursor"]}))
    assert [(item["source"], item["cluster"]) for item in first["items"] + rest["items"]] == [("sh", "gz"), ("gz", "sh")]
