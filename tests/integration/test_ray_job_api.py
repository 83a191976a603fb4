"""A real Ray that is driven by its Job API: forced by its operator, and chosen because the head says that it is another version."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.backends.ray import choosing
from cluster.backends.ray.gcs import HeadFacts, head_facts
from cluster.backends.ray.versions import own_versions
from cluster.drivers import Driver
from cluster.model import Endpoint
from tests.network import Network, job, until
from tests.ray import ROOT, WAIT_S, SmallRay, processes_of, running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallRay]:
    """A small Ray with its dashboard."""
    found = SmallRay("other", tmp_path_factory.mktemp("ray"))
    found.include_dashboard = True
    with running(found):
        yield found


@dataclass
class Agent:
    """`cpn agent` as an operator starts it where no driver of ours can be."""

    network: Network
    head: SmallRay
    folder: Path

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """It, once the member is healthy; killed at the end, if it lives."""
        token = self.network.ok(self.network.operator.post("/tokens", json={"role": "agent", "cluster": "other"}))["token"]
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CPN_"))}
        with (self.folder / "log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "controlplane.cli.main", "agent", "other", "--dashboard", self.head.dashboard, "--driver", "job-api",
                 "--ray-token-file", str(self.head.token_file), "--data-dir", str(self.folder / "data")],
                cwd=ROOT, env={**variables, "CPN_SERVER": self.network.url, "CPN_TOKEN": token}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip
        try:
            until(lambda: self.network.cluster("other")["health"] == "healthy", "the member is healthy", WAIT_S)
            yield agent
        finally:
            agent.kill()
            agent.wait()


@pytest.fixture
def place(head: SmallRay, tmp_path: Path) -> Iterator[Agent]:
    """A network with this Ray as its member in pull mode, and its agent not started yet."""
    with Network(tmp_path / "data", suspect_after_s=20.0, lost_after_s=60.0, lease_s=50.0) as network:
        network.add_tenant()
        prices = {
            "cpu_hour": "0.40 CNY",
            "memory_gib_hour": "0.02 CNY",
            "transfer_gib": "0.50 CNY",
            "accelerator_hour": {"H200": "1.00 CNY"},
        }
        document = {"name": "other", "backend": "ray", "jurisdiction": "CN-SH", "prices": prices}
        network.ok(network.operator.post("/clusters", json=document))
        yield Agent(network, head, tmp_path)


def known_jobs(head: SmallRay) -> list[str]:
    headers = {"Authorization": f"Bearer {head.token}"}
    found = httpx.get(f"{head.dashboard}/api/jobs/", headers=headers, trust_env=False, timeout=WAIT_S).json()
    return [item["submission_id"] for item in found if item["submission_id"]]


def command(script: str, **fields: Any) -> dict[str, Any]:
    return job(kind="command", command=["sh", "-c", script], resources={"cpu": 1, "memory": "64MiB"}, **fields)


@pytest.mark.slow
def test_commands_run_are_adopted_and_stopped_by_the_job_api(place: Agent, tmp_path: Path) -> None:
    network, go = place.network, tmp_path / "go"
    with place.running():
        shown = network.cluster("other")
        assert (shown["driver"], shown["runs_only"] != "") == ({"way": "job-api", "why": "its operator chose it"}, True)
        verdict = network.ok(network.operator.post("/jobs:plan", json=job()))["verdicts"][0]
        assert [(item["reason"], "a job of kind sql" in item["message"]) for item in verdict["obstacles"]] == [("kind_unsupported", True)]
        script = f"echo begun $CPN_RUN_ID; while [ ! -e {go} ]; do sleep 0.1; done; cat mine.txt; exit 0"
        first = network.submit(command(script, files={"mine.txt": "from the file\n"}))
        other = network.submit(command("sleep 600"))
        for found in (first, other):
            network.wait(found["id"], "running", seconds=WAIT_S)
    with place.running() as agent:
        network.ok(network.operator.post(f"/jobs/{other['id']}:cancel"))
        go.touch()
        done = network.wait(first["id"], seconds=WAIT_S)
        assert (done["state"], network.wait(other["id"], seconds=WAIT_S)["state"]) == ("succeeded", "cancelled")
        assert [cause for state, cause in network.moves(first["id"]) if state == "running"] == ["started"]
        log = network.operator.get(f"/jobs/{first['id']}/logs").text
        assert log == f"begun {done['run_id']}\nfrom the file\n"
        until(lambda: known_jobs(place.head) == [], "the jobs are forgotten", WAIT_S)
        agent.terminate()
        assert agent.wait(WAIT_S) == 0
    assert processes_of(str(tmp_path)) == {}


def test_a_head_of_another_version_is_driven_by_its_job_api(ray_head: SmallRay, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(address=ray_head.address, dashboard="http://127.0.0.1:8265", token_file=str(ray_head.token_file))
    assert choosing.choose(endpoint, own_versions()) == Driver(), "its own Ray, and a node of it here"

    def older(address: str, token: str, limit_s: float) -> HeadFacts:
        found = head_facts(address, token, limit_s)
        return HeadFacts(found.cluster_id, "2.9.3", found.python_version, found.session)

    monkeypatch.setattr(choosing, "head_facts", older)
    chosen = choosing.choose(endpoint, own_versions())
    assert (chosen.way, chosen.why) == ("job-api", f"the cluster has Ray 2.9.3, the agent {own_versions().ray}")
