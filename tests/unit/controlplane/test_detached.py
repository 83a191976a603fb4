"""A local cluster in a session of its own: started until it is healthy, and ended by whoever asks. Played by small programs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import detached
from controlplane.detached import LOG_FILE, start_detached, stop_running
from controlplane.local_cluster import LOCK_FILE, READY_FILE
from controlplane.network import NetworkError
from tests.unit.controlplane.cli_server import SERVER, TOKEN, FakeServer

PROGRAM = f"""
import fcntl, os, signal, sys
signal.signal(signal.SIGTERM, STOP)
lock = os.open("{LOCK_FILE}", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, str(os.getpid()).encode())
open("{READY_FILE}", "w").write(str(os.getpid()))
while True:
    signal.pause()
"""
ENDS, STAYS = (PROGRAM.replace("STOP", stop) for stop in ("lambda *_: sys.exit(0)", "signal.SIG_IGN"))


def program(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory; who still holds its lock at the end is killed."""
    yield tmp_path / "lap"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int((tmp_path / "lap" / LOCK_FILE).read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_it_is_started_and_stopped(folder: Path) -> None:
    pid = start_detached(program(ENDS), folder, {})
    assert os.getsid(pid) == pid
    stop_running("lap", folder)
    assert os.waitpid(pid, 0) == (pid, 0)
    (folder / LOCK_FILE).write_text("")
    with pytest.raises(NetworkError, match="lap does not run here"):
        stop_running("lap", folder)


def test_one_that_ends_before_it_is_healthy_tells_its_log(folder: Path) -> None:
    (folder).mkdir()
    (folder / READY_FILE).write_text("1")
    with pytest.raises(NetworkError, match=r"ended before it was healthy(?s:.)*no cluster for you"):
        start_detached(program("print('no cluster for you')"), folder, {})
    assert (folder / LOG_FILE).read_text() == "no cluster for you\n"


def test_one_that_does_not_end_is_named(folder: Path) -> None:
    pid = start_detached(program(STAYS), folder, {})
    with pytest.raises(NetworkError, match=f"lap has not ended within 0 s; its process is {pid}"):
        stop_running("lap", folder, limit_s=0)


def test_what_was_never_started_cannot_be_stopped(folder: Path) -> None:
    said = FakeServer().run("cluster", "stop-local", "lap", "--data-dir", str(folder))
    assert (said.exit_code, "lap does not run here" in said.stderr) == (1, True)


def test_the_same_command_is_started_with_server_and_token_in_its_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def start(command: list[str], directory: Path, environ: dict[str, str]) -> int:
        seen.extend((command, directory, environ["CPN_SERVER"], environ["CPN_TOKEN"]))
        return 7

    monkeypatch.setattr(detached, "start_detached", start)
    options = ["--cpus", "2", "--labels", "tier=laptop", "--data-dir", str(folder)]
    said = FakeServer().run("cluster", "start-local", "lap", *options, "--detach")
    assert said.stdout == "lap is healthy (process 7); `cpn cluster stop-local lap` ends it\n"
    assert seen[0][3:] == [
        "cluster", "start-local", "lap", "--cpus=2.0", "--labels=tier=laptop", "--jurisdiction=ZZ", f"--data-dir={folder}",
    ]  # fmt: skip
    assert seen[1:] == [folder, SERVER, TOKEN]
