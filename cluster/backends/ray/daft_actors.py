"""Daft on the resources that a run was granted, and on nothing else.

Daft's own runner for Ray starts a worker on every node of the cluster, with all of the node's cores, that holds nothing in Ray.
Here one actor per worker of the run fills its bundle of the run's placement group, on the node that was chosen for it, takes as many
threads as it has cores, and reads the inputs from its node's own copies. Daft's planner asks `daft.runners.flotilla` for its workers
and gets these. All actors belong to the process that drives the run, so Ray ends them with it, and with the group.

This leans on the insides of Daft's runner (0.7): `use_actors` refuses another one that lacks them.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
from collections.abc import AsyncIterator
from typing import Any

from cluster.backends.ray.workspace import fetch_inputs
from workloads.errors import StatementError

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
    """One worker of a run: the run's cores and memory on one node."""

    def __init__(self, run: dict[str, Any]) -> None:
        quiet_daft()
        os.environ["DAFT_MEMORY_LIMIT"] = str(run["memory_bytes"])
        self._run = run
        self._inner: Any = None

    async def here(self) -> None:
        """The actor lives."""

    async def ready(self) -> str:
        """Fetch the inputs; this node's address. Raises DataError."""
        from workloads.runners.daft_scan import use_files

        # Held as long as this process lives, which ends with the run.
        self._fetched = await asyncio.to_thread(fetch_inputs, self._run)
        use_files({alias: one.path for alias, one in self._fetched.paths.items()})
        flotilla = _flotilla()
        made = flotilla.RaySwordfishActor.__ray_metadata__.modified_class
        self._inner = made(num_cpus=max(int(self._run["cpu"]), 1), num_gpus=0)
        address: str = self._inner.ip
        return address

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

    def __init__(self, workers: list[tuple[str, str, Any]], run: dict[str, Any]) -> None:
        quiet_daft()
        flotilla = _flotilla()
        made = [
            flotilla.RaySwordfishWorker(
                name, flotilla.RaySwordfishActorHandle(actor), max(int(run["cpu"]), 1), 0, run["memory_bytes"], address
            )
            for name, address, actor in workers
        ]

        given: list[str] = []

        def start(existing: list[str], *_rest: Any) -> list[Any]:
            if existing:
                return []
            if given:
                raise RuntimeError("all workers of the run are gone")
            given.extend(name for name, _, _ in workers)
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


def quiet_daft() -> None:
    """Daft tells nobody of its use, and draws no bars."""
    os.environ |= {"DAFT_ANALYTICS_ENABLED": "0", "SCARF_NO_ANALYTICS": "true", "DAFT_PROGRESS_BAR": "0"}


def use_actors(run: dict[str, Any], group_id: str, limit_s: float) -> list[Any]:
    """Make Daft in this process run on actors that fill the bundles of the run's placement group, by rank; the actors.

    Raises TimeoutError, and Ray's RayTaskError with what `ready` raised.
    """
    import daft
    import ray
    from ray.util.placement_group import PlacementGroup
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    flotilla = _flotilla()
    missing = [name for name in _INSIDES if not hasattr(flotilla, name)]
    if missing:
        raise RuntimeError(f"Daft {daft.__version__} is laid out otherwise than 0.7 (no {', '.join(missing)}): install daft>=0.7.26,<0.8")
    runner: Any = daft.set_runner_ray()
    group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id)))
    places = [PlacementGroupSchedulingStrategy(group, rank) for rank in range(len(run["nodes"]))]
    memory = run["memory_bytes"]
    worker: Any = ray.remote(DaftWorker)
    actors = [
        worker.options(num_cpus=run["cpu"], memory=memory, max_concurrency=64, scheduling_strategy=place).remote(run) for place in places
    ]
    living = [actor.here.remote() for actor in actors]
    _, late = ray.wait(living, num_returns=len(living), timeout=limit_s)
    if late:
        ranks = ", ".join(str(rank) for rank, reference in enumerate(living) if reference in late)
        raise TimeoutError(f"no process for worker {ranks} within {limit_s:g} s; is something else using the node?")
    # To fetch the inputs may take as long as it takes: the run's own limit ends it.
    asked = [actor.ready.remote() for actor in actors]
    workers = [(f"{node}/{rank}", ray.get(asked[rank]), actors[rank]) for rank, node in enumerate(run["nodes"])]
    planner = ray.remote(DaftPlanner).options(num_cpus=0, max_concurrency=64, scheduling_strategy=places[0]).remote(workers, run)
    on_cluster = object.__new__(flotilla.FlotillaRunner)
    on_cluster.runner = planner
    on_cluster._init_extension_paths = frozenset()
    runner.flotilla_plan_runner = on_cluster
    return actors


def are_alive(actors: list[Any]) -> bool:
    """Whether all workers still answer."""
    import ray

    told, late = ray.wait([actor.here.remote() for actor in actors], num_returns=len(actors), timeout=_USAGE_LIMIT_S)
    try:
        ray.get(told)
    except ray.exceptions.RayError:
        return False
    return not late


def used_by(actors: list[Any]) -> dict[str, float]:
    """What the workers used in all, as far as they still say so. Raises StatementError for one that could not read an input."""
    import ray

    told, _ = ray.wait([actor.usage.remote() for actor in actors], num_returns=len(actors), timeout=_USAGE_LIMIT_S)
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
