"""The actor that runs SQL: warm, one statement at a time, each on a fresh connection (see workloads.runners.warm_duckdb).

It is a detached, named actor that keeps what it ran until told to forget, so a new agent finds its runs, running or
ended. The statement runs in a thread of its own while the actor's loop answers; a stop or the time limit interrupts the
connection. A thread that does not react within the grace period cannot be ended by itself: the run is reported as over
and this worker as spoiled, and the pool replaces the whole process.

Ray's workers import this module by name: every member's nodes need the same version of the cpn package installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.backends.ray.claimed import claimed_root
from cluster.runs.node_copies import NodeAhead, folder_state, remove_copies
from cluster.runs.outbox import Batch, Outbox, Seen
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
INTERRUPT_GRACE_S = 2.0
INTERRUPT_PERIOD_S = 0.05
RENEW_AFTER_S = 0.05
MOST_USED = 8


class _Run:
    """One statement's life here."""

    def __init__(self, request: dict[str, Any], root: Path) -> None:
        self.request = request
        self.root = root
        self.outbox = Outbox()
        self.interrupter = Interrupter()
        self.accepted_at = time.time()
        self.ended_by: tuple[str, str, str] | None = None
        self.limit: asyncio.TimerHandle | None = None


class SqlWorker:
    """A warm process for statements. Every method may be called again without harm."""

    def __init__(self, name: str) -> None:
        self._root = claimed_root(name)
        self._runs: dict[str, _Run] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="statement")
        self._spoiled = False
        self._engines: Engines | None = None
        self._ahead = NodeAhead()
        self._renewal: asyncio.TimerHandle | None = None

    async def warm(self) -> None:
        """Run a statement once, so that everything is loaded."""
        self._engines = await asyncio.get_running_loop().run_in_executor(self._thread, StatementRun.warm_up, self._root)

    async def run(self, request: dict[str, Any], seen: Seen, wait_s: float) -> Batch:
        """Take a run, and tell its first news as `next` does: one call, because two could overtake each other."""
        if request["run_id"] not in self._runs:
            self._accept(request)
        return await self.next(request["run_id"], seen, wait_s)

    def _accept(self, request: dict[str, Any]) -> None:
        self._put_off_renewal()
        run_id = request["run_id"]
        run = self._runs[run_id] = _Run(request, self._root / run_id)
        loop = asyncio.get_running_loop()
        text = f"ended after max_runtime ({request['max_runtime_s']:g} s)"
        run.limit = loop.call_later(request["max_runtime_s"], self._interrupt, run, ("failed", "max_runtime", text), INTERRUPT_GRACE_S)
        loop.run_in_executor(self._thread, self._work, loop, run)

    async def next(self, run_id: str, seen: Seen, wait_s: float) -> Batch:
        """News of a run, as soon as there is any (see outbox.py). Small files come with the end, under `inline`."""
        run = self._runs.get(run_id)
        if run is None:
            return {"unknown": True}
        batch = await run.outbox.next(seen, wait_s)
        if "finished" in batch:
            batch["inline"] = {
                file["name"]: read_chunk(run.root / "output", file["name"], 0, INLINE_BYTES)
                for file in batch["finished"]["files"]
                if file["size_bytes"] <= INLINE_BYTES
            }
            batch["spoiled"] = self._spoiled
        return batch

    async def stop(self, run_id: str, outcome: str, grace_s: float) -> None:
        """Interrupt a run."""
        run = self._runs.get(run_id)
        if run is not None:
            self._interrupt(run, (outcome, outcome, f"stopped: {outcome}"), grace_s)

    async def runs(self) -> list[dict[str, Any]]:
        """The requests of all runs that are not forgotten."""
        return [run.request for run in self._runs.values()]

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
        return read_chunk(self._runs[run_id].root / "output", name, offset, length)

    async def forget(self, run_id: str) -> None:
        """Drop a run that is over, with its files. A run that goes on stays."""
        run = self._runs.get(run_id)
        if run is not None and run.outbox.finished is not None:
            del self._runs[run_id]
            await asyncio.to_thread(shutil.rmtree, run.root, ignore_errors=True)

    def _interrupt(self, run: _Run, end: tuple[str, str, str], grace_s: float) -> None:
        if run.outbox.finished is not None or run.ended_by is not None:
            return
        run.ended_by = end
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
        statement, fetched = StatementRun(run.request, run.root), dict[str, Any]()
        try:
            fetched = statement.fetch()
            run.interrupter.check()
            loop.call_soon_threadsafe(run.outbox.start, time.time())
            began = time.perf_counter(), time.process_time()
            _forget_peak_memory()
            end = statement.execute(run.interrupter, self._engines)
            end["usage"] = {
                "wall_s": time.perf_counter() - began[0],
                "cpu_s": time.process_time() - began[1],
                "peak_memory_bytes": _peak_memory_bytes(),
            }
        except Exception as error:  # whatever breaks here, the run must end
            end = {"outcome": "failed", "category": failure_category(error), "message": describe(error)}
        finally:
            statement.close()
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
        if run.limit is not None:
            run.limit.cancel()
        if run.ended_by is not None:
            outcome, category, message = run.ended_by
            end = {"outcome": outcome, "category": category, "message": message, "usage": end.get("usage", {})}
        usage = {"wall_s": max(0.0, time.time() - run.accepted_at), **end.get("usage", {})}
        run.outbox.finish({"exit_code": None, "at": time.time(), "files": [], **end, "usage": usage})


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
