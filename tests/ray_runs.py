"""Runs for tests on real Ray, in few words, each with an id of its own."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

from cluster.protocol import InputFile, RunFinished, RunRequest, SmallFile

MIB = 1024**2
_numbers = itertools.count(1)

# Part of a shell script: it goes on for good and prints who belongs to its gang, as often as that changes.
SEES_ITS_GANG = """\
while :; do
  now=$(cat $CPN_GANG_FILE)
  [ "$now" = "$last" ] || echo "sees $now"
  last=$now
  sleep 0.1
done
"""


def request(nodes: tuple[str, ...], **fields: Any) -> RunRequest:
    """A run with a fresh id; fields replace or add.

    No other process that tests on this machine gives it too: what runs leave behind is looked for by their names.
    """
    job_id = f"job-{os.getpid()}-{next(_numbers)}"
    usual: dict[str, Any] = {
        "run_id": f"{job_id}-1", "job_id": job_id, "attempt": 1, "epoch": 7, "kind": "command", "cpu": 1.0, "memory_bytes": 64 * MIB,
        "nodes": nodes, "max_runtime_s": 600.0,
    }  # fmt: skip
    return RunRequest(**{**usual, **fields})


def command(node: str, *argv: str, workers: int = 1, **fields: Any) -> RunRequest:
    """A run of a program on one node."""
    return request((node,) * workers, command=argv, **fields)


def script(node: str, text: str, *, workers: int = 1, **fields: Any) -> RunRequest:
    """A run of a shell script. A shell starts a hundred times faster than Python, so most tests take this."""
    return command(node, "sh", "main.sh", workers=workers, files={"main.sh": text, **fields.pop("files", {})}, **fields)


def statement(node: str, sql: str, inputs: dict[str, InputFile] | None = None, **fields: Any) -> RunRequest:
    """A run of a statement."""
    return request((node,), kind="sql", sql=sql, inputs=inputs or {}, **fields)


def input_file(path: Path, *, local: bool = True, **changes: Any) -> InputFile:
    """A file of this machine as a published version. Not `local`: fetched into the node's copies."""
    data = path.read_bytes()
    found = {
        "ref": f"nyc/{path.stem}@1", "uri": path.as_uri(), "format": path.suffix.removeprefix("."), "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "local": local,
    }  # fmt: skip
    return InputFile(**{**found, **changes})


def delivered(end: RunFinished) -> bytes:
    """The one file of a result, as it is with its agent: small ones in the report, others in its folder."""
    (file,) = end.files
    data = file.read() if isinstance(file, SmallFile) else Path(end.directory, file.name).read_bytes()
    assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data
