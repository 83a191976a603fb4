"""Directories of a node that belong to a process: private, locked for its life, and removed when it has died."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.backends.ray.claimed import claimed_root
from cluster.runs.workspace import Workspace
from tests.ray import ROOT


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The node's directory."""
    monkeypatch.setenv("CPN_WORK_DIR", str(tmp_path / "work"))
    return tmp_path / "work"


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_a_claimed_directory_is_private_and_locked(work: Path) -> None:
    folder = claimed_root("cpn-sql-a")
    assert (folder, mode(folder)) == (work / "runs" / "cpn-sql-a", "0o700")
    with (folder / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_directories_of_the_dead_are_removed_and_no_others(work: Path) -> None:
    living = claimed_root("cpn-sql-living")
    code = "import sys; from cluster.backends.ray.claimed import claimed_root; (claimed_root('cpn-sql-dead') / 'run').mkdir()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "CPN_WORK_DIR": str(work)}, check=True)
    Workspace.create("r-1-0")
    assert sorted(path.name for path in (work / "runs").iterdir()) == ["cpn-sql-dead", "cpn-sql-living", "r-1-0"]
    claimed_root("cpn-sql-next")
    assert sorted(path.name for path in (work / "runs").iterdir()) == ["cpn-sql-living", "cpn-sql-next", "r-1-0"]
    assert (living / "lock").exists()
