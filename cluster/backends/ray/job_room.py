"""What of each node is free, as far as Ray's dashboard tells: a job that does not fit now is not handed to Ray, which cannot stop it then.

Use comes some seconds late. What was submitted lately is therefore counted by ourselves beside it, for a while twice rather than not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.protocol import RunRequest

LATE_S = 15.0
_SLACK = 1e-6


class JobRoom:
    """The nodes of a member by name, in the form of `ray.nodes()`, and who holds what of them. `now` are seconds of one clock."""

    def __init__(self) -> None:
        self.nodes: dict[str, Mapping[str, Any]] = {}
        self._used: Mapping[str, Mapping[str, float]] = {}
        self._held: dict[str, tuple[str, float, dict[str, float]]] = {}

    def learn(self, nodes: Mapping[str, Mapping[str, Any]], used: Mapping[str, Mapping[str, float]]) -> None:
        """What there is now, and what was in use by node id."""
        self.nodes, self._used = dict(nodes), used

    def shares_address(self, name: str) -> bool:
        """Whether another node has this one's address."""
        addresses = [str(node["NodeManagerAddress"]) for node in self.nodes.values()]
        return addresses.count(str(self.nodes[name]["NodeManagerAddress"])) > 1

    def hold(self, run: RunRequest, now: float) -> None:
        """It has been submitted."""
        self._held[run.run_id] = run.nodes[0], now, _asked(run)

    def release(self, run_id: str) -> None:
        """It is over."""
        self._held.pop(run_id, None)

    def lacks(self, run: RunRequest, now: float) -> str:
        """What there is too little of for a run on its node, in words; empty where it fits. Raises KeyError for a node that is gone."""
        name, node = run.nodes[0], self.nodes[run.nodes[0]]
        told, mine = self._used.get(node["NodeID"]), [held for held in self._held.values() if held[0] == name]
        if told is None:
            told = {}
        else:
            mine = [held for held in mine if now - held[1] < LATE_S]
        for resource, amount in _asked(run).items():
            ours = sum(held[2].get(resource, 0.0) for held in mine)
            free = float(node["Resources"].get(resource, 0.0)) - float(told.get(resource, 0.0)) - ours
            if amount > free + _SLACK:
                return f"{name} has {max(free, 0.0):g} {resource} free, and {amount:g} are needed"
        return ""


def _asked(run: RunRequest) -> dict[str, float]:
    asked = {"CPU": run.cpu, "memory": float(run.memory_bytes), "GPU": float(run.accelerator_count)}
    return {resource: amount for resource, amount in asked.items() if amount}
