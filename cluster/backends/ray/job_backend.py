"""Ray as a member by its Job API: what runs where no driver of ours can be, with less (see cluster/drivers.py).

Nothing of cpn is needed on the cluster, and no node of it here: only its dashboard's URL and its token. What runs is found again by the
names of its jobs, so nothing is kept on this disk. A head that was restarted without its memory knows no jobs; those are lost then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from cluster.backends.ray.gcs import cluster_id
from cluster.backends.ray.job_api import JobApi
from cluster.backends.ray.job_room import JobRoom
from cluster.backends.ray.job_run import JobRun, StopOutcome
from cluster.backends.ray.job_words import PREFIX, run_of
from cluster.backends.ray.nodes import inventory, node_name
from cluster.drivers import Driver
from cluster.errors import ClusterError, RunRejectedError, UnreachableError
from cluster.model import Endpoint, Inventory
from cluster.protocol import AdoptedRun, GangSize, RunEvent, RunRequest
from cluster.scaling import Wanted

log = logging.getLogger(__name__)
ID_S = 2.0


class JobApiBackend:
    """One Ray cluster (ClusterBackend). `why` says what speaks against actors of ours."""

    def __init__(
        self, endpoint: Endpoint, why: str, *, start_limit_s: float = 30.0, forget_limit_s: float = 30.0, api: JobApi | None = None
    ) -> None:
        token_file = Path(endpoint.token_file) if endpoint.token_file else None
        self._endpoint, self._driver = endpoint, Driver(way="job-api", why=why)
        self._api = api or JobApi(endpoint.dashboard, token_file)
        self._room = JobRoom()
        self._start_limit_s, self._forget_limit_s = start_limit_s, forget_limit_s
        self._runs: dict[str, JobRun] = {}
        self._events: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._version, self._own_id = "", ""

    async def open(self) -> None:
        """Ask the dashboard who it is. Raises UnreachableError, AuthenticationError."""
        self._version = str((await self._api.version()).get("ray_version", ""))
        self._own_id = await asyncio.to_thread(self._ask_id)
        await self.inventory()

    async def inventory(self) -> Inventory:
        """Nodes now. Raises UnreachableError, AuthenticationError."""
        entries = await self._api.nodes()
        used = await self._api.used()
        self._room.learn({node_name(entry): entry for entry in entries if entry["Alive"]}, used)
        counted = inventory(entries, self._version, self._own_id)
        return counted.model_copy(update={"resizes": False, "driver": self._driver})

    async def start(self, run: RunRequest) -> None:
        """Begin the run. Raises RunRejectedError for what the Job API cannot carry out."""
        if run.run_id in self._runs:
            return
        if run.kind != "command" or not run.command or len(run.nodes) != 1 or run.inputs or run.accelerator_count % 1:
            raise RunRejectedError(f"run {run.run_id} of kind {run.kind} cannot be a job of Ray's Job API; see `cpn cluster show`")
        if run.nodes[0] not in self._room.nodes:
            raise RunRejectedError(f"node {run.nodes[0]} is not part of the cluster now")
        self._made(run).begin()

    async def stop(self, run_id: str, *, outcome: StopOutcome, grace_s: float) -> None:  # noqa: ARG002
        """End the run, with the grace that the Job API has; RunFinished says when it is over."""
        if run_id in self._runs:
            self._runs[run_id].stop(outcome)

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:
        """Nothing here has more than one worker."""

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        """Runs whose jobs the head knows. Raises UnreachableError."""
        for job in await self._api.jobs(PREFIX):
            run = run_of(job.metadata)
            if run is None:
                log.warning("the job %s has a name of ours and no run in its metadata; it is left alone", job.name)
            elif run.run_id not in self._runs:
                self._made(run).resume()
        return tuple(AdoptedRun(run_id=run_id, epoch=found.run.epoch) for run_id, found in sorted(self._runs.items()))

    async def events(self) -> AsyncIterator[RunEvent]:
        """All events of all runs, in order for each run, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    async def forget(self, run_id: str) -> None:
        """Remove the run's job. One that is not over is ended first. Raises UnreachableError; try again then."""
        found = self._runs.get(run_id)
        if found is None:
            return
        try:
            async with asyncio.timeout(self._forget_limit_s):
                await found.discard()
        except TimeoutError:
            raise UnreachableError(f"the job of run {run_id} cannot be removed now") from None
        del self._runs[run_id]

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        """There are none."""

    async def scale(self, wanted: Sequence[Wanted]) -> None:
        """Its autoscaler is not asked."""

    async def close(self) -> None:
        """Disconnect; runs go on. Twice does no harm."""
        for found in self._runs.values():
            await found.detach()
        await self._api.close()
        self._events.put_nowait(None)

    def _made(self, run: RunRequest) -> JobRun:
        found = self._runs[run.run_id] = JobRun(run, self._api, self._room, self._events.put_nowait, self._start_limit_s)
        return found

    def _ask_id(self) -> str:
        """The cluster's own id, where its head can be asked for it too; without it, two names for one cluster go unnoticed."""
        if not self._endpoint.address:
            return ""
        with contextlib.suppress(ClusterError, OSError):
            token = Path(self._endpoint.token_file).read_text(encoding="utf-8").strip() if self._endpoint.token_file else ""
            return cluster_id(self._endpoint.address, token, ID_S).hex()
        return ""
