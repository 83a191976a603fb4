"""A node's folder of copies for who speaks for its cluster: what it holds, what has to go, and what is to be brought ahead of runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cluster.replicas import CacheLimits, FolderState
from cluster.runs.node_folders import cache_folder
from workloads.catalogue.locations import Progress
from workloads.runners.ahead import Ahead, Sought
from workloads.runners.copies import Brought, Wanted
from workloads.runners.replica_cache import ReplicaCache
from workloads.runners.resting import Resting
from workloads.runners.transfer import Pace, bring_from_any

ELSEWHERE = "elsewhere"  # A cluster that the control plane did not name.
_SHA256 = 64  # The letters of a checksum.


def wanted_of(file: Mapping[str, Any]) -> Wanted:
    """An InputFile as what a folder of copies is asked for. What is brought from this very cluster has no source: it is no transfer."""
    source = "" if file["local"] else file["source"] or ELSEWHERE
    others = tuple((other["uri"], other["source"]) for other in file.get("others", ()))
    return Wanted(file["uri"], file["size_bytes"], file["sha256"], source, others)


def carry(cache: ReplicaCache, limits: CacheLimits, item: Wanted, part: Path, progress: Progress | None = None) -> list[Brought]:
    """Bring one version to this node, no faster than its links may be. Raises DataError."""

    def pace_of(source: str) -> Pace:
        return Pace(cache.state / f"{source or 'here'}.pace", limits.cap_mib_s(source))

    return bring_from_any(item, part, pace_of, progress=progress, resting=Resting(cache.state / "resting"))


def folder_state(limits: dict[str, Any]) -> dict[str, Any]:
    """What this node's folder of copies holds (a FolderState), under an agent's limits. Raises OSError."""
    cache = ReplicaCache(cache_folder(), CacheLimits.model_validate(limits).capacity_bytes)
    entries = cache.entries()
    whole = sorted((entry for entry in entries if entry.whole), key=lambda entry: (-entry.used_ns, entry.name))
    return FolderState(
        folder=cache.identity, capacity_bytes=cache.capacity_bytes, used_bytes=sum(entry.size_bytes for entry in entries),
        copies=len(whole), versions=tuple(entry.name[:_SHA256] for entry in whole),
        begun=tuple(entry.name[:_SHA256] for entry in entries if not entry.whole),
        ahead=tuple(entry.name[:_SHA256] for entry in whole if entry.ahead),
        ahead_bytes=sum(entry.size_bytes for entry in entries if entry.ahead),
    ).model_dump()  # fmt: skip


def remove_copies(limits: dict[str, Any], versions: Sequence[str]) -> None:
    """Remove these versions from this node's folder, but for those that a run reads. Raises OSError."""
    cache = ReplicaCache(cache_folder(), CacheLimits.model_validate(limits).capacity_bytes)
    for sha256 in versions:
        cache.remove(sha256)


class NodeAhead:
    """What a process brings to its node ahead of runs. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: CacheLimits | None = None
        self._ahead: Ahead | None = None

    def want(self, limits: dict[str, Any], files: Sequence[Mapping[str, Any]], for_s: float) -> None:
        """Bring these InputFiles in, in this order, and nothing else; for so many seconds, unless it is said again. Raises OSError."""
        with self._lock:
            told = CacheLimits.model_validate(limits)
            if self._ahead is None or told != self._limits:
                if self._ahead is not None:
                    self._ahead.want((), 0.0)
                cache = ReplicaCache(cache_folder(), told.capacity_bytes)
                self._limits, self._ahead = told, Ahead(cache, partial(carry, cache, told))
            self._ahead.want([Sought(wanted_of(file), file["until"]) for file in files], for_s)
