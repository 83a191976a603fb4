"""Licences that are spent, through the HTTP API: reserved, consumed, returned, revoked, and the last run left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import RunRequest
from tests.acceptance.test_catalogue import grant, publish, reads, table
from tests.network import PATIENT, Network, until
from tests.postgres import postgres
from tests.served import ServedNetwork

LICENCES = "/products/nyc/flights/licences"


def behave(run: RunRequest) -> Behaviour:
    """A statement is done at once; a command's first word says how it goes."""
    word = run.command[0] if run.command else ""
    return {"fail": Behaviour(outcome="failed", exit_code=3), "sleep": Behaviour(duration_s=300)}.get(word, Behaviour())


def command(*words: str, **fields: Any) -> dict[str, Any]:
    return {**reads(), "kind": "command", "sql": None, "command": list(words), "max_runtime": "10m", **fields}


@pytest.fixture
def market(network: Network, tmp_path: Path) -> Network:
    """A member, and flights on it."""
    network.add_cluster("sh", script=behave)
    publish(network, table(tmp_path))
    return network


def left(network: Network, licence: dict[str, Any]) -> int | None:
    found: int | None = network.ok(network.operator.get(f"/licences/{licence['id']}"))["runs_left"]
    return found


def states(network: Network, job_id: str) -> list[str]:
    return [use["state"] for use in network.job(job_id).get("licences", [])]


def test_a_use_is_reserved_then_consumed_and_shown_with_job_and_receipt(market: Network) -> None:
    granted = grant(market, runs=2, gib="0.001")
    market.ok(market.operator.post("/clusters/sh:cordon"))
    waiting = market.submit(reads())["id"]
    assert (left(market, granted), states(market, waiting)) == (1, ["reserved"])
    market.ok(market.operator.post("/clusters/sh:uncordon"))
    assert market.wait(waiting)["state"] == "succeeded"
    (use,) = market.job(waiting)["licences"]
    size = market.ok(market.operator.get("/products/nyc/flights"))["versions"][0]["size_bytes"]
    assert use == {"product": "nyc/flights", "licence": granted["id"], "state": "consumed", "size_bytes": size}
    assert market.ok(market.operator.get(f"/jobs/{waiting}/receipt"))["uses"] == [{"ref": "nyc/flights@1", "licence": granted["id"]}]
    found = market.ok(market.operator.get(f"/licences/{granted['id']}"))
    assert (found["runs_left"], found["bytes_left"]) == (1, int(0.001 * 2**30) - size)
    assert market.ok(market.operator.get(LICENCES))["items"][0]["runs_left"] == 1


def test_a_spent_licence_refuses_with_a_remedy_and_plan_says_so(market: Network) -> None:
    grant(market, runs=1)
    market.wait(market.submit(reads())["id"])
    answer = market.operator.post("/jobs", json=reads())
    (problem,) = answer.json()["errors"]
    assert (answer.status_code, problem["reason"]) == (403, "licence_spent")
    assert "has none of its 1 runs left" in problem["message"]
    assert "ask owner nyc to grant acme more" in problem["message"]
    plan = market.ok(market.operator.post("/jobs:plan", json=reads()))
    assert [item["reason"] for verdict in plan["verdicts"] for item in verdict["obstacles"]] == ["licence_spent"]
    grant(market, gib="0.0000001")
    assert "of its 0.0000001 GiB left, and the job reads" in market.operator.post("/jobs", json=reads()).text


@pytest.mark.parametrize(("end", "expected", "runs"), [
    ("cancel-queued", "returned", 1), ("cancel-running", "consumed", 0), ("fail", "consumed", 0),
])  # fmt: skip
def test_what_was_not_read_is_given_back(market: Network, end: str, expected: str, runs: int) -> None:
    granted = grant(market, runs=1)
    if end == "cancel-queued":
        market.ok(market.operator.post("/clusters/sh:cordon"))
    job_id = market.submit(command("fail" if end == "fail" else "sleep"))["id"]
    if end == "cancel-running":
        until(lambda: market.job(job_id)["state"] == "running", "it runs")
    if end != "fail":
        market.ok(market.operator.post(f"/jobs/{job_id}:cancel"))
    market.wait(job_id)
    assert (states(market, job_id), left(market, granted)) == ([expected], runs)


