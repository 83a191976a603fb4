"""A network as a planner describes it: clusters with their prices and nodes by shape, queues, and a target to compare with.

It becomes machines for a trace to run on. Nodes of one cluster and one accelerator model are a row of `models`, named
`cluster/model`: a gang stays within one such row, as a run stays within one cluster, and of equally fast ones goes to the
cheapest that has room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cluster.carbon import CORE, Carbon
from cluster.computing_power import accelerator_rating, canonical_model
from scheduler.quotas import warnings
from scheduler.store.records import QueueRecord
from scheduler.traces.machines import Machines
from workloads.catalogue.pricing import Prices
from workloads.resources import GIB, MIB

DEFAULT_PRECISION = "fp16"


@dataclass(frozen=True)
class NodeGroup:
    """Equal nodes: how many, the cores and memory of each, and its accelerators, all of one model."""

    count: int
    cpu: float
    memory_bytes: int
    model: str = ""
    devices: int = 0

    @property
    def shape(self) -> str:
        """What nodes are called in what-ifs: `H200x8`, or `cpu` without accelerators."""
        return f"{self.model}x{self.devices}" if self.devices else "cpu"


@dataclass(frozen=True)
class Site:
    """A cluster of the network."""

    name: str
    jurisdiction: str
    prices: Prices
    groups: tuple[NodeGroup, ...]
    carbon: Carbon | None = None


@dataclass(frozen=True)
class Goal:
    """Computing power of accelerators that is to be delivered, in FLOP/s at one precision."""

    precision: str
    flops: float


@dataclass(frozen=True)
class Network:
    """Clusters, at least one, all with prices in one currency; queues as stored ones; and what is aimed at, if anything."""

    sites: tuple[Site, ...]
    queues: tuple[QueueRecord, ...] = ()
    goal: Goal | None = None

    @property
    def currency(self) -> str:
        """The currency of all prices."""
        return self.sites[0].prices.currency

    @property
    def precision(self) -> str:
        """The precision at which computing power is counted."""
        return self.goal.precision if self.goal else DEFAULT_PRECISION

    @property
    def groups(self) -> tuple[NodeGroup, ...]:
        """All groups of nodes."""
        return tuple(group for site in self.sites for group in site.groups)

    @property
    def declares_carbon(self) -> bool:
        """Whether any cluster says what its electricity emits."""
        return any(site.carbon is not None for site in self.sites)

    def capacity(self) -> dict[str, float]:
        """Cores, bytes of memory, and accelerators by model, in all."""
        total = {"cpu": 0.0, "memory": 0.0}
        for group in self.groups:
            total["cpu"] += group.count * group.cpu
            total["memory"] += float(group.count * group.memory_bytes)
            if group.devices:
                total[group.model] = total.get(group.model, 0.0) + group.count * group.devices
        return total

    def flops(self) -> float:
        """What all accelerators are rated at, in FLOP/s; those without a rating count nothing."""
        return sum(group.count * group.devices * rated(group.model, self.precision) for group in self.groups)

    def warnings(self) -> tuple[str, ...]:
        """What of the quotas cannot be kept on these nodes, and what of queues is not simulated, with their names."""
        capacity = self.capacity()
        return tuple(
            f"queue {queue.name}: {text}"
            for queue in self.queues
            for text in (*warnings(queue, self.queues, capacity), *_not_simulated(queue))
        )


def _not_simulated(queue: QueueRecord) -> Iterator[str]:
    if queue.preemption not in (None, "never"):
        yield f"preemption ({queue.preemption}) is not simulated; nobody is ended"
    if queue.layout == "spread":
        yield "spread is not simulated; its jobs are packed"


@dataclass(frozen=True, eq=False)
class Rates:
    """For each row of `models`: what a core, a GiB of memory and an accelerator cost for an hour, and FLOP/s of one accelerator.

    `core_watts` and `device_watts` are what one draws, with what the site needs on top; NaN where nobody knows, or no carbon is declared.
    """

    cpu: np.ndarray[tuple[int], np.dtype[np.float64]] = field(repr=False)
    memory_gib: np.ndarray[tuple[int], np.dtype[np.float64]] = field(repr=False)
    accelerator: np.ndarray[tuple[int], np.dtype[np.float64]] = field(repr=False)
    flops: np.ndarray[tuple[int], np.dtype[np.float64]] = field(repr=False)
    core_watts: np.ndarray[tuple[int], np.dtype[np.float64]] = field(repr=False)
    device_watts: np.ndarray[tuple[int], np.dtype[np.float64]] = field(repr=False)


def rated(model: str, precision: str) -> float:
    """FLOP/s of one accelerator, 0 without a rating."""
    return (accelerator_rating(model) or {}).get(precision, 0.0)


def same_name(model: str) -> str:
    """One name for a model, however drivers and people write it."""
    return canonical_model(model) or model


def machines_of(network: Network) -> Machines:
    """The nodes of a network, sorted by cluster and model; groups of no nodes are left out."""
    groups = _rows(network)
    keys = tuple(dict.fromkeys((site.name, group.model) for site, group in groups))
    count = [group.count for _, group in groups]
    home = [keys.index((site.name, group.model)) for site, group in groups]

    def spread(values: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.repeat(np.array(list(values), dtype=np.int64), count)

    rates, sites = rates_of(network), row_sites(network)
    return Machines(
        cpu_milli=spread(round(group.cpu * 1000) for _, group in groups),
        memory_mib=spread(group.memory_bytes // MIB for _, group in groups),
        devices=spread(group.devices for _, group in groups), model=spread(home), models=tuple("/".join(key) for key in keys), pooled=False,
        accelerators=tuple(same_name(model) if model else "" for _, model in keys), sites=tuple(site for site, _ in keys),
        price=_hourly(keys, groups, rates), tariffs=tuple(site.prices.tariffs for site in sites),
        carbon=tuple(site.carbon for site in sites),
    )  # fmt: skip


def rates_of(network: Network) -> Rates:
    """Prices and ratings by row of `models`; an accelerator without a price is not charged."""
    prices = {site.name: site.prices for site in network.sites}
    keys = tuple(dict.fromkeys((site.name, group.model) for site, group in _rows(network)))
    charged = [prices[site].accelerator_hour for site, _ in keys]
    declared = [site.carbon for site in row_sites(network)]
    return Rates(
        cpu=np.array([float(prices[site].cpu_hour.amount) for site, _ in keys]),
        memory_gib=np.array([float(prices[site].memory_gib_hour.amount) for site, _ in keys]),
        accelerator=np.array([float(of[model].amount) if model in of else 0.0 for of, (_, model) in zip(charged, keys, strict=True)]),
        flops=np.array([rated(model, network.precision) for _, model in keys]),
        core_watts=np.array([_watts(carbon, carbon.watts.get(CORE)) if carbon else np.nan for carbon in declared]),
        device_watts=np.array([
            _watts(carbon, carbon.watts_of_device(model)) if carbon else np.nan for carbon, (_, model) in zip(declared, keys, strict=True)
        ]),
    )  # fmt: skip


def _watts(carbon: Carbon, watts: float | None) -> float:
    return np.nan if watts is None else watts * carbon.overhead


def row_sites(network: Network) -> tuple[Site, ...]:
    """The cluster of each row of `models`."""
    return tuple({(site.name, group.model): site for site, group in _rows(network)}.values())


def _rows(network: Network) -> list[tuple[Site, NodeGroup]]:
    """Groups with nodes, by cluster, then model."""
    sites = sorted(network.sites, key=lambda site: site.name)
    return [(site, group) for site in sites for group in sorted(site.groups, key=lambda group: group.model) if group.count]


def _hourly(keys: tuple[tuple[str, str], ...], groups: list[tuple[Site, NodeGroup]], rates: Rates) -> tuple[float, ...]:
    """What an hour of a device costs with its part of the node, or of a core where there is no device."""
    found = []
    for row, key in enumerate(keys):
        group = next(group for site, group in groups if (site.name, group.model) == key)
        node = group.cpu * rates.cpu[row] + group.memory_bytes / GIB * rates.memory_gib[row] + group.devices * rates.accelerator[row]
        found.append(float(node / (group.devices or group.cpu)))
    return tuple(found)
