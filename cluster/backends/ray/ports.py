"""Blocks of ports for Ray heads of this machine, so that several may start at once without a collision.

A head needs ten ports and one for each of its workers. Asking the kernel for free ports one by one races with every
other start, so we take whole blocks below the range that the kernel gives to outgoing connections, each guarded
by a file lock that lives as long as its holder.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import TransientError

FIRST_PORT, LAST_PORT, BLOCK_SIZE = 20_000, 32_000, 200
NAMED_PORTS = (
    "port", "ray-client-server-port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
    "metrics-export-port", "runtime-env-agent-port", "node-manager-port", "object-manager-port",
)  # fmt: skip


@dataclass
class PortBlock:
    """A run of ports; `lock` is the descriptor that keeps others away until it is closed by all who hold it."""

    first: int
    lock: int

    def named(self) -> dict[str, int]:
        """The port of each option of `ray start` that takes one."""
        return {name: self.first + index for index, name in enumerate(NAMED_PORTS)}

    def workers(self) -> tuple[int, int]:
        """The first and the last port for worker processes."""
        return self.first + 20, self.first + BLOCK_SIZE - 1

    def release(self) -> None:
        """Give the block back. Twice does no harm."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def take_block() -> PortBlock:
    """A block that nobody of ours holds and whose named ports are free. Raises TransientError when none is left."""
    directory = Path(tempfile.gettempdir()) / f"cpn-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    for first in range(FIRST_PORT, LAST_PORT, BLOCK_SIZE):
        lock = os.open(directory / f"{first}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        block = PortBlock(first, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            block.release()
            continue
        if all(_is_free(port) for port in block.named().values()):
            return block
        block.release()
    raise TransientError(f"no block of {BLOCK_SIZE} free ports between {FIRST_PORT} and {LAST_PORT}; end some Ray heads first")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
