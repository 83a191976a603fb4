"""A Ray head of our own on this machine: what `cpn up`, the demo and the tests run jobs on.

It is a real, independent Ray: `ray start --head --block` with every port of its own, token authentication, its own
short directory for sockets (a unix socket's path may have 107 bytes), and no dashboard unless asked for: a backend
drives it through a driver and actors, and the Job API, which alone needs the dashboard's children, is not used.
The head runs on a leash, so that it never outlives its owner, nor any of its processes the head.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import cluster
from cluster.backends.ray.gcs import has_nodes
from cluster.backends.ray.ports import PortBlock, take_block
from cluster.errors import UnreachableError
from cluster.runs.leashed import Leashed, put_on_leash, read_report
from workloads.catalogue.s3 import SETTINGS

MIN_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.0000"
_SOCKET_LIMIT = 107
_NODE_WAS_SLOW = "The current node timed out during startup"
_KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


class LocalRay:
    """One Ray head as our child. `directory` keeps its token and log; `start`, `wait_ready`, then `stop`."""

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        cpus: float,
        memory_bytes: int,
        gpus: int = 0,
        accelerator_model: str | None = None,
        object_store_bytes: int = MIN_OBJECT_STORE_BYTES,
        labels: Mapping[str, str] | None = None,
        token: str | None = None,
        include_dashboard: bool = False,
    ) -> None:
        self.name = name
        self.directory = directory
        self.cpus, self.gpus, self.memory_bytes = cpus, gpus, memory_bytes
        self.object_store_bytes = max(object_store_bytes, MIN_OBJECT_STORE_BYTES)
        self.labels = dict(labels or {})
        if accelerator_model and gpus:
            self.labels["ray.io/accelerator-type"] = accelerator_model
        self.token = token or secrets.token_urlsafe(32)
        self.include_dashboard = include_dashboard
        self.token_file = directory / "ray-token"
        self.log_file = directory / "ray.log"
        self._ports: PortBlock | None = None
        self._temporary: Path | None = None
        self._leashed: Leashed | None = None
        self._head_pid = 0

    @property
    def address(self) -> str:
        """`host:port` of the head, for a backend on this machine."""
        return f"127.0.0.1:{self._port('port')}"

    @property
    def dashboard(self) -> str:
        """URL of the dashboard and its Job API; empty when the head runs without."""
        return f"http://127.0.0.1:{self._port('dashboard-port')}" if self.include_dashboard else ""

    @property
    def pid(self) -> int:
        """The head's process id, which is its process group's id too."""
        return self._head_pid

    @property
    def running(self) -> bool:
        """Whether it was started and its head has not ended."""
        return self._leashed is not None and self._leashed.process.poll() is None

    def start(self) -> None:
        """Start the head and return at once; `wait_ready` waits. Raises TransientError when no ports are left."""
        if self._leashed is not None:
            raise RuntimeError(f"Ray head {self.name} is started already")
        self.directory.mkdir(parents=True, exist_ok=True)
        _write_secret(self.token_file, self.token)
        self._temporary = _short_directory()
        if self._ports is None or self._ports.lock < 0:
            self._ports = take_block()
        with open(self.log_file, "wb") as log:
            self._leashed = put_on_leash(
                self._arguments(), env=self._environment(), cwd=self._temporary, output=log, remove=self._temporary,
                pass_fds=(self._ports.lock,),
            )  # fmt: skip
        with open(self._leashed.status, "rb", closefd=False) as reports:
            report = read_report(reports.readline())
        if "started" not in report:
            raise UnreachableError(f"Ray head {self.name} cannot start: {report['message']}")
        self._head_pid = report["started"]

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Until head and node answer. Raises UnreachableError with the last lines of the log when they do not in time.

        A head that ends because its node was slow, as Ray's do after 30 s, is started once more and given the time again.
        """
        deadline, is_second = time.monotonic() + timeout_s, False
        while True:
            if not self.running:
                if self._leashed is None or is_second or _NODE_WAS_SLOW not in self._log_tail():
                    raise UnreachableError(f"Ray head {self.name} ended while starting; its log ends with:\n{self._log_tail()}")
                self._finish(15.0)
                self.start()
                deadline, is_second = time.monotonic() + timeout_s, True
            try:
                self._check()
                return
            except (UnreachableError, OSError) as error:
                if time.monotonic() > deadline:
                    message = f"Ray head {self.name} is not ready after {timeout_s:g} s ({error}); its log ends with:\n"
                    raise UnreachableError(message + self._log_tail()) from error
            time.sleep(0.05)

    def stop(self, grace_s: float = 5.0) -> None:
        """SIGTERM to all of the head's processes, SIGKILL after the grace; returns when none is left. Twice does no harm."""
        if self._leashed is not None:
            self._leashed.stop(grace_s)
            self._finish(grace_s + 15.0)
        if self._ports is not None:
            self._ports.release()

    def kill(self) -> None:
        """SIGKILL to the head's process group: what a crash of the machine looks like to the others. Its ports stay ours, so
        `start` brings it back at the same address."""
        if self._leashed is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._head_pid, signal.SIGKILL)
            self._finish(15.0)

    def _finish(self, timeout_s: float) -> None:
        assert self._leashed is not None
        try:
            self._leashed.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._head_pid, signal.SIGKILL)
            self._leashed.process.kill()
            self._leashed.process.wait()
        self._leashed.close()
        self._leashed = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _check(self) -> None:
        """Raises when the head's control store, its node or its dashboard does not answer."""
        if not has_nodes(self.address, self.token, 1.0):
            raise UnreachableError("its node has not registered yet")
        socket.create_connection(("127.0.0.1", self._port("node-manager-port")), 1.0).close()
        if self.include_dashboard:
            request = urllib.request.Request(f"{self.dashboard}/api/version", headers={"Authorization": f"Bearer {self.token}"})
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(request, timeout=2.0).close()

    def _arguments(self) -> list[str]:
        assert self._ports is not None
        first, last = self._ports.workers()
        options: dict[str, object] = {
            **self._ports.named(),
            "min-worker-port": first,
            "max-worker-port": last,
            "node-name": self.name,
            "temp-dir": self._temporary,
            "num-cpus": f"{self.cpus:g}",
            "num-gpus": self.gpus,
            "memory": self.memory_bytes,
            "object-store-memory": self.object_store_bytes,
            "include-dashboard": str(self.include_dashboard).lower(),
            "include-log-monitor": "false",
            "labels": ",".join(f"{key}={value}" for key, value in sorted(self.labels.items())),
        }
        flags = [f"--{name}={value}" for name, value in options.items() if value != ""]
        return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats", *flags]

    def _environment(self) -> dict[str, str]:
        """What the head's processes see: where our code and the token lie, and how they reach the object stores that data lies in."""
        assert self._temporary is not None
        root = str(Path(cluster.__file__).parent.parent)
        return {
            **{name: os.environ[name] for name in (*_KEPT_ENVIRONMENT, *SETTINGS) if name in os.environ},
            "PYTHONPATH": root,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file.absolute()),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "CPN_WORK_DIR": str(self._temporary / "work"),
        }

    def _port(self, name: str) -> int:
        if self._ports is None:
            raise RuntimeError(f"Ray head {self.name} is not started")
        return self._ports.named()[name]

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])
        return "(no log)"


def _short_directory() -> Path:
    """A fresh directory whose sockets fit into a unix socket's path."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(parent) + len("/cpn-12345678") + len(_LONGEST_SOCKET) <= _SOCKET_LIMIT:
            return Path(tempfile.mkdtemp(prefix="cpn-", dir=parent))
    raise UnreachableError(
        f"the temporary directory {tempfile.gettempdir()} is too long a path for Ray's sockets; set TMPDIR to a shorter one"
    )


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
