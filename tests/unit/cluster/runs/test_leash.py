"""The leash as the process that it is: it ends the command with its owner, its time or an order, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.runs.leashed import Kennel, Leashed, put_on_leash, read_report, waiting_leash
from tests.network import until
from tests.ray import is_alive, processes_of

FOREVER = "while true; do sleep 0.05; done"


class Watched:
    """A command on a leash, its output in a file, its reports read to their end."""

    def __init__(self, folder: Path, text: str, **options: Any) -> None:
        self.output = folder / "output"
        self.folder = folder
        with self.output.open("wb") as output:
            argv = options.pop("argv", ["sh", "-c", text])
            self.leashed: Leashed = put_on_leash(argv, env={**os.environ, "FOLDER": str(folder)}, cwd=folder, output=output, **options)
        self._status = os.fdopen(os.dup(self.leashed.status), "rb")

    def report(self) -> dict[str, Any]:
        """The next report; empty when there is none any more."""
        line = self._status.readline()
        return read_report(line) if line else {}

    def end(self) -> dict[str, Any]:
        """The last report, when the leash has ended."""
        last: dict[str, Any] = {}
        while report := self.report():
            last = report
        self.leashed.process.wait(20)
        return last

    def said(self, text: str) -> None:
        """Wait until the command has written this."""
        until(lambda: text in self.output.read_text(), f"the command says {text!r}")

    def close(self) -> None:
        self.leashed.close()
        self.leashed.process.kill()
        self.leashed.process.wait()
        self._status.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[list[Watched]]:
    """What was put on a leash; nothing of it may be left."""
    made: list[Watched] = []
    yield made
    for one in made:
        one.close()
    assert processes_of(f"FOLDER={tmp_path}") == {}


@pytest.fixture
def start(watched: list[Watched], tmp_path: Path) -> Any:
    def begin(text: str, **options: Any) -> Watched:
        watched.append(Watched(tmp_path, text, **options))
        return watched[-1]

    return begin


@pytest.mark.parametrize(("text", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", -11)])
def test_the_exit_is_reported(start: Any, text: str, code: int) -> None:
    command = start(text)
    started = command.report()
    assert started.keys() == {"started", "at"}
    assert abs(started["at"] - time.time()) < 60
    end = command.end()
    assert (end["exit"], end["reason"]) == (code, None)
    assert command.leashed.process.returncode == 0


def test_what_was_used_is_reported(start: Any) -> None:
    busy = "import time\nlarge = b'x' * 50_000_000\nwhile time.process_time() < 0.2: pass"
    end = start("", argv=[sys.executable, "-c", busy]).end()
    assert end["exit"] == 0
    assert end["cpu_s"] >= 0.2
    assert end["wall_s"] >= 0.2
    assert end["peak_memory_bytes"] > 50_000_000


def test_a_program_that_is_not_there_is_refused(start: Any) -> None:
    command = start("", argv=["no-such-program"])
    assert command.report() == {"refused": 2, "message": "No such file or directory"}
    assert command.end() == {}


def test_a_stop_gives_the_command_its_grace(start: Any) -> None:
    command = start(f"trap 'sleep 0.2; echo saved; exit 7' TERM; echo ready; {FOREVER}")
    command.said("ready")
    command.leashed.stop(30.0)
    end = command.end()
    assert (end["exit"], end["reason"]) == (7, "stopped")
    command.said("saved")


def test_a_command_that_ignores_a_stop_is_killed_after_its_grace(start: Any) -> None:
    command = start(f"trap '' TERM; echo ready; {FOREVER}")
    command.said("ready")
    began = time.monotonic()
    command.leashed.stop(0.3)
    end = command.end()
    assert (end["exit"], end["reason"]) == (-signal.SIGKILL, "stopped")
    assert time.monotonic() - began >= 0.3


def test_a_second_stop_can_only_shorten_the_grace(start: Any) -> None:
    command = start(f"trap '' TERM; echo ready; {FOREVER}")
    command.said("ready")
    for grace_s in (600.0, 0.1, 600.0):
        command.leashed.stop(grace_s)
    assert command.end()["exit"] == -signal.SIGKILL


def test_the_time_limit_holds_without_anybody_asking(start: Any) -> None:
    end = start(FOREVER, max_runtime_s=0.2).end()
    assert (end["exit"], end["reason"]) == (-signal.SIGTERM, "max_runtime")
    assert end["wall_s"] >= 0.2


def test_a_time_limit_of_nothing_ends_the_command_at_once(start: Any) -> None:
    assert start(FOREVER, max_runtime_s=0.0).end()["reason"] == "max_runtime"


@pytest.mark.parametrize("ignores", [False, True])
def test_a_command_ends_with_its_owner_and_its_directory_goes(start: Any, tmp_path: Path, ignores: bool) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "file").touch()
    command = start(f"{'trap : TERM;' if ignores else ''} echo ready; {FOREVER}", orphan_grace_s=0.2, remove=directory)
    command.said("ready")
    command.leashed.close()
    command.leashed.process.wait(20)
    assert not directory.exists()


def test_the_directory_stays_while_the_owner_lives(start: Any, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    start("exit 0", remove=directory).end()
    assert directory.is_dir()


def test_a_killed_owner_takes_the_command_with_it(tmp_path: Path) -> None:
    owner = f"""
