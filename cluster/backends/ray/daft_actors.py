"""Daft over several nodes, on the resources that a run was granted there, and on nothing else.

Daft's own runner for Ray starts a worker on every node of the cluster, with all of the node's cores, that holds nothing in Ray.
Here one actor on each node of the run sits in the run's placement group, with as many threads and as much memory as all of the run's
workers there have together, and reads the inputs from its node's own copies: within a node threads share what processes would send.
Daft's planner asks `daft.runners.flotilla` for its workers and gets these. All actors belong to the process that drives the run, so Ray
ends them with it, and with the group.

This leans on the insides of Daft's runner (0.7): `Crew.use` refuses another one that lacks them.
"""

from __future__ import annotations

import asyncio
import importlib
import resource
from collections.abc import AsyncIterator
from typing import Any

from cluster.backends.ray.daft_share import Share, prepare_daft, quiet_daft, shares, wait_beyond_memory
from cluster.runs.node_folders import node_root
from cluster.runs.workspace import fetch_inputs
from workloads.errors import StatementError
from workloads.runners.parquet_copies import ParquetCopies

_USAGE_LIMIT_S = 5.0
_INSIDES = (
    "RaySwordfishActor",
    "RemoteFlotillaRunner",
    "FlotillaRunner",
    "RaySwordfishActorHandle",
    "start_ray_workers",
    "get_boundaries_remote",
)


