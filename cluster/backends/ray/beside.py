"""What others than cpn hold of the nodes of a shared Ray.

Ray tells how much of each node is free, some moments late: by up to a second for what was just taken or let go of, ours included.
So a change counts when two looks, one after the other, agree on it; the first look counts by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from cluster.model import Others
from cluster.protocol import RunRequest

Amounts = Mapping[str, float]
RESOURCES = ("CPU", "memory", "GPU")
# Ray counts in ten-thousandths.
_SLACK = 1e-4


class Beside:
    """Looks at one cluster, one after the other."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] | None = None
        self._told: dict[tuple[str, str], float] = {}

    def look(self, entries: Iterable[Mapping[str, Any]], free: Mapping[str, Amounts], ours: Mapping[str, Amounts]) -> dict[str, Others]:
        """By node id what others hold of it, of nodes of which they hold something.

        `entries` are those of `ray.nodes()`, `free` is what Ray says that is left, `ours` what runs of ours were granted; both by node id.
        """
        seen = {
            (entry["NodeID"], resource): _held(resource, entry["Resources"], free[entry["NodeID"]], ours.get(entry["NodeID"], {}))
            for entry in entries if entry["Alive"] and entry["NodeID"] in free for resource in RESOURCES
        }  # fmt: skip
        before = seen if self._last is None else self._last
        self._told = {place: _agreed(self._told.get(place, 0.0), before.get(place, 0.0), amount) for place, amount in seen.items()}
        self._last = seen
        held = sorted({node_id for (node_id, _), amount in self._told.items() if amount > _SLACK})
        return {node_id: self._others(node_id) for node_id in held}

    def _others(self, node_id: str) -> Others:
        cpu, memory, devices = (self._told[node_id, resource] for resource in RESOURCES)
        # A device of which they hold a part is not whole any more.
        return Others(cpu=round(cpu, 4), memory_bytes=int(memory), accelerators=ceil(devices - _SLACK))


def granted(runs: Iterable[RunRequest], node_ids: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """By node id what these runs hold in Ray's books; `node_ids` by the names of nodes. A statement on DuckDB holds nothing there."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        if run.kind == "sql" and run.engine == "duckdb":
            continue
        for name in run.nodes:
            if name in node_ids:
                held = found.setdefault(node_ids[name], dict.fromkeys(RESOURCES, 0.0))
                for resource, amount in zip(RESOURCES, (run.cpu, run.memory_bytes, run.accelerator_count), strict=True):
                    held[resource] += amount
    return found


def _held(resource: str, total: Amounts, free: Amounts, ours: Amounts) -> float:
    return max(total.get(resource, 0.0) - free.get(resource, 0.0) - ours.get(resource, 0.0), 0.0)


def _agreed(told: float, before: float, now: float) -> float:
    """What is told after two looks: it follows them as far as both are beyond it on the same side."""
    low, high = min(before, now), max(before, now)
    return min(max(told, low), high)
