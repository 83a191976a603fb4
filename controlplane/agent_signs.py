"""Signs of life of an agent: files whose times say that its loop turns, and that the server answered it.

An agent listens at no port, so whatever supervises it has nothing to call. The probes of deploy/helm/cpn-agent look at these files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from cluster.link import HttpLink
from cluster.protocol import SyncReply, SyncRequest

ALIVE, ANSWERED = "alive", "answered"
EVERY_S = 5.0


def write_sign(directory: Path, name: str) -> None:
    """Say it now. A disk that takes nothing costs the sign, not the agent."""
    with contextlib.suppress(OSError):
        (directory / name).touch(mode=0o600)


async def show_life(directory: Path, every_s: float = EVERY_S) -> None:
    """Say that the loop turns, until this is cancelled."""
    while True:
        write_sign(directory, ALIVE)
        await asyncio.sleep(every_s)


class NotedLink(HttpLink):
    """An HttpLink that calls `on_answer` whenever the server has answered a report. It is answered every few seconds while all is well."""

    def __init__(self, base_url: str, token: str, cluster: str, on_answer: Callable[[], None]) -> None:
        super().__init__(base_url, token, cluster)
        self._on_answer = on_answer

    async def sync(self, request: SyncRequest) -> SyncReply:
        reply = await super().sync(request)
        self._on_answer()
        return reply
