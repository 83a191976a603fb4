"""Bring a version's file to where a run reads it, and prove that it is what was published.

Copies lie in a content-addressed folder, `<sha256><ending>`: a name appears there only after size and
checksum agreed, so whatever has the name needs no second look, and versions used often are fetched once. A
replica that lies at this cluster is used in place; its checksum is computed once and remembered beside the
copies until the file changes in any way that the filesystem notices.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path

from workloads.catalogue.locations import Measure, Progress, local_path, read_through, shown, storable, suffix
from workloads.errors import DataChangedError, DataUnavailableError


def fetch(uri: str, size_bytes: int, sha256: str, destination_dir: Path, *, local: bool = False, progress: Progress | None = None) -> Path:
    """The path of a verified file with these bytes. `local`: a file of this machine may be used where it lies.

    `progress` gets the bytes read so far. Safe when several processes fetch the same file. Raises
    DataChangedError when the bytes differ from what was published, DataUnavailableError when they cannot be
    read or stored now, DataError for a URI that is not supported; nothing is left behind then.
    """
    destination_dir.mkdir(parents=True, exist_ok=True)
    in_place = local_path(uri)
    if local and in_place is not None:
        return _verified_in_place(uri, in_place, size_bytes, sha256, destination_dir, progress)
    destination = destination_dir / f"{sha256}{suffix(uri)}"
    if destination.is_file() and destination.stat().st_size == size_bytes:
        return destination
    _copy(uri, size_bytes, sha256, destination, progress)
    return destination


def _copy(uri: str, size_bytes: int, sha256: str, destination: Path, progress: Progress | None) -> None:
    with storable(uri):
        handle, partial = _new_partial(destination.parent, f".{sha256[:16]}-")
    try:
        with os.fdopen(handle, "wb") as target:
            found = read_through(uri, target=target, most_bytes=size_bytes, progress=progress)
            with storable(uri):
                target.flush()
                os.fsync(target.fileno())
        _compare(uri, found, size_bytes, sha256)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def _new_partial(folder: Path, prefix: str) -> tuple[int, Path]:
    """A file for a copy under way, locked as long as its writer lives; what killed writers of the same bytes left is removed."""
    for left in folder.glob(f"{prefix}*.part"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".new", dir=folder)
    fcntl.flock(handle, fcntl.LOCK_EX)
    # Others see it only now that it is locked.
    return handle, Path(name).rename(Path(name).with_suffix(".part"))


def _verified_in_place(uri: str, path: Path, size_bytes: int, sha256: str, destination_dir: Path, progress: Progress | None) -> Path:
    state = _state(uri, path)
    marker = destination_dir / f"{hashlib.sha256(f'{path}:{sha256}'.encode()).hexdigest()}.verified"
    if _remembered(marker) == state:
        return path
    found = read_through(uri, most_bytes=size_bytes, progress=progress)
    _compare(uri, found, size_bytes, sha256)
    if _state(uri, path) == state:
        partial = marker.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        partial.write_text(json.dumps(state))
        partial.replace(marker)
    return path


def _compare(uri: str, found: Measure, size_bytes: int, sha256: str) -> None:
    if found.size_bytes != size_bytes:
        what = f"holds {found.size_bytes} bytes, published were {size_bytes}"
    elif found.sha256 != sha256:
        what = f"has checksum {found.sha256[:12]}…, published was {sha256[:12]}…"
    else:
        return
    raise DataChangedError(f"{shown(uri)} {what}: the data changed since its publication; publish it as a new version")


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
