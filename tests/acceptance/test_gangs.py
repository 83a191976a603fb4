"""Gangs as buyers meet them: over HTTP and on the command line, on members in memory."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from cluster.backends.memory import Behaviour
from controlplane.cli.main import app
from tests.network import Network, job, node, until

RACK = "topology.kubernetes.io/rack"


def lasting(_run: object) -> Behaviour:
    return Behaviour(duration_s=60)


def gang(workers: Any, name: str = "gang", **fields: Any) -> dict[str, Any]:
    """A gang whose workers each hold one core."""
    return job(name, kind="command", resources={"cpu": 1, "memory": "1GiB", "workers": workers}, **fields)


def cpn(network: Network, *words: str) -> Result:
    """A command against the network."""
    return CliRunner().invoke(app, list(words), env={"CPN_SERVER": network.url, "CPN_TOKEN": network.operator_token(), "COLUMNS": "200"})


def test_a_gang_goes_to_one_rack_or_waits_and_says_for_what(network: Network) -> None:
    racks = [node("n1", 2, **{RACK: "r1"}), node("n2", 2, **{RACK: "r2"}), node("n3", 2, **{RACK: "r2"}), node("n4", 8)]
    network.add_cluster("sh", *racks, script=lasting)
    first = network.wait(network.submit(gang(3, placement={"same": "rack"}))["id"], "running")
    assert sorted(set(first["nodes"])) == ["n2", "n3"]
    assert first["spec"]["placement"]["same"] == "rack"
    second = network.submit(gang(3, "second", placement={"same": "rack"}))
    until(lambda: network.job(second["id"])["cause"] == "group_does_not_fit", "the blocker is noted")
    assert "no zone or rack has room" in network.job(second["id"])["message"]
    told = cpn(network, "job", "explain", second["id"]).stdout
    assert "the rack with most room has it for 2 of 3 workers now, and if nothing ran there for 4" in told
    zoned = network.ok(network.operator.post("/jobs:plan", json=gang(2, placement={"same": "zone"})))
    assert "carries the label of a zone" in zoned["verdicts"][0]["obstacles"][0]["message"]
    assert "all in one rack" in cpn(network, "job", "show", first["id"]).stdout
    network.operator.post(f"/jobs/{first['id']}:cancel")
    assert sorted(set(network.wait(second["id"], "running")["nodes"])) == ["n2", "n3"]


def test_an_elastic_gang_starts_with_what_there_is_room_for_and_pays_for_that(network: Network) -> None:
    network.add_cluster("sh", node("n1", 3), node("n2", 2))
    document = gang({"min": 2, "max": 8}, max_runtime="1h")
    verdict = network.ok(network.operator.post("/jobs:plan", json=document))["verdicts"][0]
    assert (verdict["workers"], verdict["least_quote"]["total"], verdict["quote"]["total"]) == (5, "0.84 CNY", "3.36 CNY")
    path = network.settings.data_dir / "gang.json"
    path.write_text(json.dumps(document))
    assert "0.84 CNY to 3.36 CNY (5 workers now)" in cpn(network, "job", "plan", "-f", str(path)).stdout
    done = network.wait(network.submit(document)["id"])
    assert (done["state"], sorted(done["nodes"]), done["runs"][0]["workers"]) == ("succeeded", ["n1"] * 3 + ["n2"] * 2, 5)
    assert done["quote"]["total"] == "2.10 CNY"
    receipt = network.ok(network.operator.get(f"/jobs/{done['id']}/receipt"))
    assert {line["detail"] for line in receipt["lines"]} == {"1 cores, 5 workers", "1GiB, 5 workers"}
    shown = cpn(network, "job", "show", done["id"]).stdout
    assert "2 to 8 times 1 cores" in shown
    assert "5 of 2 to 8" in shown
    frugal = network.wait(network.submit({**document, "name": "frugal", "budget": "1.70 CNY"})["id"])
    assert (frugal["runs"][0]["workers"], frugal["quote"]["total"]) == (4, "1.68 CNY")
    poor = network.operator.post("/jobs", json={**document, "budget": "0.83 CNY"})
    assert poor.status_code == 403
    assert "0.84 CNY for 2 workers" in poor.text


def test_an_elastic_gang_below_its_least_waits_and_says_what_there_is_room_for(network: Network) -> None:
    network.add_cluster("sh", node("n1", 1))
    waiting = network.submit(gang({"min": 2, "max": 4}))
    until(lambda: network.job(waiting["id"])["cause"] == "gang_does_not_fit", "the blocker is noted")
    assert "there is room for 1 of at least 2 workers now" in cpn(network, "job", "explain", waiting["id"]).stdout


def test_a_queue_spreads_its_jobs_and_those_below_it_do_too(network: Network) -> None:
    network.add_cluster("sh", node("n1", 4), node("n2", 4), node("n3", 4), script=lasting)
    assert cpn(network, "queue", "create", "services", "--spread").exit_code == 0
    assert cpn(network, "queue", "create", "web", "--parent", "services").exit_code == 0
    web = network.ok(network.operator.get("/queues/web"))
    assert (web["layout"], web["layout_inherited"]) == ("spread", True)
    assert "spread, as the queue above" in cpn(network, "queue", "show", "web").stdout
    packed = network.wait(network.submit(gang(3))["id"], "running")
    assert len(set(packed["nodes"])) == 1
    (used,) = set(packed["nodes"])
    first = network.wait(network.submit(gang(2, queue="web"))["id"], "running")
    assert set(first["nodes"]) == {"n1", "n2", "n3"} - {used}, "the two emptier nodes"
    second = network.wait(network.submit(gang(1, queue="web"))["id"], "running")
    assert second["nodes"] == [used], "the one without a worker of the queue, though it is the fullest"
    changed = cpn(network, "queue", "change", "web", "--pack")
    assert changed.exit_code == 0
    assert network.ok(network.operator.get("/queues/web"))["layout"] == "pack"
    assert network.ok(network.operator.patch("/queues/web", json={"layout": None}))["layout"] == "spread"
    wrong = network.operator.patch("/queues/web", json={"layout": "wide"})
    assert (wrong.status_code, [item["path"] for item in wrong.json()["errors"]]) == (422, ["layout"])


def test_what_no_gang_can_mean_is_refused_with_its_path(bare: Network) -> None:
    for document, path in (
        (gang(1, placement={"same": "rack"}), "placement.same"),
        (gang(2, placement={"same": "hall"}), "placement.same"),
        (gang({"min": 3, "max": 2}), "resources.workers"),
        (gang({"min": 3}), "resources.workers.max"),
        (gang("2-8"), "resources.workers"),
    ):
        answer = bare.operator.post("/jobs", json=document)
        assert answer.status_code == 422
        assert [item["path"] for item in answer.json()["errors"]] == [path]
