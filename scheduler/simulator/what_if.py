"""What-ifs: a network with nodes added or taken away, from a line that a planner writes.

    +200 nodes H200x8 at guizhou, -10 nodes cpu at shanghai

New nodes are like those of the same shape that the cluster has, else like those of another cluster; for a shape that nobody
has, cores and memory are written too: `+20 nodes B200x8 cpu=224 memory=2TiB at guizhou`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from scheduler.errors import TraceError
from scheduler.simulator.networks import Network, NodeGroup, Site
from workloads.errors import UnitError
from workloads.resources import parse_memory

GRAMMAR = (
    "write (+|-)COUNT nodes SHAPE [cpu=CORES memory=SIZE] at CLUSTER, SHAPE being MODELxDEVICES or cpu; several changes with a comma "
    'between them, like "+200 nodes H200x8 at guizhou, -10 nodes cpu at shanghai"'
)
MOST_NODES = 1_000_000
_CHANGE = re.compile(
    r"\s*(?P<sign>[+-])\s*(?P<count>\d{1,12})\s+nodes?\s+(?P<shape>\S(?:.*?\S)??)"
    r"(?:\s+cpu=(?P<cpu>\d{1,6}(?:\.\d{1,3})?))?(?:\s+memory=(?P<memory>\S+))?\s+at\s+(?P<site>\S+)\s*"
)
_SHAPE = re.compile(r"(?P<model>.+?)\s*x\s*(?P<devices>\d{1,2})")


@dataclass(frozen=True)
class Change:
    """Nodes that come (`count` > 0) or go at a cluster. Cores and memory are None where they are those of nodes that are there."""

    count: int
    model: str
    devices: int
    site: str
    cpu: float | None = None
    memory_bytes: int | None = None

    @property
    def shape(self) -> str:
        """As it is written."""
        return f"{self.model}x{self.devices}" if self.devices else "cpu"


def parse_what_if(text: str) -> tuple[Change, ...]:
    """The changes that a line asks for. Raises TraceError with the grammar, and the place of what is wrong."""
    changes, begin = [], 0
    for part in text.split(","):
        found = _CHANGE.fullmatch(part)
        if found is None:
            raise _fault(text, begin, f"{part.strip()!r} is no change; {GRAMMAR}")
        changes.append(_change(found, text, begin))
        begin += len(part) + 1
    return tuple(changes)


def _change(found: re.Match[str], text: str, begin: int) -> Change:
    shape = _SHAPE.fullmatch(found["shape"])
    if shape is None and found["shape"] != "cpu":
        raise _fault(text, begin + found.start("shape"), f"{found['shape']!r} is no shape of a node; {GRAMMAR}")
    devices = int(shape["devices"]) if shape else 0
    count = int(found["count"])
    if not 0 < count <= MOST_NODES or (shape and not devices):
        where = begin + found.start("count" if not 0 < count <= MOST_NODES else "shape")
        raise _fault(text, where, f"1 to {MOST_NODES:,} nodes come or go at once, each with at least one device or none named; {GRAMMAR}")
    try:
        memory = parse_memory(found["memory"]) if found["memory"] else None
    except UnitError as error:
        raise _fault(text, begin + found.start("memory"), str(error)) from error
    return Change(
        count if found["sign"] == "+" else -count, shape["model"] if shape else "", devices, found["site"],
        float(found["cpu"]) if found["cpu"] else None, memory,
    )  # fmt: skip


def _fault(text: str, at: int, message: str) -> TraceError:
    return TraceError(message, file=f"--what-if {text!r}", line=1, column=str(at + 1))


def changed(network: Network, changes: tuple[Change, ...], text: str) -> Network:
    """The network after the changes. Raises TraceError where a cluster or its nodes are not there."""
    for change in changes:
        names = [site.name for site in network.sites]
        if change.site not in names:
            raise _wrong(text, f"there is no cluster {change.site!r}; there are: {', '.join(sorted(names))}")
        sites = tuple(_changed(site, change, network, text) if site.name == change.site else site for site in network.sites)
        network = replace(network, sites=sites)
    if not any(group.count for group in network.groups):
        raise _wrong(text, "no node would be left")
    return network


def _changed(site: Site, change: Change, network: Network, text: str) -> Site:
    if change.count > 0:
        return replace(site, groups=(*site.groups, _like(site, change, network, text)))
    missing, groups = -change.count, []
    there = sum(group.count for group in site.groups if _is_meant(group, change))
    if there < missing:
        raise _wrong(text, f"{site.name} has {there} nodes {change.shape}, and {missing} were to go")
    for group in reversed(site.groups):
        gone = min(group.count, missing) if _is_meant(group, change) else 0
        groups.append(replace(group, count=group.count - gone))
        missing -= gone
    return replace(site, groups=tuple(reversed(groups)))


def _is_meant(group: NodeGroup, change: Change) -> bool:
    same = (group.model, group.devices) == (change.model, change.devices)
    return same and change.cpu in (None, group.cpu) and change.memory_bytes in (None, group.memory_bytes)


def _like(site: Site, change: Change, network: Network, text: str) -> NodeGroup:
    known = [group for group in (*site.groups, *network.groups) if (group.model, group.devices) == (change.model, change.devices)]
    if not known and (change.cpu is None or change.memory_bytes is None):
        raise _wrong(text, f"no node {change.shape} is there to be like; say what it has: {change.shape} cpu=96 memory=1TiB")
    cpu = change.cpu if change.cpu is not None else known[0].cpu
    memory = change.memory_bytes if change.memory_bytes is not None else known[0].memory_bytes
    return NodeGroup(change.count, cpu, memory, change.model, change.devices)


def _wrong(text: str, message: str) -> TraceError:
    return TraceError(message, file=f"--what-if {text!r}")
