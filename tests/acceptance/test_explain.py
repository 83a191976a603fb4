"""Where a job stands, as its owner and others are told: on the command line and over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.backends.memory import Behaviour
from controlplane.cli.main import app
from tests.network import Network, job, node, until


@pytest.fixture
def network(patient_network: Network) -> Network:
    """Two tenants; `sh` has 8 cores of which a job of globex holds 6, `gz` is empty. Runs last."""
    patient_network.add_tenant("globex")
    patient_network.add_cluster("sh", node("n1", 8, 16), script=lambda _run: Behaviour(duration_s=300))
    patient_network.add_cluster("gz", node("n1", 8, 16), jurisdiction="CN-GZ")
    patient_network.wait(submit(patient_network, "running", 6, tenant="globex")["id"], "running")
    return patient_network


def submit(network: Network, name: str, cpu: float, **fields: Any) -> Any:
    """A job that may run at `sh` alone."""
    asked = {"resources": {"cpu": cpu, "memory": "1GiB"}, "max_runtime": "30m", "placement": {"clusters": ["sh"]}}
    return network.submit(job(name, kind="command", **{**asked, **fields}))


def explained(network: Network, client: Any, job_id: str) -> Any:
    """The explanation of a job that waits, once a cycle has seen it."""
    until(lambda: network.job(job_id)["cause"] == "node_busy", "a cycle has looked at the job")
    return network.ok(client.get(f"/jobs/{job_id}/explanation"))["waiting"]


def test_a_waiting_job_is_told_where_it_stands_and_what_would_start_it(network: Network) -> None:
    submit(network, "urgent", 8, tenant="globex", priority="high")
    mine = submit(network, "mine", 4)
    with network.client("buyer", tenant="acme") as buyer:
        found = explained(network, buyer, mine["id"])
    assert (found["queue"], found["queue_position"], found["queue_length"]) == ("default", 2, 2)
    assert (found["position"], found["position_known"], found["waiting"]) == (2, True, 2)
    assert found["waits_for"]["reason"] == "node_busy"
    assert found["waits_for"]["nodes"] == {"node_busy": 1}
    # The run ends after its limit at the latest, reckoned from its start, which may not have been heard of yet.
    assert 3000 < found["expected"]["p50_s"] <= found["expected"]["p90_s"] <= 3600 + 60
    assert "how long 1 of the runs take" in found["expected"]["unknown"][0]
    # With two cores it would fit, but the start that the urgent one is promised would be delayed.
    assert [(item["changes"][0]["path"], item["changes"][0]["new"], item["cluster"]) for item in found["sooner"]] == [
        ("placement.clusters", ["sh", "gz"], "gz")
    ]
    assert all(item["price"].endswith(" CNY") for item in found["sooner"])


def test_a_buyer_is_told_nothing_of_other_tenants_jobs_but_that_they_are_there(network: Network) -> None:
    urgent = submit(network, "secret-name", 8, tenant="globex", priority="high")
    mine = submit(network, "mine", 4)
    with network.client("buyer", tenant="acme") as buyer:
        (ahead,) = explained(network, buyer, mine["id"])["ahead"]
        text = buyer.get(f"/jobs/{mine['id']}/explanation").text
    assert (ahead["job_id"], ahead["name"], ahead["tenant"]) == (None, None, None)
    assert (ahead["why"], ahead["message"]) == ("priority", "its priority is higher")
    assert not [word for word in (urgent["id"], "secret-name", "globex") if word in text]
    with network.client("viewer") as viewer:
        (ahead,) = explained(network, viewer, mine["id"])["ahead"]
    assert (ahead["job_id"], ahead["name"], ahead["tenant"]) == (urgent["id"], "secret-name", "globex")
    assert ahead["message"] == "its priority is higher (high against normal)"


def test_the_proposal_of_the_command_line_starts_the_job(network: Network, tmp_path: Path) -> None:
    mine = submit(network, "mine", 4)
    until(lambda: network.job(mine["id"])["cause"] == "node_busy", "a cycle has looked at the job")
    environment = {"CPN_SERVER": network.url, "CPN_TOKEN": network.operator_token()}

    def cpn(*words: str) -> str:
        result = CliRunner().invoke(app, list(words), env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout

    shown = cpn("job", "explain", mine["id"])
    for words in ("1 of 1 in default", "in use now", "What would start it sooner", "--set resources.cpu=2", "nine in ten"):
        assert words in shown
    document = json.loads(cpn("job", "explain", mine["id"], "-o", "json"))
    change = document["waiting"]["sooner"][1]["changes"][0]
    manifest = tmp_path / "again.json"
    manifest.write_text(json.dumps(network.job(mine["id"])["spec"]))
    again = json.loads(cpn("job", "submit", "-f", str(manifest), "--set", f"{change['path']}={json.dumps(change['new'])}", "-o", "json"))
    assert network.wait(again["id"], "running", "succeeded")["cluster"] == "gz"
    assert "placed at gz (n1) with a score of 0.000" in cpn("job", "explain", again["id"])


def test_a_job_that_runs_or_has_ended_is_not_waiting(network: Network) -> None:
    running = network.ok(network.operator.get("/jobs", params={"state": "running"}))["items"][0]["id"]
    found = network.ok(network.operator.get(f"/jobs/{running}/explanation"))
    assert found["waiting"] is None
    assert {item["cluster"]: (item["verdict"], item["score"]) for item in found["verdicts"]} == {
        "sh": ("chosen", 0.0), "gz": ("refused", None),
    }  # fmt: skip
    assert found["placed"]["cluster"] == "sh"
