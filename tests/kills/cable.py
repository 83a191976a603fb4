"""The cable between an agent and its server: a TCP proxy that can be cut.

`broken`: connections end and new ones are closed at once. `silent`: nothing passes, nothing is told, and what was on the way arrives late,
when the cable is whole again. `deaf`: what the agent says arrives, what the server says is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Literal, Self, get_args

Cut = Literal["broken", "silent", "deaf"]
CUTS: tuple[Cut, ...] = get_args(Cut)
CHUNK = 64 * 1024


class Cable:
    """A whole cable to a port of this machine until it is cut. Use as a context manager."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable", daemon=True)
        self._way: Cut | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, way: Cut) -> None:
        """Cut it."""

        async def now() -> None:
            self._way = way
            if way == "broken":
                self._hang_up()
            else:
                self._whole.clear()

        self._call(now)

    def heal(self) -> None:
        """It is whole again. What the server said to a deaf agent is lost, so those connections end."""

        async def now() -> None:
            if self._way == "deaf":
                self._hang_up()
            self._way = None
            self._whole.set()

        self._call(now)

    def _call(self, work: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)  # type: ignore[arg-type]

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        self._whole.set()
        self._hang_up()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _join(self, agent_reads: asyncio.StreamReader, to_agent: asyncio.StreamWriter) -> None:
        if self._way == "broken":
            to_agent.transport.abort()
            return
        try:
            server_reads, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            to_agent.transport.abort()
            return
        ends = {to_agent, to_server}
        self._writers |= ends
        try:
            # What is cancelled ends here: nobody asks for the end of a connection.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(self._pump(agent_reads, to_server, asks=True), self._pump(server_reads, to_agent, asks=False))
        finally:
            self._writers -= ends
            for writer in ends:
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if self._way == "deaf":
                    if not asks:
                        continue
                else:
                    await self._whole.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
