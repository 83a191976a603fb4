"""The HTTP server of a control plane, on a socket that is bound already."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from types import FrameType

import uvicorn

from controlplane.api.app import create_app
from controlplane.collector import calm_collector
from controlplane.wiring import ControlPlane
from workloads.runners.sql import check_statement

log = logging.getLogger("cpn")


class PlaneServer(uvicorn.Server):
    """Tells the plane first that it stops, so that waiting requests answer instead of holding the shutdown up."""

    def __init__(self, config: uvicorn.Config, plane: ControlPlane) -> None:
        super().__init__(config)
        self._plane = plane

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and make ready meanwhile what the first submission would have to wait for."""
        await super().startup(sockets=sockets)
        self._warm = asyncio.get_running_loop().run_in_executor(None, _warm_up)

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """A signal to end. It is not raised again afterwards, as uvicorn would: the plane has still to be stopped in order."""
        self._plane.announce_stop()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _warm_up() -> None:
    """Check a statement, which starts the process that checks them and loads DuckDB there."""
    try:
        check_statement("SELECT 1", {})
    except Exception:
        log.exception("statements cannot be checked now; the first submission tries again")


def plane_server(plane: ControlPlane) -> PlaneServer:
    """A server for this plane, not running yet."""
    config = uvicorn.Config(
        create_app(plane),
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    return PlaneServer(config, plane)


def run_http(plane: ControlPlane, listener: socket.socket) -> None:
    """Serve until a signal ends it."""
    server = plane_server(plane)
    calm_collector()
    server.run(sockets=[listener])
