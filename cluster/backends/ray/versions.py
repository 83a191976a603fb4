"""What a driver of ours needs to be equal on both sides: Ray and Python, to the last digit."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass

from cluster.backends.ray.gcs import HeadFacts


@dataclass(frozen=True)
class Versions:
    """What this machine has. Ray lets a process in only where both are the cluster's, to the last digit."""

    ray: str
    python: str
    package: str


def own_versions() -> Versions:
    """Of Ray, Python and cpn as they are installed here."""
    return Versions(importlib.metadata.version("ray"), platform.python_version(), importlib.metadata.version("cpn"))


def differences(facts: HeadFacts, own: Versions) -> list[tuple[str, str, str]]:
    """What a head has in another version than this machine: the name, its version, ours."""
    pairs = (("Ray", facts.ray_version, own.ray), ("Python", facts.python_version, own.python))
    return [(what, theirs or "(unknown)", ours) for what, theirs, ours in pairs if theirs != ours]
