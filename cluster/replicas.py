"""Copies of product versions at a place where they do not lie: how many bytes they may take, and what was brought in.

The limits come from the agent with each run; what was done for a run is told with its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

GIB = 1024**3
DEFAULT_CACHE_GIB = 64.0
ANY_LINK = "*"
MOST_TOLD = 1000
MOST_AHEAD = 64

Speed = Annotated[float, Field(gt=0, le=1e6)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
    sha256: str = Field(default="", description="checksum of the version that they belong to; empty: not told")
    ahead: bool = Field(default=False, description="it was before the run that tells it, which reads them first")


class CacheCounts(_Frozen):
    """What the inputs of a run did to the caches where it ran."""

    hits: int = Field(default=0, ge=0, description="inputs whose copy was there")
    misses: int = Field(default=0, ge=0, description="inputs that had to be brought in")
    evicted: int = Field(default=0, ge=0, description="copies that were removed to make room")
    evicted_bytes: int = Field(default=0, ge=0)

    def __add__(self, other: CacheCounts) -> CacheCounts:
        return CacheCounts(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class CacheState(_Frozen):
    """What the caches of a member hold now. A version counts where every node has a copy, in its own folder or a shared one.

    `versions` are checksums, and so are the others; where there are more than MOST_TOLD, those that were used last.
    """

    capacity_bytes: int = Field(ge=0, description="of all its folders of copies together")
    used_bytes: int = Field(ge=0)
    copies: int = Field(ge=0, description="whole copies in all of them")
    folder_bytes: int = Field(default=0, ge=0, description="the most that the smallest of them may hold; 0: not told")
    versions: tuple[Sha256, ...] = Field(default=(), max_length=MOST_TOLD)
    partly: tuple[Sha256, ...] = Field(default=(), max_length=MOST_TOLD, description="of which some nodes have a copy, or a beginning")
    ahead: tuple[Sha256, ...] = Field(default=(), max_length=MOST_TOLD, description="brought ahead somewhere, and read by no run yet")
    ahead_bytes: int = Field(default=0, ge=0, description="of these, and of what is brought ahead now")

    @cached_property
    def held(self) -> frozenset[str]:
        """The versions, to be looked up."""
        return frozenset(self.versions)

    @cached_property
    def unread(self) -> frozenset[str]:
        """Those that were brought ahead and that no run has read, to be looked up."""
        return frozenset(self.ahead)


class FolderState(_Frozen):
    """One folder of copies as a node sees it. `folder` is the same on all nodes that share it; `versions` from the one used last.

    `begun` are those of which a beginning lies there, `ahead` those that were brought ahead and that no run has read yet.
    """

    folder: str
    capacity_bytes: int
    used_bytes: int
    copies: int
    versions: tuple[str, ...]
    begun: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    ahead_bytes: int = 0


def together(nodes: Sequence[FolderState]) -> CacheState | None:
    """The state of a member by those of all its nodes; None without any."""
    if not nodes:
        return None
    folders = list({one.folder: one for one in nodes}.values())
    everywhere = set.intersection(*(set(one.versions) for one in folders))
    latest = [version for version in folders[0].versions if version in everywhere][:MOST_TOLD]
    somewhere = {version for one in folders for version in (*one.versions, *one.begun)} - everywhere
    ahead = {version for one in folders for version in one.ahead}
    return CacheState(
        capacity_bytes=sum(one.capacity_bytes for one in folders), used_bytes=sum(one.used_bytes for one in folders),
        copies=sum(one.copies for one in folders), folder_bytes=min(one.capacity_bytes for one in folders),
        versions=tuple(sorted(latest)), partly=tuple(sorted(somewhere)[:MOST_TOLD]), ahead=tuple(sorted(ahead)[:MOST_TOLD]),
        ahead_bytes=sum(one.ahead_bytes for one in folders),
    )  # fmt: skip


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


class Pretended:
    """A cache in memory only, for a cluster that runs nothing: the same rules, and transfers at a pretended speed."""

    def __init__(self, capacity_bytes: int, mib_s: float = 100.0) -> None:
        self._capacity_bytes, self._mib_s = capacity_bytes, mib_s
        self._sizes: dict[str, int] = {}  # From the one used longest ago.
        self._ahead: dict[str, Transfer] = {}  # What was brought ahead and no run has read.
        self._readers: dict[str, frozenset[str]] = {}
        self._unwanted: frozenset[str] = frozenset()

    def take(self, run_id: str, wanted: Sequence[tuple[str, int, str]]) -> tuple[CacheCounts, tuple[Transfer, ...]]:
        """Have these versions (checksum, bytes, where from) for a run. Raises ValueError when there is no room."""
        sizes = {sha256: size_bytes for sha256, size_bytes, _ in wanted}
        missing = {sha256: size_bytes for sha256, size_bytes in sizes.items() if sha256 not in self._sizes}
        evicted = self._room_for(sum(missing.values()), frozenset(sizes))
        if evicted is None:
            raise ValueError(f"there is no room for {sum(sizes.values())} bytes in the cache of {self._capacity_bytes}")
        kept = {sha256: size for sha256, size in self._sizes.items() if sha256 not in evicted and sha256 not in sizes}
        self._sizes = kept | sizes
        self._readers[run_id] = frozenset(sizes)
        sources = {sha256: source for sha256, _, source in wanted}
        moved = tuple(self._moved(sources[sha256], size, sha256) for sha256, size in missing.items())
        moved += tuple(one for sha256 in sizes if (one := self._ahead.pop(sha256, None)) is not None)
        self._forget_gone()
        counts = CacheCounts(
            hits=len(sizes) - len(missing), misses=len(missing), evicted=len(evicted), evicted_bytes=sum(evicted.values())
        )  # fmt: skip
        return counts, moved

    def bring(self, wanted: Sequence[tuple[str, int, str]]) -> None:
        """Have these versions ahead of the runs that will read them, as far as there is room and they take at most half of it."""
        names = frozenset(sha256 for sha256, _, _ in wanted)
        for sha256, size_bytes, source in wanted:
            if sha256 in self._sizes or sha256 in self._unwanted or 2 * (self._ahead_bytes + size_bytes) > self._capacity_bytes:
                continue
            evicted = self._room_for(size_bytes, names)
            if evicted is not None:
                self._sizes = {name: size for name, size in self._sizes.items() if name not in evicted} | {sha256: size_bytes}
                self._ahead[sha256] = self._moved(source, size_bytes, sha256).model_copy(update={"ahead": True})
                self._forget_gone()

    def leave(self, run_id: str) -> None:
        """The run is over."""
        self._readers.pop(run_id, None)
        self.refuse(self._unwanted)

    def refuse(self, versions: Iterable[str]) -> None:
        """Remove these, those that a run reads when it is over."""
        self._unwanted = frozenset(versions)
        self._sizes = {sha256: size for sha256, size in self._sizes.items() if sha256 not in self._unwanted or self._is_read(sha256)}
        self._forget_gone()

    def state(self) -> CacheState:
        """What it holds."""
        latest = tuple(reversed(self._sizes))
        return CacheState(
            capacity_bytes=self._capacity_bytes, used_bytes=sum(self._sizes.values()), copies=len(self._sizes),
            folder_bytes=self._capacity_bytes,
            versions=tuple(sorted(latest[:MOST_TOLD])), ahead=tuple(sorted(self._ahead)), ahead_bytes=self._ahead_bytes,
        )  # fmt: skip

    @property
    def _ahead_bytes(self) -> int:
        return sum(one.size_bytes for one in self._ahead.values())

    def _moved(self, source: str, size_bytes: int, sha256: str) -> Transfer:
        return Transfer(source=source, size_bytes=size_bytes, seconds=size_bytes / (self._mib_s * 1024**2), sha256=sha256)

    def _room_for(self, size_bytes: int, spared: frozenset[str]) -> dict[str, int] | None:
        """What has to go, with its size, for so many bytes to come; None where that is not enough."""
        over, evicted = sum(self._sizes.values()) + size_bytes - self._capacity_bytes, dict[str, int]()
        for sha256, size in self._sizes.items():
            if over > 0 and sha256 not in spared and not self._is_read(sha256):
                evicted[sha256] = size
                over -= size
        return evicted if over <= 0 else None

    def _forget_gone(self) -> None:
        self._ahead = {sha256: one for sha256, one in self._ahead.items() if sha256 in self._sizes}

    def _is_read(self, sha256: str) -> bool:
        return any(sha256 in read for read in self._readers.values())
