"""A run's files on its node: private, its own, and read through no link."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cluster.protocol import Elsewhere
from cluster.replicas import CacheLimits, FolderState
from cluster.runs.node_copies import folder_state, remove_copies
from cluster.runs.node_folders import node_root, run_root
from cluster.runs.workspace import (
    Interrupter,
    StatementRun,
    Workspace,
    describe,
    failure_category,
    list_outputs,
    read_chunk,
)
from tests.ray_runs import input_file, script, statement
from workloads.errors import CacheError, DataChangedError, DataError, DataUnavailableError, StatementError, StatementInterruptedError


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The node's directory."""
    monkeypatch.setenv("CPN_WORK_DIR", str(tmp_path / "work"))
    return tmp_path / "work"


@pytest.fixture
def carriers(tmp_path: Path) -> Path:
    path = tmp_path / "carriers.csv"
    path.write_text("carrier,name\n0,United\n1,Delta\n")
    return path


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def as_told(**fields: Any) -> dict[str, Any]:
    """A run of user code as it arrives at its supervisor."""
    return script("n1", "true", **fields).model_dump(mode="json")


def test_the_nodes_directory_is_where_the_variable_says_and_private(work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (node_root(), run_root(), mode(work), mode(run_root())) == (work, work / "runs", "0o700", "0o700")
    monkeypatch.delenv("CPN_WORK_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert node_root() == tmp_path / f"cpn-work-{os.getuid()}"
    assert mode(node_root()) == "0o700"


def test_a_workspace_holds_the_jobs_files_and_inputs(work: Path, carriers: Path) -> None:
    run = as_told(files={"a.py": "é", "part/b.txt": "b"}, inputs={"carriers": input_file(carriers, local=False)})
    workspace = Workspace.create("r-1-0")
    assert workspace.fill(run)["transferred_bytes"] == carriers.stat().st_size
    assert workspace.root == work / "runs" / "r-1-0"
    assert (workspace.work / "a.py").read_text(encoding="utf-8") == "é"
    assert (workspace.work / "part" / "b.txt").read_text() == "b"
    assert workspace.inputs["carriers"].path.read_bytes() == carriers.read_bytes()
    assert workspace.inputs["carriers"].path.is_relative_to(work / "inputs")
    assert {mode(folder) for folder in (workspace.root, workspace.work, workspace.output, workspace.work / "tmp")} == {"0o700"}


def test_copies_stay_while_a_run_reads_them_and_the_rest_makes_room(carriers: Path, tmp_path: Path) -> None:
    other = tmp_path / "planes.csv"
    other.write_text("plane\n1\n")
    limits = CacheLimits(capacity_bytes=carriers.stat().st_size + 1)
    runs = [
        as_told(inputs={"data": input_file(path, local=False).model_copy(update={"source": "sh"})}, cache=limits)
        for path in (carriers, other)
    ]
    first, second = (Workspace.create(name) for name in ("a", "b"))
    told = first.fill(runs[0])
    assert [(one["source"], one["size_bytes"], one["capped"]) for one in told["transfers"]] == [("sh", carriers.stat().st_size, False)]
    assert told["cache"] == {"hits": 0, "misses": 1, "evicted": 0, "evicted_bytes": 0}
    first.remove()
    assert not first.root.exists()
    assert first.inputs["data"].path.exists(), "it stays for later runs"
    assert second.fill(runs[1])["cache"] == {"hits": 0, "misses": 1, "evicted": 1, "evicted_bytes": carriers.stat().st_size}
    assert not first.inputs["data"].path.exists()
    third = Workspace.create("c")
    too_small = CacheLimits(capacity_bytes=1)
    with pytest.raises(CacheError, match="CPN_CACHE_GIB"):
        third.fill(as_told(inputs=runs[0]["inputs"], cache=too_small))


def test_a_folder_tells_what_it_holds_and_drops_what_may_not_lie_there(carriers: Path) -> None:
    limits = CacheLimits(capacity_bytes=1000).model_dump()
    wanted = input_file(carriers, local=False)
    workspace = Workspace.create("a")
    workspace.fill(as_told(inputs={"carriers": wanted}, cache=limits))
    told = FolderState.model_validate(folder_state(limits))
    assert (told.capacity_bytes, told.used_bytes, told.copies, told.versions) == (1000, wanted.size_bytes, 1, (wanted.sha256,))
    assert folder_state(limits)["folder"] == told.folder
    remove_copies(limits, [wanted.sha256])
    assert folder_state(limits)["copies"] == 1, "a run reads it"
    workspace.remove()
    remove_copies(limits, [wanted.sha256, "f" * 64])
    assert (folder_state(limits)["copies"], folder_state(limits)["used_bytes"]) == (0, 0)


@pytest.mark.parametrize("local", [True, False])
def test_nothing_is_read_after_its_licence_has_ended(carriers: Path, local: bool) -> None:
    ended = input_file(carriers, local=local, until=time.time() - 1)
    with pytest.raises(DataError, match=r"the licence for nyc/carriers@1 ended before its data was read; ask the product's owner"):
        Workspace.create("a").fill(as_told(inputs={"carriers": ended}))
    Workspace.create("b").fill(as_told(inputs={"carriers": input_file(carriers, local=local, until=time.time() + 3600)}))


def test_nodes_may_share_a_folder_of_copies(carriers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPN_CACHE_DIR", str(tmp_path / "shared" / "cache"))
    told: list[int] = []
    for node in ("n1", "n2"):
        monkeypatch.setenv("CPN_WORK_DIR", str(tmp_path / node))
        workspace = Workspace.create("a")
        told.append(workspace.fill(as_told(inputs={"carriers": input_file(carriers, local=False)}))["transferred_bytes"])
        assert workspace.inputs["carriers"].path.parent == tmp_path / "shared" / "cache"
    assert told == [carriers.stat().st_size, 0]


def test_an_input_that_one_place_does_not_have_comes_from_the_next(carriers: Path, tmp_path: Path) -> None:
    missing = input_file(carriers, local=False, source="sh", others=(Elsewhere(uri=carriers.as_uri(), source="gz"),))
    missing = missing.model_copy(update={"uri": (tmp_path / "gone.csv").as_uri()})
    told = Workspace.create("a").fill(as_told(inputs={"carriers": missing}))
    size = carriers.stat().st_size
    assert [(one["source"], one["size_bytes"], one["sha256"]) for one in told["transfers"]] == [("gz", size, missing.sha256)]
    assert told["transferred_bytes"] == size


def test_a_cache_that_cannot_be_written_says_where_it_is(carriers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CPN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match=r"the cache at .*/file/cache cannot be used: Not a directory"):
        Workspace.create("a").fill(as_told(inputs={"carriers": input_file(carriers, local=False)}))


def test_inputs_are_fetched_once_and_used_in_place_where_they_are_local(carriers: Path) -> None:
    for name, local, transferred in (("a", False, carriers.stat().st_size), ("b", False, 0), ("c", True, 0)):
        workspace = Workspace.create(name)
        assert workspace.fill(as_told(inputs={"carriers": input_file(carriers, local=local)}))["transferred_bytes"] == transferred
        assert (workspace.inputs["carriers"].path == carriers) is local


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_file_outside_the_working_directory_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lies outside the working directory"):
        Workspace.create("r-1-0").fill(as_told(files={name: "x"}))


def test_a_workspace_is_never_used_twice() -> None:
    Workspace.create("r-1-0")
    with pytest.raises(FileExistsError):
        Workspace.create("r-1-0")


def test_the_environment_is_the_runs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("CPN_TOKEN", "secret")
    workspace = Workspace.create("r-1-0")
    run = as_told(env={"MODEL": "x"}, workers=3)
    found = workspace.environment(run, 2, ("10.0.0.1", 29500))
    assert "secret" not in found.values()
    assert (found["MODEL"], found["RANK"], found["WORLD_SIZE"], found["MASTER_PORT"]) == ("x", "2", "3", "29500")
    assert found["CPN_OUTPUT_DIR"] == str(workspace.output)


def test_progress_is_read_as_it_comes() -> None:
    workspace = Workspace.create("r-1-0")
    path = Path(workspace.environment(as_told(), 0, None)["CPN_PROGRESS_FILE"])
    assert workspace.new_progress() == ([], ())
    path.write_text('{"step": 1, "metrics": {"loss": 0.5}}\nnonsense\n{"step": 2, "metrics": {"loss": 0.25}}')
    records, warnings = workspace.new_progress()
    assert ([(found["step"], found["metrics"]) for found in records], len(warnings)) == ([(1, {"loss": 0.5})], 1)
    records, _ = workspace.new_progress(last=True)
    assert [found["step"] for found in records] == [2]


def test_outputs_are_regular_files_in_order(tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "b" / "c").mkdir(parents=True)
    for name, size in (("b/c/two", 2), ("a", 1), ("z", 0)):
        (output / name).write_bytes(b"x" * size)
    (output / "link").symlink_to("/etc/passwd")
    (output / "folder").symlink_to("/etc")
    os.mkfifo(output / "pipe")
    assert list_outputs(output) == [
        {"name": "a", "size_bytes": 1}, {"name": "b/c/two", "size_bytes": 2}, {"name": "z", "size_bytes": 0},
    ]  # fmt: skip


def test_a_chunk_is_read_from_a_file_and_never_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert [read_chunk(tmp_path, "file", offset, 4) for offset in (0, 8, 10)] == [b"0123", b"89", b""]
    with pytest.raises(OSError, match="symbolic links"):
        read_chunk(tmp_path, "link", 0, 4)


@pytest.mark.parametrize(
    ("error", "category", "words"),
    [
        (DataChangedError("it changed"), "data_changed", "it changed"),
        (CacheError("it is full"), "cache", "it is full"),
        (DataUnavailableError("it is gone"), "data", "it is gone"),
        (StatementError("no such column"), "statement", "no such column"),
        (OSError(28, "No space left on device"), "storage", "OSError: [Errno 28] No space left on device"),
        (KeyError("x"), "infrastructure", "KeyError: 'x'"),
    ],
)
def test_what_broke_has_a_category_and_words(error: Exception, category: str, words: str) -> None:
    assert (failure_category(error), describe(error)) == (category, words)


def test_a_statement_runs_over_its_inputs(tmp_path: Path, carriers: Path) -> None:
    run = statement("n1", "SELECT max(name) AS name FROM carriers", {"carriers": input_file(carriers)}).model_dump(mode="json")
    prepared = StatementRun(run, tmp_path / "run")
    assert prepared.fetch()["transferred_bytes"] == 0
    end = prepared.execute(Interrupter())
    assert (end["outcome"], end["preview"]["rows"], end["preview"]["total_rows"]) == ("succeeded", (("United",),), 1)
    assert end["files"] == [{"name": "result.parquet", "size_bytes": (tmp_path / "run" / "output" / "result.parquet").stat().st_size}]


def test_a_statement_interrupted_before_it_began_does_not_begin(tmp_path: Path) -> None:
    prepared = StatementRun(statement("n1", "SELECT 1").model_dump(mode="json"), tmp_path / "run")
    prepared.fetch()
    interrupter = Interrupter()
    interrupter.interrupt()
    with pytest.raises(StatementInterruptedError):
        interrupter.check()
    with pytest.raises(StatementInterruptedError):
        prepared.execute(interrupter)
    assert not (tmp_path / "run" / "output" / "result.parquet").exists()


def test_an_interrupt_of_a_closed_connection_does_no_harm() -> None:
    interrupter, connection = Interrupter(), duckdb.connect()
    interrupter.attach(connection)
    connection.close()
    interrupter.interrupt()
    with pytest.raises(StatementInterruptedError):
        interrupter.check()


def test_warming_up_runs_a_statement(tmp_path: Path) -> None:
    StatementRun.warm_up(tmp_path)
    assert (tmp_path / "warm" / "result.parquet").is_file()
