"""Kubernetes as a member: each run is a Job, or several, whose pods are followed by their logs.

The cluster keeps all that a later agent needs: a run's request in a Secret, and its news in its pods' logs, until the run is forgotten.
The journal on this disk says besides what was passed on already, so an agent with its disk goes on exactly where it stood.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from cluster.backends.kubernetes.abilities import Abilities
from cluster.backends.kubernetes.access import CONNECTIONS
from cluster.backends.kubernetes.board import Board
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.inventory import PATIENCE_S
from cluster.backends.kubernetes.making import Maker
from cluster.backends.kubernetes.objects import RunSettings, label_of
from cluster.backends.kubernetes.pod_attempt import PodAttempt, Tools
from cluster.backends.kubernetes.rayjobs import check_ray_run
from cluster.errors import RunRejectedError
from cluster.model import Inventory
from cluster.protocol import AdoptedRun, GangSize, RunEvent, RunRequest
from cluster.runs.attempt import StopOutcome
from cluster.runs.attempts import adopted, forget
from cluster.runs.journal import Journals
from cluster.scaling import Wanted

KINDS = ("sql", "command", "training", "ray")
START_LIMIT_S = 300.0
_LOST_GRACE_S = 1.0
_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class Stock(Protocol):
    """The nodes of the cluster, as they are counted elsewhere."""

    async def open(self) -> None:
        """Begin to count. Raises ClusterError."""

    async def read(self) -> Inventory:
        """Nodes now. Raises ClusterError."""

    def resource_of(self, node: str, model: str) -> str:
        """What pods ask for to have accelerators of a model on a node; empty where it has none."""

    async def close(self) -> None:
        """Count no more."""


class KubernetesBackend:
    """One Kubernetes cluster (ClusterBackend). `start_limit_s`: how long a run's pods may take to start."""

    def __init__(
        self, client: KubeClient, stock: Stock, settings: RunSettings, directory: Path, *,
        start_limit_s: float = START_LIMIT_S, forget_limit_s: float = 30.0,
    ) -> None:  # fmt: skip
        self._client, self._stock, self._directory, self._forget_limit_s = client, stock, directory, forget_limit_s
        self._board = Board(client, settings.namespace, settings.cluster, self._notice, seconds=time.monotonic)
        self._tools = Tools(Maker(client, settings, client.now, start_limit_s), self._board)
        self._abilities = Abilities(self._tools.maker, self._board, time.monotonic)
        self._attempts: dict[str, PodAttempt] = {}
        self._nodes: set[str] = set()
        self._labels: dict[str, str] = {}
        self._events: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._closed = False

    async def open(self) -> None:
        """Connect, and begin to watch. Raises ClusterError."""
        self._journals = Journals(self._directory)
        _allow_descriptors(CONNECTIONS)
        await self._stock.open()
        await self._board.open()
        await self._abilities.begin()
        await self.inventory()

    async def inventory(self) -> Inventory:
        """Nodes now. Raises ClusterError, also when nobody can see what becomes of runs."""
        found = await self._stock.read()
        self._board.check(PATIENCE_S)
        self._nodes = {node.name for node in found.nodes}
        return found.model_copy(update={"driver": await self._abilities.told(found.driver)})

    def wants_deposit(self, run: RunRequest) -> bool:
        """A pod's log carries little, and how much a run delivers is known at its end."""
        return run.run_id not in self._attempts

    async def start(self, run: RunRequest) -> None:
        """Begin the run. Raises RunRejectedError for what Kubernetes cannot carry out, and for nodes that the cluster does not have."""
        if run.run_id in self._attempts:
            self._attempts[run.run_id].confirm()
            return
        run = as_pods_run_it(run)
        recorded = self._journals.read(run.run_id)
        if recorded is not None:
            self._attempt(recorded.run).resume(recorded)
            self._attempts[run.run_id].confirm()
            return
        gone = sorted(set(run.nodes) - self._nodes)
        if gone:
            raise RunRejectedError(f"node {', '.join(gone)} is not part of the cluster now")
        if run.kind == "ray":
            check_ray_run(run)
        await self._abilities.insist(run.kind)
        self._tools.maker.check(run)
        self._attempt(run).begin()

    async def stop(self, run_id: str, *, outcome: StopOutcome, grace_s: float) -> None:
        """End the run; RunFinished says when it is over."""
        if run_id in self._attempts:
            self._attempts[run_id].stop(outcome, grace_s)

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:
        """Its inventory does not say that it resizes, so nobody asks."""

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        """Runs with a Secret in the cluster or a journal on this disk; what else there is of runs is removed. Raises ClusterError."""
        kept = await self._tools.maker.requests()
        for run_id in sorted({*kept, *self._journals.run_ids()} - self._attempts.keys()):
            recorded = self._journals.read(run_id)
            if recorded is not None:
                self._attempt(recorded.run).resume(recorded)
            elif run_id in kept:
                self._attempt(kept[run_id]).resume(None)
            else:
                self._journals.remove(run_id)
        await self._tools.maker.remove_orphans(set(self._labels))
        return adopted(self._attempts)

    async def events(self) -> AsyncIterator[RunEvent]:
        """All events of all runs, in order for each run, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    async def forget(self, run_id: str) -> None:
        """Remove all that is kept of a run. A run that is not over is ended first. Raises UnreachableError; try again then."""
        await forget(self._attempts, run_id, self._journals, limit_s=self._forget_limit_s, grace_s=_LOST_GRACE_S)
        self._labels.pop(label_of(run_id), None)

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        """A pod's copies end with it."""

    async def scale(self, wanted: Sequence[Wanted]) -> None:
        """Its autoscaler goes by the pods that wait."""

    async def close(self) -> None:
        """Disconnect; runs go on. Twice does no harm."""
        if self._closed:
            return
        self._closed = True
        for attempt in self._attempts.values():
            await attempt.detach()
        await self._board.close()
        await self._stock.close()
        await self._client.close()
        self._events.put_nowait(None)

    def _attempt(self, run: RunRequest) -> PodAttempt:
        accelerator = self._accelerator(run)
        attempt = PodAttempt(run, self._journals, self._events.put_nowait, self._tools, accelerator)
        self._attempts[run.run_id] = attempt
        self._labels[label_of(run.run_id)] = run.run_id
        return attempt

    def _accelerator(self, run: RunRequest) -> str:
        if not run.accelerator_count:
            return ""
        names = {self._stock.resource_of(node, run.accelerator_model or "") for node in run.nodes}
        if len(names) != 1 or "" in names:
            raise RunRejectedError(f"the nodes of run {run.run_id} do not all have accelerators of model {run.accelerator_model}")
        return names.pop()

    def _notice(self, label: str) -> None:
        attempt = self._attempts.get(self._labels.get(label, ""))
        if attempt is not None:
            attempt.notice()


