"""What runs one worker of a command or training run on its node.

It fetches the inputs, starts the user's command on a leash (`leash.py`: a process of its own that ends the command when the time is
up or when this process is gone), keeps the log and tells the news to whoever asks. It outlives the agent that had it started.
A gang is started in steps, so that it starts whole or not at all: all its supervisors are `ready`, all `prepare`, all `go`.
What a backend's own kinds of run need beside that, its supervisor adds in the methods that say so.

Workers import this module by name: every member's nodes and images need the same version of the cpn package.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from cluster.runs.capped_log import DEFAULT_LIMIT_BYTES, CappedLog
from cluster.runs.leashed import Kennel, Leashed, read_report
from cluster.runs.limits import hint, limits_of, memory_words, tasks_words
from cluster.runs.outbox import Batch, Outbox, Seen
from cluster.runs.outcome import read_outcome
from cluster.runs.workspace import Workspace, describe, failure_category, list_outputs, read_chunk

PROGRESS_PERIOD_S = 0.2
LEASH_GRACE_S = 2.0
LAST_LINES = 10
_DRAIN_S = 2.0


class Supervisor:
    """One worker of one run. Every method may be called again: what is done already is not done twice."""

    log_limit_bytes = DEFAULT_LIMIT_BYTES

    def __init__(self, rank: int, kennel: Kennel | None = None) -> None:
        self._rank = rank
        self._kennel = kennel or Kennel()
        self._run: dict[str, Any] | None = None
        self._workspace: Workspace | None = None
        self._outbox = Outbox()
        self._preparation: asyncio.Task[None] | None = None
        self._execution: asyncio.Task[None] | None = None
        self._leashed: Leashed | None = None
        self._limits: dict[str, Any] | None = None
        self._stop: tuple[str, float] | None = None
        self._stopping = asyncio.Event()
        self._deadline = 0.0
        self._accepted_at = 0.0
        self._fetched: dict[str, Any] = {}
        self._port = 0
        self._filling: asyncio.Task[dict[str, Any]] | None = None
        self._broken = False

    async def ready(self) -> int:
        """The actor lives; a port that was free on this node, always the same, for the gang's rendezvous."""
        if not self._port:
            with socket.socket() as free:
                free.bind(("", 0))
                self._port = int(free.getsockname()[1])
        return self._port

    async def describe(self) -> dict[str, Any] | None:
        """The request of the run, as soon as it is known here."""
        return self._run

    async def prepare(self, run: dict[str, Any]) -> bool:
        """Make the working directory and fetch the inputs. False when the run is over already, for whatever reason."""
        if self._preparation is None:
            self._run = run
            self._accepted_at = time.time()
            self._deadline = time.monotonic() + run["max_runtime_s"]
            self._preparation = asyncio.create_task(self._prepare(run))
        await asyncio.shield(self._preparation)
        return self._outbox.finished is None

    async def begin(self, run: dict[str, Any]) -> None:
        """Prepare a worker that is alone, and start its command."""
        if await self.prepare(run):
            await self.go(None)

    async def update(self, membership: dict[str, Any]) -> None:
        """The gang has changed: write it where the process looks for it. `membership` are fields of the run's request."""
        if self._run is None or self._workspace is None or membership["generation"] < self._run["generation"]:
            return
        self._run = {**self._run, **membership}
        await asyncio.to_thread(self._workspace.write_gang, self._run)

    async def go(self, master: tuple[str, int] | None) -> None:
        """Start the command. `master`: where rank 0 of a gang listens."""
        if self._execution is None and self._outbox.finished is None:
            self._execution = asyncio.create_task(self._execute(master))

    async def next(self, seen: Seen, wait_s: float) -> Batch:
        """News, as soon as there is any (see outbox.py)."""
        return await self._outbox.next(seen, wait_s)

    async def stop(self, outcome: str, grace_s: float) -> None:
        """End the run: SIGTERM to the process group, grace, SIGKILL to all that is left."""
        self._stop = self._stop or (outcome, grace_s)
        self._stopping.set()
        if self._leashed is not None:
            self._leashed.stop(grace_s)
        elif self._execution is None:
            self._end(self._stop[0], self._stop[0], "stopped before the command was started")

    async def read_output(self, name: str, offset: int, length: int) -> bytes:
        """A part of a result file."""
        assert self._workspace is not None
        return read_chunk(self._workspace.output, name, offset, length)

    async def dispose(self) -> bool:
        """End what still runs and remove all files. False when something of the run is left in this process."""
        self._stop = self._stop or ("lost", 0.0)
        self._stopping.set()
        if self._leashed is not None:
            self._leashed.close()
        steps = [step for step in (self._preparation, self._execution) if step is not None]
        if steps:
            await asyncio.wait(steps, timeout=LEASH_GRACE_S + _DRAIN_S)
        if self._workspace is not None:
            await asyncio.to_thread(self._workspace.remove)
        await self._dispose_beside()
        over = all(step.done() for step in steps)
        if over and self._outbox.log is not None:
            self._outbox.log.close()
            self._outbox.log = None
        # A thread that still copies inputs cannot be ended, but with its process.
        return over and not self._broken and (self._filling is None or self._filling.done())

    async def _prepare(self, run: dict[str, Any]) -> None:
        try:
            # A rank that comes back after it was ended is another worker.
            again = f".{run['generation']}" if run["generation"] else ""
            self._workspace = Workspace.create(f"{run['run_id']}-{self._rank}{again}")
            self._outbox.log = CappedLog(self._workspace.log, self.log_limit_bytes)
            filling = self._filling = asyncio.create_task(asyncio.to_thread(self._workspace.fill, run))
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([filling, stopping], timeout=run["max_runtime_s"], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if filling.done():
                self._fetched = filling.result()
            elif self._stop is None:
                self._end("failed", "max_runtime", f"the inputs took longer than max_runtime ({run['max_runtime_s']:g} s)")
        except Exception as error:  # whatever breaks here, the run must end
            self._end("failed", failure_category(error), describe(error))

    async def _execute(self, master: tuple[str, int] | None) -> None:
        """The command's life, from its start to its end."""
        try:
            await self._supervise(master)
        except Exception as error:  # whatever breaks here, the run must end
            self._broken = True
            self._end("failed", "infrastructure", f"the supervisor failed: {describe(error)}")

    async def _supervise(self, master: tuple[str, int] | None) -> None:
        assert self._workspace is not None
        assert self._run is not None
        command = self._command()
        env = self._workspace.environment(self._run, self._rank, master) | self._more_environment()
        self._limits = limits_of(self._run, self._workspace.work)
        self._leashed, log_read = self._kennel.take()
        self._leashed.run(
            command,
            env=env,
            cwd=self._workspace.work,
            max_runtime_s=max(0.0, self._deadline - time.monotonic()),
            orphan_grace_s=LEASH_GRACE_S,
            remove=self._workspace.root,
            no_new_privs=True,
            limits=self._limits,
        )
        if self._stop is not None:
            self._leashed.stop(self._stop[1])
        log = asyncio.create_task(_pump(log_read, self._take_log))
        progress = asyncio.create_task(self._follow_progress())
        watch = asyncio.create_task(self._watch_beside(self._leashed.stop))
        reports = _LineReader(self._take_report)
        await _pump(self._leashed.status, reports.feed)
        await asyncio.to_thread(self._leashed.process.wait)
        self._leashed.close()
        watch.cancel()
        await asyncio.wait([watch])
        if not watch.cancelled():
            watch.result()
        await asyncio.wait([log], timeout=_DRAIN_S)
        log.cancel()
        progress.cancel()
        await asyncio.wait([log, progress])
        os.close(log_read)
        assert self._outbox.log is not None
        self._read_progress(last=True)
        self._outbox.log.write(b"", final=True)
        await self._conclude(reports.last)

    def _command(self) -> list[str]:
        """The argument list of the process; for a backend to say where the job's own command is not it."""
        assert self._workspace is not None
        assert self._run is not None
        return self._workspace.command(self._run)

    def _more_environment(self) -> dict[str, str]:
        """Variables of the process beside those of every run; for a backend to add."""
        return {}

    async def _watch_beside(self, stop: Callable[[float], None]) -> None:
        """What a backend watches while the process runs; `stop` ends it after a grace in seconds."""

    def _new_parts(self) -> list[dict[str, Any]]:
        """Files of the result that have become whole since the last call; for a backend to tell."""
        return []

    def _end_specially(self, report: dict[str, Any], used: dict[str, Any]) -> bool:  # noqa: ARG002
        """End a run whose exit code alone does not say how it ended, and say True; for a backend to do."""
        return False

    async def _dispose_beside(self) -> None:
        """Remove what a backend left on the node beside the workspace."""

    def _take_log(self, data: bytes) -> None:
        assert self._outbox.log is not None
        self._outbox.log.write(data)
        self._read_progress()
        self._outbox.notify()

    def _take_report(self, report: dict[str, Any]) -> None:
        if "started" in report:
            self._outbox.start(report["at"])

    async def _follow_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_PERIOD_S)
            self._read_progress()

    def _read_progress(self, *, last: bool = False) -> None:
        assert self._workspace is not None
        assert self._outbox.log is not None
        records, warnings = self._workspace.new_progress(last=last)
        parts = self._new_parts()
        for warning in warnings:
            self._outbox.log.write(f"[cpn] {warning}\n".encode())
        if records or warnings or parts:
            self._outbox.progress += records
            self._outbox.parts += parts
            self._outbox.notify()

    async def _conclude(self, report: dict[str, Any]) -> None:
        """The end of the run from the leash's last report."""
        assert self._run is not None
        used: dict[str, Any] = {key: report[key] for key in ("wall_s", "cpu_s", "peak_memory_bytes") if key in report}
        if "refused" in report:
            message = f"cannot start {self._run['command'][0]!r}: {report['message']}"
            self._end("failed", "exit", message, exit_code=127, usage=used)
        elif "exit" not in report:
            self._kill_group(report)
            self._end("failed", "infrastructure", "the process that watches the command was killed")
        elif report["reason"] == "stopped" and self._stop is not None:
            self._end(self._stop[0], self._stop[0], f"stopped: {self._stop[0]}", exit_code=report["exit"], usage=used)
        elif report["reason"] == "max_runtime":
            message = f"ended after max_runtime ({self._run['max_runtime_s']:g} s)"
            self._end("failed", "max_runtime", message, exit_code=report["exit"], usage=used)
        elif report["reason"] == "memory":
            self._end("failed", "out_of_memory", memory_words(report["took"], self._run), exit_code=report["exit"], usage=used)
        elif report["reason"] == "tasks":
            self._end("failed", "beyond_grant", tasks_words(report["took"], self._run), exit_code=report["exit"], usage=used)
        elif self._end_specially(report, used):
            return
        elif report["exit"] != 0:
            self._end("failed", "exit", self._exit_message(report["exit"]), exit_code=report["exit"], usage=used)
        else:
            await self._succeed(used)

    async def _succeed(self, used: dict[str, Any]) -> None:
        assert self._workspace is not None
        files = await asyncio.to_thread(list_outputs, self._workspace.output) if self._rank == 0 else []
        self._end("succeeded", None, "", exit_code=0, usage=used, files=files)

    def _end_of_driver(self, code: int, used: dict[str, Any]) -> None:
        """The end of a driver of ours, by what its process wrote down; one that wrote nothing was ended by something else."""
        assert self._workspace is not None
        end = read_outcome(self._workspace.root)
        if end is None:
            self._end("failed", "infrastructure", f"the process that drives the run broke off: {self._exit_message(code)}", usage=used)
        else:
            files = list_outputs(self._workspace.output) if end["outcome"] == "succeeded" else []
            # What the workers used, beside what their driver did.
            for name, amount in end.get("usage", {}).items():
                used[name] = used.get(name, 0) + amount
            self._end(end["outcome"], end["category"], end["message"], usage=used, files=files, preview=end.get("preview"))

    def _exit_message(self, code: int) -> str:
        assert self._outbox.log is not None
        lines = self._outbox.log.last_lines(LAST_LINES)
        what = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        what += hint(lines, self._limits)
        return f"{what}; last log lines: " + "\n".join(lines) if lines else f"{what}; the log is empty"

    def _kill_group(self, report: dict[str, Any]) -> None:
        if "started" in report:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(report["started"], signal.SIGKILL)

    def _end(
        self,
        outcome: str,
        category: str | None,
        message: str,
        *,
        exit_code: int | None = None,
        usage: dict[str, Any] | None = None,
        files: list[dict[str, Any]] | None = None,
        preview: dict[str, Any] | None = None,
    ) -> None:
        now = time.time()
        self._outbox.finish(
            {
                "outcome": outcome,
                "category": category,
                "message": message,
                "exit_code": exit_code,
                "at": now,
                "files": files or [],
                "preview": preview,
                "usage": {"wall_s": max(0.0, now - self._accepted_at), **(usage or {}), **self._fetched},
            }
        )


class _LineReader:
    """Splits a leash's reports into lines; `last` is the latest one."""

    def __init__(self, take: Any) -> None:
        self._take = take
        self._rest = b""
        self.last: dict[str, Any] = {}

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.last = read_report(line)
            self._take(self.last)


async def _pump(descriptor: int, take: Any) -> None:
    """Hand every piece that arrives on a pipe to `take`, until its end. Closes nothing that it did not read to the end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        try:
            data = os.read(descriptor, 65536)
            if data:
                take(data)
                return
        except BlockingIOError:
            return
        except Exception as error:  # a failing reader must not leave the loop spinning on a readable pipe
            if not ended.done():
                ended.set_exception(error)
        loop.remove_reader(descriptor)
        if not ended.done():
            ended.set_result(None)

    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, on_readable)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
