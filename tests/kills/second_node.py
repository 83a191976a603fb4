"""A second node of a Ray, on the same machine: a machine of its own as far as Ray knows, which can be killed alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster.backends.ray.ports import PortBlock, take_block
from cluster.runs.leashed import Leashed, put_on_leash, read_report
from tests.ray import GIB, SmallRay, environment_of

LABEL = {"spare": "yes"}
HEADS_OWN = ("port", "ray-client-server-port", "dashboard-port")


class SecondNode:
    """The node beside a head. It bears a label of its own."""

    def __init__(self, head: SmallRay, log_file: Path) -> None:
        self._head, self._log_file = head, log_file
        self._ports: PortBlock = take_block()
        self._leashed: Leashed | None = None
        self._group = 0
        self._folder: Path | None = None

    @property
    def running(self) -> bool:
        return self._leashed is not None and self._leashed.process.poll() is None

    @property
    def runs(self) -> Path:
        """Where its runs have their directories."""
        assert self._folder is not None
        return self._folder / "work" / "runs"

    def start(self) -> None:
        """Start it anew; that it has joined is told by whoever counts the cluster's nodes."""
        self.kill()
        folder = self._folder = Path(tempfile.mkdtemp(prefix="cpn-"))
        first, last = self._ports.workers()
        options = {
            **{name: port for name, port in self._ports.named().items() if name not in HEADS_OWN},
            "address": self._head.address, "node-name": "second", "num-cpus": 4, "memory": 4 * GIB, "object-store-memory": 80 * 1024**2,
            "min-worker-port": first, "max-worker-port": last, "labels": ",".join(f"{key}={value}" for key, value in LABEL.items()),
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in options.items()]
        with self._log_file.open("ab") as log:
            self._leashed = put_on_leash(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *flags],
                env={**environment_of(self._head.pid), "CPN_WORK_DIR": str(folder / "work")}, cwd=folder, output=log,
                remove=folder, pass_fds=(self._ports.lock,),
            )  # fmt: skip
        with open(self._leashed.status, "rb", closefd=False) as reports:
            self._group = read_report(reports.readline())["started"]

    def kill(self) -> None:
        """End all of its processes at once."""
        leashed, self._leashed = self._leashed, None
        if leashed is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                leashed.process.wait(30)
            leashed.close()
            leashed.process.wait(30)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Kill it, and give its ports back."""
        self.kill()
        self._ports.release()
