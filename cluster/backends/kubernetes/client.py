"""The Kubernetes API as this backend speaks it: documents in, documents out, and errors by what can be done about them.

Objects are plain documents and not the models of the client library, which know one release of Kubernetes: fields of newer servers
would be lost, and those that older ones leave out would be errors. The library brings kubeconfigs, credentials, TLS and connections.

Calls that the server refuses for a moment because it is busy (429, which has changed nothing) are made again, as long as the server
asks for a short pause. A token that is refused is read anew once, because tokens are renewed where they come from.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.rest import RESTResponse

from cluster.backends.kubernetes.access import Access, connect
from cluster.checks import date_off_s
from cluster.errors import (
    AlreadyThereError,
    AuthenticationError,
    BusyError,
    ClusterError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidObjectError,
    NotThereError,
    PermanentError,
    TransientError,
    UnreachableError,
)

Document = dict[str, Any]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
Propagation = Literal["Foreground", "Background", "Orphan"]
FIELD_MANAGER = "cpn"
CONNECT_S, ANSWER_S = 5.0, 30.0
# A watch whose connection broke in silence is noticed so long after the server should have ended it.
WATCH_S, SILENCE_S = 120, 20.0
TRIES, LONGEST_PAUSE_S, USUAL_PAUSE_S = 4, 5.0, 1.0
# The pauses of those who ask until there is an answer.
AGAIN_S, MOST_REST_S = (0.2, 0.5, 1.0, 2.0, 5.0), 60.0
PAGE = 500
_TURNS = 3
Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Event:
    """A change that a watch tells. A bookmark tells only how far it is: its document has nothing but a resource version."""

    type: EventType
    item: Document


@dataclass(frozen=True)
class Answer:
    """A document and what the server says of itself with it: `date` is its clock, as HTTP writes it, empty where it sends none."""

    document: Document
    date: str = ""


@dataclass(frozen=True)
class _Call:
    """What is asked; `content` is the type of the body, JSON if empty."""

    method: str
    path: str
    query: dict[str, str]
    body: Document | None = None
    content: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class KubeClient:
    """One way into one cluster. Paths begin with /api or /apis; a query is given by its names as Kubernetes writes them.

    All calls raise UnreachableError, BusyError or another TransientError when trying again may help, AuthenticationError, ForbiddenError,
    NotThereError, AlreadyThereError, InvalidObjectError or another PermanentError when it will not.
    """

    def __init__(self, access: Access, *, pause: Pause = asyncio.sleep, clock: Callable[[], float] = time.time) -> None:
        self.access = access
        self._pause, self._clock = pause, clock
        self._ahead_s = 0.0
        self._api: ApiClient | None = None
        self._connecting = asyncio.Lock()

    def now(self) -> float:
        """Seconds since the epoch by the API server's clock, which its pods share, as its newest answer told it."""
        return self._clock() + self._ahead_s

    async def get(self, path: str, **query: str) -> Document:
        """One object, or a list whole."""
        return (await self.ask("GET", path, query)).document

    async def pages(self, path: str, *, limit: int = PAGE, **query: str) -> AsyncIterator[Document]:
        """A list in pages of at most `limit` objects; each has the resource version of the whole. Raises ExpiredError between two."""
        following = {**query, "limit": str(limit)}
        while True:
            page = await self.get(path, **following)
            yield page
            more = page.get("metadata", {}).get("continue")
            if not more:
                return
            following["continue"] = more

    async def create(self, path: str, item: Document, **query: str) -> Document:
        """Make an object in the collection `path`. Raises AlreadyThereError."""
        return (await self.ask("POST", path, query, item)).document

    async def apply(self, path: str, item: Document, *, force: bool = True) -> Document:
        """Server-side apply of the object at `path`; `force` takes fields from other managers, else ConflictError is raised for them."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return (await self.ask("PATCH", path, query, item, "application/apply-patch+yaml")).document

    async def merge(self, path: str, change: Document) -> Document:
        """Change fields of the object at `path` (JSON merge patch)."""
        return (await self.ask("PATCH", path, {}, change, "application/merge-patch+json")).document

    async def delete(self, path: str, *, propagation: Propagation = "Background", uid: str = "", grace_s: int | None = None) -> None:
        """Delete the object at `path`, if it is still the one with this uid. One that is not there is deleted already."""
        options: Document = {"propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self.ask("DELETE", path, {}, options)
        except NotThereError:
            return

    async def watch(
        self, path: str, version: str, *, seconds: int = WATCH_S, opened: Callable[[], None] | None = None, **query: str
    ) -> AsyncIterator[Event]:  # fmt: skip
        """Changes since a resource version, until the server ends the watch after `seconds`, or earlier. Raises ExpiredError.

        `opened` is called when the server has begun to answer, which may be long before the first change.
        """
        asked = {**query, "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        async for line in self._lines(path, asked, seconds + SILENCE_S, opened):
            try:
                told = json.loads(line)
                kind, item = told["type"], told["object"]
            except (ValueError, KeyError, TypeError) as error:
                raise UnreachableError(f"the watch of {path} broke off within a line") from error
            if kind == "ERROR":
                raise _error(int(item.get("code", 500)), item, f"GET {path}", "")
            yield Event(kind, item)

    async def stream(self, path: str, *, silence_s: float | None = None, **query: str) -> AsyncIterator[bytes]:
        """The bytes of an answer as they come, like a followed log. `silence_s`: break off after so long without any."""
        response = await self._open(path, query, silence_s)
        try:
            async for piece in response.response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"the answer to {path} broke off: {error or type(error).__name__}") from error
        finally:
            _hang_up(response)

    async def _lines(
        self, path: str, query: dict[str, str], silence_s: float, opened: Callable[[], None] | None
    ) -> AsyncIterator[bytes]:  # fmt: skip
        response = await self._open(path, query, silence_s)
        if opened is not None:
            opened()
        try:
            while line := await response.response.content.readline():
                yield line
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnreachableError(f"the watch of {path} was cut: {error or type(error).__name__}") from error
        finally:
            _hang_up(response)

    async def _open(self, path: str, query: dict[str, str], silence_s: float | None) -> RESTResponse:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=silence_s)
        return await self._insist(_Call("GET", path, query), timeout)

    async def ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Document | None = None, content: str = ""
    ) -> Answer:  # fmt: skip
        """Any call; `content` is the type of its body, JSON if empty."""
        timeout, asked_at = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S), self._clock()
        response = await self._insist(_Call(method, path, query or {}, body, content), timeout)
        date = response.headers.get("Date", "")
        ahead_s = date_off_s(date, asked_at, self._clock())
        self._ahead_s = self._ahead_s if ahead_s is None else ahead_s
        return Answer(_document(await _read(response, path), path), date)

    async def close(self) -> None:
        """Hang up. A later call connects anew."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()
            # What was aborted is closed in the loop's next turns.
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    async def _insist(self, call: _Call, timeout: aiohttp.ClientTimeout) -> RESTResponse:
        """Until the answer is a good one, the server's patience or ours ends, or it is an error that stays."""
        renewed = False
        for left in reversed(range(TRIES)):
            api = await self._connected()
            response = await _send(api, call, timeout)
            if 200 <= response.status < 300:
                return response
            status = _status(await _read(response, call.path))
            error = _error(response.status, status, str(call), response.headers.get("Retry-After", ""))
            if isinstance(error, BusyError) and response.status == 429 and left and error.retry_after_s <= LONGEST_PAUSE_S:
                await self._pause(error.retry_after_s)
            elif isinstance(error, AuthenticationError) and left and not renewed:
                renewed = True
                await self._renew(api)
            else:
                raise error
        raise AssertionError("the last try returns or raises")

    async def _connected(self) -> ApiClient:
        async with self._connecting:
            if self._api is None:
                self._api = await connect(self.access)
            return self._api

    async def _renew(self, used: ApiClient) -> None:
        """Read the credentials anew, unless another call did so meanwhile."""
        async with self._connecting:
            if self._api is used:
                self._api = await connect(self.access)
                await used.close()


