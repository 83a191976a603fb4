"""Directories of a node that belong to a process: locked as long as it lives, and removed by others when it has died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

from cluster.runs.node_folders import run_root

LANES_END_S, LOOK_AGAIN_S = 5.0, 0.02
_LOCK = "lock"


def claimed_root(name: str) -> Path:
    """A fresh directory there for a process that keeps many runs, locked for its life; what those that died left is removed."""
    return claim(name)[0]


def claim(name: str) -> tuple[Path, int]:
    """The same with the descriptor of its lock: it is locked as long as any process has that open."""
    for held in sorted(run_root().glob(f"[!.]*/{_LOCK}")):
        _remove_unless_locked(held)
    path, hidden = run_root() / name, run_root() / f".{name}"
    hidden.mkdir(mode=0o700)
    lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Others see it only now that it is locked.
    return hidden.rename(path), lock


def remove_lanes(run_id: str) -> None:
    """Remove what lanes of a run of kind map left on this node, once they have ended, or have not for LANES_END_S."""
    deadline = time.monotonic() + LANES_END_S
    while left := [path for path in run_root().glob(f"{run_id}-lane-*") if path.is_dir()]:
        for path in left:
            _remove_unless_locked(path / _LOCK)
            if time.monotonic() >= deadline or not (path / _LOCK).exists():
                shutil.rmtree(path, ignore_errors=True)
        time.sleep(LOOK_AGAIN_S)


def _remove_unless_locked(lock: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(descriptor)
