"""What a run has on its node: directories, inputs, the statement or the process's surroundings, and output files.

Everything lies below `CPN_WORK_DIR` of the node (else a private directory below the temporary one), which is on the
node's own disk and should be large: `inputs/`, or `CPN_CACHE_DIR`, which nodes may share, keeps verified copies of product versions
for later runs, `runs/` has a directory for each run that is removed when the run is forgotten. Used in Ray's workers, and knows
nothing of Ray.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.full_disk import is_full
from cluster.replicas import CacheCounts, CacheLimits, Transfer
from cluster.runs.node_copies import ELSEWHERE, carry, wanted_of
from cluster.runs.node_folders import cache_folder, node_root, run_root
from workloads.errors import CacheError, DataChangedError, DataError, StatementError, StatementInterruptedError, TooManyRowsError
from workloads.runners.copies import Use, Wanted
from workloads.runners.inputs import VERIFIED_DIRECTORY, verified_in_place
from workloads.runners.process import InputPath, RunIdentity, RunPaths, environment, gang_document, inputs_document, resolve_command
from workloads.runners.progress import ProgressFile, ProgressRead
from workloads.runners.replica_cache import ReplicaCache

if TYPE_CHECKING:
    import duckdb

    from workloads.runners.warm_duckdb import Engines

_WARM_MEMORY_BYTES = 64 * 1024 * 1024
STATEMENT_NAME = "run.json"


def failure_category(error: BaseException) -> str:
    """The category of a run's failure by what was raised."""
    if isinstance(error, CacheError):
        return "cache"
    if isinstance(error, DataChangedError):
        return "data_changed"
    if isinstance(error, DataError):
        return "data"
    if is_full(error):
        return "storage"
    if isinstance(error, TooManyRowsError):
        return "max_rows"
    return "statement" if isinstance(error, StatementError) else "infrastructure"


def describe(error: BaseException) -> str:
    """An error in a message for people: our own errors speak for themselves, others need their name."""
    return str(error) if isinstance(error, DataError | StatementError) else f"{type(error).__name__}: {error}"


@dataclass
class Fetched:
    """The verified files of a run's inputs by alias, and what was done to have them. What was copied stays until `close`."""

    paths: dict[str, InputPath] = field(default_factory=dict)
    transferred_bytes: int = 0
    transfers: tuple[Transfer, ...] = ()
    counts: CacheCounts = field(default_factory=CacheCounts)
    _use: Use | None = None

    def usage(self) -> dict[str, Any]:
        """As it is told with the end of the run: JSON-safe."""
        return {
            "transferred_bytes": self.transferred_bytes,
            "transfers": [transfer.model_dump() for transfer in self.transfers],
            "cache": self.counts.model_dump(),
        }

    def close(self) -> None:
        """The run reads its inputs no more. Twice does no harm."""
        if self._use is not None:
            self._use.close()


def fetch_inputs(run: dict[str, Any]) -> Fetched:
    """The inputs of a run as files of this node. Raises DataError."""
    fetched, missing = Fetched(), dict[str, Wanted]()
    for alias, wanted in sorted(run["inputs"].items()):
        uri, size_bytes, sha256 = wanted["uri"], wanted["size_bytes"], wanted["sha256"]
        until = wanted["until"]
        if until is not None and time.time() >= until:
            raise DataError(f"the licence for {wanted['ref']} ended before its data was read; ask the product's owner to renew it")
        path = verified_in_place(uri, size_bytes, sha256, node_root() / VERIFIED_DIRECTORY) if wanted["local"] else None
        if path is None:
            missing[alias] = wanted_of(wanted)
        else:
            fetched.paths[alias] = InputPath(path, wanted["format"])
    if missing:
        limits = CacheLimits.model_validate(run["cache"])
        copies = _copied(fetched, limits, list(missing.values()))
        fetched.paths |= {alias: InputPath(copies[item.sha256], run["inputs"][alias]["format"]) for alias, item in missing.items()}
    return fetched


