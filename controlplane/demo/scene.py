"""The stage of the demo: commands are shown before they run, their results are checked, time is told."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from controlplane.api.schemas import JobView
from controlplane.cli.text import printable
from controlplane.client import Client
from controlplane.demo.commands import run_cli
from controlplane.network import LocalNetwork

Role = Literal["operator", "buyer"]


class DemoError(Exception):
    """Something did not turn out as it must; the message says what."""


@dataclass
class Scene:
    """Everything a step needs. `jobs` are those that ran, in order."""

    network: LocalNetwork
    folder: Path
    began: float = field(default_factory=time.monotonic)
    buyer_token: str = ""
    jobs: list[JobView] = field(default_factory=list)

    def title(self, number: int, total: int, text: str) -> None:
        """Announce a step."""
        line = f"[{self.elapsed():5.1f} s] {number}/{total} {text}"
        print(f"\n\x1b[1;36m{line}\x1b[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        """Words between the commands."""
        print(printable(text), flush=True)

    def cpn(self, *arguments: str, role: Role = "buyer", status: int = 0) -> None:
        """Show a command, run it, and insist on its exit status. Raises DemoError."""
        self._show(arguments)
        self._insist(arguments, run_cli(arguments, self.network.url, self._token(role)), status)

    def captured(self, *arguments: str, role: Role = "operator") -> dict[str, object]:
        """Show a command, and keep the JSON that it prints to ourselves."""
        self._show(arguments)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            ended = run_cli([*arguments, "-o", "json"], self.network.url, self._token(role))
        self._insist(arguments, ended, 0)
        document: dict[str, object] = json.loads(out.getvalue())
        return document

    def client(self, role: Role = "buyer") -> Client:
        """The API, to check what the commands have shown."""
        return Client(self.network.url, self._token(role))

    def newest_job(self) -> JobView:
        """The job that was submitted last."""
        with self.client() as client:
            return client.jobs(limit=1).items[0]

    def _token(self, role: Role) -> str:
        return self.buyer_token if role == "buyer" else self.network.operator_token

    def _show(self, arguments: tuple[str, ...]) -> None:
        line = f"$ cpn {shlex.join(arguments)}"
        print(f"\n\x1b[1m{line}\x1b[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)

    def _insist(self, arguments: tuple[str, ...], ended: int, status: int) -> None:
        if ended != status:
            raise DemoError(f"`cpn {shlex.join(arguments)}` ended with status {ended}, not {status}")


def check(condition: object, message: str) -> None:
    """Insist that something is so. Raises DemoError."""
    if not condition:
        raise DemoError(f"this should hold and does not: {message}")
