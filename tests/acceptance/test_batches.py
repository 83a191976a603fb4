"""Batches as buyers meet them: many submissions in one request, each with its own verdict, over HTTP and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.network import PATIENT, Network, job, node
from tests.served import Cpn

MOST, MOST_BYTES = 6, 20_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("batches") / "data"
    with Network(folder, max_array=20, max_batch=MOST, max_batch_bytes=MOST_BYTES, **PATIENT) as running:
        running.add_tenant()
        running.add_tenant("globex")
        running.add_cluster("sh", node("n1", 64, 256))
        yield running


@pytest.fixture(scope="module")
def buyer(network: Network) -> Iterator[httpx.Client]:
    with network.client("buyer", tenant="acme") as client:
        yield client


def item(name: str = "work", key: str | None = None, **fields: Any) -> dict[str, Any]:
    document = job(name, **{"kind": "command", **fields})
    return {"job": document} if key is None else {"job": document, "idempotency_key": key}


def batch(client: httpx.Client, *items: dict[str, Any], status: int = 200) -> Any:
    answer = client.post("/jobs:batch", json={"items": items})
    assert answer.status_code == status, answer.text
    return answer.json()


def paths(verdict: dict[str, Any]) -> list[tuple[str, str]]:
    return [(error["path"], error["reason"]) for error in verdict["problem"]["errors"]]


def test_each_item_has_its_own_verdict_and_what_is_accepted_runs(network: Network, buyer: httpx.Client) -> None:
    told = batch(
        buyer, item("first"), item("second", command=[], colour="red"), item("third", tenant="globex"),
        item("fourth", placement={"clusters": ["nowhere"]}), item("fifth", kind="sql", sql="SELECT nothing FROM nobody", command=None),
        item("sixth", array="0-2"),
    )  # fmt: skip
    first, second, third, fourth, fifth, sixth = told["items"]
    assert (told["accepted"], told["refused"], [verdict["index"] for verdict in told["items"]]) == (2, 4, list(range(6)))
    assert [verdict["verdict"] for verdict in told["items"]] == ["accepted", *["refused"] * 4, "accepted"]
    assert ("items.1.job.colour", "extra_forbidden") in paths(second)
    assert paths(third) == [("items.2.job.tenant", "forbidden")]
    assert paths(fourth) == [("items.3.job.placement.clusters.0", "unknown")]
    assert fifth["problem"]["status"] == 422
    assert all(verdict["id"] is None and not verdict["new"] for verdict in (second, third, fourth, fifth))
    for verdict in (first, sixth):
        assert network.wait(verdict["id"])["state"] == "succeeded"


def test_what_policy_refuses_is_told_apart(network: Network, buyer: httpx.Client) -> None:
    refused, taken = batch(buyer, item("dear", budget="0.0001 CNY", max_runtime="10h"), item("cheap"))["items"]
    assert (refused["problem"]["status"], refused["problem"]["type"]) == (403, "urn:cpn:problem:refused")
    assert paths(refused) == [("items.0.job", "over_budget")]
    assert network.wait(taken["id"])["state"] == "succeeded"


def test_a_repeated_batch_gives_the_same_jobs(network: Network, buyer: httpx.Client) -> None:
    items = [item("a", "k-1"), item("b", "k-2", array="0-1"), item("a", "k-1"), item("other", "k-1"), item("c", "no spaces allowed")]
    first, again = batch(buyer, *items)["items"], batch(buyer, *items)["items"]
    assert [verdict["id"] for verdict in first] == [verdict["id"] for verdict in again]
    assert [verdict["new"] for verdict in first] == [True, True, False, False, False]
    assert not any(verdict["new"] for verdict in again)
    assert first[0]["id"] == first[2]["id"]
    for verdict, path in ((first[3], "items.3.idempotency_key"), (first[4], "items.4.idempotency_key")):
        assert [error["path"] for error in verdict["problem"]["errors"]] == [path]
    assert [verdict["problem"]["status"] for verdict in first[3:]] == [409, 422]
    # The same key outside of a batch, and of another tenant.
    assert network.submit(job("a", kind="command"), **{"Idempotency-Key": "k-1"})["id"] == first[0]["id"]
    assert batch(network.operator, item("a", "k-1", tenant="globex"))["items"][0]["new"]


def test_a_batch_is_bounded(buyer: httpx.Client) -> None:
    problem = batch(buyer, *[item()] * (MOST + 1), status=422)
    assert [(error["path"], error["reason"]) for error in problem["errors"]] == [("items", "too-large")]
    assert batch(buyer, status=422)["errors"][0]["path"] == "items"
    large = json.dumps({"items": [item(env={"TEXT": "x" * MOST_BYTES})]})
    for content in (large, (piece.encode() for piece in (large[:100], large[100:]))):
        answer = buyer.post("/jobs:batch", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["title"]) == (413, "Too large")
        assert f"{MOST_BYTES:,} bytes" in answer.json()["detail"]
    first, second, third = batch(buyer, item(array="0-14"), item(array="0-7"), item(array="0-4"))["items"]
    assert [first["verdict"], third["verdict"], paths(second)] == ["accepted", "accepted", [("items.1.job.array", "too-large")]]
    assert batch(buyer, item(array="0-20"))["items"][0]["problem"]["errors"][0]["path"] == "items.0.job.array"
    assert buyer.post("/jobs:batch", content=b"{").status_code == 400


def test_who_may_not_submit_may_not_submit_batches(network: Network) -> None:
    for role, binding in (("viewer", {}), ("agent", {"cluster": "sh"})):
        with network.client(role, **binding) as client:
            batch(client, item(), status=403)
    assert httpx.post(f"{network.url}/v1/jobs:batch", json={"items": [item()]}, trust_env=False).status_code == 401


def test_one_command_submits_many_manifests(network: Network, tmp_path: Path) -> None:
    cpn = Cpn(tmp_path, network.url, network.operator_token())
    documents = "\n---\n".join(json.dumps(job(name, kind="command")) for name in ("one", "two"))
    several, single = cpn.write("several.yaml", documents), cpn.write("single.yaml", job("three", kind="command"))
    said = cpn("job", "submit", "-f", several, "-f", single, "--wait", "--idempotency-key", "night")
    assert [(row["NAME"], row["VERDICT"]) for row in said.table()] == [("one", "accepted"), ("two", "accepted"), ("three", "accepted")]
    again = cpn("job", "submit", "-f", several, "-f", single, "--idempotency-key", "night", "-o", "json").document
    assert [verdict["id"] for verdict in again["items"]] == [row["JOB"] for row in said.table()]
    assert {network.job(verdict["id"])["state"] for verdict in again["items"]} == {"succeeded"}
    refused = cpn("job", "submit", "-f", "-", text=f"{documents}\n---\n{json.dumps(job('four', tenant='nobody'))}", status=1)
    assert [row["VERDICT"] for row in refused.table()] == ["accepted", "accepted", "refused"]
    assert "tenant: there is no tenant 'nobody'" in refused.out
