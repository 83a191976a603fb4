"""Wishes: which nodes clusters' autoscalers are asked for, as it is stored with each member, and told to its agent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cluster.scaling import NodeType, Wanted


@dataclass(frozen=True)
class Wish:
    """What a cluster's autoscaler is asked for, or was in vain.

    `count` nodes of a type since `since`, when `present` were there; 0: it is not asked until `rests_until`. Times are in seconds
    since the epoch.
    """

    node_type: str
    count: int
    since: float
    present: int
    rests_until: float = 0.0

    def stored(self) -> dict[str, Any]:
        """As it is stored with its cluster."""
        return dict(vars(self))


def scale_key(cluster: str) -> str:
    """The name under which it is known how long new nodes of a cluster usually take (see StartWaits)."""
    return f"{cluster}/nodes"


def wanted(wishes: Iterable[Wish]) -> tuple[Wanted, ...]:
    """What the agent is told."""
    return tuple(Wanted(node_type=wish.node_type, count=wish.count) for wish in wishes if wish.count)


def arrived(wishes: Iterable[Wish], types: Iterable[NodeType], now: float) -> float | None:
    """How long it took until a node came that was asked for; None when none has come."""
    present = {kind.name: kind.present for kind in types}
    times = [now - wish.since for wish in wishes if wish.count and present.get(wish.node_type, 0) > wish.present]
    return min(times, default=None)
