"""A local cluster that goes on without its terminal: the same command in a session of its own, and its end.

Who runs in a directory holds the lock there and has its number in it, so a number is never that of another process.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import controlplane
from controlplane.local_cluster import LOCK_FILE, READY_FILE
from controlplane.network import LOOK_S, NetworkError

LOG_FILE = "local.log"
STOP_S = 60.0
LAST_LINES = 12


def start_detached(command: Sequence[str], directory: Path, environ: Mapping[str, str]) -> int:
    """Start a command that runs a local cluster in this directory, and return its process's number when the cluster is healthy.

    Raises NetworkError with the end of its log when it ends before.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    log, root = directory / LOG_FILE, str(Path(controlplane.__file__).parents[1])
    paths = os.pathsep.join(path for path in (root, environ.get("PYTHONPATH", "")) if path)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**environ, "PYTHONPATH": paths}, cwd=directory,
            start_new_session=True,
        )  # fmt: skip
    try:
        while _read(directory / READY_FILE) != process.pid:
            if process.poll() is not None:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
                raise NetworkError(f"it ended before it was healthy; its log {log} ends with:\n{last}")
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    # It goes on without us; that it is not waited for is no mistake.
    process.returncode = 0
    return process.pid


def stop_running(name: str, directory: Path, limit_s: float = STOP_S) -> None:
    """End the local cluster that runs in this directory, detached or not; returns when it has. Raises NetworkError."""
    try:
        lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NetworkError(f"{name} does not run here ({directory})") from error
    try:
        if _is_free(lock):
            raise NetworkError(f"{name} does not run here ({directory})")
        deadline, told = time.monotonic() + limit_s, False
        while not _is_free(lock):
            pid = _read(directory / LOCK_FILE)
            if pid and not told:
                os.kill(pid, signal.SIGTERM)
                told = True
            if time.monotonic() > deadline:
                raise NetworkError(f"{name} has not ended within {limit_s:g} s; its process is {pid}, its log {directory / LOG_FILE}")
            time.sleep(LOOK_S)
    finally:
        os.close(lock)


def local_command(arguments: Sequence[str]) -> list[str]:
    """`cpn …` as a program of this installation."""
    return [sys.executable, "-m", "controlplane.cli.main", *arguments]


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> int:
    """The number in a file; 0 while there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0
