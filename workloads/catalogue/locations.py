"""Where a version's bytes lie, as an fsspec URI, and how they are read: in one pass, counted and hashed.

A plain absolute path and `file://` are this machine; all else is reached through fsspec: http, https and S3 (see `s3.py`) as they
come, other object stores where their driver is installed. Chained URIs (`zip::…`) and protocols that run something else are not
taken. Messages never show what a URI may carry in secret: its user information and its query.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from workloads.catalogue import s3
from workloads.errors import CacheError, DataChangedError, DataError, DataUnavailableError

PROTOCOLS = frozenset({"file", "http", "https", *s3.PROTOCOLS, "gs", "gcs", "abfs", "abfss", "az", "hdfs", "webhdfs"})
CHUNK_BYTES = 4 * 1024 * 1024

_SUFFIX = re.compile(r"((?:\.csv)?\.[a-z0-9]{1,8})$", re.IGNORECASE)

Progress = Callable[[int], None]
Moved = Callable[[int, int], None]


@dataclass(frozen=True)
class Measure:
    """What one pass over a file's bytes found."""

    size_bytes: int
    sha256: str


def local_path(uri: str) -> Path | None:
    """The file on this machine that a URI names, None when it names another machine. Raises DataError."""
    parts = urlsplit(uri)
    if "::" in uri or "\0" in uri:
        raise DataError(f"{shown(uri)!r} is not a plain URI; give one file's place, without chaining")
    if uri.startswith("/"):
        return Path(uri)
    if parts.scheme not in PROTOCOLS:
        raise DataError(f"{shown(uri)!r} has no supported protocol; write an absolute path or one of: {', '.join(sorted(PROTOCOLS))}")
    if s3.is_s3(uri):
        s3.bucket_and_key(uri)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise DataError(f"{shown(uri)!r} names no file of this machine; write file:///absolute/path")
    return Path(unquote(parts.path))


def shown(uri: str) -> str:
    """A URI for messages: without user, password and query."""
    plain = uri.partition("?")[0].partition("#")[0]
    scheme, separator, rest = plain.partition("://")
    if not separator:
        return plain
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def suffix(uri: str) -> str:
    """The file's ending (`.parquet`, `.csv.gz`), by which readers know a compression; empty when there is none."""
    match = _SUFFIX.search(shown(uri))
    return match[1].lower() if match else ""


def read_through(uri: str, *, target: IO[bytes] | None = None, most_bytes: int | None = None, progress: Progress | None = None) -> Measure:
    """Read the bytes at a URI to their end, copying them to `target`; `progress` gets the bytes so far.

    Raises DataUnavailableError when they cannot be read, CacheError when they cannot be stored, DataError for a URI that
    is not supported, DataChangedError as soon as there are more than `most_bytes`.
    """
    with _opened(uri) as (source, _):
        return _pump(uri, source, target, hashlib.sha256(), 0, most_bytes, progress)


def prepare(uri: str) -> None:
    """Load the driver that reading this needs, so that what is timed is the way of the bytes. Raises DataUnavailableError, DataError."""
    if local_path(uri) is None:
        with _readable(uri):
            import fsspec  # type: ignore[import-untyped]

            s3.filesystem().connect() if s3.is_s3(uri) else fsspec.core.url_to_fs(uri)


def read_on(uri: str, target: IO[bytes], *, most_bytes: int, moved: Moved) -> Measure:
    """Go on with a copy where it ends: `target` (readable and writable) holds the first bytes, or none. The measure is of all bytes.

    A place that cannot begin in the middle is read from its beginning. `moved` gets the bytes of each piece, and those that are
    there with it. Raises as `read_through` does; what was copied stays.
    """
    digest, size = hashlib.sha256(), 0
    while chunk := target.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    if size == most_bytes:
        return Measure(size_bytes=size, sha256=digest.hexdigest())
    with _opened(uri, size) as (source, begins_at):
        if begins_at != size:
            digest, size = hashlib.sha256(), 0
        target.seek(size)
        target.truncate()

        def progress(so_far: int) -> None:
            nonlocal size
            piece, size = so_far - size, so_far
            moved(piece, so_far)

        return _pump(uri, source, target, digest, size, most_bytes, progress)


def _pump(
    uri: str, source: IO[bytes], target: IO[bytes] | None, digest: hashlib._Hash, size: int, most_bytes: int | None,
    progress: Progress | None,
) -> Measure:  # fmt: skip
    while True:
        with _readable(uri):
            chunk = source.read(CHUNK_BYTES)
        if not chunk:
            return Measure(size_bytes=size, sha256=digest.hexdigest())
        size += len(chunk)
        if most_bytes is not None and size > most_bytes:
            raise DataChangedError(f"{shown(uri)} holds more than the {most_bytes} bytes that were published")
        digest.update(chunk)
        if target is not None:
            with storable(uri):
                target.write(chunk)
        if progress is not None:
            progress(size)


@contextmanager
def storable(uri: str) -> Iterator[None]:
    """Turn what the disk raises while a copy is written into CacheError."""
    try:
        yield
    except OSError as error:
        remedy = "; make room there, or let the cache hold less (CPN_CACHE_GIB)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise CacheError(f"a copy of {shown(uri)} cannot be stored: {error.strerror}{remedy}") from error


@contextmanager
def _opened(uri: str, start: int = 0) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes from `start` on, or from where the place lets them begin, which is told."""
    path = local_path(uri)
    if path is not None:
        with _readable(uri):
            if not path.is_file():
                raise FileNotFoundError(path)
            stream: IO[bytes] = path.open("rb")
            begins_at = stream.seek(start)
    else:
        with _readable(uri):
            stream, begins_at = _open_elsewhere(uri, start)
    with stream:
        yield stream, begins_at


def _open_elsewhere(uri: str, start: int) -> tuple[IO[bytes], int]:
    import fsspec

    if s3.is_s3(uri):
        opened = s3.open_object(uri)
        return opened, opened.seek(start)
    filesystem, place = fsspec.core.url_to_fs(uri)
    if not uri.startswith("http"):
        stream: Any = filesystem.open(place, "rb", cache_type="readahead", block_size=CHUNK_BYTES)
        return stream, stream.seek(start)
    # Over HTTP a block size of 0 streams, which needs neither a length nor ranges of the server.
    if not start:
        return filesystem.open(place, "rb", block_size=0), 0
    # No length is asked for: the answer to the range says whether the server knows ranges.
    stream = filesystem.open(place, "rb", block_size=0, size=1, headers={"Range": f"bytes={start}-"})
    ranged = stream.r.status == 206 and stream.r.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    return stream, start if ranged else 0


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    """Turn what a place's driver raises into DataUnavailableError, and what says that it changed meanwhile into DataChangedError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(uri, error) from error


def _unreadable(uri: str, error: Exception) -> DataError:
    """What is wrong with a place, by what its driver raised; drivers have errors of their own libraries: aiohttp, botocore, google."""
    if s3.is_s3(uri) and not isinstance(error, ImportError):
        if s3.is_changed(error):
            return DataChangedError(f"{shown(uri)} was replaced while it was read; publish what is there now as a new version")
        return DataUnavailableError(s3.words(uri, error))
    if isinstance(error, FileNotFoundError):
        return DataUnavailableError(f"there is no file at {shown(uri)}")
    if isinstance(error, ImportError):
        return DataUnavailableError(f"{shown(uri)} needs a driver that is not installed here: {error}")
    if isinstance(error, PermissionError):
        return DataUnavailableError(f"{shown(uri)} may not be read by this process")
    return DataUnavailableError(f"{shown(uri)} cannot be read: {type(error).__name__}")
