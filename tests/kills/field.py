"""A network under fire: a server, one real Ray and its agent, processes all of them, and the cable between agent and server."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.backends.ray.gcs import cluster_id
from controlplane.client import Client
from controlplane.orphans import OrphanReport, find_orphans
from scheduler.lifecycle import FINAL
from tests.kills.agents import Agents
from tests.kills.cable import Cable
from tests.kills.effects import Ledger, Line
from tests.kills.second_node import LABEL, SecondNode
from tests.network import until
from tests.ray import WAIT_S, SmallRay, environment_of, holder_of, processes_of
from tests.ray_left import files_of
from tests.served import ServedNetwork

NAME = "sh"
PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.50 CNY"}
# What is stopped when the lease ends has its grace of five seconds before the server gives it up; a busy machine has some more.
TIMINGS = {"suspect_after_s": 8.0, "lease_s": 16.0, "lost_after_s": 26.0}
# A head and a server that start anew, on a machine with much else to do.
RECOVERS_WITHIN_S = 180.0


@dataclass(frozen=True)
class Target:
    """A job that is shot at."""

    id: str
    kind: str

    @property
    def workers(self) -> int:
        return 2 if self.kind == "gang" else 1


class Field:
    """The network, ready for the first kill. Use as a context manager.

    With a `second` node all jobs run there. `member` are further fields of the cluster's registration.
    """

    def __init__(self, folder: Path, head: SmallRay, second: SecondNode | None = None, **member: Any) -> None:
        self.head, self.second, self._member = head, second, member
        self.network = ServedNetwork(folder / "data", **TIMINGS)
        self.ledger = Ledger(folder / "ledger")
        self._folder = folder
        self._open = contextlib.ExitStack()
        self.jobs: list[Target] = []
        self._again: tuple[list[str], dict[str, str]] | None = None
        self._extra: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._open as stack:
            stack.enter_context(self.network)
            self.network.add_tenant()
            operator, document = self.network.operator, {"name": NAME, "backend": "ray", "jurisdiction": "CN-SH", "prices": PRICES}
            self.network.ok(operator.post("/clusters", json={**document, **self._member}))
            token = self.network.ok(operator.post("/tokens", json={"role": "agent", "cluster": NAME}))["token"]
            self.cable = stack.enter_context(Cable(self.network.settings.port))
            self.agents = Agents(
                self._folder, cluster=NAME, server=f"http://127.0.0.1:{self.cable.port}", token=token, address=self.head.address,
                token_file=str(self.head.token_file),
            )  # fmt: skip
            stack.callback(self.agents.close)
            stack.callback(self._end_extra)
            self._open = stack.pop_all()
        self.recover()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    # --- what whoever watches over such processes does ---

    def tend(self) -> None:
        """Start again what has ended."""
        if not self.head.running:
            self._end_extra()
            self._again = None
            self.head.kill()  # what is left of it
            self.head.start()
            self.head.wait_ready(WAIT_S)
        if self.second is not None and not self.second.running:
            self.second.start()
        if self._again is not None:
            (argv, environ), self._again = self._again, None
            self._end_extra()
            leashed = ["setpriv", "--pdeathsig", "KILL", *argv]
            self._extra = subprocess.Popen(leashed, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        if self.network.process.poll() is not None:
            self.network.start_server()
        self.agents.tend()

    def _end_extra(self) -> None:
        extra, self._extra = self._extra, None
        if extra is not None:
            extra.kill()
            extra.wait()

    def recover(self) -> None:
        """Until all is there and well again, and the server knows the head that there is now."""
        self.cable.heal()
        seen: list[tuple[object, ...]] = [()]

        def well() -> bool:
            self.tend()
            member = self.network.cluster(NAME)
            head = cluster_id(self.head.address, self.head.token, WAIT_S).hex()
            nodes = 1 if self.second is None else 2
            seen[0] = (member["health"], member["remote_id"], member["nodes_ready"])
            return seen[0] == ("healthy", head, nodes)

        try:
            until(well, "the member is healthy", RECOVERS_WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen[0]}") from None

    # --- jobs ---

    def submit(self, kind: str, name: str) -> Target:
        where = {} if self.second is None else {"placement": {"labels": LABEL}}
        found = Target(self.network.submit(self.ledger.job(kind, name, **where))["id"], kind)
        self.jobs.append(found)
        return found

    def state(self, target: Target) -> str:
        return str(self.network.job(target.id)["state"])

    def until_state(self, target: Target, *states: str) -> None:
        """Until the job is in one of these states, or has ended."""
        until(lambda: self._tended(target) in {*states, *FINAL}, f"{target.id} is {' or '.join(states) or 'over'}", WAIT_S)

    def until_begun(self, target: Target) -> list[Line]:
        """Until all workers of the job's run work; their lines."""

        def begun() -> list[Line]:
            run_id = self._run(target)
            lines = self.ledger.done(target.id, "begin").get(run_id, [])
            return lines if len(lines) == target.workers else []

        until(begun, f"{target.id} works", WAIT_S)
        return begun()

    def until_ended(self, target: Target) -> None:
        """Let the job go, until a run of it has done all its work."""
        self.ledger.let_go(target.id)

        def ended() -> bool:
            done = self.ledger.done(target.id, "end").values()
            return any(len(lines) == target.workers for lines in done) or self.state(target) in FINAL

        until(ended, f"{target.id} has done its work", WAIT_S)

    def sql_process(self, target: Target) -> int:
        """The process that works on a statement, as soon as there is one; 0 when it is over already."""
        found: list[int] = []

        def seen() -> bool:
            run_id = self._run(target)
            for folder in (self.second or self.head).runs.glob(f"cpn-sql-*/{run_id}"):
                with contextlib.suppress(AssertionError):
                    found.append(holder_of(folder.parent / "lock"))
            return bool(found) or self.state(target) in FINAL

        until(seen, f"a worker takes {target.id}", WAIT_S)
        return found[0] if found else 0

    def processes(self, target: Target) -> dict[int, str]:
        """What lives of the job's runs."""
        return processes_of(f"/{target.id}-")

    def ray_processes(self, words: str) -> list[int]:
        """Processes of Ray itself by their command line."""
        return [process for process, line in self.head.processes().items() if words in line]

    def start_again_like(self, process: int) -> None:
        """When the field is tended, start what this process is once more."""
        argv = Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")
        self._again = argv, environment_of(process)

    def _run(self, target: Target) -> str:
        return str(self.network.job(target.id)["run_id"])

    def _tended(self, target: Target) -> str:
        self.tend()
        return self.state(target)

    # --- books ---

    def left(self, *targets: Target) -> list[str]:
        """Processes and directories of these jobs on the node."""
        names = [f"{target.id}-" for target in targets]
        return files_of((self.second or self.head).runs, names) + [line for target in targets for line in self.processes(target).values()]

    def stored(self, question: str) -> list[tuple[Any, ...]]:
        """An answer of the server's own database."""
        with contextlib.closing(sqlite3.connect(self.network.settings.data_dir / "cpn.sqlite", timeout=30)) as connection:
            return connection.execute(question).fetchall()

    def orphans(self) -> OrphanReport:
        """What `cpn cluster doctor` says."""
        with Client(self.network.url, self.network.operator_token()) as client:
            return find_orphans(client, NAME, self.head.address, self.head.token_file, fix=False)