def _allow_descriptors(wanted: int) -> None:
    """As many open files as there may be lines, as far as this process may have them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def as_pods_run_it(run: RunRequest) -> RunRequest:
    """The run as this backend carries it out. Raises RunRejectedError for what it cannot."""
    if not _RUN_ID.match(run.run_id):
        raise RunRejectedError(f"{run.run_id!r} is no run id")
    if run.kind not in KINDS:
        raise RunRejectedError(f"run {run.run_id} is of kind {run.kind}, which Kubernetes members do not run; they run {', '.join(KINDS)}")
    if not run.nodes or (run.kind == "sql" and run.engine == "duckdb" and len(run.nodes) != 1):
        raise RunRejectedError(f"run {run.run_id} names {len(run.nodes)} nodes, which kind {run.kind} cannot use")
    if run.kind == "sql" and not run.sql:
        raise RunRejectedError(f"run {run.run_id} is of kind sql and has no statement")
    if run.kind != "sql" and not run.command:
        raise RunRejectedError(f"run {run.run_id} is of kind {run.kind} and has no command")
    if run.accelerator_count % 1:
        raise RunRejectedError(f"run {run.run_id} asks for a part of an accelerator, and Kubernetes gives whole ones; ask for count 1")
    if run.kind == "sql" and run.engine == "daft":
        if not run.or_duckdb:
            raise RunRejectedError(f"run {run.run_id} is a statement for Daft, and Kubernetes members have DuckDB; leave out engine")
        run = run.model_copy(update={"engine": "duckdb", "nodes": run.nodes[:1]})
    # Kubernetes chooses the devices, and its containers see no others.
    return run.model_copy(update={"accelerator_devices": ()})
