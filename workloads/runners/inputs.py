"""The inputs of a run as files on its node, each proved to be what was published.

A replica that lies at this cluster is used in place; its checksum is computed once and remembered beside the copies until the file
changes in any way that the filesystem notices. All else is copied once into the node's cache (`replica_cache.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from workloads.catalogue.locations import Progress, local_path, read_through, shown
from workloads.errors import DataUnavailableError
from workloads.runners.transfer import compare

VERIFIED_DIRECTORY = "verified"


def verified_in_place(uri: str, size_bytes: int, sha256: str, memory: Path, *, progress: Progress | None = None) -> Path | None:
    """The file of this machine that a URI names, proved to hold these bytes; None when it names another machine.

    `memory` is the folder in which that is remembered; `progress` gets the bytes read so far. Raises DataChangedError when the
    bytes differ from what was published, DataUnavailableError when they cannot be read, DataError for a URI that is not supported.
    """
    path = local_path(uri)
    if path is None:
        return None
    memory.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = _state(uri, path)
    marker = memory / f"{hashlib.sha256(f'{path}:{sha256}'.encode()).hexdigest()}.verified"
    if _remembered(marker) == state:
        return path
    found = read_through(uri, most_bytes=size_bytes, progress=progress)
    compare(uri, found, size_bytes, sha256)
    if _state(uri, path) == state:
        partial = marker.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        partial.write_text(json.dumps(state))
        partial.replace(marker)
    return path


def _state(uri: str, path: Path) -> dict[str, int]:
    """What changes when a file's bytes do: ctime cannot be set back by its owner as mtime can."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataUnavailableError(f"there is no file at {shown(uri)}") from error
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns, "inode": stat.st_ino, "device": stat.st_dev}


def _remembered(marker: Path) -> object:
    try:
        return json.loads(marker.read_text())
    except (OSError, ValueError):
        return None
