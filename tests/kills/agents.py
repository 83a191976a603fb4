"""Agents that die between any two of their steps.

This program has loaded all that an agent needs and forks one for each line of JSON that it reads, which takes a moment where a fresh
process takes a second. Each is the production agent. Around its steps stands a look at a file, the doom: `{"step", "side", "nth"}`. When
the agent comes to that side of that step for the nth time since the doom was written, it removes the file and kills itself.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from cluster.backends.ray.session import Session
from cluster.link import HttpLink
from cluster.model import Endpoint
from cluster.orders import Orders
from cluster.runs.journal import Journal, Journals
from controlplane.agent_process import main as run_agent
from tests.network import until
from tests.ray import ROOT, is_alive

PR_SET_PDEATHSIG = 1
Side = Literal["before", "after"]

# From the order to start a run to the word that it may be forgotten: what each kind of run has an agent do.
COMMON = ("take", "begin the journal", "write the journal", "finish the journal", "send the log", "report", "remove the journal")
STEPS = {
    "sql": (*COMMON, "ask run", "ask next", "ask forget"),
    "command": (*COMMON, "ask take", "ask begin", "ask next", "ask read_output", "ask let_go", "send a file"),
    "gang": (*COMMON, "ask take", "ask prepare", "ask go", "ask next", "ask read_output", "ask let_go", "send a file"),
}


class Doom:
    """Where one agent dies, and how often it has come there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._met: dict[tuple[str, int], int] = {}

    def meet(self, step: str, side: Side) -> None:
        """The agent is on this side of a step."""
        try:
            stamp, doom = self._path.stat().st_mtime_ns, json.loads(self._path.read_text())
        except FileNotFoundError:
            return
        if (doom["step"], doom["side"]) != (step, side):
            return
        met = self._met[side, stamp] = self._met.get((side, stamp), 0) + 1
        if met == doom["nth"]:
            self._path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type, name: str, step: Callable[..., str]) -> None:
        """Look before and after a method, whose arguments name the step; an empty name is none."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def called(*arguments: Any, **options: Any) -> Any:
            self.meet(step(*arguments), "before")
            answer = method(*arguments, **options)
            self.meet(step(*arguments), "after")
            return answer

        @functools.wraps(method)
        async def awaited(*arguments: Any, **options: Any) -> Any:
            self.meet(step(*arguments), "before")
            answer = await method(*arguments, **options)
            self.meet(step(*arguments), "after")
            return answer

        setattr(owner, name, awaited if inspect.iscoroutinefunction(method) else called)


def lay(doom: Doom) -> None:
    """Put the looks around every step."""
    doom.around(Orders, "take", lambda _orders, instructions: "take" if instructions else "")
    for owner, name, words in (
        (Journal, "begin", "begin the journal"), (Journal, "batch", "write the journal"), (Journal, "finish", "finish the journal"),
        (Journals, "remove", "remove the journal"), (HttpLink, "upload_log", "send the log"), (HttpLink, "upload_result", "send a file"),
    ):  # fmt: skip
        doom.around(owner, name, lambda *_, words=words: words)
    doom.around(HttpLink, "sync", lambda _link, request: "report" if request.observations else "")
    doom.around(Session, "ask", lambda _session, _actor, method, *rest: f"ask {rest[1] if method == 'ask' else method}")


def _be_agent(order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = os.open(order.pop("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    logging.root.handlers.clear()
    lay(Doom(Path(order.pop("doom"))))
    endpoint = Endpoint(address=order.pop("address"), token_file=order.pop("token_file"))
    os._exit(run_agent(backend="ray", endpoint=endpoint, data_dir=Path(order.pop("data_dir")), **order))


def serve() -> None:
    """Fork an agent for each line, and say its process; all end with this one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are reaped by themselves
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _be_agent(json.loads(line))
        print(process, flush=True)


class Agents:
    """The agents of one cluster, one after the other, like a service that is always started again.

    `arguments`: cluster, server and token, and address and token_file of the cluster's Ray.
    """

    def __init__(self, folder: Path, **arguments: str) -> None:
        self.folder, self.doom = folder, folder / "doom"
        places = {"data_dir": str(folder / "agent"), "log": str(folder / "agent.log"), "doom": str(self.doom)}
        self._order = {**arguments, **places}
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.agents"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CPN_"))},
        )  # fmt: skip
        self.process = 0

    @property
    def alive(self) -> bool:
        """Whether there is one."""
        return bool(self.process) and is_alive(self.process)

    def tend(self) -> None:
        """Start one where there is none."""
        if not self.alive:
            assert self._forks.stdin is not None
            assert self._forks.stdout is not None
            self._forks.stdin.write(json.dumps(self._order) + "\n")
            self._forks.stdin.flush()
            self.process = int(self._forks.stdout.readline())

    def condemn(self, step: str, side: Side, nth: int) -> None:
        """The agent dies there."""
        fresh = self.doom.with_suffix(".new")
        fresh.write_text(json.dumps({"step": step, "side": side, "nth": nth}))
        fresh.replace(self.doom)

    def spare(self) -> bool:
        """Take the doom back. False when it has come."""
        try:
            self.doom.unlink()
        except FileNotFoundError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, wherever it is."""
        if self.alive:
            os.kill(self.process, signal.SIGKILL)
            until(lambda: not self.alive, "the agent is gone")

    def close(self) -> None:
        """End the last one, and who makes them."""
        if self.alive:
            os.kill(self.process, signal.SIGTERM)
            until(lambda: not self.alive, "the agent ends", 60)
        with self._forks:
            assert self._forks.stdin is not None
            self._forks.stdin.close()


if __name__ == "__main__":
    # Under its own name, so that what is defined here is there once.
    from tests.kills.agents import serve as serve_agents

    serve_agents()
