"""Copies of product versions in words that all share who bring, keep and read them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from workloads.catalogue.locations import suffix


@dataclass(frozen=True)
class Wanted:
    """A version's bytes: where they are to be had, how many, their checksum, and the cluster that they come from.

    `others` are places (URI, cluster) to have them from instead, in this order.
    """

    uri: str
    size_bytes: int
    sha256: str
    source: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What its copy is called."""
        return f"{self.sha256}{suffix(self.uri)}"


@dataclass(frozen=True)
class Brought:
    """A transfer that is over: the bytes that were moved, and the time it took in seconds, 0 where that is not known.

    `capped`: it was held back on the way. `ahead`: it was before the run that tells it.
    """

    source: str
    size_bytes: int
    seconds: float
    capped: bool = False
    sha256: str = ""
    ahead: bool = False


@dataclass(frozen=True)
class Claimed:
    """What it took to have a copy that a run found there: the transfers, and the copies that were removed to make room for it."""

    brought: tuple[Brought, ...] = ()
    evicted: int = 0
    evicted_bytes: int = 0


@dataclass(frozen=True)
class Entry:
    """What a folder has of one version. `size_bytes` is what it counts for, `used_ns` when it was used last, `held` whether it is.

    `ahead`: it was brought ahead, or is, and no run has read it.
    """

    name: str
    size_bytes: int
    used_ns: int
    held: bool
    whole: bool
    ahead: bool = False
    missing_bytes: int = 0


@dataclass
class Use:
    """The copies that a run reads, which stay until it closes this; and what was done to have them."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    evicted_bytes: int = 0
    brought: list[Brought] = field(default_factory=list)
    _holds: list[int] = field(default_factory=list)

    def include(self, found: Claimed) -> None:
        """What was done before, to have a copy that was brought ahead."""
        self.brought.extend(found.brought)
        self.evicted, self.evicted_bytes = self.evicted + found.evicted, self.evicted_bytes + found.evicted_bytes

    def close(self) -> None:
        """The run reads them no more. Twice does no harm."""
        while self._holds:
            os.close(self._holds.pop())
