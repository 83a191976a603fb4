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

# The loader's way to the interpreter's own libraries, where it needs one.
_FOR_THE_INTERPRETER = ("LD_LIBRARY_PATH",)
_LEASH = str(Path(__file__).with_name("leash.py"))


@dataclass
class Leashed:
    """A leash with the ends of its two pipes: it waits until it is told what to `run`. Closing `control` ends the command."""

    process: subprocess.Popen[bytes]
    control: int
    status: int

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path,
        max_runtime_s: float | None = None, orphan_grace_s: float = 1.0, remove: Path | None = None, no_new_privs: bool = False,
        limits: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Start `argv`, once. No harm when the leash is gone: then its reports end.

        `orphan_grace_s` is the time between SIGTERM and SIGKILL when the owner is gone or the time is up; `remove` is deleted when the
        owner was gone. `no_new_privs`: neither it nor what it starts gets more rights by a program that has them (setuid).
        `limits`: what it may hold, as `limits.limits_of` says it.
        """
        self._tell({
            "argv": list(argv), "env": dict(env), "cwd": str(cwd), "max_runtime_s": max_runtime_s, "orphan_grace_s": orphan_grace_s,
            "remove": str(remove) if remove else None, "no_new_privs": no_new_privs,
            "limits": limits,
        })  # fmt: skip

    def stop(self, grace_s: float) -> None:
        """Ask for SIGTERM now and SIGKILL after `grace_s` seconds. No harm when the command is over."""
        self._tell({"stop": grace_s})

    def close(self) -> None:
        """Let go of the pipes; what still runs is ended by its leash. Twice does no harm."""
        for descriptor in (self.control, self.status):
            if descriptor >= 0:
                os.close(descriptor)
        self.control = self.status = -1

    def _tell(self, order: Mapping[str, Any]) -> None:
        left = json.dumps(order).encode() + b"\n"
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self.control, left) :]


def waiting_leash(output: int | IO[bytes], pass_fds: Sequence[int] = (), *, away: bool = False) -> Leashed:
    """A leash that waits for its command, with `output` as standard output and error of both; `pass_fds` stay open in the leash only.

    It has none of our environment, because the command may look at the leash's. `away`: it is no child of this process, which may be one
    that kills its children at its end; the pipes alone tell of it then.
    """
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    hold = ",".join(str(descriptor) for descriptor in pass_fds)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _LEASH, str(control_read), str(status_write), hold, *(["away"] if away else [])],
            env={name: os.environ[name] for name in _FOR_THE_INTERPRETER if name in os.environ}, cwd="/",
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=(control_read, status_write, *pass_fds),
        )  # fmt: skip
    except BaseException:
        os.close(control_write)
        os.close(status_read)
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
    if away:
        process.wait()
    return Leashed(process, control_write, status_read)


def put_on_leash(
    argv: Sequence[str], *, output: int | IO[bytes], pass_fds: Sequence[int] = (), away: bool = False, **how: Any
) -> Leashed:  # fmt: skip
    """Start `argv` on a fresh leash; `how` are the other arguments of `Leashed.run`."""
    leashed = waiting_leash(output, pass_fds, away=away)
    leashed.run(argv, **how)
    return leashed


class Kennel:
    """Keeps one leash that waits, with the pipe that its command will write to. Each is handed out once."""

    def __init__(self) -> None:
        self._waiting: tuple[Leashed, int] | None = None

    @property
    def waiting(self) -> int | None:
        """The process that waits."""
        return None if self._waiting is None else self._waiting[0].process.pid

    def fill(self) -> None:
        """Start one when there is none. Takes some milliseconds, and the leash some tens more."""
        if self._waiting is None:
            self._waiting = _with_output()

    def take(self) -> tuple[Leashed, int]:
        """A leash, and the descriptor to read its command's output from; both are the caller's then."""
        taken, self._waiting = self._waiting, None
        if taken is not None and taken[0].process.poll() is None:
            return taken
        _put_down(taken)
        return _with_output()

    def close(self) -> None:
        """End what waits."""
        taken, self._waiting = self._waiting, None
        _put_down(taken)


def _with_output() -> tuple[Leashed, int]:
    read, write = os.pipe()
    try:
        return waiting_leash(write), read
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)


def _put_down(taken: tuple[Leashed, int] | None) -> None:
    if taken is not None:
        leashed, output = taken
        leashed.close()
        os.close(output)
        leashed.process.wait()


def read_report(line: bytes) -> dict[str, Any]:
    """One line of a leash's reports."""
    report: dict[str, Any] = json.loads(line)
    return report
