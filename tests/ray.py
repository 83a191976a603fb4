"""Real Ray for tests: small heads of our own, and agents' processes that drive them.

The test's own process never connects to Ray. Each `RayAgent` is a child (tests/ray_agent.py) with the production
backend in it, so a test can have several, kill one, and outlive whatever Ray does to a process whose head is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from pydantic import TypeAdapter

import cluster.errors
from cluster.backends.ray.local import LocalRay
from cluster.model import Inventory
from cluster.protocol import AdoptedRun, GangSize, RunEvent, RunFinished, RunLog, RunProgress, RunRequest, RunStarted
from tests.network import until

ROOT = Path(__file__).parents[1]
GIB, MIB = 1024**3, 1024**2
CPUS = 8
GPUS = 2  # Ray is told so; nothing of the tests touches a device.
WAIT_S = 90.0  # for what takes a second or two where nothing else is running
EVENT: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)
ADOPTED: TypeAdapter[tuple[AdoptedRun, ...]] = TypeAdapter(tuple[AdoptedRun, ...])
StopOutcome = Literal["cancelled", "preempted", "lost"]
T = TypeVar("T")


class SmallRay(LocalRay):
    """A real Ray head with room for a few gangs, and a memory of where its processes worked."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory, cpus=CPUS, memory_bytes=16 * GIB, gpus=GPUS, accelerator_model="H200", labels={"tier": "test"})
        self.work_directories: list[str] = []

    def start(self) -> None:
        super().start()
        until(lambda: "CPN_WORK_DIR" in environment_of(self.pid), "the head's process has its environment")
        self.work_directories.append(environment_of(self.pid)["CPN_WORK_DIR"])

    @property
    def runs(self) -> Path:
        """Where the runs of the head that lives now have their directories."""
        return Path(self.work_directories[-1], "runs")

    def sql_worker(self, run_id: str) -> Path:
        """The directory of the worker that a statement was given to."""
        until(lambda: list(self.runs.glob(f"cpn-sql-*/{run_id}")), "a worker takes the statement", WAIT_S)
        (folder,) = self.runs.glob(f"cpn-sql-*/{run_id}")
        return folder.parent

    def sql_process(self, run_id: str) -> int:
        """The process of that worker."""
        return holder_of(self.sql_worker(run_id) / "lock")

    def processes(self) -> dict[int, str]:
        """All that lives of it, whatever was started on it: each process of it has that directory in its environment."""
        return {pid: command for folder in self.work_directories for pid, command in processes_of(folder).items()}


@contextmanager
def running(head: SmallRay) -> Iterator[SmallRay]:
    """A head, started, that answers; at the end nothing of it may be left, whatever ran on it."""
    try:
        head.start()
        head.wait_ready(WAIT_S)
        assert head.processes(), "the head's processes are found by their environment"
        yield head
    finally:
        head.stop(grace_s=1.0)  # Ray's node waits until it is killed, for a store that has ended before it
    assert not head.processes(), "the head left processes behind"


def environment_of(pid: int) -> dict[str, str]:
    """A process's environment as it was started. Raises ProcessLookupError."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, PermissionError):
        raise ProcessLookupError(pid) from None
    return dict(entry.split("=", 1) for entry in data.decode(errors="replace").split("\0") if "=" in entry)


def processes_of(folder: str) -> dict[int, str]:
    """Living processes with a folder in their environment or command line: id → command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if folder.encode() in command + (entry / "environ").read_bytes():
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    """The parent of a living process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_s(pid: int) -> float:
    """Processor time that a living process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def holder_of(path: Path) -> int:
    """The process that has a file open."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if entry.readlink() == path:
                return int(entry.parts[2])
    raise AssertionError(f"no process has {path} open")


class AgentGoneError(Exception):
    """The agent's process has ended."""


def patiently(call: Callable[[], T]) -> T:
    """The answer of a call that may find its cluster unreachable for a while."""
    answers: list[T] = []

    def answered() -> bool:
        with contextlib.suppress(cluster.errors.UnreachableError):
            answers.append(call())
        return bool(answers)

    until(answered, f"an answer to {call}", WAIT_S)
    return answers[0]


