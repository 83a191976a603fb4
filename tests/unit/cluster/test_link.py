"""The agent's line over real HTTP: every status becomes what an agent can act upon, and what is sent arrives."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.errors import (
    AuthenticationError,
    ClusterError,
    PermanentError,
    ReportRefusedError,
    StorageFullError,
    TransientError,
    UnreachableError,
)
from cluster.link import CHUNK, HttpLink
from cluster.protocol import SyncReply, SyncRequest
from tests.unit.cluster.control import start

HELLO = SyncRequest(agent_id="agent-1", reachable=True, known_runs=("a-1",), acknowledged=7, wait_s=0.5)
REPLY = SyncReply(instructions=(start(8, "b-1"),), lease_s=45.0)
PROBLEM = {"type": "urn:cpn:problem:x", "title": "It is so", "detail": "because of that"}


class Desk:
    """A server in this process that answers everything in one way and keeps what it was asked."""

    def __init__(self, status: int = 200, document: object = None) -> None:
        self.status, self.document = status, json.loads(REPLY.model_dump_json()) if document is None else document
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str], bytes]] = []
        self.app = Starlette(routes=[Route("/{rest:path}", self.answer, methods=["GET", "POST", "PUT"])])

    async def answer(self, request: Request) -> Response:
        query, headers = dict(request.query_params), dict(request.headers)
        self.asked.append((request.method, request.scope["raw_path"].decode(), query, headers, await request.body()))
        if isinstance(self.document, bytes):
            return Response(self.document, self.status)
        return JSONResponse(self.document, self.status)


@asynccontextmanager
async def line(desk: Desk, base_url: str = "http://plane", cluster: str = "sh") -> AsyncIterator[HttpLink]:
    """A link to the desk."""
    link = HttpLink(base_url, "secret", cluster, transport=httpx.ASGITransport(desk.app))
    try:
        yield link
    finally:
        await link.close()


def asked(desk: Desk, call: Callable[[HttpLink], Coroutine[Any, Any, Any]], **names: str) -> Any:
    """What one call brings."""

    async def run() -> Any:
        async with line(desk, **names) as link:
            return await call(link)

    return asyncio.run(run())


def test_a_sync_carries_the_request_and_the_token_and_brings_the_reply() -> None:
    desk = Desk()
    assert asked(desk, lambda link: link.sync(HELLO)) == REPLY
    [(method, path, _, headers, body)] = desk.asked
    assert (method, path, headers["authorization"]) == ("POST", "/v1/agents/sh/sync", "Bearer secret")
    assert headers["content-type"] == "application/json"
    assert SyncRequest.model_validate_json(body) == HELLO


@pytest.mark.parametrize(
    ("base_url", "cluster", "path"),
    [
        ("http://plane/", "sh", "/v1/agents/sh/sync"),
        ("http://plane/cpn", "sh", "/cpn/v1/agents/sh/sync"),
        ("http://plane", "a/b c", "/v1/agents/a%2Fb%20c/sync"),
    ],
)
def test_places_are_made_of_the_servers_address_and_the_clusters_name(base_url: str, cluster: str, path: str) -> None:
    desk = Desk()
    asked(desk, lambda link: link.sync(HELLO), base_url=base_url, cluster=cluster)
    assert desk.asked[0][1] == path


STATUSES: list[tuple[int, type[ClusterError]]] = [
    (301, PermanentError),
    (400, ReportRefusedError),
    (401, AuthenticationError),
    (403, AuthenticationError),
    (404, PermanentError),
    (405, PermanentError),
    (408, TransientError),
    (409, PermanentError),
    (413, ReportRefusedError),
    (422, ReportRefusedError),
    (429, TransientError),
    (500, TransientError),
    (502, UnreachableError),
    (503, UnreachableError),
    (504, UnreachableError),
    (507, StorageFullError),
    (599, TransientError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_status_says_whether_trying_again_helps(status: int, kind: type[ClusterError]) -> None:
    with pytest.raises(ClusterError) as caught:
        asked(Desk(status, PROBLEM), lambda link: link.sync(HELLO))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"POST /v1/agents/sh/sync: {status} It is so: because of that")
    assert ("cpn token create" in str(caught.value)) == (status in (401, 403))


@pytest.mark.parametrize(("status", "kind"), [item for item in STATUSES if item[0] != 409])
@pytest.mark.parametrize("what", ["log", "file"])
def test_uploads_fail_in_the_same_ways(tmp_path: Path, what: str, status: int, kind: type[ClusterError]) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(ClusterError) as caught:
        asked(Desk(status, PROBLEM), lambda link: upload(link, what, tmp_path / "f"))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"title": "Only a title"}, "Only a title"),
        ({"detail": "only a detail"}, "only a detail"),
        ({"other": 1}, "Not Found"),
        (["no", "object"], "Not Found"),
        (b"<html>a proxy's page</html>", "Not Found"),
        (b"", "Not Found"),
    ],
)
def test_an_error_without_a_problem_document_is_named_by_its_status(document: object, words: str) -> None:
    with pytest.raises(PermanentError) as caught:
        asked(Desk(404, document), lambda link: link.sync(HELLO))
    assert str(caught.value) == f"POST /v1/agents/sh/sync: 404 {words}"


@pytest.mark.parametrize("document", [b"", b"hello", {}, {"lease_s": "soon"}, {"lease_s": 1, "surprise": 1}, [1]])
def test_an_answer_of_somebody_else_is_told_from_ours(document: object) -> None:
    with pytest.raises(PermanentError, match=r"http://plane/v1/agents/sh answers, but not as this version of cpn does"):
        asked(Desk(200, document), lambda link: link.sync(HELLO))


async def upload(link: HttpLink, what: str, path: Path) -> bool:
    if what == "log":
        return await link.upload_log("a/1", 3, 5, "第一行\n")
    return await link.upload_result("a/1", 3, "deep/rows 1.parquet", path)


@pytest.mark.parametrize(("status", "current"), [(204, True), (200, True), (409, False)])
@pytest.mark.parametrize("what", ["log", "file"])
def test_an_upload_tells_whether_the_run_is_current(tmp_path: Path, what: str, status: int, current: bool) -> None:
    (tmp_path / "f").write_bytes(b"x")
    desk = Desk(status, PROBLEM if status == 409 else b"")
    assert asked(desk, lambda link: upload(link, what, tmp_path / "f")) is current


def test_a_piece_of_log_says_where_it_belongs(tmp_path: Path) -> None:
    desk = Desk(204, b"")
    asked(desk, lambda link: upload(link, "log", tmp_path))
    [(method, path, query, headers, body)] = desk.asked
    assert (method, path, query) == ("POST", "/v1/agents/sh/runs/a%2F1/log", {"epoch": "3", "offset": "5"})
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert body == "第一行\n".encode()


def test_a_result_file_travels_whole_with_its_size(tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK // 100)
    (tmp_path / "f").write_bytes(content)
    desk = Desk(204, b"")
    asked(desk, lambda link: upload(link, "file", tmp_path / "f"))
    # Because it is large, whether there is room is asked first.
    [(asking, place, question, *_), (method, path, query, headers, body)] = desk.asked
    size = str(len(content))
    assert (asking, place) == ("GET", "/v1/agents/sh/runs/a%2F1/room")
    assert question == {"epoch": "3", "name": "deep/rows 1.parquet", "size_bytes": size}
    assert (method, path, query) == ("PUT", "/v1/agents/sh/runs/a%2F1/files/deep/rows%201.parquet", {"epoch": "3"})
    assert headers["content-length"] == str(len(content))
    assert body == content


@pytest.mark.parametrize(("status", "kind"), [(413, ReportRefusedError), (507, StorageFullError)])
def test_a_large_file_that_would_not_be_taken_is_not_sent(tmp_path: Path, status: int, kind: type[ClusterError]) -> None:
    (tmp_path / "f").write_bytes(b"x" * (CHUNK + 1))
    desk = Desk(status, PROBLEM)
    with pytest.raises(kind, match="because of that"):
        asked(desk, lambda link: upload(link, "file", tmp_path / "f"))
    assert [method for method, *_ in desk.asked] == ["GET"]


def test_a_large_file_of_a_run_that_is_not_current_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (CHUNK + 1))
    desk = Desk(409, PROBLEM)
    assert asked(desk, lambda link: upload(link, "file", tmp_path / "f")) is False
    assert [method for method, *_ in desk.asked] == ["GET"]


def test_a_file_that_is_not_there_is_an_error_of_the_file(tmp_path: Path) -> None:
    desk = Desk(204, b"")
    with pytest.raises(OSError, match="no-such-file"):
        asked(desk, lambda link: upload(link, "file", tmp_path / "no-such-file"))
    assert desk.asked == []


def test_nobody_at_the_address_is_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

        async def call() -> None:
            link = HttpLink(f"http://127.0.0.1:{port}", "secret", "sh")
            try:
                await link.sync(HELLO)
            finally:
                await link.close()

        with pytest.raises(UnreachableError, match=rf"http://127.0.0.1:{port}/v1/agents/sh does not answer"):
            asyncio.run(call())


def test_a_connection_that_breaks_before_the_answer_is_unreachable_and_proxies_of_the_environment_are_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[bytes] = []

    async def call() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n"))
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            link = HttpLink(f"http://127.0.0.1:{port}", "secret", "sh")
            try:
                await link.sync(HELLO)
            finally:
                await link.close()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="does not answer"):
        asyncio.run(call())
    assert heard == [b"POST /v1/agents/sh/sync HTTP/1.1\r\n"]


def test_a_private_authority_that_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        HttpLink("https://plane", "secret", "sh", ca_file=str(tmp_path / "ca.pem"))
