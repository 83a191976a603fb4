"""README.md's tours, typed in as they stand there, on the network that `make up` brings up."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.network import until
from tests.ray import processes_of
from tests.served import Cpn, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3600)]
WITHIN_S = 1200.0
TOURS = ("The operator", "The data buyer", "The SRE")
# The one command that the README itself says is refused.
REFUSED = "cpn job submit -f delays.yaml --set purpose=marketing"


def tour(title: str) -> Iterator[str]:
    """The shell commands below a heading: continued lines joined, a here-document with its command."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n### {title}\n")[1]
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```", re.split(r"\n##", section)[0], re.MULTILINE | re.DOTALL))
    for whole, _ in re.findall(r"((?:.*<<'(\w+)'\n(?:.*\n)*?\2\n)|(?:.*\\\n)*.*\n)", text.replace("\n\n", "\n") + "\n"):
        if whole.strip():
            yield whole.replace("\\\n", " ").strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the person types: the project's demo jobs lie below it, and `cpn` is on the path."""
    folder = tmp_path_factory.mktemp("tours")
    (folder / "bin").mkdir()
    program = folder / "bin" / "cpn"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    program.chmod(0o755)
    (folder / "controlplane").symlink_to(ROOT / "controlplane")
    return folder


@pytest.fixture(scope="module")
def person(folder: Path) -> Iterator[Cpn]:
    """Somebody in whose folder the demo's network is up."""
    found, data = Cpn(folder), folder / "data"
    credentials = folder / "config" / "credentials.json"
    with (folder / "up.log").open("w") as log:
        running = subprocess.Popen(
            command("up", "--demo", "--data-dir", str(data), "--port", "0"),
            env=environment(CPN_CONFIG_DIR=str(folder / "config")), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: credentials.exists() or running.poll() is not None, "the network is up", WITHIN_S)
        assert running.poll() is None, (folder / "up.log").read_text()
        yield found
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(WITHIN_S) == 0
    assert processes_of(str(data)) == {}


@pytest.mark.parametrize("title", TOURS)
def test_every_command_of_a_tour_does_what_it_says(person: Cpn, folder: Path, title: str) -> None:
    commands = list(tour(title))
    assert len(commands) >= 5
    server = json.loads((folder / "config" / "credentials.json").read_text())["server"]
    variables = environment(
        CPN_CONFIG_DIR=str(folder / "config"), PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", HOME=str(folder)
    )
    for line in commands:
        typed = line.replace("http://127.0.0.1:8642", server)
        if re.search(r"\bJOB\b", typed):
            typed = re.sub(r"\bJOB\b", person("job", "list", "--limit", "1", "-o", "json").document["items"][0]["id"], typed)
        done = subprocess.run(
            ["bash", "-c", typed], cwd=folder, env=variables, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
        assert done.returncode == (4 if line.startswith(REFUSED) else 0), f"{typed}\n{done.stdout}{done.stderr}"
