"""Queues as operators and buyers meet them: a tree with quotas over HTTP and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.backends.memory import Behaviour
from controlplane.cli.main import app
from tests.network import GIB, PATIENT, Network, job, node, until

LARGE_SMALL = (("large", 8), ("small", 1))


@pytest.fixture
def network(patient_network: Network) -> Network:
    """Runs here last."""
    return patient_network


def create(network: Network, name: str, **terms: Any) -> Any:
    """A queue, as it is shown once it is there."""
    return network.ok(network.operator.post("/queues", json={"name": name, **terms}))


def refused(network: Network, document: dict[str, Any], *, method: str = "POST", path: str = "/queues") -> list[tuple[str, str]]:
    """(path, message) of every fault of a request that is not accepted."""
    answer = network.operator.request(method, path, json=document)
    assert answer.status_code == 422, answer.text
    return [(item["path"], item["message"]) for item in answer.json()["errors"]]


def cpn(network: Network, *words: str) -> Result:
    """A command against the network."""
    environment = {"CPN_SERVER": network.url, "CPN_TOKEN": network.operator_token()}
    return CliRunner().invoke(app, list(words), env=environment)


def test_a_tree_is_made_shown_and_changed(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 32, "H200", 4))
    create(network, "org", quota={"cpu": 6, "memory": "16GiB"}, max_running=9)
    shown = create(network, "lab", parent="org", weight=3, quota={"cpu": 4, "H200": 2}, borrow_limit={"cpu": 1}, lend_limit={"cpu": 1})
    assert (shown["parent"], shown["depth"], shown["children"]) == ("org", 1, [])
    assert (shown["quota"], shown["borrow_limit"], shown["lend_limit"]) == ({"cpu": 4, "H200": 2}, {"cpu": 1}, {"cpu": 1})
    parts = {part["resource"]: part for part in shown["resources"]}
    assert {key: parts["cpu"][key] for key in ("total", "entitled", "quota", "ceiling", "kept", "held")} == {
        "total": 8, "entitled": 4, "quota": 4, "ceiling": 5, "kept": 3, "held": 0,
    }  # fmt: skip
    assert (parts["memory"]["quota"], parts["H200"]["ceiling"]) == (0, None)
    org = network.ok(network.operator.get("/queues/org"))
    assert (org["children"], org["quota"], org["max_running"]) == (["lab"], {"cpu": 6, "memory": 16 * GIB}, 9)
    assert org["warnings"] == ["quotas of the queues below it come to 2 H200, more than its own 0 H200"]
    changed = network.ok(network.operator.patch("/queues/lab", json={"parent": None, "quota": {}, "lend_limit": {}, "max_running": 2}))
    assert (changed["parent"], changed["quota"], changed["borrow_limit"], changed["max_running"]) == (None, {}, {"cpu": 1}, 2)
    assert changed["weight"] == 3
    assert network.ok(network.operator.patch("/queues/lab", json={"max_running": None}))["max_running"] is None


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({"parent": "nobody"}, "parent", "there is no queue 'nobody'; there are: default, org"),
        ({"parent": "new"}, "parent", "circle"),
        ({"quota": {"cpu": -1}}, "quota.cpu", "greater than or equal to 0"),
        ({"quota": {"H200": -2}}, "quota.H200", "greater than or equal to 0"),
        ({"quota": {"memory": 64}}, "quota.memory", "has no unit"),
        ({"quota": {"memory": "-1GiB"}}, "quota.memory", "not an amount of memory"),
        ({"quota": {"cpu": "many"}}, "quota.cpu", "valid number"),
        ({"borrow_limit": {"gpu": 8}}, "borrow_limit.gpu", "there is no resource 'gpu'; name one of: cpu, memory, "),
        ({"lend_limit": {"cpu": 8}}, "lend_limit.cpu", "there is no quota of cpu"),
        ({"weight": -1}, "weight", "greater than 0"),
        ({"max_running": -1}, "max_running", "greater than or equal to 1"),
        ({"ceiling": {"cpu": 1}}, "ceiling", "there is no such field"),
    ],
)  # fmt: skip
def test_a_queue_that_cannot_be_meant_is_refused(bare: Network, document: dict[str, Any], path: str, words: str) -> None:
    [(where, message)] = refused(bare, {"name": "new", **document})
    assert where == path
    assert words in message
    assert [item["name"] for item in bare.ok(bare.operator.get("/queues"))["items"]] == ["default", "org"]


def test_a_circle_is_refused_and_nothing_changes(network: Network) -> None:
    create(network, "a")
    create(network, "b", parent="a")
    create(network, "c", parent="b")
    [(path, message)] = refused(network, {"parent": "c"}, method="PATCH", path="/queues/a")
    assert (path, "a below c below b below a" in message) == ("parent", True)
    assert network.ok(network.operator.get("/queues/a"))["parent"] is None
    assert network.operator.patch("/queues/nobody", json={"weight": 2}).status_code == 404
    assert network.operator.post("/queues", json={"name": "a"}).status_code == 409


def test_quotas_above_the_capacity_are_kept_and_warned_of(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 32))
    assert create(network, "big", quota={"cpu": 9})["warnings"] == ["quotas at the top come to 9 cpu, more than the network's 8 cpu"]


def test_jobs_go_to_the_ends_of_the_tree(network: Network) -> None:
    network.add_cluster("sh")
    network.ok(network.operator.post("/clusters/sh:cordon"))
    create(network, "org")
    early = network.submit(job("early", queue="org"))["id"]
    create(network, "lab", parent="org")
    answer = network.operator.post("/jobs", json=job("late", queue="org"))
    [problem] = answer.json()["errors"]
    assert (answer.status_code, problem["path"], problem["reason"]) == (422, "queue", "inner")
    assert "submit to one of: default, lab" in problem["message"]
    network.ok(network.operator.post("/clusters/sh:uncordon"))
    assert network.wait(early)["state"] == "succeeded"


def test_a_queue_borrows_up_to_its_ceiling_and_a_quota_is_reached(network: Network) -> None:
    network.add_cluster("sh", node("n1", 4, 16), script=lambda _run: Behaviour(duration_s=60))
    create(network, "org")
    create(network, "lab", parent="org", quota={"cpu": 1}, borrow_limit={"cpu": 1})
    create(network, "office", parent="org", quota={"cpu": 2}, lend_limit={"cpu": 0})
    lab = [network.submit(job(f"lab-{number}", kind="command", queue="lab"))["id"] for number in range(3)]
    until(lambda: network.job(lab[2])["cause"] == "queue_quota", "the third is over the ceiling")
    for item in lab[:2]:
        network.wait(item, "running")
    assert network.job(lab[2])["state"] == "queued"
    explained = network.ok(network.operator.get(f"/jobs/{lab[2]}/explanation"))
    assert explained["verdicts"][0]["obstacles"][0]["reason"] == "queue_quota"
    assert "borrowing limit" in explained["verdicts"][0]["obstacles"][0]["message"]
    # Two cores are free, and both are kept for the office.
    rest = network.submit(job("rest", kind="command"))["id"]
    until(lambda: network.job(rest)["cause"] == "queue_quota", "what the office keeps is not lent")
    office = [network.submit(job(f"office-{number}", kind="command", queue="office"))["id"] for number in range(2)]
    for item in office:
        network.wait(item, "running")
    views = {item["name"]: item for item in network.ok(network.operator.get("/queues"))["items"]}
    assert (views["org"]["running"], views["org"]["queued"], views["org"]["dominant_share"]) == (4, 1, 1.0)
    assert (views["lab"]["borrowed_share"], views["office"]["borrowed_share"]) == (0.25, 0.0)
    assert views["lab"]["recent_share"] > 0
    # A higher ceiling lets nobody in while there is no room, and the reason says so.
    network.ok(network.operator.patch("/queues/lab", json={"borrow_limit": {}}))
    until(lambda: network.job(lab[2])["cause"] == "node_busy", "now only room is missing")


def test_in_a_strict_queue_nothing_overtakes_until_it_is_strict_no_more(network: Network) -> None:
    network.add_cluster("sh", node("n1", 4, 16))
    create(network, "nightly", order="strict")
    large, small = (network.submit(job(name, queue="nightly", resources={"cpu": cpu, "memory": "1GiB"}))["id"] for name, cpu in LARGE_SMALL)
    until(lambda: network.job(small)["cause"] == "queue_order", "the small one waits behind the large one")
    assert network.job(large)["cause"] == "node_too_small"
    network.ok(network.operator.patch("/queues/nightly", json={"order": "best-effort"}))
    assert network.wait(small)["state"] == "succeeded"


def test_the_command_line_makes_and_shows_a_tree(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 32, "H200", 4))
    assert cpn(network, "queue", "create", "org", "--quota", "cpu=6", "--quota", "memory=16GiB").stdout == "created queue org, weight 1\n"
    made = cpn(
        network, "queue", "create", "lab", "--parent", "org", "--weight", "2", "--quota", "H200=8", "--borrow-limit", "cpu=1.5",
        "--lend-limit", "H200=0", "--max-running", "3",
    )  # fmt: skip
    assert (made.exit_code, made.stdout) == (0, "created queue lab below org, weight 2\n")
    tree = cpn(network, "queue", "list")
    assert [line.split()[0] for line in tree.stdout.splitlines()[2:]] == ["default", "org", "lab"]
    assert "\n  lab " in tree.stdout
    assert "warning: queue org: quotas of the queues below it come to 8 H200" in tree.stderr
    items = json.loads(cpn(network, "queue", "list", "-o", "json").stdout)["items"]
    assert {item["name"]: item["entitled_share"] for item in items} == {"default": 0.5, "org": 0.5, "lab": 0.5}
    shown = cpn(network, "queue", "show", "lab").stdout
    for words in ("org", "50.0%", "RESOURCE", "NEVER LENT", "1.5"):
        assert words in shown
    changed = cpn(network, "queue", "change", "lab", "--parent", "", "--max-running", "0", "-o", "json")
    assert {key: json.loads(changed.stdout)[key] for key in ("parent", "max_running", "weight")} == {
        "parent": None, "max_running": None, "weight": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--quota", "cpu"), "--quota 'cpu' is not RESOURCE=AMOUNT"),
        (("--quota", "cpu=-1"), "quota.cpu"),
        (("--quota", "memory=64"), 'write it as text, like "1GiB"'),
        (("--borrow-limit", "gpu=1"), "there is no resource 'gpu'"),
        (("--parent", "nobody"), "there is no queue 'nobody'"),
    ],
)
def test_the_command_line_says_what_is_wrong(bare: Network, words: tuple[str, ...], fault: str) -> None:
    result = cpn(bare, "queue", "create", "new", *words)
    assert result.exit_code != 0
    assert fault in result.stderr


@pytest.mark.parametrize(("weight", "first"), [(0.0, "a"), (1.0, "b")])
def test_past_use_counts_where_it_is_given_a_weight(tmp_path: Path, weight: float, first: str) -> None:
    with Network(tmp_path / "data", history_weight=weight, history_half_life_s=600.0, **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", node("n1", 1, 4))
        for name in ("a", "b"):
            create(network, name)
        network.wait(network.submit(job("before", queue="a"))["id"])
        network.ok(network.operator.post("/clusters/sh:cordon"))
        waiting = {name: network.submit(job(f"from-{name}", queue=name))["id"] for name in ("a", "b")}
        network.ok(network.operator.post("/clusters/sh:uncordon"))
        placed = {name: network.wait(item)["placed_at"] for name, item in waiting.items()}
        assert min(placed, key=lambda name: placed[name]) == first
