"""Ray as a member of the network: a driver and actors, no Job API.

SQL runs on warm workers, one statement after the other, a few milliseconds after it was asked for. User code runs in a process of
its own under a supervisor, warm as well, that holds the run's resources in Ray. Both are detached actors in the namespace `cpn`, so a
run goes on without its agent; and the agent's directory keeps a journal of each run, so its successor on the same disk
tells the whole story again. One process drives one cluster (see session.py), from a node of that cluster.

What a head's death means: `inventory` raises UnreachableError within a few seconds and runs say nothing, for nobody knows
how they are. A head without external storage forgets its actors, so when another head answers at the address, the runs
of the old one end as lost, and `inventory` raises ClusterReplacedError: only another process can speak to the new one.

A program of kind ray (`script_host.py`) is such a process too, and asks Ray for tasks and actors within the run's placement group; so
does the driver of a run of kind map (`map_driver.py`), which is ours.

User code runs as the user that runs Ray on the node and is kept apart from other runs by file permissions and process
groups only; members who run code of people they do not know need containers or machines of their own around Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.backends.ray.autoscaling import Autoscaler
from cluster.backends.ray.beside import Beside, granted
from cluster.backends.ray.copies import Copies
from cluster.backends.ray.gang_attempt import GangAttempt
from cluster.backends.ray.gang_workers import place_of, run_of
from cluster.backends.ray.nodes import RayNode, alive, inventory
from cluster.backends.ray.pool import IDLE_S, SQL_PREFIX, Member, WarmPool, make_sql_worker
from cluster.backends.ray.seats import MOST_IDLE, WARM_PREFIX, Supervisors, make_warm_supervisor
from cluster.backends.ray.session import Session
from cluster.backends.ray.sql_attempt import SqlAttempt
from cluster.backends.ray.sql_line import SqlLine
from cluster.errors import ClusterError, RunRejectedError, WorkerGoneError
from cluster.model import Inventory, Others
from cluster.protocol import AdoptedRun, AheadFile, GangSize, RunEvent, RunRequest
from cluster.replicas import CacheLimits
from cluster.runs.attempt import Attempt, StopOutcome
from cluster.runs.attempts import adopted, forget
from cluster.runs.journal import Journals
from cluster.scaling import NodeType, Wanted

logger = logging.getLogger(__name__)

_LOST_GRACE_S = 0.0
_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class RayBackend:
    """One Ray cluster (ClusterBackend). `directory` is this agent's, private and kept over restarts.

    `warm_workers` SQL workers and as many supervisors wait on each node. A worker of a run that does not live within
    `start_limit_s` fails the run. More of them wait where more were needed in the last `idle_s`.
    A head is given `call_limit_s` for an answer. `limits` are those of the copies of data on each node.
    """

    def __init__(
        self,
        cluster: str,
        address: str,
        token_file: Path | None,
        directory: Path,
        *,
        warm_workers: int = 1,
        start_limit_s: float = 30.0,
        call_limit_s: float = 5.0,
        forget_limit_s: float = 30.0,
        idle_s: float = IDLE_S,
        limits: CacheLimits | None = None,
        types: Sequence[NodeType] = (),
    ) -> None:
        self.cluster = cluster
        self._directory = directory
        self._start_limit_s, self._forget_limit_s = start_limit_s, forget_limit_s
        self._warm_workers, self._idle_s = warm_workers, idle_s
        self._limits = limits or CacheLimits()
        self._looking: asyncio.Task[None] | None = None
        self._session = Session(address, token_file, call_limit_s=call_limit_s)
        self._beside = Beside()
        self._copies = Copies(self._session, self._limits)
        self._autoscaler = Autoscaler(self._session, types)
        self._attempts: dict[str, Attempt] = {}
        self._nodes: dict[str, RayNode] = {}
        self._events: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Connect, find the workers of an earlier agent, and begin to warm up SQL workers. Raises UnreachableError, AuthenticationError."""
        self._journals = Journals(self._directory)
        warm, spawn, idle_s = self._warm_workers, self._spawn, self._idle_s
        self._pool = WarmPool(self._session, SQL_PREFIX, make_sql_worker, warm, spawn, idle_s=idle_s)
        self._line = SqlLine(self._session, self._pool, spawn)
        self._waiting = WarmPool(self._session, WARM_PREFIX, make_warm_supervisor, warm, spawn, idle_s=idle_s, most_idle=MOST_IDLE)
        self._crew = Supervisors(self._session, self._waiting, self._start_limit_s, spawn)
        await self._session.connect()
        self._nodes = alive(await self._session.node_entries())
        names = await self._session.actor_names()
        await self._include_sql_workers(names)
        await self._include_supervisors(names)
        self._know_nodes()

    async def inventory(self) -> Inventory:
        """Nodes now. Raises UnreachableError, within a few seconds of the head's death; ClusterReplacedError after its return."""
        entries = await self._session.node_entries()
        self._nodes = alive(entries)
        self._know_nodes()
        self._look()
        import ray

        counted = inventory(entries, ray.__version__, self._session.cluster_id, await self._others(entries))
        scaling = await self._autoscaler.look()
        return counted.model_copy(update={"scaling": scaling, "cache": self._copies.state({node.node_id for node in self._nodes.values()})})

    async def _others(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, Others]:
        """What others hold of the nodes."""
        free = await self._session.free()
        held = [attempt.run for attempt in self._attempts.values() if not attempt.finished]
        return self._beside.look(entries, free, granted(held, {name: node.node_id for name, node in self._nodes.items()}))

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        """Remove copies of these versions with the next looks at the nodes."""
        self._copies.refuse(versions)

    async def bring_ahead(self, files: Sequence[AheadFile]) -> None:
        """Bring these to their nodes, and nothing else; said to them now and with each look."""
        self._copies.bring(files, {name: node.node_id for name, node in self._nodes.items()})
        self._look()

    async def scale(self, wanted: Sequence[Wanted]) -> None:
        """Ask its autoscaler for these nodes. Raises UnreachableError."""
        await self._autoscaler.ask_for(wanted)

    async def start(self, run: RunRequest) -> None:
        """Begin the run. Raises RunRejectedError for what no Ray cluster could carry out, and for nodes that this one does not have."""
        _check(run)
        if run.run_id in self._attempts:
            self._attempts[run.run_id].confirm()
            return
        recorded = self._journals.read(run.run_id)
        if recorded is None:
            gone = sorted(set(run.nodes) - self._nodes.keys())
            if gone:
                raise RunRejectedError(f"node {', '.join(gone)} is not part of the cluster now")
            self._attempt(run.model_copy(update={"cache": self._limits})).begin()
        else:
            await self._adopt_run(run.run_id, {}, {})
            self._attempts[run.run_id].confirm()

    async def stop(self, run_id: str, *, outcome: StopOutcome, grace_s: float) -> None:
        """End the run; RunFinished says when it is over."""
        attempt = self._attempts.get(run_id)
        if attempt is not None:
            attempt.stop(outcome, grace_s)

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:
        """Give an elastic run other workers; RunResized says when it has them. Raises OSError when this disk is full."""
        attempt = self._attempts.get(run_id)
        if attempt is not None:
            attempt.resize(size, grace_s)

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        """Runs with an actor on the cluster or a journal on this disk. Raises UnreachableError."""
        supervised: dict[str, list[str]] = defaultdict(list)
        names = await self._session.actor_names()
        for name in (*names, *await self._include_supervisors(names)):
            found = run_of(name)
            if found is not None:
                supervised[found.run_id].append(name)
        await self._crew.free_strays()
        queried = await self._include_sql_workers(names)
        run_ids = {*self._journals.run_ids(), *supervised, *queried}
        for run_id in sorted(run_ids - self._attempts.keys()):
            await self._adopt_run(run_id, supervised, queried)
        return adopted(self._attempts)

    async def events(self) -> AsyncIterator[RunEvent]:
        """All events of all runs, in order for each run, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    async def forget(self, run_id: str) -> None:
        """Remove all that is kept of a run. A run that is not over is ended first. Raises UnreachableError; try again then."""
        await forget(self._attempts, run_id, self._journals, limit_s=self._forget_limit_s, grace_s=_LOST_GRACE_S)

    async def close(self) -> None:
        """Disconnect; runs go on. Twice does no harm."""
        if self._closed:
            return
        self._closed = True
        for attempt in self._attempts.values():
            await attempt.detach()
        for task in list(self._background):
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._session.disconnect()
        self._events.put_nowait(None)

    def _attempt(self, run: RunRequest, member: Member | None = None) -> Attempt:
        attempt: Attempt
        if run.kind == "sql" and run.engine == "duckdb":
            attempt = SqlAttempt(run, self._session, self._journals, self._events.put_nowait, self._nodes, self._pool, self._line, member)
        else:
            emit = self._events.put_nowait
            attempt = GangAttempt(run, self._session, self._journals, emit, self._nodes, self._crew, self._start_limit_s)
        self._attempts[run.run_id] = attempt
        return attempt

    async def _adopt_run(self, run_id: str, supervised: dict[str, list[str]], queried: dict[str, tuple[dict[str, Any], Member]]) -> None:
        """Take over one run from its journal, or from its actors when this disk does not know it."""
        recorded = self._journals.read(run_id)
        request, member = queried.get(run_id, (None, None))
        names = sorted(supervised.get(run_id, []), key=place_of)
        if recorded is None and request is None:
            request = await self._ask_supervisors(names)
        if recorded is not None:
            self._attempt(recorded.run, member).resume(recorded, names)
        elif request is not None:
            self._attempt(RunRequest.model_validate(request), member).resume(None, names)
        else:
            self._journals.remove(run_id)

    async def _ask_supervisors(self, names: list[str]) -> dict[str, Any] | None:
        """The request of a run, as its lowest rank knows it. A supervisor without one is what a broken start left behind, and is ended."""
        for name in names:
            seat = await self._crew.find(name)
            if seat is None:
                continue
            with contextlib.suppress(WorkerGoneError):
                request: dict[str, Any] | None = await seat.ask("describe")
                if request is not None:
                    return request
            await seat.let_go()
        return None

    def _look(self) -> None:
        """Ask the nodes for their copies, unless that is being done."""
        if self._looking is None or self._looking.done():
            self._looking = self._spawn(self._copies.look(self._pool.one_of_each()))

    def _know_nodes(self) -> None:
        self._pool.know(self._nodes.values())
        self._line.know(self._nodes.values())
        self._waiting.know(self._nodes.values())

    async def _include_supervisors(self, names: list[str]) -> list[str]:
        """Bring the living warm supervisors into their pool; the workers that they serve for runs that are to be adopted."""
        return await self._crew.include(names, self._nodes.values(), self._attempts.__contains__)

    async def _include_sql_workers(self, names: list[str]) -> dict[str, tuple[dict[str, Any], Member]]:
        """Bring the living SQL workers into the pool; the runs that they know, by run id."""
        runs: dict[str, tuple[dict[str, Any], Member]] = {}
        for name in names:
            node = self._pool.node_of(name, self._nodes.values())
            if node is None:
                continue
            actor = await self._session.actor(name)
            if actor is None:
                continue
            with contextlib.suppress(WorkerGoneError):
                requests = await self._session.ask(actor, "runs")
                member = self._pool.include(name, node, actor)
                for request in requests:
                    runs[request["run_id"]] = request, member
        return runs

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Work that nobody waits for; its failure is logged."""

        async def watched() -> None:
            try:
                await work
            except ClusterError as error:
                logger.warning("Ray cluster %s: %s", self.cluster, error)

        task = asyncio.create_task(watched())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _check(run: RunRequest) -> None:
    if not _RUN_ID.match(run.run_id):
        raise RunRejectedError(f"{run.run_id!r} is no run id")
    if not run.nodes or (run.kind == "sql" and run.engine == "duckdb" and len(run.nodes) != 1):
        raise RunRejectedError(f"run {run.run_id} names {len(run.nodes)} nodes, which kind {run.kind} cannot use")
    if run.kind == "sql" and not run.sql:
        raise RunRejectedError(f"run {run.run_id} is of kind sql and has no statement")
    if run.kind == "map" and run.map is None:
        raise RunRejectedError(f"run {run.run_id} is of kind map and has no function")
    if run.kind not in ("sql", "map") and not run.command:
        raise RunRejectedError(f"run {run.run_id} is of kind {run.kind} and has no command")
