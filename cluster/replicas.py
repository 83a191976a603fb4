"""Copies of product versions at a place where they do not lie: how many bytes they may take, and what was brought in.

The limits come from the agent with each run; what was done for a run is told with its end.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

GIB = 1024**3
DEFAULT_CACHE_GIB = 64.0
ANY_LINK = "*"

Speed = Annotated[float, Field(gt=0, le=1e6)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CacheLimits(_Frozen):
    """How many bytes the copies of a node may take, and how fast they may be brought in: MiB/s by the cluster that they come from.

    `*` names all links that are not named themselves; a link without a cap takes what it gets.
    """

    capacity_bytes: int = Field(default=int(DEFAULT_CACHE_GIB * GIB), gt=0)
    caps_mib_s: dict[str, Speed] = {}

    def cap_mib_s(self, source: str) -> float | None:
        """The most that transfers from a cluster may take together on one node."""
        return self.caps_mib_s.get(source, self.caps_mib_s.get(ANY_LINK))


class Transfer(_Frozen):
    """Bytes that were brought from another cluster, and how long that took. `capped`: a cap held it back, so it says little of the link."""

    source: str
    size_bytes: int = Field(ge=0)
    seconds: float = Field(ge=0)
    capped: bool = False


class CacheCounts(_Frozen):
    """What the inputs of a run did to the caches where it ran."""

    hits: int = Field(default=0, ge=0, description="inputs whose copy was there")
    misses: int = Field(default=0, ge=0, description="inputs that had to be brought in")
    evicted: int = Field(default=0, ge=0, description="copies that were removed to make room")
    evicted_bytes: int = Field(default=0, ge=0)

    def __add__(self, other: CacheCounts) -> CacheCounts:
        return CacheCounts(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


def read_limits(cache_gib: str, transfer_mib_s: str) -> CacheLimits:
    """The limits of an agent, from `CPN_CACHE_GIB` (a number) and `CPN_TRANSFER_MIB_S` (`shanghai=50,*=200`). Raises ValueError."""
    caps: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in transfer_mib_s.split(","))):
        source, separator, text = (word.strip() for word in part.partition("="))
        if not separator or not source:
            raise ValueError(f"CPN_TRANSFER_MIB_S: {part!r} is no cap; write CLUSTER=MIB_S, or *=MIB_S for all others")
        if source in caps:
            raise ValueError(f"CPN_TRANSFER_MIB_S: {source} is given twice; give it once")
        caps[source] = _positive(f"CPN_TRANSFER_MIB_S: {source}", text, 1e6)
    gib = _positive("CPN_CACHE_GIB", cache_gib, 1e6) if cache_gib.strip() else DEFAULT_CACHE_GIB
    return CacheLimits(capacity_bytes=max(int(gib * GIB), 1), caps_mib_s=caps)


def _positive(name: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= most:
        raise ValueError(f"{name}={text} must be a number above 0, and {most:.0f} at most")
    return number
