"""What runs leave on a node: found by where processes work, removed with them; and which of it is an orphan."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backends.ray.sweeping import look_on_node
from cluster.leftovers import Kind, Leftover, orphans

VARIABLE = "CPN_TEST_SWEPT_DIR"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's directory of runs with two of them."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for name in ("job-a-1-0", "job-b-1-0"):
        (tmp_path / "runs" / name / "work").mkdir(parents=True)
    return tmp_path / "runs"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def sleeper(cwd: Path, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], cwd=cwd, env={"PATH": os.environ["PATH"], **environ}, start_new_session=True)


def listed(*remove: str) -> dict[str, set[str]]:
    """Directory → what is there."""
    found: dict[str, set[str]] = {}
    for kind, name, folder in look_on_node(VARIABLE, list(remove)):
        found.setdefault(folder, set()).add(kind if kind == "directory" else name.split("/")[0])
    return found


def test_processes_are_found_by_where_they_work_and_by_what_they_were_told(runs: Path, started: list[subprocess.Popen[bytes]]) -> None:
    inside, strayed = sleeper(runs / "job-a-1-0" / "work"), sleeper(Path("/"), CPN_OUTPUT_DIR=str(runs / "job-a-1-0" / "output"))
    started += [inside, strayed, sleeper(Path("/"))]
    assert listed() == {"job-a-1-0": {"directory", str(inside.pid), str(strayed.pid)}, "job-b-1-0": {"directory"}}


def test_what_is_removed_goes_with_its_processes_and_the_rest_stays(runs: Path, started: list[subprocess.Popen[bytes]]) -> None:
    doomed, other = sleeper(runs / "job-a-1-0" / "work"), sleeper(runs / "job-b-1-0")
    started += [doomed, other]
    assert listed("job-a-1-0") == {"job-b-1-0": {"directory", str(other.pid)}}
    assert doomed.wait(10) == -signal.SIGKILL
    assert (other.poll(), (runs / "job-a-1-0").exists()) == (None, False)


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "job-a-1-0/work", ".hidden"])
def test_only_names_of_directories_there_are_removed(runs: Path, name: str) -> None:
    (runs / ".hidden").mkdir()
    assert {folder for folder in listed(name) if folder != ".hidden"} == {"job-a-1-0", "job-b-1-0"}
    assert (runs / "job-a-1-0" / "work").is_dir()
    assert (runs / ".hidden").is_dir()


def test_a_link_is_not_followed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "kept").mkdir(parents=True)
    (runs / "job-c-1-0").symlink_to(tmp_path / "elsewhere")
    assert "job-c-1-0" not in listed("job-c-1-0")
    assert (tmp_path / "elsewhere" / "kept").is_dir()


def test_a_node_that_never_ran_anything_has_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "new"))
    assert listed() == {}


def test_an_orphan_is_what_belongs_to_no_run_that_goes_on() -> None:
    def item(kind: Kind, run_id: str) -> Leftover:
        return Leftover(kind=kind, name=f"{kind} of {run_id}", run_id=run_id)

    kinds: tuple[Kind, ...] = ("actor", "placement-group", "process", "directory")
    found = [item(kind, run_id) for kind in kinds for run_id in ("job-here-1", "job-there-1", "job-over-1")]
    left = orphans(found, {"job-here-1"}, {"job-here-1", "job-there-1"})
    assert [(one.run_id, one.kind) for one in left] == [
        ("job-over-1", "actor"), ("job-over-1", "directory"), ("job-over-1", "placement-group"), ("job-over-1", "process"),
        ("job-there-1", "actor"), ("job-there-1", "placement-group"),
    ]  # fmt: skip
