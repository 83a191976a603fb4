"""A gang begins when all of its workers are there, and whoever is none of it is not let in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from cluster.backends.kubernetes.rendezvous import Gathering, await_go
from tests.network import free_port

LIMIT_S = 20.0


def gathered(workers: int, scenario: Callable[[Gathering, int], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        gathering, port = Gathering("token", workers, 4711), free_port()
        await gathering.listen(port)
        try:
            async with asyncio.timeout(LIMIT_S):
                await scenario(gathering, port)
        finally:
            gathering.close()

    asyncio.run(run())


async def said(port: int, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line)
    answer = await reader.read()
    writer.close()
    return answer


def test_all_go_when_the_last_has_come() -> None:
    async def scenario(gathering: Gathering, port: int) -> None:
        others = [asyncio.create_task(await_go("127.0.0.1", port, "token", rank)) for rank in (1, 2)]
        assert not any(task.done() for task in others)
        await gathering.whole()
        assert await asyncio.gather(*others) == [4711, 4711]
        # One whose line broke before it was told asks again.
        assert await await_go("127.0.0.1", port, "token", 1) == 4711

    gathered(3, scenario)


def test_a_worker_may_come_before_rank_0_listens() -> None:
    async def scenario() -> None:
        port = free_port()
        waiting = asyncio.create_task(await_go("127.0.0.1", port, "token", 1))
        await asyncio.sleep(0)
        gathering = Gathering("token", 2, 4711)
        await gathering.listen(port)
        await gathering.whole()
        assert await waiting == 4711
        gathering.close()

    asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))


def test_one_that_went_away_again_is_not_counted() -> None:
    async def scenario(gathering: Gathering, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(json.dumps({"token": "token", "rank": 1}).encode() + b"\n")
        while 1 not in gathering._present:
            await asyncio.sleep(0)
        writer.close()
        while 1 in gathering._present:
            await asyncio.sleep(0)
        whole = asyncio.create_task(gathering.whole())
        other = asyncio.create_task(await_go("127.0.0.1", port, "token", 2))
        while 2 not in gathering._present:
            await asyncio.sleep(0)
        assert not whole.done()
        assert await await_go("127.0.0.1", port, "token", 1) == 4711
        await asyncio.gather(whole, other)
        assert await reader.read() == b""

    gathered(3, scenario)


def test_strangers_are_not_let_in() -> None:
    async def scenario(gathering: Gathering, port: int) -> None:
        for hello in (b'{"token": "other", "rank": 1}\n', b'{"token": "token", "rank": 7}\n', b'{"rank": 1}\n', b"[]\n", b"GET / HTTP\n"):
            assert await said(port, hello) == b""
        assert gathering._present == set()

    gathered(2, scenario)