def test_a_submission_that_is_repeated_reserves_once(market: Network) -> None:
    granted = grant(market, runs=2)
    market.ok(market.operator.post("/clusters/sh:cordon"))
    headers = {"Idempotency-Key": "k"}
    first, again = (market.ok(market.operator.post("/jobs", json=reads(), headers=headers))["id"] for _ in range(2))
    assert (first, left(market, granted)) == (again, 1)
    item = {"job": reads(), "idempotency_key": "k"}
    assert market.ok(market.operator.post("/jobs:batch", json={"items": [item, item]}))["accepted"] == 2
    assert left(market, granted) == 1


def test_batches_and_arrays_reserve_for_each_job(market: Network) -> None:
    granted = grant(market, runs=5)
    market.ok(market.operator.post("/clusters/sh:cordon"))
    verdict = market.ok(market.operator.post("/jobs:batch", json={"items": [{"job": reads()}] * 2}))
    assert (verdict["accepted"], left(market, granted)) == (2, 3)
    answer = market.operator.post("/jobs", json=command("true", array="0-3"))
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (403, "array")
    array = market.submit(command("true", array="0-1"))["id"]
    assert left(market, granted) == 1
    verdict = market.ok(market.operator.post("/jobs:batch", json={"items": [{"job": reads()}] * 3}))
    assert [item["verdict"] for item in verdict["items"]] == ["accepted", "refused", "refused"]
    assert verdict["items"][1]["problem"]["errors"][0]["reason"] == "licence_spent"
    market.ok(market.operator.post(f"/jobs/{array}:cancel"))
    assert left(market, granted) == 2


def test_a_licence_that_is_revoked_holds_what_waits_and_stops_what_runs_if_asked(market: Network) -> None:
    granted = grant(market)
    runs, goes_on = (market.submit(command("sleep", name=name))["id"] for name in ("runs", "goes-on"))
    until(lambda: {market.job(job)["state"] for job in (runs, goes_on)} == {"running"}, "both run")
    market.ok(market.operator.post("/clusters/sh:cordon"))
    waits = market.submit(reads())["id"]
    answer = market.ok(market.operator.delete(f"{LICENCES}/{granted['id']}"))
    assert (answer["revoked"], answer["waiting"], answer["running"], answer["stopping"]) == (True, 1, 2, 0)
    until(lambda: market.job(waits)["cause"] == "licence_missing", "it is held")
    assert market.job(runs)["state"] == "running"
    answer = market.ok(market.operator.delete(f"{LICENCES}/{granted['id']}", params={"stop_running": True}))
    assert (answer["running"], answer["stopping"]) == (0, 2)
    until(lambda: market.job(runs)["cause"] == "licence_missing", "it was stopped, and is held")
    moves = market.ok(market.operator.get(f"/jobs/{runs}/events"))["items"]
    assert [(item["finish"], item["cause"]) for item in moves[-2:]] == [("preempted", "licence_ended"), ("queued", "retry")]
    assert "was revoked" in moves[-2]["message"]
    assert (market.job(runs)["attempts"], market.job(runs)["attempts_spared"]) == (1, 1)
    market.ok(market.operator.post("/clusters/sh:uncordon"))
    fresh = grant(market)
    until(lambda: market.job(runs)["state"] == "running", "it goes on under the new licence")
    assert [use["licence"] for use in market.job(runs)["licences"]] == [fresh["id"]]
    assert market.wait(waits)["state"] == "succeeded"


