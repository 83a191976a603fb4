"""How commands end when something is wrong: the exit status, and words on what to do."""

from __future__ import annotations

import httpx
import pytest

from controlplane.cli import session
from tests.unit.controlplane.cli_server import SERVER, Answer, FakeServer, page, problem


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    return fake


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (httpx.ConnectError("refused"), 3, f"cannot reach {SERVER}: is the server running?"),
        (httpx.ReadTimeout("late"), 3, "does not answer"),
        (httpx.RemoteProtocolError("cut"), 3, "broke (cut)"),
        (problem(401, "unauthenticated", "the token is unknown"), 4, "the token is unknown"),
        (problem(403, "forbidden", "this needs the role operator"), 4, "this needs the role operator"),
        (problem(404, "not-found", "there is no cluster 'x'"), 1, "there is no cluster 'x'"),
        (problem(409, "conflict", "it still has 2 runs"), 1, "it still has 2 runs"),
        (problem(400, "invalid", "the cursor is not one"), 2, "the cursor is not one"),
        (problem(500, "internal", "the server's log has the details"), 1, "the server's log"),
        ((502, b"<html>bad gateway</html>"), 1, "HTTP 502"),
        ((200, b"<html>hello</html>"), 1, "understands"),
        ((200, {"items": [{"name": 3}]}), 1, "at items.0"),
    ],
    ids=["refused", "late", "cut", "401", "403", "404", "409", "400", "500", "502", "html", "strange"],
)
def test_each_failure_has_its_status(server: FakeServer, answer: Answer, status: int, words: str) -> None:
    server.answers["GET /clusters"] = answer
    result = server.run("cluster", "list")
    assert result.exit_code == status, result.output
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""


def test_not_reachable_says_what_to_do(server: FakeServer) -> None:
    server.answers["GET /clusters"] = httpx.ConnectError("refused")
    assert "start it with `cpn up`, or set CPN_SERVER" in server.run("cluster", "list").stderr


def test_a_refusal_names_each_rule(server: FakeServer) -> None:
    server.answers["DELETE /clusters/sh"] = problem(
        403, "refused", "all", ("", "licence_purpose", "the licence lacks it"), ("", "x", "second")
    )
    result = server.run("cluster", "remove", "sh")
    assert result.exit_code == 4
    assert "  the licence lacks it\n  second" in result.stderr


def test_wrong_fields_are_named_by_their_path(server: FakeServer) -> None:
    server.answers["POST /queues"] = problem(422, "invalid", "x", ("weight", "range", "too heavy"))
    result = server.run("queue", "create", "fast")
    assert result.exit_code == 2
    assert "weight: too heavy" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["job"], ["jobs"], ["job", "list", "--state", "odd"], ["job", "list", "-o", "xml"], ["queue", "show"]]
)
def test_usage_ends_with_2(server: FakeServer, arguments: list[str]) -> None:
    assert server.run(*arguments).exit_code == 2
    assert server.requests == []


def test_what_is_no_server_is_usage() -> None:
    from typer.testing import CliRunner

    from controlplane.cli.main import app

    result = CliRunner().invoke(app, ["--server", "localhost:8642", "--token", "x", "queue", "list"])
    assert result.exit_code == 2
    assert "write it like http://127.0.0.1:8642" in result.stderr


def test_control_characters_of_others_do_not_reach_the_terminal(server: FakeServer) -> None:
    server.answers["GET /queues"] = problem(409, "conflict", "bad \x1b[2Jnews")
    assert "\x1b" not in server.run("queue", "list").stderr


def test_all_pages_of_a_list_are_asked_for(server: FakeServer) -> None:
    usual = {"result_store": None, "keep_results_days": None, "keep_results_bytes": None, "waiting_results": 0, "waiting_for": ""}
    tenants = [{"name": name, "created_at": "2026-01-01T00:00:00Z", **usual} for name in ("a", "b")]
    server.answers["GET /tenants"] = [page(tenants[0], next_cursor="c1"), page(tenants[1])]
    result = server.run("tenant", "list")
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["a", "b"]
    assert [request.url.params.get("cursor") for request in server.requests] == [None, "c1"]
