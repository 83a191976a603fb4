"""What a run has on its node: directories, inputs, the statement or the process's surroundings, and output files.

Everything lies below `CPN_WORK_DIR` of the node (else a private directory below the temporary one), which is on the
node's own disk and should be large: `inputs/` keeps verified copies of product versions for later runs, `runs/` has a
directory for each run that is removed when the run is forgotten. Used in Ray's workers, and knows nothing of Ray.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.errors import DataError, StatementError, StatementInterruptedError
from workloads.runners.inputs import fetch
from workloads.runners.process import InputPath, RunIdentity, RunPaths, environment, gang_document, inputs_document, resolve_command
from workloads.runners.progress import ProgressFile, ProgressRead

if TYPE_CHECKING:
    import duckdb

    from workloads.runners.sql import Engines

WORK_DIR_VARIABLE = "CPN_WORK_DIR"
_WARM_MEMORY_BYTES = 64 * 1024 * 1024
STATEMENT_NAME = "run.json"
_LOCK = "lock"


def node_root() -> Path:
    """This node's directory for runs and data, made private when it does not exist."""
    named = os.environ.get(WORK_DIR_VARIABLE)
    root = Path(named) if named else Path(tempfile.gettempdir()) / f"cpn-work-{os.getuid()}"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def run_root() -> Path:
    """Where the runs' directories lie."""
    root = node_root() / "runs"
    root.mkdir(exist_ok=True, mode=0o700)
    return root


def claimed_root(name: str) -> Path:
    """A fresh directory there for a process that keeps many runs, locked for its life; what those that died left is removed."""
    for lock in sorted(run_root().glob(f"[!.]*/{_LOCK}")):
        _remove_unless_locked(lock)
    path, hidden = run_root() / name, run_root() / f".{name}"
    hidden.mkdir(mode=0o700)
    fcntl.flock(os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX)
    # Others see it only now that it is locked.
    return hidden.rename(path)


def failure_category(error: BaseException) -> str:
    """The category of a run's failure by what was raised."""
    if isinstance(error, DataError):
        return "data"
    return "statement" if isinstance(error, StatementError) else "infrastructure"


def describe(error: BaseException) -> str:
    """An error in a message for people: our own errors speak for themselves, others need their name."""
    return str(error) if isinstance(error, DataError | StatementError) else f"{type(error).__name__}: {error}"


def fetch_inputs(run: dict[str, Any]) -> tuple[dict[str, InputPath], int]:
    """Verified local files of a run's inputs by alias, and the bytes that came from elsewhere. Raises DataError."""
    cache = node_root() / "inputs"
    found: dict[str, InputPath] = {}
    transferred = 0
    for alias, wanted in sorted(run["inputs"].items()):
        copied = _Counter()
        path = fetch(wanted["uri"], wanted["size_bytes"], wanted["sha256"], cache, local=wanted["local"], progress=copied)
        found[alias] = InputPath(path, wanted["format"])
        transferred += 0 if wanted["local"] else copied.size
    return found, transferred


def list_outputs(output: Path) -> list[dict[str, Any]]:
    """Every regular file below `output`, sorted: `{"name": relative path, "size_bytes"}`. Links are not followed."""
    return sorted(
        ({"name": str(path.relative_to(output)), "size_bytes": size} for path, size in _regular_files(output)),
        key=lambda file: str(file["name"]),
    )