def rest_s(error: Exception, tries: int) -> float:
    """How long to rest after so many tries and one more that ended so: as long as a busy server asks, within bounds."""
    usual = AGAIN_S[min(tries, len(AGAIN_S) - 1)]
    return max(usual, min(error.retry_after_s, MOST_REST_S)) if isinstance(error, BusyError) else usual


def _hang_up(response: RESTResponse) -> None:
    """Leave an answer that would go on, without waiting for the server's farewell, for which the loop may have no time."""
    connection = response.response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.response.close()


async def _send(api: ApiClient, call: _Call, timeout: aiohttp.ClientTimeout) -> RESTResponse:
    headers = {"Accept": "application/json", "Content-Type": call.content or "application/json"}
    query = list(call.query.items())
    asked = await api.param_serialize(
        call.method, call.path, query_params=query, header_params=headers, body=call.body, auth_settings=["BearerToken"]
    )
    try:
        return await api.call_api(*asked, _request_timeout=timeout)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise UnreachableError(f"the Kubernetes API at {api.configuration.host} does not answer: {why}") from error
    except RuntimeError as error:
        # Its session was closed by a call that read the credentials anew.
        raise UnreachableError(f"the connection to {api.configuration.host} was renewed; try again") from error


async def _read(response: RESTResponse, path: str) -> bytes:
    try:
        data: bytes = await response.read()
        return data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(f"the answer to {path} broke off: {error or type(error).__name__}") from error


def _document(data: bytes, path: str) -> Document:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise PermanentError(f"what answers at {path} is no Kubernetes API: its answer is no JSON object")
    return document


def _status(data: bytes) -> Document:
    """The Status object of an answer that is no success, or its beginning as the message where something else answered."""
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"message": data[:200].decode("utf-8", "replace").strip()}


def _error(code: int, status: Document, call: str, retry_after: str) -> ClusterError:
    """What an answer other than a success means. `status` is Kubernetes' own word on it, `retry_after` the header."""
    reason, text = str(status.get("reason", "")), f"{call}: {code} {status.get('message') or status.get('reason') or ''}".strip()
    if code == 409:
        return AlreadyThereError(text) if reason == "AlreadyExists" else ConflictError(text)
    if any(cause.get("reason") == "ResourceVersionTooLarge" for cause in (status.get("details") or {}).get("causes") or ()):
        # Its store was put back to an earlier state: what was read before is of no use.
        return ExpiredError(text)
    if code == 429 or (code == 503 and retry_after):
        return BusyError(text, _seconds(retry_after))
    kinds: dict[int, type[ClusterError]] = {
        400: InvalidObjectError, 401: AuthenticationError, 403: ForbiddenError, 404: NotThereError, 405: NotThereError, 410: ExpiredError,
        413: InvalidObjectError, 415: InvalidObjectError, 422: InvalidObjectError, 502: UnreachableError, 503: UnreachableError,
        504: UnreachableError,
    }  # fmt: skip
    return kinds.get(code, TransientError if code >= 500 or code == 408 else PermanentError)(text)


def _seconds(retry_after: str) -> float:
    """How long to wait, as the server says it in whole seconds, else the usual pause."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else USUAL_PAUSE_S
