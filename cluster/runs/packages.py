"""The files of a job that are too large for where its request lies: one object beside the run's place for its result.

Its agent puts it there by the run's own leave, and its workers get it by a URL that was signed for it alone, and prove it.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import threading
import time
from collections.abc import Mapping, Sequence

import httpx

from cluster.deposits import PACKAGE, Grant, Package
from cluster.runs.depositor import DepositError, Depositor

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


def packed(files: Mapping[str, str]) -> bytes:
    """Files as one object; the same for the same files."""
    return json.dumps(files, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def package_of(data: bytes) -> Package:
    """What is told of it."""
    return Package(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def put_package(grant: Grant, data: bytes) -> None:
    """Put it there; again does no harm. Blocks. Raises DepositError."""
    Depositor(grant, threading.Event(), waits_s=WAITS_S).put_object(PACKAGE, data)


def fetch_package(url: str, package: Package, *, waits_s: Sequence[float] = WAITS_S) -> dict[str, str]:
    """The files, proved. Blocks. Raises DepositError."""
    data = _fetch(url, package.size_bytes, waits_s)
    if package_of(data) != package:
        raise DepositError("the job's files did not arrive as they were sent: their checksum differs; nothing was run")
    found: dict[str, str] = json.loads(data)
    return found


def _fetch(url: str, most_bytes: int, waits_s: Sequence[float]) -> bytes:
    bundle = os.environ.get("AWS_CA_BUNDLE")
    verify = ssl.create_default_context(cafile=bundle) if bundle else True
    fault = ""
    with httpx.Client(timeout=_TIMEOUT, verify=verify) as client:
        for wait_s in (*waits_s, None):
            try:
                return _read(client, url, most_bytes)
            except httpx.TransportError as error:
                fault = type(error).__name__
            except httpx.HTTPStatusError as error:
                fault = str(error.response.status_code)
            if wait_s is not None:
                time.sleep(wait_s)
    raise DepositError(f"the job's files cannot be read from the store that has them ({fault}); nothing was run")


def _read(client: httpx.Client, url: str, most_bytes: int) -> bytes:
    """The object, or as much of a larger one as shows that it is another."""
    found = bytearray()
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            found += chunk
            if len(found) > most_bytes:
                break
    return bytes(found)
