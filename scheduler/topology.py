"""Topology: which nodes stand together, as their labels say.

A level (zone, rack) has keys; the first of them that a node carries names its group, and a node that carries none belongs to none.
Groups are told apart by cluster, and racks by zone too, because racks in two buildings may have one name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from scheduler.engine.snapshot import Ints

Level = Literal["zone", "rack"]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class Topology:
    """The label keys that name a node's zone and rack, the strongest first."""

    zone: tuple[str, ...] = ("cpn/zone", "topology.kubernetes.io/zone")
    rack: tuple[str, ...] = ("cpn/rack", "topology.kubernetes.io/rack")

    def with_more(self, zone: Sequence[str] = (), rack: Sequence[str] = ()) -> Topology:
        """The same with further keys, which are looked for first."""
        return Topology((*zone, *self.zone), (*rack, *self.rack))

    def groups(self, homes: Sequence[int], labels: Sequence[Mapping[str, str]]) -> Ints:
        """[N, T] The number of each node's group at each of LEVELS, -1 for none, from its cluster `homes[N]` and its `labels[N]`."""
        named = [[(home, *found) if found else None for found in self._names(carried)] for home, carried in zip(homes, labels, strict=True)]
        groups = np.full((len(named), len(LEVELS)), -1, dtype=np.int64)
        for level in range(len(LEVELS)):
            numbers = {name: number for number, name in enumerate(sorted({row[level] or () for row in named} - {()}))}
            groups[:, level] = [numbers.get(row[level] or (), -1) for row in named]
        return groups

    def _names(self, labels: Mapping[str, str]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        zone = next((labels[key] for key in self.zone if labels.get(key)), "")
        rack = next((labels[key] for key in self.rack if labels.get(key)), "")
        return (zone,) if zone else None, (zone, rack) if rack else None


USUAL_TOPOLOGY = Topology()
