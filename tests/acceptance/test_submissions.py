"""One manifest, two ways to submit it: alone and in a batch it becomes the same job, or is refused in the same words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.network import PATIENT, Network, job, node

# What differs between two jobs of one manifest, and with the moment of the look.
OWN = {
    "id", "version", "state", "cause", "message", "attempts", "cluster", "nodes", "run_id", "exit_code", "submitted_at", "placed_at",
    "started_at", "finished_at", "quote", "runs",
}  # fmt: skip
MANIFESTS = {
    "command": job(kind="command"),
    "all there is": job(
        kind="command", command=["sh", "-c", "true"], files={"a/b.txt": "text é 中"}, env={"X": "1"}, priority="high", budget="5.00 CNY",
        resources={"cpu": 2, "memory": "512MiB", "workers": 2}, placement={"jurisdictions": ["CN-SH"], "labels": {}},
        retry={"attempts": 3}, deadline="2100-01-01T00:00:00Z",
    ),
    "statement": job(sql="SELECT 1 AS one"),
    "array": job(kind="command", array="0-2%1"),
    "unknown field": job(kind="command", colour="red"),
    "wrong types": job(kind="command", command="true", max_runtime=3, resources={"cpu": "two"}),
    "no name": {key: value for key, value in job(kind="command").items() if key != "name"},
    "wrong name": job("Upper Case", kind="command"),
    "name with an end of line": job("count\n", kind="command"),
    "name of another type": job(kind="command") | {"name": 3},
    "another tenant": job(kind="command", tenant="globex"),
    "unknown queue": job(kind="command", queue="nowhere"),
    "unknown cluster": job(kind="command", placement={"clusters": ["nowhere"]}),
    "past deadline": job(kind="command", deadline="2001-01-01T00:00:00Z"),
    "wrong statement": job(sql="SELECT nothing FROM nobody"),
    "too dear": job(kind="command", budget="0.0001 CNY", max_runtime="10h"),
    "after nobody": job(kind="command", after=[{"job": "job-nobody"}]),
    "files too large": job(kind="command", files={"a": "x" * 2**20, "b": "y"}),
    "array too large": job(kind="command", array="0-30"),
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("submissions") / "data", max_array=20, **PATIENT) as running:
        running.add_tenant()
        running.add_tenant("globex")
        running.add_cluster("sh", node("n1", 64, 256))
        yield running


@pytest.fixture(scope="module")
def buyer(network: Network) -> Iterator[httpx.Client]:
    with network.client("buyer", tenant="acme") as client:
        yield client


def seen(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """A job without what is its own."""
    view = client.get(f"/jobs/{job_id}").json()
    array = view.pop("array") or {}
    return {key: value for key, value in view.items() if key not in OWN} | {"tasks": array.get("size"), "at_most": array.get("at_most")}


def refused(problem: dict[str, Any], below: str = "") -> tuple[Any, ...]:
    """What a problem says, with its paths as those of the manifest."""
    faults = [(error["path"].removeprefix(below).removeprefix("."), error["reason"], error["message"]) for error in problem["errors"]]
    return problem["type"], problem["title"], problem["status"], sorted(faults)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_becomes_the_same_job_alone_and_in_a_batch(buyer: httpx.Client, name: str) -> None:
    manifest = MANIFESTS[name]
    alone = buyer.post("/jobs", json=manifest)
    # Behind one of its like, because like items are judged together.
    like = {**manifest, "name": "like"}
    first, second, third = (
        item for item in buyer.post("/jobs:batch", json={"items": [{"job": like}, {"job": manifest}, {"job": manifest}]}).json()["items"]
    )
    if alone.status_code == 201:
        assert [item["verdict"] for item in (first, second, third)] == ["accepted"] * 3
        assert seen(buyer, second["id"]) == seen(buyer, third["id"]) == seen(buyer, alone.json()["id"])
        assert seen(buyer, first["id"])["name"] == "like"
        assert alone.headers["location"] == f"/v1/jobs/{alone.json()['id']}"
    else:
        for index, item in ((1, second), (2, third)):
            assert refused(item["problem"], f"items.{index}.job") == refused(alone.json())


BODY = json.dumps(job(kind="command"))


@pytest.mark.parametrize(
    ("content", "headers", "status", "says"),
    [
        (BODY, {}, 201, ""),
        (BODY, {"Content-Type": "application/json; charset=utf-8"}, 201, ""),
        (BODY, {"Content-Type": "application/merge-patch+json"}, 201, ""),
        (BODY, {"Content-Type": "text/plain"}, 415, "send JSON"),
        (BODY[:-1], {"Content-Type": "application/json"}, 400, "JSON"),
        ("null", {"Content-Type": "application/json"}, 422, ""),
        ("", {"Content-Type": "application/json"}, 422, ""),
        ("[]", {"Content-Type": "application/json"}, 422, ""),
        (BODY.replace("true", "\\ud800"), {"Content-Type": "application/json"}, 400, "no text"),
        (BODY, {"Idempotency-Key": "two words"}, 422, "Idempotency-Key"),
        (BODY, {"Idempotency-Key": "x" * 201}, 422, "Idempotency-Key"),
        (BODY, {"Authorization": "Bearer nonsense"}, 401, "token"),
        (BODY[:-1], {"Authorization": "Bearer nonsense"}, 400, "JSON"),
    ],
)  # fmt: skip
def test_requests_are_taken_and_refused_by_the_same_rules(
    network: Network, content: str, headers: dict[str, str], status: int, says: str
) -> None:  # fmt: skip
    with network.client("buyer", tenant="acme") as client:
        answer = client.post("/jobs", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    document = answer.json()
    found = " ".join([document.get("detail", ""), *(error["path"] for error in document.get("errors", []))])
    assert says.lower() in found.lower()


def test_the_first_job_under_a_key_is_the_answer_to_the_second_request(network: Network) -> None:
    headers, manifest = {"Idempotency-Key": "once"}, job("keyed", kind="command")
    with network.client("buyer", tenant="acme") as client:
        first, second = (client.post("/jobs", json=manifest, headers=headers) for _ in range(2))
        other = client.post("/jobs", json={**manifest, "name": "other"}, headers=headers)
    assert [answer.status_code for answer in (first, second, other)] == [201, 200, 409]
    assert first.json()["id"] == second.json()["id"]