def _copied(fetched: Fetched, limits: CacheLimits, wanted: Sequence[Wanted]) -> dict[str, Path]:
    folder = cache_folder()
    try:
        cache = ReplicaCache(folder, limits.capacity_bytes)
        copies, use = cache.take(wanted, partial(carry, cache, limits))
    except OSError as error:
        raise CacheError(f"the cache at {folder} cannot be used: {error.strerror}; look at its disk and its permissions") from error
    # What a replica of this very cluster costs to copy is no transfer.
    moved = [one for one in use.brought if one.source]
    fetched._use = use
    fetched.transferred_bytes = sum(one.size_bytes for one in moved)
    fetched.transfers = tuple(
        Transfer(source=one.source, size_bytes=one.size_bytes, seconds=one.seconds, capped=one.capped, sha256=one.sha256, ahead=one.ahead)
        for one in moved
        if one.source != ELSEWHERE
    )
    fetched.counts = CacheCounts(hits=use.hits, misses=use.misses, evicted=use.evicted, evicted_bytes=use.evicted_bytes)
    return copies


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
    fetched: Fetched = field(default_factory=Fetched)

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
        root = run_root() / name
        root.mkdir(mode=0o700)
        return cls.within(root)

    @classmethod
    def within(cls, root: Path) -> Workspace:
        """The same in a directory that is there."""
        workspace = cls(root)
        for directory in (workspace._paths.work_dir, workspace._paths.temporary_dir, workspace.output):
            directory.mkdir(mode=0o700)
        return workspace

    @property
    def work(self) -> Path:
        """The process's working directory."""
        return self._paths.work_dir

    @property
    def inputs(self) -> dict[str, InputPath]:
        """The files of the inputs, by alias."""
        return self.fetched.paths

    def fill(self, run: dict[str, Any]) -> dict[str, Any]:
        """Write the job's files and fetch its inputs; what that took, as a part of the run's usage. Blocks. Raises DataError."""
        for name, text in run["files"].items():
            path = self.work / name
            if not path.resolve().is_relative_to(self.work.resolve()):
                raise ValueError(f"file {name!r} lies outside the working directory")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(text, encoding="utf-8")
        if run["kind"] in ("sql", "map"):
            (self.root / STATEMENT_NAME).write_text(json.dumps(run), encoding="utf-8")
        if run.get("elastic"):
            self.write_gang(run)
        self.fetched = fetch_inputs(run)
        self._paths.inputs_file.write_text(inputs_document(self.inputs), encoding="utf-8")
        return self.fetched.usage()

    def remove(self) -> None:
        """Let go of the inputs and remove all directories."""
        self.fetched.close()
        shutil.rmtree(self.root, ignore_errors=True)

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
        # A program of kind ray is one process, and one of kind map knows of no other; what workers hold is Ray's to give out.
        processes = 1 if run["kind"] in ("ray", "map") else len(run["nodes"])
        identity = RunIdentity(
            run["job_id"], run["run_id"], run["attempt"], rank, processes,
            devices=tuple(devices[rank]) if devices else (), share=amount if 0 < amount < 1 else None,
            elastic=run.get("elastic", False), cpu=run["cpu"],
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
        self._fetched = Fetched()
        self.content: bytes | None = None

    def fetch(self) -> dict[str, Any]:
        """Fetch the inputs; what that took, as a part of the run's usage. Raises DataError."""
        self._root.mkdir(parents=True, mode=0o700)
        self._fetched = fetch_inputs(self._run)
        return self._fetched.usage()

    def close(self) -> None:
        """The statement reads its inputs no more."""
        self._fetched.close()

    def execute(self, interrupter: Interrupter, engines: Engines | None = None, small_bytes: int = 0) -> dict[str, Any]:
        """Run it; how a run that succeeded ends (see outbox.py). A result of at most `small_bytes` is `content` then, and no file.

        Raises StatementError.
        """
        from workloads.runners.sql import InputTable, run_statement

        tables = {alias: InputTable(found.path, found.format) for alias, found in self._fetched.paths.items()}
        outcome = run_statement(
            self._run["sql"],
            tables,
            directory=self._root / "output",
            memory_bytes=self._run["memory_bytes"],
            threads=math.ceil(self._run["cpu"]),
            on_connection=interrupter.attach,
            engines=engines,
            small_bytes=small_bytes,
            max_rows=self._run.get("max_rows"),
        )
        self.content = outcome.content
        return {
            "outcome": "succeeded",
            "category": None,
            "message": "",
            "preview": {"columns": outcome.columns, "types": outcome.types, "rows": outcome.rows, "total_rows": outcome.total_rows},
            "files": [{"name": outcome.path.name, "size_bytes": outcome.size_bytes}],
        }

    @staticmethod
    def warm_up(root: Path) -> Engines:
        """Load all that a statement needs, by running one; where the next ones get their connections from."""
        from workloads.runners.sql import run_statement
        from workloads.runners.warm_duckdb import Engines

        engines = Engines(root / "spill")
        run_statement("SELECT 1 AS one", {}, directory=root / "warm", memory_bytes=_WARM_MEMORY_BYTES, threads=1)
        engines.renew()
        return engines


def _regular_files(directory: Path) -> Iterator[tuple[Path, int]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_size
