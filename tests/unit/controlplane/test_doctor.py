"""`cpn agent --doctor`: every check by itself, with a server, a head and nodes that are played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.backends.ray.examining import examine
from cluster.backends.ray.versions import Versions
from cluster.checks import Check, Examination, failures
from cluster.model import BackendName, Endpoint
from controlplane import doctor
from controlplane.agent_client import AgentClient
from controlplane.cli import session
from controlplane.doctor import AgentPlan, Diagnosis, diagnose
from controlplane.joining import FILE
from controlplane.tokens import digest
from tests.fake_head import FACTS, FakeHead, cluster_facts, fake_head, node_facts
from tests.unit.controlplane.cli_server import SERVER, FakeServer, problem

OWN = Versions("2.60.0", "3.11.7", "0.1.0")
AT, NOW = "2026-03-01T08:00:00Z", 1772352000.0
LOOK, STANDING = "GET /agents:join", "GET /agents/sh"


def standing(**changes: Any) -> dict[str, Any]:
    return {
        "cluster": "sh", "backend": "ray", "mode": "pull", "role": "agent", "expires_at": None,
        "version": "0.1.0", "at": AT, "known_as": None, **changes,
    }  # fmt: skip


@dataclass
class Machine:
    """This machine, with an agent planned for the cluster sh."""

    plan: AgentPlan
    server: FakeServer = field(default_factory=lambda: FakeServer({STANDING: standing(), LOOK: standing(role="join", expires_at=AT)}))
    now: float = NOW

    def diagnose(self, **changes: Any) -> Diagnosis:
        def client(token: str) -> AgentClient:
            return AgentClient(SERVER, token, transport=httpx.MockTransport(self.server.handle))

        def look(_backend: BackendName, endpoint: Endpoint) -> Examination:
            return examine(endpoint, OWN, probe_nodes=lambda *_: cluster_facts(node_facts()))

        return diagnose(replace(self.plan, **changes), client, package=OWN.package, look=look, now=lambda: self.now)

    def failure(self, **changes: Any) -> Check:
        found = self.diagnose(**changes)
        (wrong,) = failures(found.checks)
        assert not found.ok
        assert wrong.remedy
        return wrong


@pytest.fixture(scope="module")
def head() -> Iterator[FakeHead]:
    with fake_head(FakeHead()) as running:
        yield running


@pytest.fixture
def machine(head: FakeHead, tmp_path: Path) -> Machine:
    token_file = tmp_path / "ray-token"
    token_file.write_text("secret")
    endpoint = Endpoint(address=head.address, token_file=str(token_file))
    return Machine(AgentPlan("sh", "cpn_agent_x", "", "ray", endpoint, None, tmp_path / "agents"))


def test_a_machine_on_which_the_agent_could_run(machine: Machine) -> None:
    found = machine.diagnose()
    assert found.ok
    assert {check.state for check in found.checks} == {"passed"}
    assert [check.name for check in found.checks[:7]] == [
        "work-directory", "disk", "server", "server-token", "server-version", "server-clock", "identity",
    ]  # fmt: skip
    assert found.cluster == "sh"
    (asked,) = machine.server.requests
    assert (asked.method, dict(asked.url.params)) == ("GET", {"remote_id": FACTS.cluster_id})


def test_a_join_token_is_looked_at_and_not_used(machine: Machine) -> None:
    found = machine.diagnose(cluster=None, join_token="cpn_join_x", token="")
    assert (found.ok, found.cluster) == (True, "sh")
    assert [request.method for request in machine.server.requests] == ["GET"]
    assert "the join token can be used for the cluster sh, until 2026-03-01 08:00 UTC" in [check.found for check in found.checks]


def test_a_join_token_that_is_over(machine: Machine) -> None:
    machine.server.answers[LOOK] = problem(403, "refused", "this join token has expired", ("token", "expired", "it has expired"))
    wrong = machine.failure(cluster=None, join_token="cpn_join_x")
    assert (wrong.name, wrong.found) == ("server-token", "this join token has expired")


def test_an_agent_that_has_joined_before_is_looked_at_by_its_own_token(machine: Machine) -> None:
    folder = machine.plan.agents / "sh"
    folder.mkdir(parents=True)
    document = {"join_sha256": digest("cpn_join_x"), "cluster": "sh", "token": "cpn_agent_own", "joined": "yes"}
    (folder / FILE).write_text(json.dumps(document))
    machine.server.answers[LOOK] = problem(403, "refused", "used already")
    assert machine.diagnose(cluster=None, join_token="cpn_join_x").ok
    assert machine.server.requests[-1].headers["authorization"] == "Bearer cpn_agent_own"
    machine.server.answers[STANDING] = problem(401, "unauthenticated", "revoked")
    assert machine.failure(cluster=None, join_token="cpn_join_x").found == "used already"


def test_a_server_that_is_not_there(machine: Machine) -> None:
    machine.server.answers[STANDING] = httpx.ConnectError("refused")
    wrong = machine.failure()
    assert (wrong.name, "CPN_SERVER" in wrong.remedy) == ("server", True)
    found = machine.diagnose()
    assert {check.name for check in found.checks if check.state == "skipped"} == {
        "server-token",
        "server-version",
        "server-clock",
        "identity",
    }


def test_what_answers_is_no_server_of_this_kind(machine: Machine) -> None:
    machine.server.answers[STANDING] = (200, b"<html>")
    assert machine.failure().name == "server"


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"version": "0.2.0"}, "server-version", "the server runs cpn 0.2.0"),
        ({"known_as": "other"}, "identity", "is the member other already"),
        ({"at": "2026-03-01T08:00:09Z"}, "server-clock", "9.0 s ahead of this machine's clock"),
        ({"at": "2026-03-01T07:59:51Z"}, "server-clock", "9.0 s behind this machine's clock"),
    ],
)
def test_a_server_that_does_not_fit(machine: Machine, changes: dict[str, Any], name: str, words: str) -> None:
    machine.server.answers[STANDING] = standing(**changes)
    wrong = machine.failure()
    assert wrong.name == name
    assert words in wrong.found


def test_a_directory_that_cannot_be_written(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = machine.failure(directory=tmp_path / "file" / "below")
    assert (wrong.name, "cannot be written" in wrong.found) == ("work-directory", True)


def test_a_disk_that_is_full(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 2**80)
    assert machine.failure().name == "disk"


def test_a_cluster_that_cannot_be_reached_says_nothing_of_its_identity(machine: Machine) -> None:
    found = machine.diagnose(endpoint=Endpoint(address="nonsense"))
    assert [check.name for check in failures(found.checks)] == ["address"]
    assert next(check.state for check in found.checks if check.name == "identity") == "skipped"


def run_doctor(server: FakeServer, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    monkeypatch.setattr(session, "transport", httpx.MockTransport(server.handle))
    return server.run("agent", "sh", "--doctor", *more)


def test_the_command_tells_what_is_wrong_and_ends_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = FakeServer({STANDING: standing()})
    said = run_doctor(server, monkeypatch, "--address", "nonsense", "--data-dir", str(tmp_path))
    assert said.exit_code == 1
    assert "'nonsense' is not HOST:PORT" in said.stdout
    assert "address: give the address of the cluster's head" in said.stdout
    said = run_doctor(server, monkeypatch, "--address", "nonsense", "--data-dir", str(tmp_path), "-o", "json")
    document = json.loads(said.stdout)
    assert (said.exit_code, document["ok"], document["cluster"]) == (1, False, "sh")
    assert {"name": "address", "state": "failed"}.items() <= next(
        check for check in document["checks"] if check["name"] == "address"
    ).items()


def test_an_agent_without_cluster_or_token_is_told_what_it_needs() -> None:
    server = FakeServer()
    said = server.run("agent", "--address", "10.0.0.5:6379")
    assert (said.exit_code, "an agent speaks for one cluster" in said.stderr) == (2, True)


def test_a_join_token_that_is_refused_ends_the_agent_with_4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = FakeServer({LOOK: problem(403, "refused", "used", ("token", "used", "this join token was used already"))})
    monkeypatch.setattr(session, "transport", httpx.MockTransport(server.handle))
    said = server.run("agent", "--join", "cpn_join_x", "--address", "10.0.0.5:6379", "--data-dir", str(tmp_path))
    assert (said.exit_code, "this join token was used already" in said.stderr) == (4, True)