import sys, time
from pathlib import Path
from cluster.runs.leashed import put_on_leash
with open({str(tmp_path / "output")!r}, "wb") as output:
    leashed = put_on_leash(["sh", "-c", "echo ready; sleep 600"], env={{"PATH": "/usr/bin:/bin", "FOLDER": {str(tmp_path)!r}}},
                           cwd=Path({str(tmp_path)!r}), output=output)
time.sleep(600)
"""
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", owner])
    try:
        until(lambda: (tmp_path / "output").exists() and "ready" in (tmp_path / "output").read_text(), "the command runs")
        assert processes_of(f"FOLDER={tmp_path}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    until(lambda: not processes_of(f"FOLDER={tmp_path}"), "nothing of it is left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_leash_stops_the_command(start: Any, number: signal.Signals) -> None:
    command = start(f"trap 'echo told; exit 4' TERM; echo ready; {FOREVER}")
    command.said("ready")
    command.leashed.process.send_signal(number)
    end = command.end()
    assert (end["exit"], end["reason"]) == (4, "stopped")


def test_nothing_that_a_command_left_behind_outlives_it(start: Any) -> None:
    command = start(
        "sleep 600 & setsid sleep 600 & (setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' &) & "
        "setsid sh -c 'setsid sleep 600 & setsid sleep 600 & exit' & sleep 0.1; echo $$; exit 5"
    )
    assert command.end()["exit"] == 5
    assert processes_of(f"FOLDER={command.folder}") == {}
    assert not is_alive(int(command.output.read_text()))


def test_a_command_inherits_nothing_but_its_output(start: Any, tmp_path: Path) -> None:
    held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        text = "ls /proc/self/fd; umask; ulimit -c; cat; ps -o sid= -p $$ | tr -d ' '; echo $$; readlink /proc/$$/fd/0"
        command = start(text, pass_fds=(held,))
        assert command.end()["exit"] == 0
    finally:
        os.close(held)
    *descriptors, umask, core, session, own, stdin = command.output.read_text().split()
    assert descriptors == ["0", "1", "2", "3"], "3 is that of ls itself, on the folder"
    assert (umask, core, session, stdin) == ("0077", "0", own, "/dev/null")


def test_what_the_leash_holds_is_held_as_long_as_the_command(start: Any) -> None:
    read, write = os.pipe()
    command = start(f"echo ready; {FOREVER}", pass_fds=(write,))
    os.close(write)
    command.said("ready")
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    command.leashed.stop(5.0)
    command.end()
    assert os.read(read, 1) == b""
    os.close(read)


@pytest.mark.parametrize("wanted", [True, False])
def test_no_program_gives_a_command_more_rights_where_that_is_wanted(start: Any, wanted: bool) -> None:
    command = start("grep NoNewPrivs /proc/self/status", no_new_privs=wanted)
    command.end()
    assert command.output.read_text().split() == ["NoNewPrivs:", str(int(wanted))]


def test_orders_may_come_in_pieces(start: Any) -> None:
    command = start(f"echo ready; {FOREVER}")
    command.said("ready")
    order = json.dumps({"stop": 5.0}).encode() + b"\n"
    for place in range(len(order)):
        os.write(command.leashed.control, order[place : place + 1])
    assert command.end()["reason"] == "stopped"


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Leashed]:
    """A leash that was not told yet what to run; its output goes to the file `output`."""
    with (tmp_path / "output").open("wb") as output:
        leashed = waiting_leash(output)
    yield leashed
    leashed.close()
    leashed.process.kill()
    leashed.process.wait()


def reports_of(leashed: Leashed) -> list[dict[str, Any]]:
    """All reports, when the leash has ended."""
    with os.fdopen(os.dup(leashed.status), "rb") as status:
        return [read_report(line) for line in status]


def test_a_leash_that_waits_runs_what_it_is_told_then(waiting: Leashed, tmp_path: Path) -> None:
    waiting.run(["sh", "-c", "echo $WORD; pwd; exit 3"], env={"WORD": "told", "PATH": os.environ["PATH"]}, cwd=tmp_path, max_runtime_s=60.0)
    started, end = reports_of(waiting)
    assert started.keys() == {"started", "at"}
    assert (end["exit"], end["reason"]) == (3, None)
    assert (tmp_path / "output").read_text().split() == ["told", str(tmp_path)]


def test_a_leash_that_waits_ends_with_its_owner(waiting: Leashed) -> None:
    status = os.fdopen(os.dup(waiting.status), "rb")
    waiting.close()
    waiting.process.wait(20)
    assert status.read() == b""
    status.close()


def test_a_signal_ends_a_leash_that_waits(waiting: Leashed) -> None:
    until(lambda: _catches(waiting.process.pid, signal.SIGTERM), "the leash listens to signals")
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.process.wait(20) == 1
    waiting.run(["true"], env={}, cwd=Path("/"))
    assert reports_of(waiting) == [], "what comes too late is not run"


def _catches(pid: int, number: signal.Signals) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_stop_that_comes_with_the_order_to_run_gives_the_grace(waiting: Leashed, tmp_path: Path) -> None:
    order = {
        "argv": ["sleep", "600"],
        "env": dict(os.environ),
        "cwd": str(tmp_path),
        "max_runtime_s": None,
        "orphan_grace_s": 1.0,
        "remove": None,
        "no_new_privs": False,
    }
    os.write(waiting.control, json.dumps(order).encode() + b"\n" + json.dumps({"stop": 600.0}).encode() + b"\n")
    end = reports_of(waiting)[-1]
    assert (end["exit"], end["reason"]) == (-signal.SIGTERM, "stopped")


def test_a_large_order_arrives_whole(waiting: Leashed, tmp_path: Path) -> None:
    parts = {f"PART{number}": "x" * 100_000 for number in range(5)}
    waiting.run(["sh", "-c", "echo ${#PART0} ${#PART4}"], env={**parts, "PATH": os.environ["PATH"]}, cwd=tmp_path)
    assert reports_of(waiting)[-1]["exit"] == 0
    assert (tmp_path / "output").read_text().split() == ["100000", "100000"]


def test_a_program_is_looked_for_on_the_path_of_the_run(waiting: Leashed, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "only-here"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o700)
    waiting.run(["only-here"], env={"PATH": f"{program.parent}:/usr/bin:/bin"}, cwd=tmp_path)
    assert reports_of(waiting)[-1]["exit"] == 9


def test_a_leash_knows_no_environment(waiting: Leashed, tmp_path: Path) -> None:
    # The command is of the same user, so it may look.
    waiting.run(
        ["sh", "-c", "tr '\\0' '\\n' </proc/$PPID/environ | cut -d= -f1"], env={"PATH": os.environ["PATH"], "OWN": "1"}, cwd=tmp_path
    )
    assert reports_of(waiting)[-1]["exit"] == 0
    assert set((tmp_path / "output").read_text().split()) <= {"LC_CTYPE", "LD_LIBRARY_PATH"}


def test_a_kennel_hands_each_leash_out_once_and_none_that_has_ended(tmp_path: Path) -> None:
    kennel = Kennel()
    kennel.fill()
    first = kennel.waiting
    kennel.fill()
    assert kennel.waiting == first, "one is enough"
    taken = [kennel.take()]
    assert (taken[0][0].process.pid, kennel.waiting) == (first, None)
    taken.append(kennel.take())
    kennel.fill()
    dead = kennel.waiting
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
    taken.append(kennel.take())
    assert len({leashed.process.pid for leashed, _ in taken} | {dead}) == 4
    for number, (leashed, output) in enumerate(taken):
        leashed.run(["echo", str(number)], env={"PATH": os.environ["PATH"]}, cwd=tmp_path)
        with os.fdopen(output, "rb") as said:
            assert said.read().decode().strip() == str(number)
        leashed.close()
        leashed.process.wait(20)
    kennel.close()
    kennel.close()
