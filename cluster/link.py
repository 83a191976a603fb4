"""The agent's line to the control plane: one call that synchronises, two that upload.

`ControlLink` is what the agent needs; `HttpLink` speaks it over HTTP, dialling out, so that no member exposes
a port. An answer becomes one of three things: a result, a TransientError that passes by itself, or a
PermanentError whose message is the problem (RFC 9457) that the control plane described.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from cluster.deposits import Grant
from cluster.errors import (
    AuthenticationError,
    PermanentError,
    ReportRefusedError,
    StorageFullError,
    StoreAwayError,
    TransientError,
    UnreachableError,
)
from cluster.protocol import ResultFile, SyncReply, SyncRequest

CHUNK = 1024**2
CALL_S, UPLOAD_S = 15.0, 120.0
_GRANT: TypeAdapter[Grant | None] = TypeAdapter(Grant | None)
_FILES: TypeAdapter[tuple[ResultFile, ...]] = TypeAdapter(tuple[ResultFile, ...])


class ControlLink(Protocol):
    """What an agent asks of the control plane.

    All calls raise UnreachableError or TransientError when trying again may help, AuthenticationError when the
    token is refused, ReportRefusedError when what was sent can never be accepted, StorageFullError when there is no room
    for it, else PermanentError.
    """

    async def sync(self, request: SyncRequest) -> SyncReply:
        """Report, and receive instructions, waiting for them up to `request.wait_s`."""

    async def upload_log(self, run_id: str, epoch: int, offset: int, text: str) -> bool:
        """Bring a piece of a run's log to its byte offset. False: the run is not current any more."""

    async def upload_result(self, run_id: str, epoch: int, name: str, path: Path) -> bool:
        """Bring a file of a run's result. False: the run is not current any more. Raises OSError for an unreadable file."""

    async def take_over_parts(self, run_id: str, epoch: int) -> tuple[ResultFile, ...]:
        """The parts of the result that earlier attempts of the run's job brought, which are this run's from now on. None where the run
        is not current any more."""

    async def ask_deposit(self, run_id: str, epoch: int) -> Grant | None:
        """Where a run that is about to start may put a large result itself. None where there is no such place, and where it is not
        current any more."""

    async def take_deposit(self, run_id: str, epoch: int, token: str, files: Sequence[ResultFile]) -> bool:
        """Have what a run has put there taken in as its result. False: the run is not current any more. Raises StoreAwayError too."""

    async def close(self) -> None:
        """Hang up."""


class HttpLink:
    """A ControlLink over HTTP to `{base_url}/v1/agents/{cluster}`; `ca_file` names a private authority for https."""

    def __init__(
        self, base_url: str, token: str, cluster: str, *, ca_file: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._base = f"{base_url.rstrip('/')}/v1/agents/{quote(cluster, safe='')}"
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
            timeout=httpx.Timeout(CALL_S, connect=5.0),
            verify=ssl.create_default_context(cafile=ca_file) if ca_file else True,
            trust_env=False,
            transport=transport,
        )

    async def sync(self, request: SyncRequest) -> SyncReply:
        timeout = httpx.Timeout(CALL_S, connect=5.0, read=request.wait_s + CALL_S)
        headers = {"Content-Type": "application/json"}
        response = await self._call("POST", "/sync", content=request.model_dump_json(), headers=headers, timeout=timeout)
        _check(response)
        try:
            return SyncReply.model_validate_json(response.content)
        except ValidationError as error:
            raise PermanentError(f"{self._base} answers, but not as this version of cpn does: {error.error_count()} faults") from error

    async def upload_log(self, run_id: str, epoch: int, offset: int, text: str) -> bool:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        query = {"epoch": epoch, "offset": offset}
        place = f"/runs/{quote(run_id, safe='')}/log"
        return _current(await self._call("POST", place, params=query, content=text.encode(), headers=headers))

    async def upload_result(self, run_id: str, epoch: int, name: str, path: Path) -> bool:
        beginning, size = await asyncio.to_thread(_beginning, path)
        content = beginning if len(beginning) == size else _chunks(path)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        place = f"/runs/{quote(run_id, safe='')}/files/{quote(name)}"
        if size > CHUNK:
            # What would be refused at its end is not sent first.
            query = {"epoch": epoch, "size_bytes": size, "name": name}
            if not _current(await self._call("GET", f"/runs/{quote(run_id, safe='')}/room", params=query)):
                return False
        timeout = httpx.Timeout(UPLOAD_S, connect=5.0)
        return _current(await self._call("PUT", place, params={"epoch": epoch}, content=content, headers=headers, timeout=timeout))

    async def take_over_parts(self, run_id: str, epoch: int) -> tuple[ResultFile, ...]:
        place = f"/runs/{quote(run_id, safe='')}/parts:take-over"
        response = await self._call("POST", place, params={"epoch": epoch}, timeout=httpx.Timeout(UPLOAD_S, connect=5.0))
        if not _current(response):
            return ()
        return _FILES.validate_json(response.content)

    async def ask_deposit(self, run_id: str, epoch: int) -> Grant | None:
        response = await self._call("POST", f"/runs/{quote(run_id, safe='')}/deposit", params={"epoch": epoch})
        return _GRANT.validate_json(response.content) if _current(response) else None

    async def take_deposit(self, run_id: str, epoch: int, token: str, files: Sequence[ResultFile]) -> bool:
        told = {"token": token, "files": [file.model_dump() for file in files]}
        place, timeout = f"/runs/{quote(run_id, safe='')}/deposit:take", httpx.Timeout(UPLOAD_S, connect=5.0)
        response = await self._call("POST", place, params={"epoch": epoch}, json=told, timeout=timeout)
        if response.status_code == httpx.codes.ACCEPTED:
            raise TransientError(f"the result of {run_id} is still being proved")
        if response.status_code == httpx.codes.FAILED_DEPENDENCY:
            raise StoreAwayError(_problem(response))
        return _current(response)

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(self, method: str, place: str, **options: Any) -> httpx.Response:
        try:
            return await self._client.request(method, self._base + place, **options)
        except httpx.TransportError as error:
            raise UnreachableError(f"{self._base} does not answer: {error or type(error).__name__}") from error


def _beginning(path: Path) -> tuple[bytes, int]:
    """The first chunk of a file, which is all of most files, and the file's size."""
    with path.open("rb") as handle:
        return handle.read(CHUNK), os.fstat(handle.fileno()).st_size


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as handle:
        while chunk := await asyncio.to_thread(handle.read, CHUNK):
            yield chunk


def _current(response: httpx.Response) -> bool:
    if response.status_code == 409:
        return False
    _check(response)
    return True


def _check(response: httpx.Response) -> None:
    """Raise what an answer other than a success means."""
    status = response.status_code
    if response.is_success:
        return
    text = f"{response.request.method} {response.request.url.path}: {status} {_problem(response)}"
    if status in (401, 403):
        raise AuthenticationError(f"{text}; make a token for this agent with `cpn token create --role agent`")
    if status in (502, 503, 504):
        raise UnreachableError(text)
    if status == 507:
        raise StorageFullError(text)
    if status in (408, 429) or status >= 500:
        raise TransientError(text)
    if status in (400, 413, 422):
        raise ReportRefusedError(text)
    raise PermanentError(text)


def _problem(response: httpx.Response) -> str:
    """Title and detail of a problem document, or the reason phrase of any other answer."""
    try:
        document = response.json()
    except ValueError:
        return response.reason_phrase
    if not isinstance(document, dict):
        return response.reason_phrase
    words = [str(document[key]) for key in ("title", "detail") if document.get(key)]
    return ": ".join(words) or response.reason_phrase
