"""The program that Ray's Job API starts on a node: it runs a user's command, and tells how that began and ended in the log.

It is sent there with each run, because such a cluster need not have cpn, nor this Ray or Python: it needs Python 3.8 and nothing else. It
stands between Ray and the command for what the Job API does not do: a start that comes too late does not happen, the time is limited
where the command runs, the log is bounded and in UTF-8, and nothing that the command started outlives it.

Beside it lie `cpn_bounds.py`, which is `cluster/runs/bounds.py`, and `cpn_run.json`. What it tells is in lines that begin with a record
separator and the run's own mark.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.runs.bounds import TreeWatch, bind_process, room_for_a_file
else:
    # As it lies beside this program at the cluster, and as we have it ourselves.
    try:
        from cpn_bounds import TreeWatch, bind_process, room_for_a_file
    except ImportError:
        from cluster.runs.bounds import TreeWatch, bind_process, room_for_a_file

SEPARATOR = "\x1e"
RUN_FILE = "cpn_run.json"
TELL_S = 0.05
# Ray kills what is left 3 s after it asked for the end; by then nothing may be left.
LONGEST_GRACE_S = 2.0
NO_NEW_PRIVILEGES, END_WITH_PARENT, ADOPT_ORPHANS = 38, 1, 36
PIECE = 65_536


class BoundedLog:
    """Text of which the beginning and the end are kept. `write` takes bytes in any pieces; `close` writes what was held back."""

    def __init__(self, most: int, write: Callable[[str], None]) -> None:
        self._room, self._last_most, self._write = most - most // 4, most // 4, write
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._last, self._dropped = "", 0

    def write(self, data: bytes, last: bool = False) -> None:
        """Take more of it; with `last` a character that is not whole is broken."""
        text = self._decoder.decode(data, last)
        kept, rest = text[: self._room], text[self._room :]
        self._room -= len(kept)
        if kept:
            self._write(kept)
        self._last += rest
        over = len(self._last) - self._last_most
        if over > 0:
            self._dropped += over
            self._last = self._last[over:]

    def close(self) -> None:
        """Write what was held back, and how much is missing before it."""
        self.write(b"", last=True)
        if self._dropped:
            self._write(f"\n[cpn: {self._dropped} characters are left out here, because the log is larger than what is kept]\n")
        self._write(self._last)
        self._last = ""


class Command:
    """The user's command in a process group of its own; whatever descends from it is ours to end."""

    def __init__(self, run: dict[str, Any], folder: Path) -> None:
        work, beside = folder / "work", folder / "cpn"
        variables = {name: os.environ[name] for name in run["passed_on"] if name in os.environ}
        variables.update(run["environment"], HOME=str(work), TMPDIR=str(beside / "tmp"), CPN_OUTPUT_DIR=str(beside / "output"))
        variables.update(CPN_INPUTS=str(beside / "inputs.json"), CPN_PROGRESS_FILE=str(beside / "progress"))
        for place in (work, beside / "tmp", beside / "output"):
            place.mkdir(parents=True)
        (beside / "inputs.json").write_text("{}\n", encoding="utf-8")
        for name, text in run["files"].items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        limits = {"file_bytes": room_for_a_file(str(work)), **run["limits"]}
        self.tree = TreeWatch(limits["memory_bytes"], limits["tasks"])
        self._process = subprocess.Popen(
            run["command"], cwd=work, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=lambda: _bind(limits),
        )  # fmt: skip

    def read(self, log: BoundedLog) -> None:
        """Begin to take what it says."""
        self._pump = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._pump.start()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def signal(self, number: int) -> None:
        """To its whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def finish(self) -> int:
        """End all that is left of it; its exit status, 128 and the number where a signal ended it."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        while children := _children():
            for child in children:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
        self._pump.join(1.0)
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def _read(self, log: BoundedLog) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), PIECE):
            log.write(data)


def main(folder: Path) -> int:
    """Run what is described in a folder. Returns the exit status."""
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    began = time.time()

    def tell(**fields: Any) -> None:
        _print(f"{SEPARATOR}{run['mark']} {json.dumps(fields)}\n")

    if began > run["start_by"]:
        tell(ended="late", code=0, at=began)
        return 0
    os.umask(0o077)
    _prctl(ADOPT_ORPHANS, 1)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    place, log = Path(tempfile.mkdtemp(prefix=f"cpn-job-{run['run_id']}-")), BoundedLog(run["most_log"], _print)
    try:
        command = Command(run, place)
        tell(began=time.time())
        command.read(log)
        why = _watch(command, stopping, began + run["max_runtime_s"], run["grace_s"])
        code = command.finish()
        log.close()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        tell(
            ended=why, code=code, at=time.time(), wall_s=time.time() - began, cpu_s=used.ru_utime + used.ru_stime,
            peak_memory_bytes=max(used.ru_maxrss * 1024, command.tree.peak_bytes), took=command.tree.took,
        )  # fmt: skip
        return code
    except OSError as error:
        tell(ended="start_failed", code=127, at=time.time(), message=f"{type(error).__name__}: {error}")
        return 127
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _watch(command: Command, stopping: threading.Event, until: float, grace_s: float) -> str:
    """Wait for its end, and bring it about when the time is over or Ray asks for it. Why it ended."""
    while not command.wait(TELL_S):
        if time.monotonic() >= command.tree.due and (found := command.tree.look()) is not None:
            return found
        if stopping.is_set() or time.time() >= until:
            why = "stopped" if stopping.is_set() else "max_runtime"
            command.signal(signal.SIGTERM)
            last = time.monotonic() + min(grace_s, LONGEST_GRACE_S if why == "stopped" else grace_s)
            while not command.wait(TELL_S) and time.monotonic() < last:
                pass
            return why
    return "stopped" if stopping.is_set() else "exit"


def _children() -> list[int]:
    """The living children of this process, those among them that their parents left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return found


def _bind(limits: dict[str, Any]) -> None:
    """In the child, before the command: it ends with this program, gains no rights, and each of its processes has limits."""
    bind_process(limits)
    _prctl(END_WITH_PARENT, signal.SIGKILL)
    _prctl(NO_NEW_PRIVILEGES, 1)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _print(text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
