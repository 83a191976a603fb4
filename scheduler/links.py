"""Links: how fast data comes from one member to another, as the last transfers showed, and as was declared until there were any.

The speed of a link is the median of its last transfers: one that crawled behind something else, or came out of a cache on the way,
changes it little. Small transfers are not counted, for they tell how long a connection takes and nothing of its breadth. What a
cap held back counts as it was, because the next transfer will be held back too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from cluster.replicas import Transfer
from workloads.catalogue.product import ProductVersion, Replica

MIB = 1024**2
LEAST_BYTES = MIB
MOST_SAMPLES = 16


@dataclass(frozen=True)
class Sample:
    """One transfer over a link: bytes, seconds, when it was told (seconds since the epoch), and whether a cap held it back."""

    size_bytes: int
    seconds: float
    at: float
    capped: bool = False

    @property
    def mib_s(self) -> float:
        """How fast it was."""
        return self.size_bytes / MIB / self.seconds


Samples = Mapping[str, tuple[Sample, ...]]


@dataclass(frozen=True)
class Inbound:
    """How data comes to a member: the declared speed from anywhere in MiB/s, and the last transfers by the member they came from.

    `held` are the checksums of what its caches hold: that is there as if it lay there.
    """

    declared_mib_s: float
    samples: Samples = field(default_factory=dict)
    held: frozenset[str] = frozenset()

    def mib_s(self, source: str) -> float:
        """The speed to expect from a member."""
        found = self.samples.get(source)
        return median(sample.mib_s for sample in found) if found else self.declared_mib_s

    def seconds(self, versions: Iterable[ProductVersion], cluster: str) -> float:
        """How long it takes to bring these in, one after the other."""
        return sum(version.size_bytes / (self.mib_s(source_of(version, cluster).cluster) * MIB) for version in versions)


def source_of(version: ProductVersion, cluster: str) -> Replica:
    """The replica that a run at a cluster reads: the cluster's own, else the first by the name of its cluster."""
    return min(version.replicas, key=lambda replica: (replica.cluster != cluster, replica.cluster))


def with_transfers(samples: Samples, transfers: Iterable[Transfer], at: float) -> dict[str, tuple[Sample, ...]]:
    """The last transfers of each link when these have come."""
    found = dict(samples)
    for one in transfers:
        if one.size_bytes >= LEAST_BYTES and one.seconds > 0:
            sample = Sample(one.size_bytes, one.seconds, at, one.capped)
            found[one.source] = (*found.get(one.source, ()), sample)[-MOST_SAMPLES:]
    return found
