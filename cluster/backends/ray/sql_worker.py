"""The actor that runs SQL: warm, one statement at a time, each on a fresh connection (see workloads.runners.warm_duckdb).

It is a detached, named actor that keeps what it ran until told to forget, so a new agent finds its runs, running or
ended. Small statements come several in one call, and are told of several at a time; where one turns out not to be small, those behind
it are given back before they began. Statements run in a thread of their own while the actor's loop answers; a stop or the time
limit interrupts the connection. A thread that does not react within the grace period cannot be ended by itself: the run is reported
as over and this worker as spoiled, and the pool replaces the whole process.

Ray's workers import this module by name: every member's nodes need the same version of the cpn package installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.backends.ray.claimed import claimed_root
from cluster.protocol import SMALL_BYTES
from cluster.runs.node_copies import NodeAhead, folder_state, remove_copies
from cluster.runs.outbox import START_RESTS_S, Batch, Outbox, Seen
from cluster.runs.workspace import (
    Interrupter,
    StatementRun,
    describe,
    failure_category,
    read_chunk,
)

if TYPE_CHECKING:
    from workloads.runners.warm_duckdb import Engines

INLINE_BYTES = 256 * 1024
MOST_KEPT_BYTES = 16 * 1024**2  # Of results in memory, until their runs are forgotten.
HOLDS_UP_S = 0.1  # A statement that takes longer is not small, and others do not wait for it here.
INTERRUPT_GRACE_S = 2.0
INTERRUPT_PERIOD_S = 0.05
RENEW_AFTER_S = 0.05
MOST_USED = 8
OVER = ("finished", "returned", "unknown")  # What news of a run are its last.


class _Run:
    """One statement's life here."""

    def __init__(self, request: dict[str, Any], root: Path) -> None:
        self.request = request
        self.root = root
        self.outbox = Outbox()
        self.interrupter = Interrupter()
        self.accepted_at = time.time()
        self.begun_at: float | None = None
        self.ended_by: tuple[str, str, str] | None = None
        self.limit: asyncio.TimerHandle | None = None
        self.content: bytes | None = None
        self.returned = False
        self._lock, self._taken = threading.Lock(), False

    def take(self) -> bool:
        """Decide whether the work begins: True for the first who asks, the thread that begins it or the loop that sees that it does not."""
        with self._lock:
            taken, self._taken = self._taken, True
            return not taken


