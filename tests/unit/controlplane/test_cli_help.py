"""Help and completion: every command explains itself, and nothing heavy is imported for that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controlplane.cli import completion, session
from controlplane.cli.main import app
from tests.unit.controlplane.cli_server import SERVER, TOKEN, FakeServer, cluster, job, page

HEAVY = (
    "httpx", "rich", "yaml", "fastapi", "uvicorn", "sqlalchemy", "alembic", "duckdb", "pyarrow", "pandas", "numpy", "numba",
    "ray", "prometheus_client",
)  # fmt: skip
COMMANDS = """
up serve migrate agent demo capacity simulate capture replay statement usage
cluster: register token manifest start-local stop-local doctor list show change cordon uncordon drain remove
node: list
product: publish list show sample grant revoke deprecate withdraw
queue: change create list show
tenant: create change show list
maintenance: create list remove
reservation: create list show remove
link: list set
ledger: list verify
job: plan submit list show wait logs cancel explain result receipt metrics hash
speed: list
target: list set
token: create list revoke
audit: list verify export prove
bench: scale explain placement latency throughput map overhead distributed-sql
"""


def _paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name)
        yield from _paths(inner, (*path, name))


ALL = sorted(_paths(typer.main.get_command(app)))


def test_the_commands_are_those_that_were_designed() -> None:
    expected: set[tuple[str, ...]] = set()
    for line in COMMANDS.strip().splitlines():
        group, colon, names = line.partition(":")
        expected |= {(group, name) for name in names.split()} | {(group,)} if colon else {(name,) for name in line.split()}
    assert set(ALL) == expected


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="cpn")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: cpn {' '.join(path)}")
    assert "…\n" not in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["job", "submit", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from controlplane.cli.main import app
try:
    app(args={arguments!r}, prog_name="cpn")
except SystemExit as ended:
    assert not ended.code, ended.code
print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cpn cluster show s", ["sh", "sz"]),
        ("cpn job wait job-", ["job-a"]),
        ("cpn job list --state run", ["running"]),
        ("cpn clu", ["cluster"]),
    ],
)
def test_names_are_completed(monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]) -> None:
    import httpx

    server = FakeServer({"GET /clusters": page(cluster("bj"), cluster("sh"), cluster("sz")), "GET /jobs": page(job())})
    monkeypatch.setattr(session, "transport", httpx.MockTransport(server.handle))
    environ = {
        "_CPN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1),
        "CPN_SERVER": SERVER, "CPN_TOKEN": TOKEN,
    }  # fmt: skip
    result = CliRunner().invoke(app, [], prog_name="cpn", env=environ)
    assert result.output.split() == expected
    assert all(request.headers["authorization"] == f"Bearer {TOKEN}" for request in server.requests)


def test_completion_is_silent_when_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    monkeypatch.setattr(session, "transport", httpx.MockTransport(refuse))
    context = typer.Context(typer.main.get_command(app))
    assert completion.clusters(context, "s") == []


def test_a_shells_completion_script_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "controlplane.cli.main", "--show-completion", "bash"], capture_output=True, text=True, check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "_CPN_COMPLETE=complete_bash" in done.stdout
