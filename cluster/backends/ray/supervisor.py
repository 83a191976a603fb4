"""The actor that runs one worker of a run on its node: a supervisor that holds the run's resources in Ray.

It is detached and named, so it goes on when the agent that made it ends, and the next agent finds it. Beside commands it runs what
drives a statement on Daft, a program of kind ray and a function over partitions, which use Ray themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cluster.backends.ray.claimed import remove_lanes
from cluster.backends.ray.daft_process import daft_command, daft_environment
from cluster.backends.ray.map_host import FinishedParts, map_command, map_environment
from cluster.backends.ray.script_host import RayScript
from cluster.runs.leashed import Kennel
from cluster.runs.supervisor import Supervisor


class RaySupervisor(Supervisor):
    """One worker of one run on Ray."""

    def __init__(self, rank: int, kennel: Kennel | None = None) -> None:
        super().__init__(rank, kennel)
        # Kinds ray and map: the placement group that holds the run's resources, and the program in it.
        self.group = ""
        self._script: RayScript | None = None
        self._parts: FinishedParts | None = None

    def _command(self) -> list[str]:
        assert self._workspace is not None
        assert self._run is not None
        if self._run["kind"] == "ray":
            self._script = RayScript(self._run, self._workspace.root, self.group)
            return self._script.command()
        if self._run["kind"] == "map":
            self._parts = FinishedParts(self._workspace.root)
            return map_command()
        return daft_command() if self._run["kind"] == "sql" else super()._command()

    def _more_environment(self) -> dict[str, str]:
        if self._script is not None:
            return self._script.environment()
        if self._parts is not None:
            return map_environment(self.group)
        return daft_environment(self.group) if self._run is not None and self._run["kind"] == "sql" else {}

    async def _watch_beside(self, stop: Callable[[float], None]) -> None:
        if self._script is not None:
            await self._script.watch(stop)

    def _new_parts(self) -> list[dict[str, Any]]:
        return self._parts.read() if self._parts is not None else []

    def _end_specially(self, report: dict[str, Any], used: dict[str, Any]) -> bool:
        assert self._run is not None
        if self._run["kind"] in ("sql", "map"):
            self._end_of_driver(report["exit"], used)
            return True
        end = self._script.end(report) if self._script is not None else None
        if end is not None:
            self._end(*end, exit_code=report["exit"], usage=used)
        return end is not None

    async def _dispose_beside(self) -> None:
        if self._parts is not None and self._run is not None:
            await asyncio.to_thread(remove_lanes, self._run["run_id"])
