"""A tenant's store of results on S3: below its prefix a folder for each run, with the run's files under their names.

An object is there when all of it has arrived; what is sent in parts and breaks off is given up, and what a process that ended left
half sent is given up by the next one that comes to the same run.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from workloads.catalogue import s3

PART_BYTES = 16 * 1024**2
_MOST_PARTS = 9_000
_AT_ONCE = 4


class ResultStoreError(Exception):
    """A store cannot be used now; the message says what to do."""


class MissingResultError(ResultStoreError):
    """A store has not what was put there."""


class ResultStore:
    """`url` is `s3://bucket` or `s3://bucket/prefix`. Every method works over the network."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._bucket, self._prefix = s3.bucket_and_key(self.url)

    def probe(self) -> None:
        """Write an object and remove it. Raises ResultStoreError."""
        key = self._key(f".cpn-probe-{secrets.token_hex(8)}")
        with self._plain("write to"):
            filesystem = s3.filesystem()
            filesystem.pipe_file(key, b"")
            filesystem.rm_file(key)

    def put_file(self, run_id: str, name: str, path: Path) -> None:
        """Store a file; it is there, whole, when this returns. Raises ResultStoreError."""
        size = path.stat().st_size
        part = max(PART_BYTES, -(-size // _MOST_PARTS))
        with self._plain("write to"):
            s3.filesystem().put_file(str(path), self._key(run_id, name), chunksize=part, max_concurrency=_AT_ONCE)
            self._check(run_id, name, size)

    def put_bytes(self, run_id: str, name: str, data: bytes) -> None:
        """The same of a small one."""
        with self._plain("write to"):
            s3.filesystem().pipe_file(self._key(run_id, name), data)
            self._check(run_id, name, len(data))

    def open(self, run_id: str, name: str) -> IO[bytes]:
        """A file's bytes. Raises ResultStoreError, MissingResultError."""
        with self._plain("read"):
            try:
                return s3.open_object(f"{self.url}/{run_id}/{name}")
            except FileNotFoundError as error:
                raise MissingResultError(s3.words(f"{self.url}/{run_id}/{name}", error)) from error

    def read(self, stream: IO[bytes], size: int) -> bytes:
        """The next bytes of an opened file. Raises ResultStoreError."""
        with self._plain("read"):
            return stream.read(size)

    def give_up(self, run_id: str) -> None:
        """End what somebody began to send of a run and did not finish. Raises ResultStoreError."""
        with self._plain("write to"):
            filesystem, folder = s3.filesystem(), self._folder(run_id)
            found = filesystem.call_s3("list_multipart_uploads", Bucket=self._bucket, Prefix=folder)
            for upload in found.get("Uploads", []):
                filesystem.call_s3("abort_multipart_upload", Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def remove(self, run_id: str) -> None:
        """Remove all there is of a run; nothing is no error. Raises ResultStoreError."""
        self.give_up(run_id)
        self._remove_below(self._folder(run_id))

    def _remove_below(self, prefix: str) -> None:
        with self._plain("write to"):
            filesystem, asked = s3.filesystem(), {"Bucket": self._bucket, "Prefix": prefix}
            while found := filesystem.call_s3("list_objects_v2", **asked).get("Contents", []):
                for one in found:
                    filesystem.call_s3("delete_object", Bucket=self._bucket, Key=one["Key"])

    @contextlib.contextmanager
    def _plain(self, action: str) -> Iterator[None]:
        try:
            yield
        except ResultStoreError:
            raise
        except Exception as error:  # whatever its driver raises
            raise ResultStoreError(s3.words(self.url, error, action)) from error

    def _check(self, run_id: str, name: str, size: int) -> None:
        found = s3.filesystem().info(self._key(run_id, name))["size"]
        if found != size:
            raise ResultStoreError(f"{self.url} has {found} bytes of {run_id}/{name}, {size} were sent")

    def _folder(self, run_id: str) -> str:
        return f"{self._prefix}/{run_id}/" if self._prefix else f"{run_id}/"

    def _key(self, *names: str) -> str:
        return "/".join(filter(None, (self._bucket, self._prefix, *names)))


def chunks(stream: Any, first: bytes) -> Iterator[bytes]:
    """All of a stream behind the first bytes, which were read already; closes it."""
    with stream:
        chunk = first
        while chunk:
            yield chunk
            chunk = stream.read(s3.CHUNK_BYTES)
