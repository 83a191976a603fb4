"""Maintenance and reservations as operators and buyers meet them, over HTTP and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.network import Network, job, node, until
from tests.served import Cpn


@pytest.fixture
def network(patient_network: Network) -> Network:
    """With a second tenant."""
    patient_network.add_tenant("other")
    return patient_network


def waits(network: Network, words: str, **fields: Any) -> str:
    """The id of a new job that waits with these words."""
    name = str(network.submit(job(kind="command", **fields))["id"])
    until(lambda: words in network.job(name)["message"], f"a job waits: {words}")
    return name


def test_nothing_starts_that_would_run_into_maintenance(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh", node("n1", 8, 32))
    cpn = Cpn(tmp_path / "cli", network.url, network.operator_token())
    made = cpn("maintenance", "create", "switches", "--cluster", "sh", "--from", "+30m", "--until", "+2h", "--reason", "new switches")
    assert "maintenance switches: sh, all nodes, from" in made.out
    network.wait(network.submit(job("short", kind="command", max_runtime="10m"))["id"], "succeeded")
    long = waits(network, "under maintenance", name="long", max_runtime="1h")
    told = " ".join(cpn("job", "explain", long).out.split())
    assert "under maintenance, or would be before the job has ended: all nodes, from 20" in told
    assert "(new switches)" in told
    assert "new switches" in cpn("cluster", "show", "sh").out
    [shown] = cpn("maintenance", "list", "-o", "json").document["items"]
    assert (shown["name"], shown["standing"], shown["nodes"]) == ("switches", "planned", [])
    cpn("maintenance", "remove", "switches")
    network.wait(long, "succeeded")
    assert cpn("maintenance", "list", "-o", "json").document["items"] == []
    assert "there is no maintenance 'switches'" in cpn("maintenance", "remove", "switches", status=1).err


def test_reserved_nodes_take_one_tenants_jobs(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh", node("n1", 8, 32), node("n2", 4, 16))
    cpn = Cpn(tmp_path / "cli", network.url, network.operator_token())
    cpn("reservation", "create", "big", "--cluster", "sh", "--cpu", "6", "--tenant", "other", "--from", "now", "--until", "+2h")
    shown = cpn("reservation", "show", "big", "-o", "json").document
    assert (shown["nodes"], shown["tenant"], shown["standing"]) == (["n1"], "other", "now")
    assert "tenant other" in cpn("reservation", "list").out
    for tenant, told in (("acme", []), ("other", ["big"])):
        with network.client("buyer", tenant=tenant) as buyer:
            [member] = network.ok(buyer.get("/clusters"))["items"]
        assert [item["name"] for item in member["windows"]] == told
    mine = waits(network, "reserved for others", name="mine", resources={"cpu": 6, "memory": "1GiB"})
    theirs = network.submit(job("theirs", kind="command", tenant="other", resources={"cpu": 6, "memory": "1GiB"}))["id"]
    network.wait(theirs, "succeeded")
    [verdict] = network.ok(network.operator.get(f"/jobs/{mine}/explanation"))["verdicts"]
    assert (verdict["verdict"], verdict["obstacles"][0]["reason"]) == ("busy", "reserved_for_others")
    assert "nodes n1, now until" in verdict["obstacles"][0]["message"]
    cpn("reservation", "remove", "big")
    network.wait(mine, "succeeded")


def test_what_cannot_be_meant_is_refused(network: Network, tmp_path: Path) -> None:
    network.add_cluster("sh", node("n1", 8, 32))
    cpn = Cpn(tmp_path / "cli", network.url, network.operator_token())
    times = ("--cluster", "sh", "--from", "+1h", "--until", "+2h")
    cpn("reservation", "create", "first", *times, "--tenant", "acme", "--nodes", "n1")
    for words, status, said in (
        (("maintenance", "create", *times), 2, "reservation 'first' has"),
        (("reservation", "create", "first", "--cluster", "sh", "--from", "+3h", "--until", "+4h", "--tenant", "acme"), 1, "already"),
        (("reservation", "create", "x", *times), 2, "for a tenant or for a queue"),
        (("reservation", "create", "x", *times, "--tenant", "acme", "--nodes", "n1", "--cpu", "1"), 2, "not both"),
        (("maintenance", "create", "--cluster", "sh", "--from", "+2h", "--until", "+1h"), 2, "ends before it begins"),
        (("maintenance", "create", "--cluster", "sh", "--from", "soon", "--until", "+1h"), 2, "is not a time"),
        (("maintenance", "create", "--cluster", "gz", "--from", "+2h", "--until", "+3h"), 2, "there is no cluster 'gz'"),
    ):
        assert said in cpn(*words, status=status).err
    answer = network.operator.post(
        "/maintenance", json={"cluster": "sh", "begins_at": "2020-01-01T00:00:00Z", "ends_at": "2020-01-02T00:00:00Z"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "ends_at")
    with network.client("buyer", tenant="acme") as buyer:
        assert buyer.post("/maintenance", json={}).status_code == 403
        assert buyer.get("/reservations").status_code == 403
        assert [item["name"] for item in network.ok(buyer.get("/maintenance"))["items"]] == []
