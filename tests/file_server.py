"""A place that serves files over HTTP as the servers out there do: with ranges or without, and cut off when a test wants it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """`files` by path. `asked` counts the requests for bytes by path, `begun` tells where each began.

    `cut_after` is how many bytes come of an answer before its connection breaks, None for all; it breaks when `arrived` has
    returned, which gets how many bytes of the file are out. `gate` holds answers back.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.begun: list[int] = []
        self.sent = 0
        self.ranges = True
        self.cut_after: int | None = None
        self.arrived: Callable[[int], None] = lambda _: None
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            data = server.files.get(path)
            if data is None:
                self.send_error(404)
                return
            start = self._start() if server.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if body:
                self._send(path, data, start)

        def _send(self, path: str, data: bytes, start: int) -> None:
            server.asked[path] += 1
            server.begun.append(start)
            server.gate.wait(20)
            end = len(data) if server.cut_after is None else start + server.cut_after
            server.sent += len(data[start:end])
            self.wfile.write(data[start:end])
            if end < len(data):
                server.arrived(end)
                self.close_connection = True

        def _start(self) -> int:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            return int(match[1]) if match else 0

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving_files() -> Iterator[FileServer]:
    """One server of files on this machine."""
    server = FileServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as running:
        server.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            running.shutdown()
            thread.join()
