"""The server process: one database, one control plane, its HTTP server, and the agents of push-mode members."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from controlplane.settings import Settings
from controlplane.wiring import ControlPlane
from scheduler import acts
from scheduler.acts import SERVER
from scheduler.chain import Act
from scheduler.errors import ConflictError
from scheduler.store import access, audit, fleet
from scheduler.store.audit import Entry
from scheduler.store.exclusive import sole_server
from scheduler.store.migrate import migrate
from scheduler.store.session import Store, StoreUnavailableError, Transaction

log = logging.getLogger("cpn")
OPERATOR_TOKEN = "operator.token"
SERVER_FILE = "server.json"
DEFAULT_QUEUE = "default"
# What a run may do that is cut off, what runs nothing real, and how long what it delivered is kept.
FOR_RIGHTS = ("suspect_after_s", "lost_after_s", "lease_s", "allow_simulated", "keep_results_days", "keep_logs_days")


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
    plane.store.write(lambda tx: _note_start(tx, plane.settings, now))
    with plane.store.read() as conn:
        queues, tokens = fleet.list_queues(conn), access.list_tokens(conn)
    if not queues:
        plane.store.write(lambda tx: _add_default_queue(tx, now))
    path = plane.settings.data_dir / OPERATOR_TOKEN
    if not any(token.role == "operator" and token.revoked_at is None for token in tokens):
        _, secret = plane.tokens.create("operator")
        write_private(path, secret + "\n")


def _note_start(tx: Transaction, settings: Settings, now: float) -> None:
    """Write down that a server starts, with the settings that rights depend on, and in a new log what holds already."""
    known = acts.standing(tx.conn, now) if audit.head(tx.conn)[0] == 0 else []
    told = {name: getattr(settings, name) for name in FOR_RIGHTS}
    audit.append(tx.conn, [*known, Entry(Act.SERVER_STARTED, version("cpn"), SERVER, now, told)])


def _add_default_queue(tx: Transaction, now: float) -> None:
    fleet.add_queue(tx.conn, DEFAULT_QUEUE, 1.0, None, now)
    audit.append(tx.conn, [Entry(Act.QUEUE_CREATED, DEFAULT_QUEUE, SERVER, now)])


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
