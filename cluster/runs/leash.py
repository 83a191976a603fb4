"""The leash: a tiny process that stands between us and a command we started, so that nothing outlives us.

A supervisor can be killed at any moment, and a process in a session of its own would go on without it. So the
command is started by this program, which holds one end of a pipe: when the other end closes, its owner is gone,
and the command ends too. The leash also is the subreaper of everything the command leaves behind, so a child that
detached into another session is found and ended as well. It enforces the time limit and the grace period itself,
for both must hold when nobody is there to ask for them.

It runs as `python -I -S leash.py CONTROL STATUS HOLD [away]`: descriptors to read orders from and to report to, and descriptors that
stay open as long as the leash, a lock for example, with commas between. With `away` it goes on as no child of its owner's: a worker
of Ray kills its children when it ends in good order. It may be started long before there is a command, because
loading an interpreter takes longer than many a command: the first order says what to run. Each leash runs one command. Orders are
JSON lines; the first one is `{"argv", "env", "cwd", "max_runtime_s", "orphan_grace_s", "remove", "no_new_privs", "limits"}`: the time
limit in seconds from there on, null for none; the time between SIGTERM and SIGKILL when the owner is gone; a directory to remove then,
or null; whether no program that it starts may have more rights than it has (setuid); how much it may hold (`limits.py`), or null. When
the owner is gone before it, the leash ends. A later order is `{"stop": grace_s}`. Reports are JSON lines: `{"started": pid, "at": s}` or
`{"refused": errno, "message": text}`, and at the end `{"exit": code, "reason": …, "wall_s", "cpu_s", "peak_memory_bytes"}`, where code is
negative for a signal and reason says why the leash ended the command: stopped, max_runtime, orphaned, memory or tasks (more than it may
hold, `took` of them), or null.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # The typing module takes long to load.
if TYPE_CHECKING:
    from typing import Any

    from cluster.runs.bounds import TreeWatch, bind_process, descendants
else:
    # Its neighbour, which a bare interpreter finds only so.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from bounds import TreeWatch, bind_process, descendants

    del sys.path[0]

PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
SWEEP_S = 0.05


Order = dict[str, "Any"]


class Ignoring:
    """What contextlib.suppress does, without the time that takes to load."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return kind is not None and issubclass(kind, self._errors)


