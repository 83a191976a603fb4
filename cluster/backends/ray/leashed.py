"""The owner's side of a leash: start one, tell it to stop, read its reports."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_LEASH = str(Path(__file__).with_name("leash.py"))


@dataclass
class Leashed:
    """A running leash with the ends of its two pipes. Closing `control` ends the command."""

    process: subprocess.Popen[bytes]
    control: int
    status: int

    def stop(self, grace_s: float) -> None:
        """Ask for SIGTERM now and SIGKILL after `grace_s` seconds. No harm when the command is over."""
        with contextlib.suppress(OSError):
            os.write(self.control, json.dumps({"stop": grace_s}).encode() + b"\n")

    def close(self) -> None:
        """Let go of the pipes; what still runs is ended by its leash. Twice does no harm."""
        for descriptor in (self.control, self.status):
            if descriptor >= 0:
                os.close(descriptor)
        self.control = self.status = -1


def put_on_leash(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: int | IO[bytes],
    max_runtime_s: float | None = None,
    orphan_grace_s: float = 1.0,
    remove: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Leashed:
    """Start `argv` on a leash, with `output` as its standard output and error.

    `pass_fds` stay open in the leash only. `orphan_grace_s` is the time between SIGTERM and SIGKILL when the owner is gone
    or the time is up; `remove` is deleted when the owner was gone.
    """
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    limit = "" if max_runtime_s is None else f"{max_runtime_s!r}"
    hold = ",".join(str(descriptor) for descriptor in pass_fds)
    config = [str(control_read), str(status_write), limit, f"{orphan_grace_s!r}", str(remove) if remove else "", hold]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _LEASH, *config, *argv],
            env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=(control_read, status_write, *pass_fds),
        )  # fmt: skip
    except BaseException:
        os.close(control_write)
        os.close(status_read)
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
    return Leashed(process, control_write, status_read)


def read_report(line: bytes) -> dict[str, Any]:
    """One line of a leash's reports."""
    report: dict[str, Any] = json.loads(line)
    return report