class DaftWorker:
    """A run's share of one node."""

    def __init__(self, run: dict[str, Any], share: Share) -> None:
        prepare_daft(run, share)
        self._run, self._share = run, share
        self._inner: Any = None

    async def here(self) -> None:
        """The actor lives."""

    async def ready(self) -> str:
        """Fetch the inputs; this node's address. Raises DataError."""
        from workloads.runners.daft_scan import use_files

        # Held as long as this process lives, which ends with the run.
        self._fetched = await asyncio.to_thread(fetch_inputs, self._run)
        memory_bytes = self._share.memory_bytes(self._run) // 2
        self._copies = ParquetCopies(node_root(), memory_bytes=memory_bytes, threads=self._share.cores(self._run))
        use_files(await asyncio.to_thread(self._copies.of, self._fetched.paths))
        flotilla = _flotilla()
        made = flotilla.RaySwordfishActor.__ray_metadata__.modified_class
        self._inner = made(num_cpus=self._share.cores(self._run), num_gpus=0)
        address: str = self._inner.ip
        return address

    async def beyond_memory(self) -> str:
        """Returns once this process holds more than the run was granted here: what to say of it."""
        return await asyncio.to_thread(wait_beyond_memory, self._run, self._share)

    async def run_plan(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        """A part of the statement, for Daft's planner."""
        async for part in self._inner.run_plan(*arguments, **named):
            yield part

    async def usage(self) -> dict[str, float]:
        """What this process used so far. Raises StatementError when it could not read an input, which Daft may have lost."""
        from workloads.runners.daft_scan import read_failure

        if failure := read_failure():
            raise StatementError(failure)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu_s": used.ru_utime + used.ru_stime, "peak_memory_bytes": used.ru_maxrss * 1024}


class DaftPlanner:
    """Daft's planner, which gives out the parts; its workers are those of the run, and a worker that dies is not replaced."""

    def __init__(self) -> None:
        quiet_daft()
        self._flotilla = _flotilla()
        self._inner: Any = None

    async def meet(self, workers: list[tuple[Share, str, Any]], run: dict[str, Any]) -> None:
        """The run's workers, with the addresses of their nodes. Once, before the first plan."""
        flotilla = self._flotilla
        made = [
            flotilla.RaySwordfishWorker(
                share.node, flotilla.RaySwordfishActorHandle(actor), share.cores(run), 0, share.memory_bytes(run), address
            )
            for share, address, actor in workers
        ]
        given: list[str] = []

        def start(existing: list[str], *_rest: Any) -> list[Any]:
            if existing:
                return []
            if given:
                raise RuntimeError("all workers of the run are gone")
            given.extend(share.node for share, _, _ in workers)
            return made

        flotilla.start_ray_workers = start
        flotilla.try_autoscale = lambda *_, **__: None
        # Small tasks of the planner's own: the run's cores are held by its workers, so these ask for none.
        flotilla.get_boundaries_remote = flotilla.get_boundaries_remote.options(num_cpus=0)
        flotilla._clear_flight_shuffle_dirs = flotilla._clear_flight_shuffle_dirs.options(num_cpus=0)
        self._inner = flotilla.RemoteFlotillaRunner.__ray_metadata__.modified_class()

    async def run_plan(self, plan: Any, parts: Any) -> None:
        """Begin a plan."""
        self._inner.run_plan(plan, parts)

    async def get_next_partition(self, plan: str) -> Any:
        """The next piece of its result, and at the end its statistics."""
        return await self._inner.get_next_partition(plan)


def _flotilla() -> Any:
    """The module of Daft's runner for Ray, whose insides have no types."""
    return importlib.import_module("daft.runners.flotilla")


class Crew:
    """A run's processes: one on each of its nodes, in its placement group, and the planner beside the first. They start at once."""

    def __init__(self, run: dict[str, Any], group_id: str) -> None:
        import ray
        from ray.util.placement_group import PlacementGroup
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._run, self._shares = run, shares(run["nodes"])
        group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id)))
        places = [PlacementGroupSchedulingStrategy(group, share.bundle) for share in self._shares]
        # Of Ray each asks for the first of its bundles; the others on its node are held for the run as well.
        worker: Any = ray.remote(DaftWorker)
        options = {"num_cpus": run["cpu"], "memory": run["memory_bytes"], "max_concurrency": 64}
        self._workers: list[Any] = [
            worker.options(**options, scheduling_strategy=place).remote(run, share)
            for share, place in zip(self._shares, places, strict=True)
        ]
        planner: Any = ray.remote(DaftPlanner)
        self._planner = planner.options(num_cpus=0, max_concurrency=64, scheduling_strategy=places[0]).remote()
        self._living = [actor.here.remote() for actor in self._workers]

    def use(self, limit_s: float) -> None:
        """Make Daft in this process run on them.

        Raises TimeoutError for those that do not live within `limit_s`, and Ray's RayTaskError with what `ready` raised.
        """
        import daft
        import ray

        flotilla = _flotilla()
        missing = [name for name in _INSIDES if not hasattr(flotilla, name)]
        if missing:
            raise RuntimeError(
                f"Daft {daft.__version__} is laid out otherwise than 0.7 (no {', '.join(missing)}): install daft>=0.7.26,<0.8"
            )
        runner: Any = daft.set_runner_ray()
        _, late = ray.wait(self._living, num_returns=len(self._living), timeout=limit_s)
        if late:
            nodes = ", ".join(share.node for share, answer in zip(self._shares, self._living, strict=True) if answer in late)
            raise TimeoutError(f"no process on {nodes} within {limit_s:g} s; is something else using the node?")
        # To fetch the inputs may take as long as it takes: the run's own limit ends it.
        addresses = ray.get([actor.ready.remote() for actor in self._workers])
        ray.get(self._planner.meet.remote(list(zip(self._shares, addresses, self._workers, strict=True)), self._run))
        on_cluster = object.__new__(flotilla.FlotillaRunner)
        on_cluster.runner = self._planner
        on_cluster._init_extension_paths = frozenset()
        runner.flotilla_plan_runner = on_cluster

    def wait_beyond_memory(self) -> str:
        """Blocks until one of them holds more memory than it may; what to say of it. Empty when one died before."""
        import ray

        watched = [actor.beyond_memory.remote() for actor in self._workers]
        first, _ = ray.wait(watched, num_returns=1)
        try:
            return str(ray.get(first[0]))
        except ray.exceptions.RayError:
            return ""

    def is_alive(self) -> bool:
        """Whether all workers still answer."""
        import ray

        told, late = ray.wait([actor.here.remote() for actor in self._workers], num_returns=len(self._workers), timeout=_USAGE_LIMIT_S)
        try:
            ray.get(told)
        except ray.exceptions.RayError:
            return False
        return not late

    def used(self) -> dict[str, float]:
        """What the workers used in all, as far as they still say so. Raises StatementError for one that could not read an input."""
        import ray

        told, _ = ray.wait([actor.usage.remote() for actor in self._workers], num_returns=len(self._workers), timeout=_USAGE_LIMIT_S)
        found: dict[str, float] = {"cpu_s": 0.0, "peak_memory_bytes": 0}
        for reference in told:
            try:
                for name, amount in ray.get(reference).items():
                    found[name] += amount
            except ray.exceptions.RayTaskError as error:
                raise StatementError(str(error.cause)) from error
            except ray.exceptions.RayError:
                continue
        return found