class RayAgent:
    """A child process that drives one Ray cluster. `connect` opens a backend in it; one may be open at a time."""

    def __init__(self, log_file: Path) -> None:
        ours, theirs = socket.socketpair()
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CPN_"))}
        with log_file.open("ab") as log, theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.ray_agent", str(theirs.fileno())],
                cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self._line = ours
        self._numbers = itertools.count(1)
        self._answers: dict[int, Future[Any]] = {}
        self._connections: dict[int, Connection] = {}
        self._lock = threading.Lock()
        self._gone = False
        self._reader = threading.Thread(target=self._read, name="ray-agent", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def connection(self, head: LocalRay, directory: Path, **changes: Any) -> Connection:
        """A backend for a head with its journals in a directory, not open yet; `changes` are arguments of RayBackend."""
        number = next(self._numbers)
        arguments = {
            "cluster": head.name, "address": head.address, "token_file": str(head.token_file), "directory": str(directory),
            "call_limit_s": WAIT_S / 2, "start_limit_s": WAIT_S / 2,
        }  # fmt: skip
        found = self._connections[number] = Connection(self, number)
        self.call(number, "make", **{**arguments, **changes})
        return found

    def connect(self, head: LocalRay, directory: Path, **changes: Any) -> Connection:
        """An open backend that has adopted what it found, tried again like an agent does while the head is too busy to answer."""
        found = self.connection(head, directory, **changes)
        patiently(found.open)
        found.adopted = patiently(found.adopt)
        return found

    def call(self, backend: int, method: str, **arguments: Any) -> Any:
        """One call on a backend. Raises what it raised, as far as cluster.errors knows it."""
        answer: Future[Any] = Future()
        with self._lock:
            if self._gone:
                raise AgentGoneError
            identity = next(self._numbers)
            self._answers[identity] = answer
            request = {"id": identity, "backend": backend, "method": method, "arguments": arguments}
            with contextlib.suppress(BrokenPipeError):
                self._line.sendall(json.dumps(request).encode() + b"\n")
        return answer.result(WAIT_S)

    def kill(self) -> None:
        """SIGKILL, and wait until nothing is left of the process."""
        self.process.kill()
        self._finish()

    def end(self) -> None:
        """Hang up, upon which the process ends by itself."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        self._finish()

    def _finish(self) -> None:
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            self._line.close()

    def _read(self) -> None:
        with self._line.makefile("rb") as lines, contextlib.suppress(ConnectionResetError):
            for line in lines:
                self._take(json.loads(line))
        with self._lock:
            self._gone = True
            unanswered = [answer for answer in self._answers.values() if not answer.done()]
        for answer in unanswered:
            answer.set_exception(AgentGoneError())
        for connection in self._connections.values():
            connection.take(None)

    def _take(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            event = message["event"]
            self._connections[message["backend"]].take(None if event is None else EVENT.validate_python(event))
        elif "error" in message:
            kind = getattr(cluster.errors, message["error"], RuntimeError)
            self._answers[message["id"]].set_exception(kind(message["message"]))
        else:
            self._answers[message["id"]].set_result(message["result"])


class Connection:
    """A backend in an agent's process: its calls, made from here and waited for, and all events that it has told."""

    def __init__(self, agent: RayAgent, number: int) -> None:
        self._agent, self._number = agent, number
        self._arrived = threading.Condition()
        self._told: list[RunEvent] = []
        self.over = False
        self.adopted: tuple[AdoptedRun, ...] = ()
        self.unforgotten: set[str] = set()

    def open(self) -> None:
        self._agent.call(self._number, "open")

    def adopt(self) -> tuple[AdoptedRun, ...]:
        return ADOPTED.validate_python(self._agent.call(self._number, "adopt"))

    def inventory(self) -> Inventory:
        return Inventory.model_validate_json(json.dumps(self._agent.call(self._number, "inventory")))

    def taken(self) -> tuple[float, int]:
        """What Ray itself counts as taken now: cores, and placement groups."""
        cores, groups = self._agent.call(self._number, "taken")
        return float(cores), int(groups)

    def free_strays(self) -> None:
        """Give back what supervisors that are no more held in Ray."""
        self._agent.call(self._number, "free_strays")

    def left(self, run_id: str) -> list[str]:
        """What Ray has of the programs of a run of kind ray: `actor` or `placement-group` for each."""
        return list(self._agent.call(self._number, "left", run_id=run_id))

    def node(self) -> str:
        """The name of the head's one node."""
        (node,) = patiently(self.inventory).nodes
        return node.name

    def start(self, run: RunRequest) -> None:
        self._agent.call(self._number, "start", run=run.model_dump(mode="json"))
        self.unforgotten.add(run.run_id)

    def stop(self, run_id: str, outcome: StopOutcome = "cancelled", grace_s: float = 2.0) -> None:
        self._agent.call(self._number, "stop", run_id=run_id, outcome=outcome, grace_s=grace_s)

    def resize(self, run_id: str, size: GangSize, grace_s: float = 2.0) -> None:
        self._agent.call(self._number, "resize", run_id=run_id, size=size.model_dump(mode="json"), grace_s=grace_s)

    def forget(self, run_id: str) -> None:
        self._agent.call(self._number, "forget", run_id=run_id)
        self.unforgotten.discard(run_id)

    def refuse_copies(self, versions: tuple[str, ...]) -> None:
        self._agent.call(self._number, "refuse_copies", versions=versions)

    def scale(self, wanted: dict[str, int]) -> None:
        self._agent.call(self._number, "scale", wanted=[{"node_type": name, "count": count} for name, count in wanted.items()])

    def report_types(self, groups: dict[str, Any]) -> None:
        """Put types of nodes into the state of the cluster's autoscaler."""
        self._agent.call(self._number, "report_types", groups=groups)

    def close(self) -> None:
        self._agent.call(self._number, "close")

    def take(self, event: RunEvent | None) -> None:
        """An event came in; None: the last one has."""
        with self._arrived:
            if event is None:
                self.over = True
            else:
                self._told.append(event)
            self._arrived.notify_all()

    def next_event(self, position: int) -> RunEvent | None:
        """The event at a place in the stream, as soon as it has come; None when the stream ended before it."""
        with self._arrived:
            self._arrived.wait_for(lambda: self.over or len(self._told) > position)
            return self._told[position] if len(self._told) > position else None

    def events(self, run_id: str) -> list[RunEvent]:
        """All that was told of a run so far."""
        with self._arrived:
            return [event for event in self._told if event.run_id == run_id]

    def first(self, run_id: str, kind: type[T], seconds: float = WAIT_S) -> T:
        """The first event of a kind of a run, as soon as it has come."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: [e for e in self._told if e.run_id == run_id and isinstance(e, kind)], seconds)
            assert found, f"no {kind.__name__} of {run_id} within {seconds} s; its events: {[e for e in self._told if e.run_id == run_id]}"
        return found[0]

    def end_of(self, run_id: str, seconds: float = WAIT_S) -> RunFinished:
        return self.first(run_id, RunFinished, seconds)

    def started(self, run_id: str) -> RunStarted:
        return self.first(run_id, RunStarted)

    def run(self, run: RunRequest, seconds: float = WAIT_S) -> RunFinished:
        """Start a run and wait for its end."""
        self.start(run)
        return self.end_of(run.run_id, seconds)

    def log(self, run_id: str) -> str:
        """The run's log so far; fails when a piece is missing or comes again with another text."""
        text = bytearray()
        for event in self.events(run_id):
            if isinstance(event, RunLog):
                assert event.offset == len(text), "a piece of the log is missing or came twice"
                text += event.text.encode()
        return text.decode()

    def metrics(self, run_id: str) -> list[tuple[int, dict[str, float]]]:
        """(step, metrics) of a run's progress so far."""
        return [(event.step, event.metrics) for event in self.events(run_id) if isinstance(event, RunProgress)]
