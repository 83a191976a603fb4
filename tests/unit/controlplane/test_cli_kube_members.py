"""`cpn cluster manifest`: what it prints, what it asks the server for, and what it refuses before it makes a token."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import yaml

from cluster.backends.kubernetes.manifest import AgentManifest
from controlplane.cli import session
from tests.charts import of_kind
from tests.unit.controlplane.cli_server import SERVER, T0, FakeServer, cluster

# As hexadecimal digits that a reader of YAML may take for a number do.
TOKEN = "cpn_join_1e3"
MADE = {
    "id": "tok-1", "role": "join", "tenant": None, "cluster": "lab", "created_at": T0, "expires_at": T0, "revoked_at": None, "token": TOKEN,
}  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer({"GET /clusters/lab": cluster("lab", backend="kubernetes"), "POST /tokens": (201, MADE)})
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    return fake


def printed(server: FakeServer, *options: str) -> list[dict[str, Any]]:
    done = server.run("cluster", "manifest", "lab", *options)
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def test_it_prints_all_objects_with_a_join_token_and_says_until_when_it_can_be_used(server: FakeServer) -> None:
    done = server.run("cluster", "manifest", "lab", "--image", "registry.example.org/cpn:1", "--expires-in", "2h")
    wanted = AgentManifest("lab", SERVER, "registry.example.org/cpn:1", join_token=TOKEN)
    assert list(yaml.safe_load_all(done.stdout)) == wanted.objects()
    assert server.sent() == {"role": "join", "tenant": None, "cluster": "lab", "expires_in": "2h"}
    assert "tok-1: the agent of lab can join with the token in this manifest until" in done.stderr
    assert TOKEN not in done.stderr


def test_options_say_where_and_how_it_runs(server: FakeServer) -> None:
    objects = printed(
        server,
        "--namespace",
        "runs",
        "--server-url",
        "https://cpn.example.org/",
        "--network-policy",
        "--storage",
        "none",
        "--local-queue",
        "q",
    )
    assert objects == AgentManifest("lab", "https://cpn.example.org", "cpn:0.1.0", "runs", TOKEN, None, True, "q").objects()


def test_claims_with_data_are_told_to_the_agent_and_proved_first(server: FakeServer) -> None:
    objects = printed(server, "--data-claim", "lake=/data", "--data-claim", "more=/more")
    (agent,) = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert agent["args"][-4:] == ["--data-claim", "lake=/data", "--data-claim", "more=/more"]
    for wrong, words in (("lake", "is no claim with a path"), ("lake=/proc/x", "/proc/x is a pod's own")):
        done = server.run("cluster", "manifest", "lab", "--data-claim", wrong)
        assert (done.exit_code, words in done.stderr) == (2, True)


def test_without_a_join_token_none_is_made_and_the_secret_that_is_there_is_used(server: FakeServer) -> None:
    objects = printed(server, "--no-join-token")
    assert [request.method for request in server.requests] == ["GET"]
    assert "Secret" not in {item["kind"] for item in objects}
    (agent,) = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert agent["env"][1]["valueFrom"]["secretKeyRef"] == {"name": "cpn-agent-join", "key": "token"}


def test_what_another_reader_of_yaml_may_take_for_a_number_or_a_truth_is_quoted(server: FakeServer) -> None:
    done = server.run("cluster", "manifest", "lab", "--image", "cpn:1e3")
    text = done.stdout
    assert '"ALL"' in text or "- ALL" in text
    for word in ("cpn:1e3", TOKEN, "1Gi", "100m"):
        assert f'"{word}"' in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--namespace", "Runs"], "--namespace 'Runs' is no name of a namespace"),
        (["--image", "a b"], "--image 'a b' is no name of an image"),
        (["--storage", "big"], "--storage 'big' is no size"),
        (["--server-url", "cpn.example.org"], "--server-url 'cpn.example.org' is no URL of a server"),
        (["--server-url", "http://h:port"], "--server-url 'http://h:port' is no URL of a server"),
        (["--expires-in", "soon"], "expires_in"),
    ],
)
def test_wrong_options_are_refused_before_a_token_is_made(server: FakeServer, options: list[str], words: str) -> None:
    done = server.run("cluster", "manifest", "lab", *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""
    assert "POST" not in {request.method for request in server.requests}


def test_a_server_on_this_machine_alone_is_no_address_for_pods(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.controlplane.cli_server.SERVER", "http://127.0.0.1:8642")
    done = server.run("cluster", "manifest", "lab")
    assert done.exit_code == 2
    assert "pods cannot call this server as http://127.0.0.1:8642" in done.stderr
    assert "--server-url" in done.stderr
    assert server.run("cluster", "manifest", "lab", "--server-url", "http://127.0.0.1:8642").exit_code == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"backend": "ray"}, "lab is a member of the backend ray"), ({"backend": "kubernetes", "mode": "push"}, "registered in push mode")],
)
def test_members_whose_agent_runs_elsewhere_are_refused(server: FakeServer, fields: dict[str, str], words: str) -> None:
    server.answers["GET /clusters/lab"] = cluster("lab", **fields)
    done = server.run("cluster", "manifest", "lab")
    assert done.exit_code != 0
    assert words in done.stderr
    assert "POST" not in {request.method for request in server.requests}
