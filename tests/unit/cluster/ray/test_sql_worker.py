"""A SQL worker without Ray and DuckDB: one statement after the other, told of together, and what one holds up is given back."""

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

ENDLESS = "SELECT endless"


class Connections:
    """Takes the place of `Engines`: `used` ones are counted, and renewed only when `may_renew` is set."""

    def __init__(self) -> None:
        self.used, self.renewals = 0, 0
        self.may_renew = threading.Event()
        self.executed: list[str] = []
        self.endless, self.may_end = threading.Event(), threading.Event()

    def renew(self) -> None:
        self.may_renew.wait()
        self.used, self.renewals = 0, self.renewals + 1

    @property
    def due(self) -> bool:
        return self.used > 0


@pytest.fixture(autouse=True)
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    found = Connections()

    def execute(run: StatementRun, _interrupter: object, engines: Connections, small_bytes: int) -> dict[str, Any]:
        engines.used += 1
        engines.executed.append(run._run["sql"])
        if run._run["sql"] == ENDLESS:
            engines.endless.set()
            engines.may_end.wait()
        run.content = b"rows" if small_bytes else None
        files = [{"name": "result", "size_bytes": 4}] if small_bytes else []
        return {"outcome": "succeeded", "category": None, "message": "", "preview": None, "files": files}

    monkeypatch.setenv("CPN_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setattr(StatementRun, "execute", execute)
    monkeypatch.setattr(StatementRun, "warm_up", lambda _root: found)
    yield found
    found.may_renew.set()
    found.may_end.set()


async def outcome(worker: SqlWorker) -> str:
    request = statement("node", "SELECT 1").model_dump(mode="json")
    seen = nothing_seen()
    run_id = request["run_id"]
    batch = (await worker.run([request], {run_id: seen}, 30.0))[run_id]
    while "finished" not in batch:
        seen["started"] = True
        batch = (await worker.next({run_id: seen}, 30.0))[run_id]
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


class Asked:
    """A worker that was given statements in one call, and what it has told of each."""

    def __init__(self, worker: SqlWorker, *statements: str, **fields: Any) -> None:
        self.worker = worker
        self.requests = [statement("node", sql, **fields).model_dump(mode="json") for sql in statements]
        self.ids = [str(request["run_id"]) for request in self.requests]
        self.seen = {run_id: nothing_seen() for run_id in self.ids}
        self.told: dict[str, dict[str, Any]] = {run_id: {} for run_id in self.ids}
        self.calls = 0

    async def until_told(self, *what: str) -> None:
        """Until the news of each are those, in their order."""
        async with asyncio.timeout(30):
            while not all(key in self.told[run_id] for run_id, key in zip(self.ids, what, strict=True)):
                left = {run_id: seen for run_id, seen in self.seen.items() if "finished" not in self.told[run_id]}
                news = await (self.worker.next(left, 30.0) if self.calls else self.worker.run(self.requests, left, 30.0))
                self.calls += 1
                for run_id, batch in news.items():
                    self.told[run_id] |= batch
                    self.seen[run_id]["started"] |= "started" in batch
                    if "returned" in batch:
                        del self.seen[run_id]


def test_statements_that_come_together_run_in_their_order_and_are_told_of_with_their_results(connections: Connections) -> None:
    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        asked = Asked(worker, "SELECT 1", "SELECT 2", "SELECT 3")
        await asked.until_told(*["finished"] * 3)
        assert connections.executed == ["SELECT 1", "SELECT 2", "SELECT 3"]
        for run_id, told in asked.told.items():
            assert (told["finished"]["outcome"], told["inline"], told["started"] > 0) == ("succeeded", {"result": b"rows"}, True)
            assert await worker.read_output(run_id, "result", 1, 2) == b"ow"
        await worker.forget(asked.ids)
        assert await worker.runs() == []
        assert await worker.next({asked.ids[0]: nothing_seen()}, 30.0) == {asked.ids[0]: {"unknown": True}}

    asyncio.run(scenario())


def test_results_are_held_in_memory_up_to_a_limit_until_they_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_worker, "MOST_KEPT_BYTES", 5)

    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        first = Asked(worker, "SELECT 1", "SELECT 2")
        await first.until_told("finished", "finished")
        third = Asked(worker, "SELECT 3")
        await third.until_told("finished")
        assert third.told[third.ids[0]]["inline"] == {}, "for 8 bytes are held"
        await worker.forget(first.ids)
        fourth = Asked(worker, "SELECT 4")
        await fourth.until_told("finished")
        assert fourth.told[fourth.ids[0]]["inline"] == {"result": b"rows"}

    asyncio.run(scenario())


def test_what_a_statement_holds_up_is_given_back_and_may_come_again(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_worker, "HOLDS_UP_S", 0.01)

    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        asked = Asked(worker, ENDLESS, "SELECT 2")
        await asked.until_told("started", "returned")
        assert [request["sql"] for request in await worker.runs()] == [ENDLESS]
        connections.may_end.set()
        again = Asked(worker, "SELECT 2")
        again.requests[0]["run_id"] = again.ids[0] = asked.ids[1]
        again.seen, again.told = {asked.ids[1]: nothing_seen()}, {asked.ids[1]: {}}
        await again.until_told("finished")
        assert connections.executed == [ENDLESS, "SELECT 2"], "it had not begun before"

    asyncio.run(scenario())


def test_a_statement_that_has_not_begun_is_stopped_at_once_and_never_begins(connections: Connections) -> None:
    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        asked = Asked(worker, ENDLESS, "SELECT 2")
        taken = asyncio.create_task(asked.until_told("started", "finished"))
        await until(connections.endless.is_set)
        await worker.stop(asked.ids[1], "cancelled", 600.0)
        await taken
        end = asked.told[asked.ids[1]]
        assert (end["finished"]["outcome"], end["spoiled"], "started" in end) == ("cancelled", False, False)
        connections.may_end.set()
        await asked.until_told("finished", "finished")
        assert connections.executed == [ENDLESS]

    asyncio.run(scenario())


def test_the_time_limit_of_a_statement_counts_from_its_beginning(connections: Connections) -> None:
    async def scenario() -> None:
        worker = SqlWorker("worker")
        await worker.warm()
        first, second = Asked(worker, ENDLESS), Asked(worker, "SELECT 2", max_runtime_s=0.05)
        await asyncio.gather(first.until_told("started"), worker.run(second.requests, second.seen, 0.2))
        connections.may_end.set()
        await second.until_told("finished")
        assert second.told[second.ids[0]]["finished"]["outcome"] == "succeeded"

    asyncio.run(scenario())
