"""Volumes of a Kubernetes cluster on which replicas lie: which claim, and where runs find what is on it.

A replica with the URI `file://PATH/rest` is then the file `rest` of the claim's volume, for every pod of the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import StringConstraints

CLAIM_PATTERN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?=(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$"
DataClaim = Annotated[str, StringConstraints(pattern=CLAIM_PATTERN, max_length=1024)]
# What a pod has of its own.
_TAKEN = tuple(map(PurePosixPath, ("/cpn", "/proc", "/sys", "/dev")))


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim by name, and the path that stands for its volume."""

    name: str
    path: PurePosixPath

    def file(self, path: PurePosixPath) -> str | None:
        """What lies at a path, as a path within the volume; None for what does not lie there."""
        if path == self.path or not path.is_relative_to(self.path) or ".." in path.parts:
            return None
        return str(path.relative_to(self.path))


def read_claim(text: str) -> Claim:
    """`NAME=/path` as it was checked before."""
    name, _, path = text.partition("=")
    return Claim(name, PurePosixPath(path))


def claim_faults(texts: Sequence[str]) -> list[tuple[int, str]]:
    """What is wrong with each of these, by its index."""
    faults, seen = [], dict[PurePosixPath, str]()
    for index, text in enumerate(texts):
        path = read_claim(text).path
        if any(path.is_relative_to(taken) for taken in _TAKEN):
            faults.append((index, f"{path} is a pod's own; name another path, like /data"))
        elif path in seen:
            faults.append((index, f"{path} stands for {seen[path]} already; name another path"))
        seen.setdefault(path, read_claim(text).name)
    return faults
