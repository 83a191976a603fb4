"""What an agent keeps of its runs on its own disk, so that its successor can go on.

One file a run, JSON lines: first the request, then that its workers are asked to do the work, then every batch of news and every
change of size in the order it was taken in, last the end.
A line is written before what it says is passed on. A line that was cut by a crash or a full disk is dropped with all that
follows it, for the workers still have the news. Written without fsync: it outlives the agent's process, and when the
whole machine fails the run is looked for on the cluster, and run again when nobody knows it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.protocol import GangSize, RunFinished, RunRequest
from cluster.runs.outbox import Batch

_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Sized:
    """A change of an elastic run's size: what was asked for, or, once it is `over`, the size that was reached."""

    size: GangSize
    over: bool
    message: str = ""


@dataclass
class Recorded:
    """A journal as it was read back. Unless somebody was `asked` to work, nobody has. `batches` are news in order, each with its worker's
    rank, and changes of size between them."""

    run: RunRequest
    batches: list[tuple[int, Batch] | Sized] = field(default_factory=list)
    finished: RunFinished | None = None
    asked: str | None = None


class Journal:
    """One run's file, open for appending."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = open(descriptor, "ab", buffering=0)  # noqa: SIM115 (closed by close)

    def begin(self, run: RunRequest) -> None:
        """The run was accepted."""
        self._write(b'{"run":' + run.model_dump_json().encode() + b"}")

    def ask(self, whom: str) -> None:
        """What is done next is to have the work begun; of a statement by this worker."""
        self._write(json.dumps({"asked": whom}).encode())

    def batch(self, rank: int, batch: Batch) -> None:
        """News of a worker."""
        self._write(json.dumps({"rank": rank, "batch": batch}).encode())

    def sized(self, change: Sized) -> None:
        """The run is to have another size, or has it."""
        entry = {"size": change.size.model_dump(mode="json"), "over": change.over, "message": change.message}
        self._write(json.dumps(entry).encode())

    def finish(self, finished: RunFinished) -> None:
        """The run is over, and its files are in place."""
        self._write(b'{"finished":' + finished.model_dump_json().encode() + b"}")

    def close(self) -> None:
        """Close the file. Twice does no harm."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        data = line + b"\n"
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)


class Journals:
    """The agent's directory: `journal/RUN.jsonl` and `results/RUN/`."""

    def __init__(self, directory: Path) -> None:
        self._journals = directory / "journal"
        self._results = directory / "results"
        for path in (self._journals, self._results):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, run_id: str) -> Journal:
        """The journal of a run, new or to go on with."""
        return Journal(self._path(run_id))

    def results(self, run_id: str) -> Path:
        """Where the files of a run's result go."""
        return self._results / run_id

    def run_ids(self) -> list[str]:
        """All runs with a journal, sorted."""
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._journals.glob(f"*{_SUFFIX}"))

    def read(self, run_id: str) -> Recorded | None:
        """What a journal says, or None when there is none or it was cut before its first line was whole."""
        path = self._path(run_id)
        if not path.exists():
            return None
        recorded: Recorded | None = None
        for line in _whole_lines(path):
            if "run" in line:
                recorded = Recorded(RunRequest.model_validate(line["run"]))
            elif recorded is not None and "asked" in line:
                recorded.asked = line["asked"]
            elif recorded is not None and "batch" in line:
                recorded.batches.append((line["rank"], line["batch"]))
            elif recorded is not None and "size" in line:
                recorded.batches.append(Sized(GangSize.model_validate(line["size"]), line["over"], line["message"]))
            elif recorded is not None:
                recorded.finished = RunFinished.model_validate(line["finished"])
        return recorded

    def remove(self, run_id: str) -> None:
        """Delete a run's journal and files. Unknown: nothing happens."""
        self._path(run_id).unlink(missing_ok=True)
        shutil.rmtree(self.results(run_id), ignore_errors=True)

    def _path(self, run_id: str) -> Path:
        return self._journals / f"{run_id}{_SUFFIX}"


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal up to the first that is not whole; what follows is taken off the file."""
    good = 0
    data = path.read_bytes()
    for line in data.splitlines(keepends=True):
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            entry = None
        if entry is None:
            os.truncate(path, good)
            return
        good += len(line)
        yield entry
