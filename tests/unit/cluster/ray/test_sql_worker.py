"""A SQL worker without Ray and DuckDB: it tells a run's end before it makes ready for the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray import sql_worker
from cluster.backends.ray.sql_worker import SqlWorker
from cluster.runs.outbox import nothing_seen
from cluster.runs.workspace import StatementRun
from tests.ray_runs import statement


class Connections:
    """Takes the place of `Engines`: `used` ones are counted, and renewed only when `may_renew` is set."""

    def __init__(self) -> None:
        self.used, self.renewals = 0, 0
        self.may_renew = threading.Event()

    def renew(self) -> None:
        self.may_renew.wait()
        self.used, self.renewals = 0, self.renewals + 1

    @property
    def due(self) -> bool:
        return self.used > 0


@pytest.fixture(autouse=True)
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    found = Connections()

    def execute(_run: StatementRun, _interrupter: object, engines: Connections) -> dict[str, Any]:
        engines.used += 1
        return {"outcome": "succeeded", "category": None, "message": "", "preview": None, "files": []}

    monkeypatch.setenv("CPN_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setattr(StatementRun, "execute", execute)
    monkeypatch.setattr(StatementRun, "warm_up", lambda _root: found)
    yield found
    found.may_renew.set()


async def outcome(worker: SqlWorker) -> str:
    request = statement("node", "SELECT 1").model_dump(mode="json")
    seen = nothing_seen()
    batch = await worker.run(request, seen, 30.0)
    while "finished" not in batch:
        seen["started"] = True
        batch = await worker.next(request["run_id"], seen, 30.0)
    return str(batch["finished"]["outcome"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_the_end_of_a_run_does_not_wait_for_the_next_connection(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_worker, "RENEW_AFTER_S", 0.0)

    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        assert await outcome(worker) == "succeeded", "told while a renewal would wait for good"
        connections.may_renew.set()
        await until(lambda: connections.renewals == 1)
        assert connections.used == 0

    asyncio.run(scenario())


def test_runs_in_a_row_put_the_renewal_off_but_not_for_good(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_worker, "RENEW_AFTER_S", 600.0)
    monkeypatch.setattr(sql_worker, "MOST_USED", 3)
    connections.may_renew.set()

    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        for _ in range(7):
            assert await outcome(worker) == "succeeded"
        await until(lambda: connections.renewals == 2)
        assert connections.used == 1, "three, three, and one that waits for its time"

    asyncio.run(scenario())