class Leash:
    """One command with its process group, watched until nothing of it is left."""

    def __init__(self, control: int, status: int) -> None:
        self.control = control
        self.status = status
        self.order: Order | None = None
        self.orphan_grace_s = 0.0
        self.pid = 0
        self.exit_code: int | None = None
        self.reason: str | None = None
        self.kill_at: float | None = None
        self.began = 0.0
        self.ends_at: float | None = None
        self._orders = b""
        self._tree: TreeWatch | None = None

    def wait(self, wakeup: int) -> bool:
        """Until the order to run something has come. False when there will be none: the owner is gone, or a signal ended this."""
        while self.order is None:
            readable, _, _ = select.select([wakeup, self.control], [], [])
            if wakeup in readable and self._is_told_to_end(wakeup):
                return False
            if self.control in readable:
                self._read_orders()
                if self.control < 0:
                    return False
        return True

    def report(self, **fields: object) -> None:
        """A line to the owner; when the owner is gone, nobody wants to know."""
        with Ignoring(OSError):
            os.write(self.status, _line(fields))

    def start(self) -> bool:
        """Spawn the command as leader of a session of its own."""
        assert self.order is not None
        argv, env = self.order["argv"], self.order["env"]
        null = os.open(os.devnull, os.O_RDONLY)
        if self.order["no_new_privs"]:
            _prctl(PR_SET_NO_NEW_PRIVS)  # which the command inherits
        if self.order.get("limits"):
            self._limit(self.order["limits"])
        try:
            os.chdir(self.order["cwd"])
            if "PATH" in env:
                # Programs are looked for on the path of this process, not on that of the new one.
                os.environ["PATH"] = env["PATH"]
            self.pid = os.posix_spawnp(
                argv[0],
                argv,
                env,
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
        if self.reason is not None:  # the order to stop came with that to run
            self._signal(signal.SIGTERM)
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
                self.end("max_runtime", self.orphan_grace_s)
            if self.kill_at is not None and now >= self.kill_at:
                self._signal(signal.SIGKILL)
                self.kill_at = now + SWEEP_S
            # Once it was too much there is nothing to look for.
            look_at = None if self._tree is None or self._tree.took else self._tree.due
            if self._tree is not None and look_at is not None and now >= look_at and (found := self._tree.look()) is not None:
                self.reason, self.kill_at = self.reason or found, now
                continue
            moments = [moment for moment in (self.ends_at, self.kill_at, look_at) if moment is not None]
            wait = max(0.0, min(moments) - time.monotonic()) if moments else None
            watched = [wakeup] if self.control < 0 else [wakeup, self.control]
            readable, _, _ = select.select(watched, [], [], wait)
            if wakeup in readable and self._is_told_to_end(wakeup):
                self.end("stopped", self.orphan_grace_s)
            if self.control in readable:
                self._read_orders()
            self._reap()

    def sweep(self) -> None:
        """SIGKILL what is left of the group and of its descendants, until none is left."""
        while True:
            self._signal(signal.SIGKILL)
            for child in descendants(os.getpid()):
                with Ignoring(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(SWEEP_S / 10)

    def summary(self) -> dict[str, object]:
        """The final report. CPU seconds are those of all descendants; peak memory is that of the largest process, or of all as seen."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seen, took = (0, 0) if self._tree is None else (self._tree.peak_bytes, self._tree.took)
        return {
            "exit": self.exit_code,
            "reason": self.reason,
            "at": time.time(),
            "wall_s": time.monotonic() - self.began,
            "cpu_s": used.ru_utime + used.ru_stime,
            "peak_memory_bytes": max(used.ru_maxrss * 1024, seen),
            "took": took,
        }

    def _limit(self, limits: Order) -> None:
        """Bound what is started from here on: each of its processes by the kernel, all together by looking at them."""
        bind_process(limits)
        self._tree = TreeWatch(limits["memory_bytes"], limits["tasks"], limits["shared"])

    def _signal(self, number: int) -> None:
        if self.pid:
            with Ignoring(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _reap(self) -> None:
        with Ignoring(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.pid:
                    self.exit_code = os.waitstatus_to_exitcode(status)

    @staticmethod
    def _is_told_to_end(wakeup: int) -> bool:
        numbers = os.read(wakeup, 64)
        return signal.SIGTERM in numbers or signal.SIGINT in numbers

    def _read_orders(self) -> None:
        chunk = os.read(self.control, 65536)
        if not chunk:
            self.control = -1
            self.end("orphaned", self.orphan_grace_s)
            return
        *lines, self._orders = (self._orders + chunk).split(b"\n")
        for order in map(json.loads, lines):
            if self.order is None:
                self._take(order)
            else:
                self.end("stopped", float(order["stop"]))

    def _take(self, order: Order) -> None:
        self.order, self.orphan_grace_s = order, order["orphan_grace_s"]
        self.began = time.monotonic()
        if order["max_runtime_s"] is not None:
            self.ends_at = self.began + order["max_runtime_s"]


def _prctl(what: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(what, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _remove(directory: str) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Run one command on a leash."""
    control, status, hold, *away = arguments
    if away and os.fork():
        return 0
    for descriptor in (control, status, *hold.split(",")):
        if descriptor:
            os.set_inheritable(int(descriptor), False)
    _prctl(PR_SET_CHILD_SUBREAPER)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wakeup, wakeup_end = os.pipe()
    os.set_blocking(wakeup_end, False)
    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    leash = Leash(int(control), int(status))
    if not leash.wait(wakeup) or not leash.start():
        return 1
    leash.watch(wakeup)
    leash.sweep()
    leash.report(**leash.summary())
    assert leash.order is not None
    if leash.reason == "orphaned" and leash.order["remove"]:
        _remove(leash.order["remove"])
    return 0


if __name__ == "__main__":
    # Nothing is left to be written or closed, and the owner waits for this process: no interpreter has to be taken down.
    os._exit(main(sys.argv[1:]))
