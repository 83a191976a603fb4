"""Statements in line for a warm worker: who is sent together, who waits, and when another worker is made. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray.pool import WarmPool
from cluster.backends.ray.sql_attempt import SqlAttempt
from cluster.backends.ray.sql_line import MOST_TOGETHER, PATIENCE_S, SqlLine
from cluster.errors import ClusterError, WorkerGoneError
from cluster.protocol import RunEvent, RunFinished, RunRequest
from cluster.runs.journal import Journals
from cluster.runs.outbox import Batch
from tests.ray_runs import statement
from tests.unit.cluster.ray.actors import NODE, NearSession, Spawner
from tests.virtual_time import virtual

LONG, DEADLY, BROKEN, MINUTE = "SELECT long", "SELECT deadly", "SELECT broken", 60.0


class Worker:
    """An actor for statements. A LONG one takes a minute and what came with it is given back; a DEADLY one ends the worker."""

    def __init__(self, name: str, place: Line) -> None:
        self.name, self._place = name, place
        self.calls: list[list[str]] = []
        self.forgotten: list[list[str]] = []
        self.stopped = asyncio.Event()
        self._long: set[str] = set()

    async def warm(self) -> None:
        await self._place.may_live.wait()

    async def run(self, requests: Sequence[dict[str, Any]], seen: Mapping[str, object], wait_s: float) -> dict[str, Batch]:
        self.calls.append([request["sql"] for request in requests])
        await asyncio.sleep(0.01)
        if DEADLY in self.calls[-1]:
            self._place.session.die(self.name)
            raise WorkerGoneError("it died")
        if BROKEN in self.calls[-1]:
            raise RuntimeError("the worker has a fault")
        slow = next((request["run_id"] for request in requests if request["sql"] == LONG), None)
        if slow is None:
            return {run_id: _end() for run_id in seen}
        self._long.add(slow)
        back: dict[str, Batch] = {run_id: {"returned": True} for run_id in seen if run_id != slow}
        return back or await self.next(seen, wait_s)

    async def next(self, seen: Mapping[str, object], _wait_s: float) -> dict[str, Batch]:
        stopped = asyncio.create_task(self.stopped.wait())
        await asyncio.wait([stopped], timeout=MINUTE)
        return {run_id: _end("cancelled" if stopped.done() else "succeeded") for run_id in seen}

    async def stop(self, run_id: str, _outcome: str, _grace_s: float) -> None:
        if run_id in self._long:
            self.stopped.set()

    async def forget(self, run_ids: list[str]) -> None:
        self.forgotten.append(list(run_ids))


def _end(outcome: str = "succeeded") -> Batch:
    return {"started": 1.0, "finished": {"outcome": outcome, "category": None, "message": "", "at": 2.0, "files": []}}


class Line(Spawner):
    """A node with workers that are warm, and its line."""

    def __init__(self, folder: Path, workers: int) -> None:
        super().__init__()
        self.session, self.journals, self.events = NearSession(), Journals(folder), dict[str, RunFinished]()
        self.may_live = asyncio.Event()
        self.may_live.set()
        self.pool = WarmPool(self.session, "cpn-sql-", self._make, 0, self.spawn)
        self.line = SqlLine(self.session, self.pool, self.spawn)
        for number in range(workers):
            self.pool.include(f"cpn-sql-{number}", NODE, self._make(f"cpn-sql-{number}", ""))

    def _make(self, name: str, _node: str) -> Worker:
        self.session.actors[name] = worker = Worker(name, self)
        self.workers = [*getattr(self, "workers", []), worker]
        return worker

    def _emit(self, event: RunEvent) -> None:
        if isinstance(event, RunFinished):
            self.events[event.run_id] = event

    def begin(self, *statements: str) -> list[SqlAttempt]:
        runs = [statement("node", sql) for sql in statements]
        return [self.attempt(run) for run in runs]

    def attempt(self, run: RunRequest) -> SqlAttempt:
        found = SqlAttempt(run, self.session, self.journals, self._emit, {"node": NODE}, self.pool, self.line)
        found.begin()
        return found

    async def ends(self, attempts: Sequence[SqlAttempt]) -> list[str]:
        for attempt in attempts:
            await attempt.wait()
            await attempt.detach()
        return [self.events[attempt.run.run_id].outcome for attempt in attempts]

    def calls(self) -> list[list[list[str]]]:
        return [worker.calls for worker in self.workers]


@virtual
async def test_who_waits_at_once_goes_in_one_call_and_as_many_as_may(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    attempts = place.begin(*(f"SELECT {number}" for number in range(MOST_TOGETHER + 3)))
    assert await place.ends(attempts) == ["succeeded"] * len(attempts)
    ((first, second),) = place.calls()
    assert (first, second) == ([f"SELECT {number}" for number in range(MOST_TOGETHER)], [f"SELECT {MOST_TOGETHER + n}" for n in range(3)])


@virtual
async def test_workers_that_are_free_share_what_waits(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=3)
    assert await place.ends(place.begin(*"abcdefg")) == ["succeeded"] * 7
    assert place.calls() == [[["a", "b", "c"]], [["d", "e"]], [["f", "g"]]]


@virtual
async def test_what_a_long_statement_holds_up_gets_workers_at_once(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    began = asyncio.get_running_loop().time()
    attempts = place.begin(LONG, "a", "b")
    assert await place.ends(attempts[1:]) == ["succeeded"] * 2
    assert asyncio.get_running_loop().time() - began < PATIENCE_S
    assert place.calls() == [[[LONG, "a", "b"]], [["a"]], [["b"]]]
    assert await place.ends(attempts[:1]) == ["succeeded"]


@virtual
async def test_a_worker_more_is_made_when_none_has_come_free_for_a_while(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    long = place.begin(LONG)
    await asyncio.sleep(1.0)
    began = asyncio.get_running_loop().time()
    later = place.begin("a")
    await asyncio.sleep(PATIENCE_S / 2)
    assert len(place.workers) == 1
    assert await place.ends(later) == ["succeeded"]
    assert PATIENCE_S <= asyncio.get_running_loop().time() - began < 3 * PATIENCE_S
    assert place.calls() == [[[LONG]], [["a"]]]
    assert await place.ends(long) == ["succeeded"]


@virtual
async def test_without_any_worker_one_is_made_and_who_waited_goes_together(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=0)
    assert await place.ends(place.begin("a", "b")) == ["succeeded"] * 2
    assert place.calls() == [[["a", "b"]]]


@virtual
async def test_without_a_process_for_a_worker_the_first_who_waits_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Line(tmp_path, workers=0)

    async def fails(_node: object) -> None:
        raise ClusterError("no process")

    monkeypatch.setattr(place.pool, "add", fails)
    attempts = place.begin("a", "b")
    assert await place.ends(attempts) == ["failed"] * 2
    end = place.events[attempts[0].run.run_id]
    assert (end.category, end.message) == ("start_failed", "no process")


@virtual
async def test_what_ends_its_worker_ends_no_other_statement_that_went_with_it(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    attempts = place.begin("a", DEADLY, "b")
    assert await place.ends(attempts) == ["succeeded", "lost", "succeeded"]
    assert place.calls()[0] == [["a", DEADLY, "b"]]
    alone = [call for calls in place.calls()[1:] for call in calls]
    assert sorted(alone) == [[DEADLY], ["a"], ["b"]], "each went alone"


@virtual
async def test_a_fault_of_the_worker_fails_the_runs_that_it_was_about(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    attempts = place.begin("a", BROKEN)
    assert await place.ends(attempts) == ["failed"] * 2
    assert {place.events[attempt.run.run_id].message for attempt in attempts} == {"RuntimeError: the worker has a fault"}
    assert await place.ends(place.begin("c")) == ["succeeded"], "the worker takes the next"


@virtual
async def test_a_stop_ends_the_wait_in_line_and_a_statement_that_was_given_back(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    long, other = place.begin(LONG, "a")
    place.may_live.clear()
    await asyncio.sleep(0.005)
    other.stop("cancelled", 5.0)
    assert await place.ends([other]) == ["cancelled"]
    (waits,) = place.begin("b")
    await asyncio.sleep(1.0)
    waits.stop("preempted", 5.0)
    assert await place.ends([waits]) == ["preempted"]
    assert {place.events[attempt.run.run_id].message for attempt in (other, waits)} == {
        f"stopped before it was started: {outcome}" for outcome in ("cancelled", "preempted")
    }
    long.stop("cancelled", 5.0)
    assert await place.ends([long]) == ["cancelled"]
    assert place.calls()[0] == [[LONG, "a"]]


@virtual
async def test_a_run_that_cannot_be_written_down_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Line(tmp_path, workers=1)
    first, second = place.begin("a", "b")

    def full(_whom: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(first._journal, "ask", full)
    assert await place.ends([first, second]) == ["failed", "succeeded"]
    assert place.events[first.run.run_id].category == "storage"
    assert place.calls() == [[["b"]]]


@virtual
async def test_runs_that_are_to_be_forgotten_are_forgotten_together(tmp_path: Path) -> None:
    place = Line(tmp_path, workers=1)
    attempts = place.begin("a", "b", "c")
    await place.ends(attempts)
    await asyncio.gather(*(attempt.discard() for attempt in attempts))
    await attempts[0].discard()
    assert place.workers[0].forgotten == [[attempt.run.run_id for attempt in attempts]]


@virtual
async def test_who_waits_for_a_node_that_is_gone_is_lost_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path, workers=0)
    line.may_live.clear()  # Ray is still trying to start a worker there.
    attempts = line.begin("SELECT 1", "SELECT 2")
    await asyncio.sleep(PATIENCE_S)
    line.line.know([NODE])
    await asyncio.sleep(PATIENCE_S)
    assert not line.events
    began = asyncio.get_running_loop().time()
    line.line.know([])
    assert await line.ends(attempts) == ["lost", "lost"]
    assert asyncio.get_running_loop().time() - began < 1.0
    assert {event.message for event in line.events.values()} == {"node node is not part of the cluster any more"}
