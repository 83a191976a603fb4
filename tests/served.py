"""A network whose control plane is what an operator runs, `cpn serve` in a process of its own, and the command line beside it.

Members live in the test's process, on the memory backend, and dial in. The server may be killed at any moment.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

import controlplane
from controlplane.cli.main import app
from controlplane.settings import Settings
from tests.network import Network, until

ROOT = Path(controlplane.__file__).parents[1]
STARTS_WITHIN_S, ENDS_WITHIN_S = 300.0, 180.0


def command(*arguments: str) -> list[str]:
    """`cpn …` as a program."""
    return [sys.executable, "-m", "controlplane.cli.main", *arguments]


def environment(**values: str) -> dict[str, str]:
    """What a command of a person who set nothing but these is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CPN_")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **values}


@dataclass(frozen=True)
class Said:
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)

    def table(self) -> list[dict[str, str]]:
        """The rows of its table, by heading."""
        headings, _, *rows = (re.split(" {2,}", line.strip()) for line in self.out.splitlines())
        return [dict(zip(headings, row, strict=True)) for row in rows]


class Cpn:
    """The command line of one person: a folder of its own, a server and a token.

    Called, it runs a command's own code in this process, which is quick; `run` and `start` make a process of it.
    """

    def __init__(self, folder: Path, server: str = "", token: str = "") -> None:
        self.folder = folder
        self._values = {"CPN_CONFIG_DIR": str(folder / "config"), "CPN_SERVER": server, "CPN_TOKEN": token}
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, *arguments: str, status: int = 0, text: str = "", **values: str) -> Said:
        """Run a command, insisting on its exit status; `text` is its standard input."""
        done = CliRunner().invoke(app, arguments, env={**self._values, **values}, input=text, prog_name="cpn")
        return _insisted(arguments, status, Said(done.exit_code, done.stdout, done.stderr))

    def run(self, *arguments: str, status: int = 0, **values: str) -> Said:
        """The same as a process, to its end."""
        done = subprocess.run(
            command(*arguments), cwd=self.folder, env=environment(**{**self._values, **values}), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False,
        )  # fmt: skip
        return _insisted(arguments, status, Said(done.returncode, done.stdout, done.stderr))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same as a process that is left running; its output is read from its pipes."""
        return subprocess.Popen(
            command(*arguments), cwd=self.folder, env=environment(**self._values), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def write(self, name: str, document: object) -> str:
        """A document in this person's folder; its path."""
        path = self.folder / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)


def rest_of(process: subprocess.Popen[str]) -> Said:
    """What a process says until it ends, after the lines that were read; `communicate` would lose what was read ahead."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process:  # which closes its pipes
        out, err = process.stdout.read(), process.stderr.read()
        return Said(process.wait(ENDS_WITHIN_S), out, err)


def _insisted(arguments: Sequence[str], status: int, said: Said) -> Said:
    assert said.status == status, f"cpn {' '.join(arguments)} ended with {said.status}:\n{said.out}{said.err}"
    return said


class ServedNetwork(Network):
    """The same network with its control plane in a process of its own."""

    process: subprocess.Popen[bytes]

    def start_server(self) -> None:
        """Start the process on the same data and port; returns when it is ready."""
        self.process = self.serve()
        until(self._ready, "the server is ready", STARTS_WITHIN_S)

    def serve(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`cpn serve` on this network's data and port, unless the arguments say otherwise; it is not waited for."""
        data_dir, port = self.settings.data_dir, str(self.settings.port)
        with self.log.open("ab") as log:
            # Not even a test run that is killed leaves a server behind.
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command("serve", "--data-dir", str(data_dir), "--port", port, *arguments)],
                env=environment(**self._variables()), stdin=subprocess.DEVNULL, stdout=log, stderr=log, umask=0,
            )  # fmt: skip

    def _variables(self) -> dict[str, str]:
        given = {item.name: getattr(self.settings, item.name) for item in fields(Settings) if item.name not in {"data_dir", "port"}}
        return {f"CPN_{name.upper()}": str(value) for name, value in given.items() if str(value)}

    @property
    def log(self) -> Path:
        """What the servers wrote."""
        return self.settings.data_dir.with_name("server.log")

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log.read_text()}"
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, verify=False, timeout=5).is_success
        except httpx.HTTPError:
            return False

    def stop_server(self) -> None:
        """End it in good order."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(ENDS_WITHIN_S) == 0, self.log.read_text()

    def kill_server(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self.process.kill()
        self.process.wait(ENDS_WITHIN_S)

    def cpn(self, folder: Path, token: str | None = None) -> Cpn:
        """The command line of somebody with this token, the operator's when none is given."""
        return Cpn(folder, self.url, self.operator_token() if token is None else token)
