"""A place that takes signed forms as an object store does, and answers as a test asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DENIED = b"<Error><Code>AccessDenied</Code><Message>the policy eyJzZWNyZXQi is over</Message></Error>"


class FormServer:
    """`answers` are the statuses of the next forms, 0 for a connection that breaks; later ones are taken. `bodies` are those that came.

    `gate` holds forms back before they are read.
    """

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.url = ""
        self.came = threading.Event()
        self.gate = threading.Event()
        self.gate.set()


def _handler(server: FormServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            server.came.set()
            server.gate.wait(60)
            status = server.answers.pop(0) if server.answers else 201
            if not status:
                self.close_connection = True
                return
            length = int(self.headers["Content-Length"])
            form = self.rfile.read(length)
            if len(form) < length:
                # Whoever sent it broke off.
                self.close_connection = True
                return
            server.bodies.append(form)
            body = DENIED if status >= 400 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def serving_forms(*answers: int) -> Iterator[FormServer]:
    """It runs."""
    server = FormServer(*answers)
    web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{web.server_address[1]}/bucket"
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        web.shutdown()
        thread.join(10)
        web.server_close()
