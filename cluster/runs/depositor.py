"""How a worker puts the files of its result into the store that it was granted a place in: piece by piece, each as a signed form.

It has no credentials of a store, only a form that was signed for it. A piece that does not arrive is sent again, from the file. Of what a
store answers only its code is passed on, because its words may repeat the form.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from cluster.deposits import PATIENCE_S, Grant, piece_key, pieces

CHUNK_BYTES = 1024 * 1024
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
_BOUNDARY_BYTES = 16
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
# What may pass by itself; all else that is no success is a refusal.
_PASSING = (408, 429)


class DepositError(Exception):
    """The files cannot be put there; the message says why."""


class StoppedError(DepositError):
    """Somebody wants the run to end."""


class Depositor:
    """Puts files of one run there. `put` blocks, as often as it is called, until `stopping` is set."""

    def __init__(self, grant: Grant, stopping: threading.Event, *, waits_s: Sequence[float] = WAITS_S) -> None:
        self.token = secrets.token_hex(8)
        self._grant, self._stopping, self._waits_s = grant, stopping, waits_s
        self._until = min(time.time() + PATIENCE_S, grant.until)
        where = urlsplit(grant.url)
        self._host = f"{where.scheme}://{where.netloc.rpartition('@')[2]}"

    def put(self, folder: Path, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Put regular files `[{"name", "size_bytes"}]` there; the same with checksums. Raises DepositError, and OSError for a file."""
        with _client() as client:
            return [self._file(client, folder, number, file["name"], file["size_bytes"]) for number, file in enumerate(files)]

    def put_object(self, name: str, data: bytes) -> None:
        """Put one object below the prefix. Raises DepositError."""
        with _client() as client:
            self._piece(client, f"{self._grant.prefix}{name}", _Slice(io.BytesIO(data), name, 0, len(data)), hashlib.sha256())

    def _file(self, client: httpx.Client, folder: Path, number: int, name: str, size: int) -> dict[str, Any]:
        digest, most = hashlib.sha256(), self._grant.piece_bytes
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as source:
            for piece in range(pieces(size, most)):
                key = piece_key(self._grant.prefix, self.token, number, piece)
                begin = piece * most
                digest = self._piece(client, key, _Slice(source, name, begin, min(size - begin, most)), digest)
        return {"name": name, "size_bytes": size, "sha256": digest.hexdigest()}

    def _piece(self, client: httpx.Client, key: str, content: _Slice, before: Any) -> Any:
        """One object; the checksum of the file up to its end."""
        tries = 0
        while True:
            digest = before.copy()
            fault = self._send(client, key, content, digest)
            if not fault:
                return digest
            if tries == len(self._waits_s) or time.time() + self._waits_s[tries] > self._until:
                raise DepositError(f"the store of results at {self._host} did not take the result, asked {tries + 1} times: {fault}")
            if self._stopping.wait(self._waits_s[tries]):
                raise StoppedError("stopped while the result was on its way to its store")
            tries += 1

    def _send(self, client: httpx.Client, key: str, content: _Slice, digest: Any) -> str:
        """Post the form once; what is wrong, where that may pass. Raises DepositError for a refusal."""
        if time.time() > self._until:
            raise DepositError(f"the time in which {self._host} takes the result is over")
        boundary = secrets.token_hex(_BOUNDARY_BYTES)
        head, tail = form(boundary, {**self._grant.fields, "key": key}), f"\r\n--{boundary}--\r\n".encode()
        length = len(head) + content.size + len(tail)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
        try:
            answer = client.post(self._grant.url, content=self._body(head, content, tail, digest), headers=headers)
        except httpx.TransportError as error:
            return f"{type(error).__name__}"
        if answer.is_success:
            return ""
        found = _CODE.search(answer.content[:4096])
        words = f"{answer.status_code}{f' {found[1].decode()}' if found else ''}"
        if answer.status_code in _PASSING or answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            return words
        raise DepositError(
            f"the store of results at {self._host} refuses the result ({words}); have its operator see whether the server's credentials "
            "may write there, and whether the store takes signed forms"
        )

    def _body(self, head: bytes, content: _Slice, tail: bytes, digest: Any) -> Iterator[bytes]:
        yield head
        for chunk in content:
            if self._stopping.is_set():
                raise StoppedError("stopped while the result was on its way to its store")
            digest.update(chunk)
            yield chunk
        yield tail


def _client() -> httpx.Client:
    bundle = os.environ.get("AWS_CA_BUNDLE")
    return httpx.Client(timeout=_TIMEOUT, verify=ssl.create_default_context(cafile=bundle) if bundle else True)


class _Slice:
    """Some bytes of a file, as often as they are wanted. Raises OSError when the file has become shorter."""

    def __init__(self, source: Any, name: str, begin: int, size: int) -> None:
        self._source, self._name, self._begin, self.size = source, name, begin, size

    def __iter__(self) -> Iterator[bytes]:
        self._source.seek(self._begin)
        left = self.size
        while left:
            chunk = self._source.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"the result file {self._name} became shorter while it was read")
            left -= len(chunk)
            yield chunk


def form(boundary: str, fields: Mapping[str, str]) -> bytes:
    """A form up to where its file begins, which has to be its last field."""
    lines = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    about = 'Content-Disposition: form-data; name="file"; filename="piece"\r\nContent-Type: application/octet-stream'
    return f"{lines}--{boundary}\r\n{about}\r\n\r\n".encode()
