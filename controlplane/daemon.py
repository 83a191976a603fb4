"""The server process: one database, one control plane, its HTTP server, and the agents of push-mode members."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.settings import Settings
from controlplane.wiring import ControlPlane
from scheduler.errors import ConflictError
from scheduler.store import access, fleet
from scheduler.store.exclusive import sole_server
from scheduler.store.migrate import migrate
from scheduler.store.session import Store, StoreUnavailableError

log = logging.getLogger("cpn")
OPERATOR_TOKEN = "operator.token"
SERVER_FILE = "server.json"
DEFAULT_QUEUE = "default"


@contextmanager
def running_plane(settings: Settings) -> Iterator[ControlPlane]:
    """A control plane that decides, its store migrated and held for this process. Raises ConflictError, StoreUnavailableError."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store(settings.store_url)
    try:
        with sole_server(store, settings.data_dir / "server.lock"):
            migrate(store)
            plane = ControlPlane(settings, store)
            _first_start(plane)
            plane.start()
            try:
                yield plane
            finally:
                plane.stop()
    finally:
        store.close()


def _first_start(plane: ControlPlane) -> None:
    """A queue to submit to, and a token to begin with."""
    now = plane.clock.now()
    with plane.store.read() as conn:
        queues, tokens = fleet.list_queues(conn), access.list_tokens(conn)
    if not queues:
        plane.store.write(lambda tx: fleet.add_queue(tx.conn, DEFAULT_QUEUE, 1.0, None, now))
    path = plane.settings.data_dir / OPERATOR_TOKEN
    if not any(token.role == "operator" and token.revoked_at is None for token in tokens):
        _, secret = plane.tokens.create("operator")
        write_private(path, secret + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    part.replace(path)


def serve(settings: Settings) -> int:
    """Run until a signal ends it. Returns the exit status: 0 ended by signal, 1 could not start."""
    from controlplane.http import run_http
    from controlplane.pushed import PushedAgents

    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        listener = _listen(settings)
        with running_plane(settings) as plane:
            port = listener.getsockname()[1]
            url = f"http://{settings.host}:{port}"
            write_private(settings.data_dir / SERVER_FILE, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
            log.info(
                "cpn serves %s; data in %s; the first operator token is in %s", url, settings.data_dir, settings.data_dir / OPERATOR_TOKEN
            )
            with PushedAgents(plane, url):
                run_http(plane, listener)
    except (ConflictError, StoreUnavailableError, OSError) as error:
        log.error("cannot start: %s", error)
        return 1
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        message = (
            f"{settings.host}:{settings.port} cannot be used ({error.strerror}); is a server running there? choose another with --port"
        )
        raise OSError(message) from error
    return listener