def read_chunk(output: Path, name: str, offset: int, length: int) -> bytes:
    """A part of a regular file below `output`. Raises OSError for a link, so no one reads through it what is not theirs."""
    descriptor = os.open(output / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        file.seek(offset)
        return file.read(length)


@dataclass
class Workspace:
    """The directories of one worker of a run of user code: `work` (where it runs), `output`, and our own files beside."""

    root: Path
    inputs: dict[str, InputPath] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.output = self.root / "output"
        self.log = self.root / "log"
        self._paths = RunPaths(
            self.root / "work", self.output, self.root / "inputs.json", self.root / "progress.jsonl", self.root / "gang.json"
        )  # fmt: skip
        self._progress = ProgressFile(self._paths.progress_file)

    @classmethod
    def create(cls, name: str) -> Workspace:
        """Fresh directories, readable by this user only."""
        workspace = cls(run_root() / name)
        for directory in (workspace.root, workspace._paths.work_dir, workspace._paths.temporary_dir, workspace.output):
            directory.mkdir(mode=0o700)
        return workspace

    @property
    def work(self) -> Path:
        """The process's working directory."""
        return self._paths.work_dir

    def fill(self, run: dict[str, Any]) -> int:
        """Write the job's files and fetch its inputs; the bytes that came from elsewhere. Blocks. Raises DataError."""
        for name, text in run["files"].items():
            path = self.work / name
            if not path.resolve().is_relative_to(self.work.resolve()):
                raise ValueError(f"file {name!r} lies outside the working directory")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(text, encoding="utf-8")
        if run["kind"] == "sql":
            (self.root / STATEMENT_NAME).write_text(json.dumps(run), encoding="utf-8")
        if run.get("elastic"):
            self.write_gang(run)
        self.inputs, transferred = fetch_inputs(run)
        self._paths.inputs_file.write_text(inputs_document(self.inputs), encoding="utf-8")
        return transferred

    def write_gang(self, run: dict[str, Any]) -> None:
        """Write who belongs to the gang, at once whole: a process that looks sees the membership before or after, never a part."""
        fresh = self._paths.gang_file.with_suffix(".new")
        fresh.write_text(gang_document(run["generation"], run["nodes"]), encoding="utf-8")
        fresh.replace(self._paths.gang_file)

    def command(self, run: dict[str, Any]) -> list[str]:
        """The argument list to start."""
        return resolve_command(run["command"])

    def environment(self, run: dict[str, Any], rank: int, master: tuple[str, int] | None) -> dict[str, str]:
        """All variables of the process."""
        devices, amount = run.get("accelerator_devices") or (), run.get("accelerator_count", 0)
        identity = RunIdentity(
            run["job_id"], run["run_id"], run["attempt"], rank, len(run["nodes"]),
            devices=tuple(devices[rank]) if devices else (), share=amount if 0 < amount < 1 else None,
            elastic=run.get("elastic", False),
        )  # fmt: skip
        return environment(os.environ, identity, self._paths, self.inputs, run["env"], master=master)

    def new_progress(self, *, last: bool = False) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        """Reports since the last call, and warnings about lines that are none; `last`: the process has ended."""
        read: ProgressRead = self._progress.finish() if last else self._progress.read()
        now = time.time()
        return [{"step": record.step, "metrics": record.metrics, "at": now} for record in read.records], read.warnings


class Interrupter:
    """Ends a running statement from another thread. DuckDB loses an interrupt between two steps, so it is repeated."""

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._asked = False

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The connection on which the statement is about to run. Raises StatementInterruptedError when it is too late."""
        self._connection = connection
        self.check()

    def interrupt(self) -> None:
        """Ask for the end, now and of anything that is attached later."""
        import duckdb

        self._asked = True
        if self._connection is not None:
            with contextlib.suppress(duckdb.Error):
                self._connection.interrupt()

    def check(self) -> None:
        """Raises StatementInterruptedError when the end was asked for."""
        if self._asked:
            raise StatementInterruptedError("the statement was interrupted")


class StatementRun:
    """One statement with its inputs and its result. Methods block; they run in the worker's thread."""

    def __init__(self, run: dict[str, Any], root: Path) -> None:
        self._run = run
        self._root = root
        self._inputs: dict[str, InputPath] = {}

    def fetch(self) -> int:
        """Fetch the inputs; the bytes that came from elsewhere. Raises DataError."""
        self._root.mkdir(parents=True, mode=0o700)
        self._inputs, transferred = fetch_inputs(self._run)
        return transferred

    def execute(self, interrupter: Interrupter, engines: Engines | None = None) -> dict[str, Any]:
        """Run it; how a run that succeeded ends (see outbox.py). Raises StatementError."""
        from workloads.runners.sql import InputTable, run_statement

        tables = {alias: InputTable(found.path, found.format) for alias, found in self._inputs.items()}
        outcome = run_statement(
            self._run["sql"],
            tables,
            directory=self._root / "output",
            memory_bytes=self._run["memory_bytes"],
            threads=math.ceil(self._run["cpu"]),
            on_connection=interrupter.attach,
            engines=engines,
        )
        return {
            "outcome": "succeeded",
            "category": None,
            "message": "",
            "preview": {"columns": outcome.columns, "types": outcome.types, "rows": outcome.rows, "total_rows": outcome.total_rows},
            "files": [{"name": outcome.path.name, "size_bytes": outcome.path.stat().st_size}],
        }

    @staticmethod
    def warm_up(root: Path) -> Engines:
        """Load all that a statement needs, by running one; where the next ones get their connections from."""
        from workloads.runners.sql import Engines, run_statement

        run_statement("SELECT 1 AS one", {}, directory=root / "warm", memory_bytes=_WARM_MEMORY_BYTES, threads=1)
        engines = Engines()
        engines.renew()
        return engines


class _Counter:
    """Remembers how many bytes were read."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, size: int) -> None:
        self.size = size


def _remove_unless_locked(lock: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(descriptor)


def _regular_files(directory: Path) -> Iterator[tuple[Path, int]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_size
