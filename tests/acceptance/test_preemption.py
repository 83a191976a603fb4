"""Preemption as operators and buyers meet it: the policy of a queue, and who is told what when room is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from cluster.backends.memory import Behaviour
from cluster.protocol import RunRequest
from controlplane.cli.main import app
from tests.network import PATIENT, Network, job, node, until


def cpn(network: Network, *words: str) -> Result:
    """A command against the network."""
    environment = {"CPN_SERVER": network.url, "CPN_TOKEN": network.operator_token(), "COLUMNS": "220"}
    return CliRunner().invoke(app, list(words), env=environment)


def lasting(run: RunRequest) -> Behaviour:
    """The first attempt goes on until it is ended."""
    return Behaviour(duration_s=3600.0 if run.attempt == 1 else 0.0)


def test_a_team_takes_its_quota_back(tmp_path: Path) -> None:
    with Network(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        network.add_tenant("globex")
        network.add_cluster("sh", node("n1", 4, 32), script=lasting)
        assert cpn(network, "queue", "create", "org", "--preemption", "reclaim-quota", "--quota", "cpu=4").exit_code == 0
        made = json.loads(cpn(network, "queue", "create", "team", "--parent", "org", "--quota", "cpu=4", "-o", "json").stdout)
        assert (made["preemption"], made["preemption_own"]) == ("reclaim-quota", None)
        network.ok(network.operator.post("/queues", json={"name": "guest"}))
        asked = job("theirs", kind="command", tenant="globex", queue="guest", resources={"cpu": 4}, priority="high", retry={"attempts": 1})
        theirs = network.submit(asked)
        network.wait(theirs["id"], "running")
        ours = network.submit(job("ours", kind="command", queue="team", resources={"cpu": 4}))
        network.wait(ours["id"], "running")

        shown = network.job(theirs["id"])
        why = "ended to make room for another tenant's job of the queue team, which takes back the quota that its queue lent"
        assert (shown["state"], shown["attempts"], shown["attempts_spared"]) == ("queued", 1, 1)
        assert shown["message"].startswith(f"attempt 1 ended (preempted, which does not count: {why}); trying again")
        assert ("preempted", "preempted") in network.moves(theirs["id"])
        assert ("queued", "claimed") in network.moves(ours["id"])
        assert why in cpn(network, "job", "explain", theirs["id"], "-o", "json").stdout
        told = json.loads(cpn(network, "job", "explain", ours["id"], "-o", "json").stdout)["events"]
        assert [item["message"] for item in told if item["cause"] == "claimed"] == [
            "room is made at sh: another tenant's job of the queue guest is ended, "
            "because this job takes back the quota that its queue lent"
        ]
        metrics = network.operator.get(f"{network.url}/metrics").text
        assert 'cpn_evictions_total{reason="reclaim_quota"} 1.0' in metrics
        # Once the team has had its turn, the guest's job goes on where it was in its queue.
        network.ok(network.operator.post(f"/jobs/{ours['id']}:cancel"))
        done = network.wait(theirs["id"])
        assert (done["state"], done["attempts"]) == ("succeeded", 2)


def test_room_is_made_on_the_model_that_has_somebody_who_may_be_ended(tmp_path: Path) -> None:
    def on(name: str, priority: str, *models: str, queue: str = "default") -> dict[str, Any]:
        accelerator = {"model": models[0]} if len(models) == 1 else {"any_of": [{"model": model} for model in models]}
        return job(name, kind="command", priority=priority, queue=queue, resources={"cpu": 1, "accelerator": accelerator})

    with Network(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", node("n1", 8, 32, "H200", 1), node("n2", 8, 32, "A100", 1), script=lasting)
        assert cpn(network, "queue", "change", "default", "--preemption", "lower-priority").exit_code == 0
        network.ok(network.operator.post("/queues", json={"name": "other"}))
        first, second = network.submit(on("first", "high", "H200")), network.submit(on("second", "low", "A100"))
        for item in (first, second):
            network.wait(item["id"], "running")
        network.agents["sh"].stop()  # So nobody hears the order to end it, and the room is claimed for a while.
        urgent = network.submit(on("urgent", "high", "H200", "A100"))
        until(lambda: ("queued", "claimed") in network.moves(urgent["id"]), "room is made")
        # Its queue holds nothing, so its turn would come first; what is claimed is the A100, and not the H200.
        late = network.submit(on("late", "normal", "A100", queue="other"))
        until(lambda: network.job(late["id"])["cause"] == "node_busy", "a cycle has looked at the one that comes late")
        network.start_agent("sh")
        [run] = network.wait(urgent["id"], "running")["runs"]
        assert (run["accelerator_model"], run["accelerator_devices"]) == ("A100", [[0]])
        told = json.loads(cpn(network, "job", "explain", urgent["id"], "-o", "json").stdout)["events"]
        assert [item["message"] for item in told if item["cause"] == "claimed"] == [
            f"room is made at sh on A100: {second['id']} of the queue default is ended, because this job has a higher priority"
        ]
        assert network.job(first["id"])["state"] == "running"
        assert (network.job(second["id"])["state"], network.job(second["id"])["attempts_spared"]) == ("queued", 1)
        assert network.job(late["id"])["state"] == "queued"
        assert network.clusters["sh"].violations == []


def test_a_job_that_waits_for_the_end_of_others_says_so(tmp_path: Path) -> None:
    with Network(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", node("n1", 4, 32), script=lasting)
        assert cpn(network, "queue", "change", "default", "--preemption", "lower-priority").exit_code == 0
        low = network.submit(job("low", kind="command", resources={"cpu": 4}))
        network.wait(low["id"], "running")
        network.agents["sh"].stop()  # So nobody hears the order to end it.
        high = network.submit(job("high", kind="command", resources={"cpu": 3}, priority="high"))
        until(lambda: ("queued", "claimed") in network.moves(high["id"]), "room is made")
        small = network.submit(job("small", kind="command", resources={"cpu": 1}))
        until(lambda: network.job(small["id"])["cause"] == "node_busy", "a cycle has looked at the small job")
        why = f"room is made at sh: {low['id']} of the queue default is ended, because this job has a higher priority"
        told = {
            name: network.ok(network.operator.get(f"/jobs/{item['id']}/explanation")) for name, item in (("high", high), ("small", small))
        }
        assert told["high"]["summary"].endswith(why)
        expected = told["high"]["waiting"]["expected"]
        assert (expected["basis"], expected["p90_s"]) == (["others are told to end to make room for it"], 30.0)
        assert "room is made" not in told["small"]["summary"]
        network.start_agent("sh")
        assert network.wait(high["id"], "running")["cluster"] == "sh"


def test_policies_are_set_shown_and_refused(tmp_path: Path) -> None:
    with Network(tmp_path / "data") as network:
        listed = json.loads(cpn(network, "queue", "list", "-o", "json").stdout)["items"]
        assert [(item["name"], item["preemption"], item["preemption_own"]) for item in listed] == [("default", "never", None)]
        assert cpn(network, "queue", "change", "default", "--preemption", "lower-priority").exit_code == 0
        cpn(network, "queue", "create", "below", "--parent", "default")
        assert "lower-priority (as the queue above it)" in cpn(network, "queue", "show", "below").stdout
        assert cpn(network, "queue", "change", "below", "--preemption", "never").exit_code == 0
        table = {line.split()[0]: line.split()[-1] for line in cpn(network, "queue", "list").stdout.splitlines() if line.strip()}
        assert (table["default"], table["below"]) == ("lower-priority", "never")
        assert cpn(network, "queue", "change", "below", "--preemption", "inherit").exit_code == 0
        until(lambda: network.ok(network.operator.get("/queues/below"))["preemption"] == "lower-priority", "the policy of the queue above")
        wrong = cpn(network, "queue", "change", "below", "--preemption", "sometimes")
        assert wrong.exit_code == 2
        answer = network.operator.patch("/queues/below", json={"preemption": "sometimes"})
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "preemption")
