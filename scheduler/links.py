"""Links: how fast data comes from one member to another, as the last transfers showed, and as was declared until there were any.

The speed of a link is the median of its last transfers: one that crawled behind something else, or came out of a cache on the way,
changes it little. Small transfers are not counted, for they tell how long a connection takes and nothing of its breadth. What a
cap held back counts as it was, because the next transfer will be held back too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from cluster.model import LinkTerms
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


@dataclass(frozen=True)
class Move:
    """A transfer of a version that a run would need: from the member whose link is fastest, from one of the `others` where that fails."""

    ref: str
    size_bytes: int
    source: str
    mib_s: float
    others: tuple[str, ...] = ()
    latency_s: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.latency_s + self.size_bytes / (self.mib_s * MIB)


Samples = Mapping[str, tuple[Sample, ...]]


@dataclass(frozen=True)
class Inbound:
    """How data comes to a member: the declared speed from anywhere in MiB/s, and the last transfers by the member they came from.

    `held` are the checksums of what its caches hold: that is there as if it lay there. `ahead` are those
    that were brought ahead of the run that will read them first, which pays for it. `most_bytes` is the most that the copies of one run
    may take there, None where that is not known. `terms` are what was said of single links.
    """

    declared_mib_s: float
    samples: Samples = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    ahead: frozenset[str] = frozenset()
    most_bytes: int | None = None
    terms: Mapping[str, LinkTerms] = field(default_factory=dict)

    def mib_s(self, source: str) -> float:
        """The speed to expect from a member."""
        found = self.samples.get(source)
        return median(sample.mib_s for sample in found) if found else self.declared_from(source)

    def declared_from(self, source: str) -> float:
        """The speed from a member as its operator says, for that link or for all."""
        said = self.terms.get(source)
        return self.declared_mib_s if said is None or said.bandwidth_mib_s is None else said.bandwidth_mib_s

    def latency_s(self, source: str) -> float:
        """How long it takes until the first byte comes from a member."""
        return self.terms[source].latency_ms / 1000 if source in self.terms else 0.0

    def sources_of(self, version: ProductVersion, cluster: str) -> tuple[Replica, ...]:
        """Its replicas as a run at a cluster tries them: the cluster's own, then the fastest link's; of equals the first by name."""
        return tuple(sorted(version.replicas, key=lambda one: (one.cluster != cluster, -self.mib_s(one.cluster), one.cluster)))

    def move_of(self, version: ProductVersion, cluster: str) -> Move:
        """How a version that does not lie at a cluster is expected to come there."""
        source, *others = (one.cluster for one in self.sources_of(version, cluster))
        return Move(version.ref, version.size_bytes, source, self.mib_s(source), tuple(others), self.latency_s(source))


def with_transfers(samples: Samples, transfers: Iterable[Transfer], at: float) -> dict[str, tuple[Sample, ...]]:
    """The last transfers of each link when these have come."""
    found = dict(samples)
    for one in transfers:
        if one.size_bytes >= LEAST_BYTES and one.seconds > 0:
            sample = Sample(one.size_bytes, one.seconds, at, one.capped)
            found[one.source] = (*found.get(one.source, ()), sample)[-MOST_SAMPLES:]
    return found