def test_a_licence_that_ends_while_a_job_waits_holds_it(market: Network) -> None:
    from datetime import UTC, datetime, timedelta

    grant(market, runs=1, expires_at=(datetime.now(UTC) + timedelta(seconds=3)).isoformat())
    market.ok(market.operator.post("/clusters/sh:cordon"))
    waits = market.submit(reads())["id"]
    until(lambda: market.job(waits)["cause"] == "licence_expired", "it is held")
    market.ok(market.operator.post("/clusters/sh:uncordon"))
    assert market.job(waits)["state"] == "queued"
    assert not market.clusters["sh"].started


def test_a_buyer_sees_licences_of_its_tenant_alone(market: Network) -> None:
    granted = grant(market)
    market.ok(market.operator.post("/tenants", json={"name": "globex"}))
    with market.client("buyer", tenant="acme") as own, market.client("buyer", tenant="globex") as other:
        assert market.ok(own.get(f"/licences/{granted['id']}")) == granted
        assert other.get(f"/licences/{granted['id']}").status_code == 404
    assert market.operator.get("/licences/lic-none").status_code == 404


def test_versions_are_deprecated_and_withdrawn(market: Network) -> None:
    grant(market)
    version = "/products/nyc/flights/versions/1"
    market.ok(market.operator.post(f"{version}:deprecate", json={"reason": "delays are in seconds"}))
    assert market.ok(market.operator.post("/jobs:plan", json=reads()))["warnings"] == [
        "nyc/flights@1 is deprecated: delays are in seconds"
    ]  # fmt: skip
    assert market.wait(market.submit(reads())["id"])["state"] == "succeeded"
    runs = market.submit(command("sleep"))["id"]
    until(lambda: market.job(runs)["state"] == "running", "it runs")
    market.ok(market.operator.post("/clusters/sh:cordon"))
    waits = market.submit(reads())["id"]
    assert market.ok(market.operator.post(f"{version}:withdraw", json={"reason": "wrong"}))["standing"] == "withdrawn"
    answer = market.operator.post("/jobs", json=reads())
    assert (answer.status_code, answer.json()["errors"][0]["reason"]) == (403, "product_withdrawn")
    assert "was withdrawn by its owner: wrong" in answer.text
    until(lambda: market.job(waits)["cause"] == "product_withdrawn", "it is held")
    assert market.job(runs)["state"] == "running"
    assert market.operator.post(f"{version}:deprecate", json={}).status_code == 409
    assert market.operator.post("/products/nyc/flights/versions/2:withdraw", json={}).status_code == 404
    assert market.ok(market.operator.get("/products/nyc/flights"))["versions"][0]["standing_reason"] == "wrong"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def race(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Network]:
    """A network on each database whose only member takes nothing."""
    with ExitStack() as stack:
        given = {}
        if request.param == "postgresql":
            url = stack.enter_context(postgres())
            given["database_url"] = url.replace("postgresql+psycopg://", "postgresql://")
        (tmp_path / "server").mkdir()
        yield stack.enter_context(ServedNetwork(tmp_path / "server" / "data", **PATIENT, **given))


def test_of_many_who_submit_at_once_exactly_one_gets_the_last_run(race: Network, tmp_path: Path) -> None:
    race.add_tenant()
    race.add_cluster("sh")
    race.ok(race.operator.post("/clusters/sh:cordon"))
    publish(race, table(tmp_path))
    for turn in range(3):
        granted = grant(race, runs=1)
        begin, answers = threading.Barrier(6), list[int]()

        def submit(begin: threading.Barrier = begin, answers: list[int] = answers, turn: int = turn) -> None:
            with race.client("buyer", tenant="acme") as buyer:
                begin.wait()
                answers.append(buyer.post("/jobs", json=reads(name=f"turn-{turn}")).status_code)

        threads = [threading.Thread(target=submit) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [201, 403, 403, 403, 403, 403]
        assert left(race, granted) == 0
    assert len(race.ok(race.operator.get("/jobs"))["items"]) == 3
