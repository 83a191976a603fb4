"""How the workers of a gang begin together: each tells rank 0 that it is prepared, and goes when rank 0 says that all are.

Pods are started by Kubernetes one by one, so that all have room is known only when all run. Rank 0 listens at a port that the run's name
gives, behind the run's headless Service. A worker whose line broke asks again, and is answered at once when the others have gone.
Who connects has to know the run's token, for a cluster's network may be open to all of its pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

LINE_BYTES = 4096
AGAIN_S = 0.2
HELLO_S = 10.0


class Gathering:
    """Rank 0's side. `port` is where the gang's own processes will meet, which the others are told."""

    def __init__(self, token: str, workers: int, master_port: int) -> None:
        self._token, self._workers, self._master_port = token, workers, master_port
        self._present: set[int] = set()
        self._whole = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self, port: int) -> None:
        """Answer the others from now on. Raises OSError."""
        self._server = await asyncio.start_server(self._answer, port=port, limit=LINE_BYTES)

    async def whole(self) -> None:
        """This worker is prepared: until all others are."""
        self._arrive(0)
        await self._whole.wait()

    def close(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            rank = self._rank(await asyncio.wait_for(reader.readline(), HELLO_S))
            if rank is not None:
                self._arrive(rank)
                await self._keep(rank, reader, writer)
        writer.close()

    def _arrive(self, rank: int) -> None:
        self._present.add(rank)
        if len(self._present) == self._workers:
            self._whole.set()

    async def _keep(self, rank: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell a worker when all are there; one that goes away before is not there any more."""
        gone, whole = asyncio.create_task(reader.read(1)), asyncio.create_task(self._whole.wait())
        await asyncio.wait([gone, whole], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        whole.cancel()
        if self._whole.is_set():
            writer.write(json.dumps({"go": self._master_port}).encode() + b"\n")
            await writer.drain()
        else:
            self._present.discard(rank)

    def _rank(self, line: bytes) -> int | None:
        """Who says hello, None when it is none of the gang's."""
        hello = _document(line)
        rank = hello.get("rank")
        if not hmac.compare_digest(str(hello.get("token", "")).encode(), self._token.encode()):
            return None
        return rank if isinstance(rank, int) and 0 < rank < self._workers else None


async def await_go(host: str, port: int, token: str, rank: int) -> int:
    """Tell rank 0 that this worker is prepared, however often its line breaks; the port at which the gang's processes meet."""
    hello = json.dumps({"token": token, "rank": rank}).encode() + b"\n"
    while True:
        with contextlib.suppress(OSError, ValueError):
            answer = await _ask(host, port, hello)
            if isinstance(answer.get("go"), int):
                return int(answer["go"])
        await asyncio.sleep(AGAIN_S)


async def _ask(host: str, port: int, hello: bytes) -> Mapping[str, Any]:
    reader, writer = await asyncio.open_connection(host, port, limit=LINE_BYTES)
    try:
        writer.write(hello)
        await writer.drain()
        return _document(await reader.readline())
    finally:
        writer.close()


def _document(line: bytes) -> Mapping[str, Any]:
    document = json.loads(line or b"{}")
    return document if isinstance(document, dict) else {}
