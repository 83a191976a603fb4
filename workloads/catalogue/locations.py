"""Where a version's bytes lie, as an fsspec URI, and how they are read: in one pass, counted and hashed.

A plain absolute path and `file://` are this machine; http, https and the object stores are reached through
fsspec and need its driver installed. Chained URIs (`zip::…`) and protocols that run something else are not
taken. Messages never show what a URI may carry in secret: its user information and its query.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from workloads.errors import DataChangedError, DataError, DataUnavailableError

PROTOCOLS = frozenset({"file", "http", "https", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hdfs", "webhdfs"})
CHUNK_BYTES = 4 * 1024 * 1024

_SUFFIX = re.compile(r"((?:\.csv)?\.[a-z0-9]{1,8})$", re.IGNORECASE)

Progress = Callable[[int], None]


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

    Raises DataUnavailableError when they cannot be read or stored, DataError for a URI that is not
    supported, DataChangedError as soon as there are more than `most_bytes`.
    """
    digest, size = hashlib.sha256(), 0
    with _opened(uri) as source:
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
    """Turn what the disk raises while a copy is written into DataUnavailableError."""
    try:
        yield
    except OSError as error:
        raise DataUnavailableError(f"a copy of {shown(uri)} cannot be stored: {error.strerror}") from error


@contextmanager
def _opened(uri: str) -> Iterator[IO[bytes]]:
    path = local_path(uri)
    if path is not None:
        with _readable(uri):
            if not path.is_file():
                raise FileNotFoundError(path)
            stream: IO[bytes] = path.open("rb")
    else:
        with _readable(uri):
            stream = _open_elsewhere(uri)
    with stream:
        yield stream


def _open_elsewhere(uri: str) -> IO[bytes]:
    import fsspec  # type: ignore[import-untyped]

    filesystem, place = fsspec.core.url_to_fs(uri)
    # Over HTTP a block size of 0 streams, which needs neither a length nor ranges of the server.
    options: dict[str, Any] = {"block_size": 0} if uri.startswith("http") else {"cache_type": "readahead", "block_size": CHUNK_BYTES}
    stream: IO[bytes] = filesystem.open(place, "rb", **options)
    return stream


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    """Turn what a place's driver raises into DataUnavailableError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataUnavailableError(f"there is no file at {shown(uri)}") from error
    except ImportError as error:
        raise DataUnavailableError(f"{shown(uri)} needs a driver that is not installed here: {error}") from error
    except PermissionError as error:
        raise DataUnavailableError(f"{shown(uri)} may not be read by this process") from error
    except Exception as error:  # drivers raise errors of their own libraries: aiohttp, botocore, google
        raise DataUnavailableError(f"{shown(uri)} cannot be read: {type(error).__name__}") from error
