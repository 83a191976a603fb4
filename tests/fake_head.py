"""A Ray head and its dashboard as far as one outside can ask them: real gRPC and HTTP servers in the test's process, without Ray."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from cluster.backends.ray.gcs import HeadFacts
from cluster.backends.ray.probing import ClusterFacts, NodeFacts

FACTS = HeadFacts("0c" * 28, "2.60.0", "3.11.7", "session_1")


@dataclass
class FakeHead:
    """What it answers, and where it listens once it runs."""

    token: str = "secret"
    facts: HeadFacts = FACTS
    nodes: bool = True
    address: str = ""
    socket: str = ""  # A path; while the head listens a socket is there unless one was named.
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, question: bytes) -> bytes:
        """The fields of an answer: an empty status, then the value."""
        if method.endswith("GetAllNodeInfo"):
            # Of a node only its socket is told.
            return self._value(b"\x1a" + bytes([len(self.socket)]) + self.socket.encode()) if self.nodes else b"\n\x00"
        if method.endswith("GetClusterId"):
            return self._value(bytes.fromhex(self.facts.cluster_id))
        if b"CLUSTER_METADATA" in question:
            if not self.facts.ray_version:
                return b"\n\x02\x08\x11"  # a status with a code: nothing is stored there
            return self._value(json.dumps({"ray_version": self.facts.ray_version, "python_version": self.facts.python_version}).encode())
        return self._value(self.facts.session.encode())

    @staticmethod
    def _value(value: bytes) -> bytes:
        assert len(value) < 128
        return b"\n\x00\x12" + bytes([len(value)]) + value


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, head: FakeHead) -> None:
        self._head = head

    def service(self, details: Any) -> Any:
        head = self._head
        if not details.method.startswith("/ray.rpc."):
            return None

        def answer(question: bytes, context: Any) -> bytes:
            head.asked.append(details.method)
            given = dict(context.invocation_metadata()).get("authorization", "")
            if head.token and given != f"Bearer {head.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return head.answer(details.method, question)

        return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=bytes, response_serializer=bytes)


@contextmanager
def fake_head(head: FakeHead) -> Iterator[FakeHead]:
    """The head, listening, with a node on this machine."""
    with ThreadPoolExecutor(2) as pool, tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as raylet:
        if not head.socket:
            head.socket = f"{folder}/raylet"
            raylet.bind(head.socket)
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((_Handlers(head),))
        head.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield head
        finally:
            server.stop(None).wait()


@contextmanager
def fake_dashboard(token: str = "secret", answer: object = None, status: int = 200) -> Iterator[str]:
    """The URL of a dashboard that gives this answer to whoever has the token."""
    body = json.dumps({"session_name": FACTS.session} if answer is None else answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            code = status if given == f"Bearer {token}" else (403 if given else 401)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def node_facts(name: str = "n1", *, off_s: float = 0.0, package: str = "0.1.0", writable: str = "", free_bytes: int = 2**40) -> NodeFacts:
    """A node that answered in a tenth of a second; its clock is off by so much beyond that."""
    at = 100.05 if not off_s else (100.1 + off_s if off_s > 0 else 100.0 + off_s)
    return NodeFacts(
        name=name,
        at=at,
        asked_at=100.0,
        answered_at=100.1,
        package=package,
        work_directory="/work",
        writable=writable,
        free_bytes=free_bytes,
    )


def cluster_facts(*nodes: NodeFacts, silent: tuple[str, ...] = (), living: int | None = None) -> ClusterFacts:
    """What a probe finds."""
    return ClusterFacts(nodes=nodes, silent=silent, living=len(nodes) + len(silent) if living is None else living)
