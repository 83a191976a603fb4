"""Jobs through the HTTP API, as a buyer sees them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from tests.network import Network, job, node, until


def slow(_run: object) -> Behaviour:
    return Behaviour(duration_s=60)


def test_a_job_goes_its_way_and_leaves_a_receipt(network: Network) -> None:
    network.add_cluster("sh")
    done = network.wait(network.submit(job())["id"])
    assert (done["state"], done["cluster"], done["attempts"]) == ("succeeded", "sh", 1)
    assert network.moves(done["id"]) == [
        ("submitted", "submitted"), ("queued", "admitted"), ("placed", "decided"), ("starting", "accepted"), ("running", "started"),
        ("succeeded", "finished"),
    ]  # fmt: skip
    receipt = network.ok(network.operator.get(f"/jobs/{done['id']}/receipt"))
    assert receipt["run_id"] == done["run_id"] == f"{done['id']}-1"
    assert receipt["tenant"] == "acme"


def test_a_job_waits_for_a_cluster_and_says_so(network: Network) -> None:
    waiting = network.submit(job())
    until(lambda: network.job(waiting["id"])["state"] == "queued", "the job is queued")
    explained = network.ok(network.operator.get(f"/jobs/{waiting['id']}/explanation"))
    assert "no cluster is registered" in explained["summary"]
    network.add_cluster("sh")
    assert network.wait(waiting["id"])["state"] == "succeeded"


def test_what_does_not_fit_now_waits_with_the_reason(network: Network) -> None:
    network.add_cluster("sh", node(cpu=1), script=slow)
    first = network.submit(job("first"))
    network.wait(first["id"], "running")
    second = network.submit(job("second"))
    until(lambda: network.job(second["id"])["cause"] == "node_busy", "the blocker is noted")
    assert "in use" in network.job(second["id"])["message"]
    network.operator.post(f"/jobs/{first['id']}:cancel")
    assert network.wait(first["id"])["state"] == "cancelled"
    network.wait(second["id"], "running")


def test_the_cheaper_cluster_is_chosen_and_the_plan_says_so_before(network: Network) -> None:
    network.add_cluster("dear", cpu_hour="0.90 CNY")
    network.add_cluster("cheap", cpu_hour="0.10 CNY", jurisdiction="CN-GZ")
    plan = network.ok(network.operator.post("/jobs:plan", json=job(resources={"cpu": 2, "memory": "2GiB"}, max_runtime="1h")))
    assert plan["chosen"] == "cheap"
    verdicts = {item["cluster"]: item for item in plan["verdicts"]}
    assert (verdicts["cheap"]["verdict"], verdicts["dear"]["verdict"]) == ("chosen", "possible")
    assert verdicts["cheap"]["quote"]["total"] == "0.24 CNY"
    assert {line["item"] for line in verdicts["cheap"]["quote"]["lines"]} == {"cpu", "memory"}
    assert network.wait(network.submit(job())["id"])["cluster"] == "cheap"


def test_the_preference_decides_and_the_plan_shows_by_what(network: Network) -> None:
    network.add_cluster("dear", cpu_hour="0.90 CNY")
    network.add_cluster("cheap", cpu_hour="0.10 CNY", jurisdiction="CN-GZ")
    network.plane.waits.saw("cheap", 30.0)
    plans = {
        prefer: network.ok(network.operator.post("/jobs:plan", json=job(placement={"prefer": prefer})))
        for prefer in ("soonest", "cheapest", "balanced")
    }
    assert {prefer: plan["chosen"] for prefer, plan in plans.items()} == {"soonest": "dear", "cheapest": "cheap", "balanced": "cheap"}
    verdicts = {item["cluster"]: item for item in plans["soonest"]["verdicts"]}
    assert [(part["aspect"], part["points"]) for part in verdicts["cheap"]["score_parts"]] == [("completion", 1.0), ("price", 0.0)]
    assert verdicts["dear"]["score"] == pytest.approx(0.001)
    answer = network.operator.post("/jobs:plan", json=job(placement={"prefer": "fastest"}))
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "placement.prefer")


def test_placement_rules_of_the_job_are_kept(network: Network) -> None:
    network.add_cluster("cheap", cpu_hour="0.10 CNY", jurisdiction="CN-GZ")
    network.add_cluster("dear", node("n1", tier="gold"))
    chosen = [
        network.wait(network.submit(job(placement=rules))["id"])["cluster"]
        for rules in ({"jurisdictions": ["CN-SH"]}, {"clusters": ["dear"]}, {"labels": {"tier": "gold"}})
    ]
    assert chosen == ["dear", "dear", "dear"]


def test_a_budget_below_every_quote_is_refused(network: Network) -> None:
    network.add_cluster("sh")
    answer = network.operator.post("/jobs", json=job(budget="0.0001 CNY", max_runtime="10h"))
    assert answer.status_code == 403
    problem = answer.json()
    assert problem["type"] == "urn:cpn:problem:refused"
    assert problem["errors"][0]["reason"] == "over_budget"
    assert "raise the budget" in problem["detail"]


@pytest.mark.parametrize(
    ("change", "status", "path"),
    [
        ({"colour": "red"}, 422, "colour"),
        ({"resources": {"memory": 5}}, 422, "resources.memory"),
        ({"resources": {"memory": "1 bushel"}}, 422, "resources.memory"),
        ({"resources": {"cpu": "two"}}, 422, "resources.cpu"),
        ({"max_runtime": "soon"}, 422, "max_runtime"),
        ({"budget": "5.00"}, 422, "budget"),
        ({"kind": "dance"}, 422, "kind"),
        ({"queue": "nowhere"}, 422, "queue"),
        ({"tenant": "nobody"}, 422, "tenant"),
        ({"inputs": {"f": "o/p@1"}}, 422, "inputs.f"),
        ({"inputs": {"f": "o/p"}}, 422, "inputs.f"),
        ({"sql": "SELEC 1"}, 422, "sql"),
        ({"sql": "SELECT * FROM elsewhere"}, 422, "sql"),
        ({"sql": "SELECT 1; SELECT 2"}, 422, "sql"),
        ({"sql": "COPY (SELECT 1) TO '/tmp/x'"}, 422, "sql"),
        ({"sql": "SELECT * FROM read_csv('/etc/passwd')"}, 422, "sql"),
        ({"placement": {"clusters": ["mars"]}}, 422, "placement.clusters.0"),
        ({"deadline": "2001-01-01T00:00:00Z"}, 422, "deadline"),
        ({"sql": None}, 422, "sql"),
    ],
)
def test_bad_input_is_refused_with_its_path(bare: Network, change: dict[str, Any], status: int, path: str) -> None:
    answer = bare.operator.post("/jobs", json={**job(), **change})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert path in [item["path"] for item in answer.json()["errors"]], answer.text
    assert bare.ok(bare.operator.get("/jobs"))["items"] == []


def test_a_failed_job_tells_its_last_log_lines(network: Network) -> None:
    def fails(_run: object) -> Behaviour:
        return Behaviour(outcome="failed", category="exit", exit_code=3, message="exit code 3; last log lines: boom", log=("boom\n",))

    network.add_cluster("sh", script=fails)
    done = network.wait(network.submit(job(kind="command"))["id"])
    assert (done["state"], done["cause"], done["exit_code"], done["attempts"]) == ("failed", "exit", 3, 1)
    assert "boom" in done["message"]
    assert network.operator.get(f"/jobs/{done['id']}/logs").text == "boom\n"


def test_exits_are_retried_when_asked(network: Network) -> None:
    def fails_once(run: Any) -> Behaviour:
        return Behaviour(outcome="failed", category="exit", exit_code=1) if run.attempt == 1 else Behaviour()

    network.add_cluster("sh", script=fails_once)
    done = network.wait(network.submit(job(kind="command", retry={"attempts": 2, "on": ["exit"]}))["id"])
    assert (done["state"], done["attempts"]) == ("succeeded", 2)
    assert [run["state"] for run in done["runs"]] == ["failed", "succeeded"]


def test_logs_and_metrics_are_followed_live(network: Network) -> None:
    def talks(_run: object) -> Behaviour:
        return Behaviour(duration_s=0.5, log=("one\n", "two\n"), progress=({"loss": 0.5}, {"loss": 0.25}))

    network.add_cluster("sh", script=talks)
    submitted = network.submit(job(kind="command"))
    with network.operator.stream("GET", f"/jobs/{submitted['id']}/logs", params={"follow": True}) as stream:
        assert "".join(stream.iter_text()) == "one\ntwo\n"
    assert network.wait(submitted["id"])["state"] == "succeeded"
    metrics = network.ok(network.operator.get(f"/jobs/{submitted['id']}/metrics"))["items"]
    assert [(item["step"], item["metrics"]["loss"]) for item in metrics] == [(0, 0.5), (1, 0.25)]


def test_an_idempotency_key_gives_the_first_job(network: Network) -> None:
    key = {"Idempotency-Key": "monday"}
    first, again = network.submit(job(), **key), network.submit(job(), **key)
    assert first["id"] == again["id"]
    assert network.operator.post("/jobs", json=job("other"), headers=key).status_code == 409
    assert len(network.ok(network.operator.get("/jobs"))["items"]) == 1


def test_a_cancelled_waiting_job_never_starts(network: Network) -> None:
    waiting = network.submit(job())
    network.ok(network.operator.post(f"/jobs/{waiting['id']}:cancel"))
    memory = network.add_cluster("sh")
    assert network.wait(network.submit(job("later"))["id"])["state"] == "succeeded"
    assert network.job(waiting["id"])["state"] == "cancelled"
    assert not [run for run in memory.started if run.startswith(waiting["id"])]


def test_lists_are_paged_newest_first(network: Network) -> None:
    names = [network.submit(job(f"job-{number}"))["name"] for number in range(5)]
    first = network.ok(network.operator.get("/jobs", params={"limit": 3}))
    rest = network.ok(network.operator.get("/jobs", params={"limit": 3, "cursor": first["next_cursor"]}))
    assert [item["name"] for item in first["items"] + rest["items"]] == names[::-1]
    assert rest["next_cursor"] is None
    assert network.operator.get("/jobs", params={"cursor": "garbage"}).status_code == 400


def test_waiting_for_news_answers_when_the_job_moves(network: Network) -> None:
    waiting = network.submit(job())
    version = network.job(waiting["id"])["version"]
    answers: list[float] = []

    def wait() -> None:
        began = time.monotonic()
        network.ok(network.operator.get(f"/jobs/{waiting['id']}", params={"wait_s": 20, "after_version": version}))
        answers.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    network.ok(network.operator.post(f"/jobs/{waiting['id']}:cancel"))
    thread.join(10)
    [seconds] = answers
    assert seconds < 10


def test_who_waits_is_told_when_a_job_waits_for_another_reason(network: Network) -> None:
    network.add_cluster("sh", node(cpu=1), script=slow)
    network.wait(network.submit(job("first"))["id"], "running")
    second = network.submit(job("second"))["id"]
    until(lambda: network.job(second)["cause"] == "node_busy", "the blocker is noted")
    version = network.job(second)["version"]
    answers: list[Any] = []

    def wait() -> None:
        last = {"wait_s": 20, "after_version": version, "after_cause": "node_busy"}
        answers.append(network.ok(network.operator.get(f"/jobs/{second}", params=last)))

    thread = threading.Thread(target=wait)
    thread.start()
    network.ok(network.operator.post("/clusters/sh:cordon"))
    thread.join(30)
    assert [(item["version"], item["cause"]) for item in answers] == [(version, "cluster_cordoned")]


def test_draining_moves_what_runs(network: Network) -> None:
    network.add_cluster("one", script=slow)
    running = network.submit(job(retry={"attempts": 1}))
    network.wait(running["id"], "running")
    network.add_cluster("two")
    drained = network.ok(network.operator.post("/clusters/one:drain"))
    assert drained["cordon"] == "draining"
    done = network.wait(running["id"])
    assert (done["state"], done["cluster"], done["attempts"], done["attempts_spared"]) == ("succeeded", "two", 2, 1)
    assert ("preempted", "drained") in network.moves(running["id"])


def test_two_queues_of_equal_weight_share_equally(network: Network) -> None:
    for name in ("a", "b"):
        network.ok(network.operator.post("/queues", json={"name": name}))
    for number in range(4):
        network.submit(job(f"a{number}", queue="a"))
    for number in range(4):
        network.submit(job(f"b{number}", queue="b"))
    network.add_cluster("sh", node(cpu=4), script=slow)
    until(lambda: len(network.ok(network.operator.get("/jobs", params={"state": "running"}))["items"]) == 4, "four run")
    queues = {item["name"]: item["running"] for item in network.ok(network.operator.get("/queues"))["items"]}
    assert (queues["a"], queues["b"]) == (2, 2)
