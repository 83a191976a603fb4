"""An API server with faults: it stands before a real one, or alone, and answers what a test tells it to. Plain HTTP on loopback.

Its own thread and event loop. Whatever no fault is for goes to the real server and comes back as it is, watches and logs piece by piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.kube.control_plane import Kubernetes, token_of
from tests.network import free_port

START_S = 30.0
_KEPT = ("Authorization", "Accept", "Content-Type")


@dataclass
class Fault:
    """An answer instead of the real one, for calls whose method, path and query have all of `words`; `times` of them, None: all."""

    words: tuple[str, ...]
    status: int
    times: int | None = 1
    document: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def answer(self) -> web.Response:
        if self.text is not None:
            return web.Response(status=self.status, text=self.text, headers=self.headers)
        return web.json_response(self.document, status=self.status, headers=self.headers)


class FaultyApi:
    """`asked` counts calls by method and path. `date` replaces the server's clock, as HTTP writes it."""

    def __init__(self, folder: Path, servers: Kubernetes | None = None) -> None:
        self._folder, self.servers = folder, servers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.faults: list[Fault] = []
        self.asked: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.date: str | None = None
        self._streams: dict[int, web.Request] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._live()), name="faulty-api", daemon=True)

    def fail(self, *words: str, status: int, times: int | None = 1, **more: Any) -> Fault:
        """Answer so from now on; more: document, text, headers."""
        self.faults.append(Fault(words, status, times, **more))
        return self.faults[-1]

    def say(self, path: str, document: dict[str, Any]) -> None:
        """Answer every GET of this path with this document."""
        self.fail("GET", path, status=200, times=None, document=document)

    def forget(self) -> None:
        """Have no faults any more, and begin to count anew."""
        self.faults.clear()
        self.asked.clear()
        self.tokens.clear()
        self.date = None

    def cut(self) -> None:
        """Break the connections of all streams that are open."""

        def cut_all() -> None:
            for request in self._streams.values():
                if request.transport is not None:
                    request.transport.abort()

        self._loop.call_soon_threadsafe(cut_all)

    def kubeconfig(self, user: str = "agent", token: str | None = None, url: str = "") -> Path:
        """A kubeconfig with the context `faulty` that leads here, or to `url`."""
        path = self._folder / f"{user}-{self.port}.kubeconfig"
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "faulty",
            "clusters": [{"name": "faulty", "cluster": {"server": url or self.url}}],
            "users": [{"name": user, "user": {"token": token_of(user) if token is None else token}}],
            "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": user}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(document))
        return path

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(START_S), "the faulty API server did not begin to listen"

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)
        assert not self._thread.is_alive(), "the faulty API server did not end"
        self._loop.close()

    async def _live(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self.servers.tls()) if self.servers else None
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, read_bufsize=2**21) as self._session:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{tail:.*}", self._take)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
        if connector is not None:
            await asyncio.sleep(0)
            while any(item.get_extra_info("socket").fileno() >= 0 for item in list(self._loop._transports.values())):  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        call = f"{request.method} {request.path_qs}"
        self.asked[f"{request.method} {request.path}"] += 1
        self.tokens.append(request.headers.get("Authorization", ""))
        for fault in self.faults:
            if fault.times != 0 and all(word in call for word in fault.words):
                if fault.times is not None:
                    fault.times -= 1
                return fault.answer()
        if self.servers is None:
            return web.json_response({"kind": "Status", "message": "there is nothing here", "reason": "NotFound"}, status=404)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self.servers is not None
        headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
        stream = bool({"watch", "follow"} & request.query.keys())
        timeout = aiohttp.ClientTimeout(total=None if stream else 60)
        url = f"{self.servers.url}{request.path_qs}"
        try:
            async with self._session.request(request.method, url, headers=headers, data=await request.read(), timeout=timeout) as found:
                told = {"Content-Type": found.headers.get("Content-Type", ""), "Date": self.date or found.headers.get("Date", "")}
                answer = web.StreamResponse(status=found.status, headers=told)
                with self._noted(request, stream):
                    await answer.prepare(request)
                    async for piece in found.content.iter_any():
                        await answer.write(piece)
                    await answer.write_eof()
                return answer
        except aiohttp.ClientConnectorError:
            return web.Response(status=503, text="the API server is away")

    @contextmanager
    def _noted(self, request: web.Request, stream: bool) -> Iterator[None]:
        if stream:
            self._streams[id(request)] = request
        try:
            with contextlib.suppress(ConnectionResetError, aiohttp.ClientConnectionResetError):
                yield
        finally:
            self._streams.pop(id(request), None)


@contextmanager
def running_faulty_api(folder: Path, servers: Kubernetes | None = None) -> Iterator[FaultyApi]:
    """One that ends with the context."""
    api = FaultyApi(folder, servers)
    api.start()
    try:
        yield api
    finally:
        api.stop()
