"""Programs of ours as child processes that never outlive us: the server and the agents of a local network."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import controlplane
from cluster.runs.leashed import Leashed, put_on_leash

_STOP_MARGIN_S = 10.0


class Child:
    """One `cpn` command in a process of its own. `start` once, then `stop`; its output goes to `log_file`."""

    def __init__(self, name: str, arguments: Sequence[str], log_file: Path, environ: Mapping[str, str], *, grace_s: float = 10.0) -> None:
        self.name, self.log_file, self.grace_s = name, log_file, grace_s
        self._arguments, self._environ = arguments, environ
        self._leashed: Leashed | None = None

    def start(self) -> None:
        """Start it and return at once."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        root = str(Path(controlplane.__file__).parent.parent)
        paths = os.pathsep.join(path for path in (root, self._environ.get("PYTHONPATH", "")) if path)
        with self.log_file.open("ab") as log:
            self._leashed = put_on_leash(
                [sys.executable, "-m", "controlplane.cli.main", *self._arguments], env={**self._environ, "PYTHONPATH": paths},
                cwd=self.log_file.parent, output=log, orphan_grace_s=self.grace_s,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._leashed is not None and self._leashed.process.poll() is None

    @property
    def pid(self) -> int:
        """The process whose only child it is: what watches over it. Started ones only."""
        assert self._leashed is not None
        return self._leashed.process.pid

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that it wrote."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return "(it wrote no log)"

    def stop(self) -> None:
        """SIGTERM, SIGKILL after the grace; returns when nothing of it is left. Twice does no harm."""
        leashed, self._leashed = self._leashed, None
        if leashed is None:
            return
        leashed.stop(self.grace_s)
        try:
            leashed.process.wait(self.grace_s + _STOP_MARGIN_S)
        except subprocess.TimeoutExpired:
            leashed.process.kill()
            leashed.process.wait()
        leashed.close()
