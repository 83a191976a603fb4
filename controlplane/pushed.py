"""Agents of push-mode members: one child process each, kept alive.

The child is the same program that an operator runs beside a cluster in pull mode; it differs only in who
starts it. It gets a token of its own through its environment, and ends by itself when this server is gone.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from types import TracebackType

from cluster.model import ClusterSpec
from controlplane.tokens import digest, new_secret
from controlplane.wiring import ControlPlane
from scheduler.acts import SERVER
from scheduler.chain import Act
from scheduler.store import access, audit, fleet
from scheduler.store.audit import Entry
from scheduler.store.records import TokenRecord
from scheduler.store.session import Transaction

log = logging.getLogger("cpn.pushed")
FIRST_PAUSE_S, LONGEST_PAUSE_S, GOOD_RUN_S = 0.5, 15.0, 30.0
LOOK_S, END_S = 1.0, 8.0


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    began: float
    pause_s: float = FIRST_PAUSE_S
    restart_at: float | None = None


class PushedAgents:
    """Starts an agent for every push-mode member, restarts those that end, stops those of removed members."""

    def __init__(self, plane: ControlPlane, url: str) -> None:
        self._plane, self._url = plane, url
        self._children: dict[str, _Child] = {}
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pushed-agents", daemon=True)

    def __enter__(self) -> PushedAgents:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._changed.set()
        self._thread.join()

    def _loop(self) -> None:
        with self._plane.bells.listen("fleet", self._changed.set):
            while not self._stop.is_set():
                self._changed.clear()
                try:
                    self._tend()
                except Exception:
                    log.exception("tending the agents failed; the next turn tries again")
                self._changed.wait(LOOK_S)
        for name in sorted(self._children):
            self._end(name)

    def _tend(self) -> None:
        with self._plane.store.read() as conn:
            wanted = {
                item.name: item.spec for item in fleet.list_clusters(conn) if item.spec.mode == "push" and item.spec.backend != "memory"
            }
        for name in sorted(set(self._children) - set(wanted)):
            self._end(name)
        for name, spec in sorted(wanted.items()):
            self._keep(name, spec)

    def _keep(self, name: str, spec: ClusterSpec) -> None:
        now, child = self._plane.clock.now(), self._children.get(name)
        if child is None:
            self._children[name] = _Child(self._start(spec), now)
            return
        if child.process.poll() is None:
            return
        if child.restart_at is None:
            child.pause_s = FIRST_PAUSE_S if now - child.began > GOOD_RUN_S else min(child.pause_s * 2, LONGEST_PAUSE_S)
            child.restart_at = now + child.pause_s
            log.warning("the agent of %s ended with status %s; starting it again in %.1f s", name, child.process.returncode, child.pause_s)
        elif now >= child.restart_at:
            self._children[name] = _Child(self._start(spec), now, child.pause_s)

    def _start(self, spec: ClusterSpec) -> subprocess.Popen[bytes]:
        folder = self._plane.settings.data_dir / "agents" / spec.name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [
            sys.executable, "-m", "controlplane.agent_process", "--cluster", spec.name, "--server", self._url, "--backend", spec.backend,
            "--endpoint", spec.endpoint.model_dump_json(), "--data-dir", str(folder), "--end-with-parent",
        ]  # fmt: skip
        with (folder / "agent.log").open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, "CPN_TOKEN": self._token(spec.name)},
            )  # fmt: skip

    def _token(self, cluster: str) -> str:
        """A token for one child; the one of its predecessor ends with it."""
        secret, now = new_secret("agent"), self._plane.clock.now()
        token = TokenRecord(f"push-{cluster}", digest(secret), "agent", None, cluster, now, None, None)

        def work(tx: Transaction) -> None:
            access.replace_token(tx.conn, token)
            audit.append(tx.conn, [Entry(Act.TOKEN_CREATED, token.id, SERVER, now, {"role": token.role, "cluster": cluster})])

        self._plane.store.write(work)
        self._plane.tokens.forget()
        return secret

    def _end(self, name: str) -> None:
        child = self._children.pop(name)
        if child.process.stdin is not None:
            child.process.stdin.close()
        try:
            child.process.wait(END_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