class SqlWorker:
    """A warm process for statements. Every method may be called again without harm."""

    def __init__(self, name: str) -> None:
        self._root = claimed_root(name)
        self._runs: dict[str, _Run] = {}
        self._current: _Run | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="statement")
        self._spoiled = False
        self._engines: Engines | None = None
        self._ahead = NodeAhead()
        self._renewal: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._kept_bytes = 0

    async def warm(self) -> None:
        """Run a statement once, so that everything is loaded."""
        self._engines = await asyncio.get_running_loop().run_in_executor(self._thread, StatementRun.warm_up, self._root)

    async def run(self, requests: Sequence[dict[str, Any]], seen: Mapping[str, Seen], wait_s: float) -> dict[str, Batch]:
        """Take runs, and tell their first news as `next` does: one call, because two could overtake each other."""
        new = [self._accept(request) for request in requests if request["run_id"] not in self._runs]
        if new:
            asyncio.get_running_loop().call_later(START_RESTS_S, self._notify)
            self._look_for_delay(new[1:])
        return await self.next(seen, wait_s)

    async def next(self, seen: Mapping[str, Seen], wait_s: float) -> dict[str, Batch]:
        """News of runs by run (see outbox.py), when all are over or START_RESTS_S after the first; empty after `wait_s`.

        Small files come with an end, under `inline`. A run that will not begin here is `returned`, and not known any more.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        found: dict[str, Batch] = {}
        while True:
            news, had = self._news, bool(found)
            found = {run_id: batch for run_id in seen if (batch := self._batch_of(run_id, seen[run_id]))}
            if found and not had:
                # A small run is over in a moment; the news of its start and of its end are one message then, and so are several ends.
                deadline = min(deadline, clock() + START_RESTS_S)
            if sum(not batch.keys().isdisjoint(OVER) for batch in found.values()) == len(seen) or not await _set_by(news, deadline):
                return self._told(found)

    def _batch_of(self, run_id: str, seen: Seen) -> Batch:
        run = self._runs.get(run_id)
        if run is None:
            return {"unknown": True}
        return {"returned": True} if run.returned else run.outbox.batch(seen)

    def _told(self, found: dict[str, Batch]) -> dict[str, Batch]:
        """The same with what comes with ends; what was given back is not known here any more."""
        for run_id, batch in found.items():
            if "returned" in batch:
                del self._runs[run_id]
            elif "finished" in batch:
                run = self._runs[run_id]
                small = [file["name"] for file in batch["finished"]["files"] if file["size_bytes"] <= INLINE_BYTES]
                batch["inline"] = {name: self._read(run, name, 0, INLINE_BYTES) for name in small}
                batch["spoiled"] = self._spoiled
        return found

    def _read(self, run: _Run, name: str, offset: int, length: int) -> bytes:
        if run.content is not None:
            return run.content[offset : offset + length]
        return read_chunk(run.root / "output", name, offset, length)

    def _accept(self, request: dict[str, Any]) -> _Run:
        self._put_off_renewal()
        run_id = request["run_id"]
        run = self._runs[run_id] = _Run(request, self._root / run_id)
        loop = asyncio.get_running_loop()
        run.limit = loop.call_later(request["max_runtime_s"], self._limit, run)
        loop.run_in_executor(self._thread, self._work, loop, run)
        return run

    def _notify(self) -> None:
        """Wake who waits for news."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _look_for_delay(self, waiting: Sequence[_Run]) -> None:
        """Give back the runs behind a statement that is not small."""
        loop, current = asyncio.get_running_loop(), self._current
        waiting = [run for run in waiting if run.begun_at is None and run.outbox.finished is None]
        if not waiting:
            return
        if current is not None and current.begun_at is not None and time.monotonic() - current.begun_at >= HOLDS_UP_S:
            for run in waiting:
                if run.take():
                    run.returned = True
                    self._drop_limit(run)
            self._notify()
        else:
            loop.call_later(HOLDS_UP_S, self._look_for_delay, waiting)

    def _limit(self, run: _Run) -> None:
        """The time of a run is over, unless it has not begun or later than it came."""
        limit_s = run.request["max_runtime_s"]
        left_s = limit_s - (time.monotonic() - run.begun_at if run.begun_at is not None else 0.0)
        if left_s > 0:
            run.limit = asyncio.get_running_loop().call_later(left_s, self._limit, run)
        else:
            self._interrupt(run, ("failed", "max_runtime", f"ended after max_runtime ({limit_s:g} s)"), INTERRUPT_GRACE_S)

    @staticmethod
    def _drop_limit(run: _Run) -> None:
        if run.limit is not None:
            run.limit.cancel()

    async def stop(self, run_id: str, outcome: str, grace_s: float) -> None:
        """Interrupt a run."""
        run = self._runs.get(run_id)
        if run is not None:
            self._interrupt(run, (outcome, outcome, f"stopped: {outcome}"), grace_s)

    async def runs(self) -> list[dict[str, Any]]:
        """The requests of all runs that are not forgotten."""
        return [run.request for run in self._runs.values() if not run.returned]

    async def copies(self, limits: dict[str, Any], unwanted: list[str]) -> dict[str, Any]:
        """Remove versions that may not lie here any more; what this node's folder of copies holds then (workspace.py)."""
        if unwanted:
            await asyncio.to_thread(remove_copies, limits, unwanted)
        return await asyncio.to_thread(folder_state, limits)

    async def bring_ahead(self, limits: dict[str, Any], files: list[dict[str, Any]], for_s: float) -> None:
        """Bring these to the node ahead of the runs that will read them, and nothing else; for so many seconds, unless it is said again."""
        await asyncio.to_thread(self._ahead.want, limits, files, for_s)

    async def read_output(self, run_id: str, name: str, offset: int, length: int) -> bytes:
        """A part of a result file."""
        return self._read(self._runs[run_id], name, offset, length)

    async def forget(self, run_ids: Sequence[str]) -> None:
        """Drop runs that are over, with their files. A run that goes on stays."""
        for run_id in run_ids:
            run = self._runs.get(run_id)
            if run is None or run.outbox.finished is None:
                continue
            del self._runs[run_id]
            self._kept_bytes -= len(run.content or b"")
            try:
                os.rmdir(run.root)
            except OSError:
                # It is not empty, or not there.
                await asyncio.to_thread(shutil.rmtree, run.root, ignore_errors=True)

    def _interrupt(self, run: _Run, end: tuple[str, str, str], grace_s: float) -> None:
        if run.outbox.finished is not None or run.ended_by is not None:
            return
        run.ended_by = end
        if run.take():
            self._end(run, {})
        else:
            self._insist(run, asyncio.get_running_loop().time() + grace_s)

    def _insist(self, run: _Run, deadline: float) -> None:
        """Interrupt again and again; at the deadline give the thread up, and this process with it."""
        loop = asyncio.get_running_loop()
        if run.outbox.finished is not None:
            return
        if loop.time() >= deadline:
            self._spoiled = True
            self._end(run, {})
            return
        run.interrupter.interrupt()
        loop.call_later(min(INTERRUPT_PERIOD_S, max(0.0, deadline - loop.time())), self._insist, run, deadline)

    def _work(self, loop: asyncio.AbstractEventLoop, run: _Run) -> None:
        """In the thread: the inputs, the statement, and its end back on the loop."""
        if not run.take():
            return
        self._current, run.begun_at = run, time.monotonic()
        statement, fetched = StatementRun(run.request, run.root), dict[str, Any]()
        try:
            fetched = statement.fetch()
            run.interrupter.check()
            run.outbox.started_at = time.time()
            if time.monotonic() - run.begun_at > START_RESTS_S:
                # Of what begins at once the news is looked for after this time anyhow.
                loop.call_soon_threadsafe(self._notify)
            began = time.perf_counter(), time.process_time()
            _forget_peak_memory()
            end = statement.execute(run.interrupter, self._engines, SMALL_BYTES if self._kept_bytes < MOST_KEPT_BYTES else 0)
            end["usage"] = {
                "wall_s": time.perf_counter() - began[0],
                "cpu_s": time.process_time() - began[1],
                "peak_memory_bytes": _peak_memory_bytes(),
            }
        except Exception as error:  # whatever breaks here, the run must end
            end = {"outcome": "failed", "category": failure_category(error), "message": describe(error)}
        finally:
            statement.close()
        run.content, self._current = statement.content, None
        end["usage"] = {**end.get("usage", {}), **fetched}
        loop.call_soon_threadsafe(self._end, run, end)
        if self._engines is not None and self._engines.used >= MOST_USED:
            self._engines.renew()

    def _put_off_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def _renew_soon(self) -> None:
        """Make the next DuckDB in a while. DuckDB keeps the interpreter to itself meanwhile, so the run's end is told first."""
        self._put_off_renewal()
        loop = asyncio.get_running_loop()
        if self._engines is not None and self._engines.due:
            self._renewal = loop.call_later(RENEW_AFTER_S, loop.run_in_executor, self._thread, self._engines.renew)

    def _end(self, run: _Run, end: dict[str, Any]) -> None:
        self._renew_soon()
        self._drop_limit(run)
        if run.ended_by is not None:
            outcome, category, message = run.ended_by
            end = {"outcome": outcome, "category": category, "message": message, "usage": end.get("usage", {})}
        usage = {"wall_s": max(0.0, time.time() - run.accepted_at), **end.get("usage", {})}
        if run.outbox.finish({"exit_code": None, "at": time.time(), "files": [], **end, "usage": usage}):
            self._kept_bytes += len(run.content or b"")
        self._notify()
        # What began meanwhile is told when it goes on.
        asyncio.get_running_loop().call_later(START_RESTS_S, self._notify)


async def _set_by(event: asyncio.Event, deadline: float) -> bool:
    """Wait for an event; False when the time is over."""
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _forget_peak_memory() -> None:
    """Begin a new measurement of this process's peak memory (proc(5): clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_bytes() -> int:
    """The most memory that this process had resident since the measurement began, its own base included; 0 when unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
