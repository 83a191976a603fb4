"""`cpn` as a program: what only a process of its own shows. Exit statuses, live output, Ctrl-C, stored credentials, completion."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from controlplane.cli.credentials import Credentials, write_credentials
from controlplane.daemon import OPERATOR_TOKEN
from tests.acceptance.market import PRODUCT, Market, manifest, work
from tests.network import until
from tests.served import Cpn, command, environment, rest_of

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("cluster list", "sh"), ("node list -o json", "n1"), ("product list -o yaml", PRODUCT), ("queue list", "analytics"),
        ("tenant list -o json", "globex"), ("job list -o yaml", "first"), ("target list", "computing-power"),
        ("token list -o json", "buyer"), ("capacity -o yaml", "computing-power"),
    ],
)  # fmt: skip
def test_every_group_of_commands_answers_as_a_program(market: Market, arguments: str, name: str) -> None:
    said = market.operator.run(*arguments.split())
    assert name in said.out
    assert said.err == ""
    form = arguments.partition(" -o ")[2]
    if form:
        assert isinstance({"json": json.loads, "yaml": yaml.safe_load}[form](said.out), dict)


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4])
def test_a_process_ends_with_the_status_of_what_happened(market: Market, status: int) -> None:
    acme, file = market.acme, manifest(market.acme, "status")
    said = {
        0: lambda: acme.run("job", "submit", "-f", file, "--wait"),
        1: lambda: acme.run("job", "submit", "-f", work(acme, "fail"), "--wait", status=1),
        2: lambda: acme.run("job", "submit", "-f", file, "--set", "resources.memory=5", status=2),
        3: lambda: acme.run("--server", NOWHERE, "job", "list", status=3),
        4: lambda: acme.run("job", "submit", "-f", file, "--set", "purpose=marketing", status=4),
    }[status]()
    assert ("error: " in said.err) == (status > 0)
    assert ("2 rows" in said.out) == (status == 0)
    assert "Traceback" not in said.err


def test_a_log_is_followed_while_the_job_runs_and_ends_with_it(market: Market) -> None:
    job_id = market.acme("job", "submit", "-f", work(market.acme, "talk"), "-o", "json").document["id"]
    following = market.acme.start("job", "logs", "-f", job_id)
    assert following.stdout is not None
    assert [following.stdout.readline() for _ in range(2)] == ["line 0\n", "line 1\n"]
    assert market.network.job(job_id)["state"] == "running"
    assert "is " in market.acme("job", "cancel", job_id).out
    said = rest_of(following)
    assert (said.status, said.err) == (0, "")
    assert all(line.startswith("line ") for line in said.out.splitlines())
    assert market.network.job(job_id)["state"] == "cancelled"


def test_ctrl_c_leaves_the_waiting_and_not_the_job(market: Market) -> None:
    waiting = market.acme.start("job", "submit", "-f", work(market.acme, "sleep"), "--wait")
    assert waiting.stderr is not None
    job_id = waiting.stderr.readline().split()[1]
    market.network.wait(job_id, "running")
    waiting.send_signal(signal.SIGINT)
    said = rest_of(waiting)
    assert said.status == 130
    assert f"come back to it with `cpn job wait {job_id}`" in said.err
    assert market.network.job(job_id)["state"] == "running"
    market.acme("job", "cancel", job_id)
    market.network.wait(job_id)


def test_the_operators_token_and_the_stored_credentials_are_their_owners_alone(market: Market, tmp_path: Path) -> None:
    assert stat.S_IMODE((market.network.settings.data_dir / OPERATOR_TOKEN).stat().st_mode) == 0o600
    stored = Cpn(tmp_path)
    path = tmp_path / "config" / "credentials.json"
    write_credentials(path, Credentials(market.network.url, market.network.operator_token()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stored("queue", "list").table()
    assert (
        "send the header Authorization"
        in stored("--server", f"{market.network.url.replace('127.0.0.1', 'localhost')}", "queue", "list", status=4).err
    )


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program `cpn`."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "cpn"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    program.chmod(0o755)
    return folder


def test_the_installed_program_is_the_same() -> None:
    done = subprocess.run([Path(sys.executable).with_name("cpn"), "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("cpn ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("cpn job w", "wait"), ("cpn cluster show s", "sh"), ("cpn queue show ana", "analytics"), ("cpn job list --state succ", "succeeded")],
)
def test_bash_completes_commands_and_names_by_the_script_that_cpn_gives(market: Market, shim: Path, line: str, expected: str) -> None:
    words = shlex.split(line)
    script = f"""
        eval "$(cpn --show-completion)"
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
        _cpn_completion cpn
        printf '%s\n' "${{COMPREPLY[@]}}"
    """
    path = f"{shim}{os.pathsep}{os.environ['PATH']}"
    variables = environment(CPN_SERVER=market.network.url, CPN_TOKEN=market.network.operator_token(), PATH=path, SHELL="/bin/bash")

    def suggested() -> list[str]:
        done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    # On a busy machine an answer may come too late to be suggested.
    until(lambda: suggested() == [expected], f"{expected} is suggested", 60)


@pytest.mark.parametrize(
    ("shell", "asked", "expected"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "cpn cluster show s"}, "sh"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "cpn cluster show s", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "sh"),
    ],
)
def test_other_shells_get_a_script_and_names_too(market: Market, shell: str, asked: dict[str, str], expected: str) -> None:
    script = market.operator.run("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert f"_CPN_COMPLETE=complete_{shell}" in script.out
    until(lambda: expected in market.operator.run(_CPN_COMPLETE=f"complete_{shell}", **asked).out, f"{expected} is suggested", 60)
