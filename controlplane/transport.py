"""How a client asks the HTTP API: one connection pool, answers as the API's own models, refusals as errors of controlplane.errors.

The environment's proxies are not used, so that a token never travels through a machine that nobody named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from controlplane.api.link_schemas import LinkPatch
from controlplane.api.queue_schemas import QueuePatch, QueueRequest
from controlplane.api.schemas import ClusterPatch, Page, ProblemView
from controlplane.api.tenant_schemas import TenantPatch
from controlplane.errors import ClientError, NotReachableError, RequestFailedError, RequestInvalidError, RequestRefusedError

CONNECT_S, ANSWER_S, PAGE = 5.0, 60.0, 1000
# Of these only what is given is sent: what is left out stays as it is.
_PARTIAL = (ClusterPatch, LinkPatch, QueuePatch, QueueRequest, TenantPatch)

M = TypeVar("M", bound=BaseModel)


class Transport:
    """The connection to a server, as one token has it. Use as a context manager. Raises RequestInvalidError for what is no server URL."""

    def __init__(
        self, server: str, token: str = "", *, transport: httpx.BaseTransport | None = None, answer_s: float = ANSWER_S,
        connect_s: float = CONNECT_S,
    ) -> None:  # fmt: skip
        self.server = server.rstrip("/")
        self._answer_s, self._connect_s = answer_s, connect_s
        if not self.server.startswith(("http://", "https://")):
            raise RequestInvalidError(f"{server!r} is not the URL of a server; write it like http://127.0.0.1:8642")
        if not token.isascii() or any(character.isspace() for character in token):
            raise RequestInvalidError("the token holds a character that no token has; was it copied whole, and nothing else?")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Certificates are read from disk only where one will have to be judged.
        encrypted = self.server.startswith("https://")
        try:
            self._http = httpx.Client(base_url=self.server, headers=headers, transport=transport, trust_env=False, verify=encrypted)
        except httpx.InvalidURL as error:
            raise RequestInvalidError(f"{server!r} is not the URL of a server ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server takes requests now."""
        try:
            return self._http.get("/readyz", timeout=self._timeout(None)).is_success
        except httpx.HTTPError:
            return False

    def _fetch(self, source: str, params: dict[str, Any], path: Path) -> None:
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as target:
                for piece in self._stream(source, params, self._timeout(None)):
                    target.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _ask(
        self, model: type[M], method: str, path: str, body: BaseModel | None = None, *, headers: dict[str, str] | None = None,
        answer_s: float | None = None, **params: Any,
    ) -> M:  # fmt: skip
        return _decoded(model, self._send(method, path, body, headers=headers, answer_s=answer_s, **params))

    def _all(self, item: type[M], path: str, *, most: int | None = None, **params: Any) -> Page[M]:
        """All pages of a list as one, or its first `most` items."""
        items: list[M] = []
        cursor: str | None = None
        while True:
            left = PAGE if most is None else min(most - len(items), PAGE)
            page = _decoded(Page[item], self._send("GET", path, limit=left, cursor=cursor, **params))  # type: ignore[valid-type]
            items.extend(page.items)
            cursor = page.next_cursor
            if cursor is None or (most is not None and len(items) >= most):
                return Page(items=items, next_cursor=cursor)

    def _send(
        self, method: str, path: str, body: BaseModel | None = None, *, headers: dict[str, str] | None = None,
        answer_s: float | None = None, **params: Any,
    ) -> httpx.Response:  # fmt: skip
        content = None if body is None else body.model_dump_json(exclude_unset=isinstance(body, _PARTIAL))
        kind = {} if body is None else {"Content-Type": "application/json"}
        given = {name: value for name, value in params.items() if value is not None}
        try:
            response = self._http.request(
                method, f"/v1{path}", content=content, params=given, headers={**kind, **(headers or {})}, timeout=self._timeout(answer_s)
            )
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        if not response.is_success:
            raise _refusal(response)
        return response

    def _stream(self, path: str, params: dict[str, Any], timeout: httpx.Timeout) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", f"/v1{path}", params=params, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    def _timeout(self, answer_s: float | None) -> httpx.Timeout:
        return httpx.Timeout(self._answer_s if answer_s is None else answer_s, connect=self._connect_s)

    def _broken(self, error: httpx.HTTPError) -> NotReachableError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return NotReachableError(f"cannot reach {self.server}")
        if isinstance(error, httpx.TimeoutException):
            return NotReachableError(f"{self.server} does not answer")
        return NotReachableError(f"the connection to {self.server} broke ({str(error) or type(error).__name__})")


def _decoded(model: type[M], response: httpx.Response) -> M:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        message = f"the server's answer is not one that this version of cpn understands (at {where or 'its beginning'})"
        raise RequestFailedError(f"{message}; are client and server of the same version?") from error


def _refusal(response: httpx.Response) -> ClientError:
    """The error that an answer with a bad status stands for."""
    try:
        problem = ProblemView.model_validate(json.loads(response.content))
    except ValueError:
        return RequestFailedError(
            f"{response.request.url} answered HTTP {response.status_code} and is not a cpn server, or something is in between"
        )
    kinds = {
        400: RequestInvalidError,
        401: RequestRefusedError,
        403: RequestRefusedError,
        413: RequestInvalidError,
        422: RequestInvalidError,
    }
    return kinds.get(response.status_code, RequestFailedError)(problem.detail, problem)
