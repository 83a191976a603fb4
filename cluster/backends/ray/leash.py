"""The leash: a tiny process that stands between us and a command we started, so that nothing outlives us.

A supervisor can be killed at any moment, and a process in a session of its own would go on without it. So the
command is started by this program, which holds one end of a pipe: when the other end closes, its owner is gone,
and the command ends too. The leash also is the subreaper of everything the command leaves behind, so a child that
detached into another session is found and ended as well. It enforces the time limit and the grace period itself,
for both must hold when nobody is there to ask for them.

It runs as `python -I -S leash.py CONFIG ARGV…` on the standard library alone, to start in about 15 ms. CONFIG is JSON:
`control` (descriptor to read orders from), `status` (descriptor to report to), `max_runtime_s` (or null),
`orphan_grace_s` (between SIGTERM and SIGKILL when the owner is gone), `remove` (a directory to remove then, or null) and
`hold` (descriptors that stay open as long as the leash, a lock for example).
An order is a JSON line `{"stop": grace_s}`. Reports are JSON lines: `{"started": pid, "at": s}` or
`{"refused": errno, "message": text}`, and at the end `{"exit": code, "reason": …, "wall_s", "cpu_s", "peak_memory_bytes"}`,
where code is negative for a signal and reason says why the leash ended the command: stopped, max_runtime, orphaned or null.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
SWEEP_S = 0.05


class Leash:
    """One command with its process group, watched until nothing of it is left."""

    def __init__(self, config: dict[str, Any], argv: list[str]) -> None:
        self.control: int = config["control"]
        self.status: int = config["status"]
        self.config = config
        self.argv = argv
        self.pid = 0
        self.exit_code: int | None = None
        self.reason: str | None = None
        self.kill_at: float | None = None
        self.began = time.monotonic()
        limit = config.get("max_runtime_s")
        self.ends_at: float | None = None if limit is None else self.began + limit
        self._orders = b""

    def report(self, **fields: object) -> None:
        """A line to the owner; when the owner is gone, nobody wants to know."""
        with contextlib.suppress(OSError):
            os.write(self.status, json.dumps(fields).encode() + b"\n")

    def start(self) -> bool:
        """Spawn the command as leader of a session of its own."""
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            self.pid = os.posix_spawnp(
                self.argv[0],
                self.argv,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, null, 0)],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD],
            )
        except OSError as error:
            self.report(refused=error.errno, message=os.strerror(error.errno or 0))
            return False
        finally:
            os.close(null)
        self.report(started=self.pid, at=time.time())
        return True

    def end(self, reason: str, grace_s: float) -> None:
        """SIGTERM to the group now, SIGKILL after the grace. The first reason stands; a shorter grace counts."""
        if self.exit_code is not None:
            return
        kill_at = time.monotonic() + grace_s
        if self.reason is None:
            self.reason = reason
            self._signal(signal.SIGTERM)
        self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)

    def watch(self, wakeup: int) -> None:
        """Until the command is over: orders, the owner's end, the time limit, the grace period."""
        while self.exit_code is None:
            now = time.monotonic()
            if self.ends_at is not None and now >= self.ends_at:
                self.ends_at = None
                self.end("max_runtime", self.config["orphan_grace_s"])
            if self.kill_at is not None and now >= self.kill_at:
                self._signal(signal.SIGKILL)
                self.kill_at = now + SWEEP_S
            moments = [moment for moment in (self.ends_at, self.kill_at) if moment is not None]
            wait = max(0.0, min(moments) - time.monotonic()) if moments else None
            watched = [wakeup] if self.control < 0 else [wakeup, self.control]
            readable, _, _ = select.select(watched, [], [], wait)
            if wakeup in readable:
                self._read_signals(wakeup)
            if self.control in readable:
                self._read_orders()
            self._reap()

    def sweep(self) -> None:
        """SIGKILL what is left of the group and of its descendants, until none is left."""
        while True:
            self._signal(signal.SIGKILL)
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(SWEEP_S / 10)

    def summary(self) -> dict[str, object]:
        """The final report. CPU seconds are those of all descendants; peak memory is that of the largest process."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "exit": self.exit_code,
            "reason": self.reason,
            "at": time.time(),
            "wall_s": time.monotonic() - self.began,
            "cpu_s": used.ru_utime + used.ru_stime,
            "peak_memory_bytes": used.ru_maxrss * 1024,
        }

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.pid:
                    self.exit_code = os.waitstatus_to_exitcode(status)

    def _read_signals(self, wakeup: int) -> None:
        numbers = os.read(wakeup, 64)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.end("stopped", self.config["orphan_grace_s"])

    def _read_orders(self) -> None:
        chunk = os.read(self.control, 4096)
        if not chunk:
            self.control = -1
            self.end("orphaned", self.config["orphan_grace_s"])
            return
        *lines, self._orders = (self._orders + chunk).split(b"\n")
        for line in lines:
            self.end("stopped", float(json.loads(line)["stop"]))


def _children() -> list[int]:
    """Direct children of this process, the adopted orphans among them."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


def _remove(directory: str) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Run the command of `arguments` on a leash."""
    config = json.loads(arguments[0])
    for descriptor in (config["control"], config["status"], *config["hold"]):
        os.set_inheritable(descriptor, False)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wakeup, wakeup_end = os.pipe()
    os.set_blocking(wakeup_end, False)
    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    leash = Leash(config, arguments[1:])
    if not leash.start():
        return 1
    leash.watch(wakeup)
    leash.sweep()
    leash.report(**leash.summary())
    if leash.reason == "orphaned" and config.get("remove"):
        _remove(config["remove"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
