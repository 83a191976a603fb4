"""Which files of the cluster's volumes a run's pods see: those of its own inputs, each by itself, and nothing beside them.

So that a claim which holds many products shows each run what it has rights to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from cluster.data_claims import Claim
from cluster.protocol import RunRequest
from workloads.catalogue.locations import local_path
from workloads.errors import DataError

Document = dict[str, Any]


def data_of(run: RunRequest, claims: Sequence[Claim]) -> tuple[list[Document], list[Document]]:
    """The volumes and the mounts of a run's inputs that lie on volumes of its cluster. All can only be read."""
    found: dict[str, tuple[Claim, str]] = {}
    for _, wanted in sorted(run.inputs.items()):
        place = _path(wanted.uri) if wanted.local else None
        if place is not None and (claim := _claim_of(place, claims)) is not None:
            found[str(place)] = claim
    names = {name: f"data-{number}" for number, name in enumerate(sorted({claim.name for claim, _ in found.values()}))}
    volumes = [{"name": volume, "persistentVolumeClaim": {"claimName": name, "readOnly": True}} for name, volume in names.items()]
    mounts = [
        {"name": names[claim.name], "mountPath": path, "subPath": file, "readOnly": True} for path, (claim, file) in sorted(found.items())
    ]
    return volumes, mounts


def _path(uri: str) -> PurePosixPath | None:
    try:
        found = local_path(uri)
    except DataError:
        # Whoever reads it says so.
        return None
    return None if found is None else PurePosixPath(found)


def _claim_of(path: PurePosixPath, claims: Sequence[Claim]) -> tuple[Claim, str] | None:
    """The claim that has a path, of several the one that is nearest to it."""
    for claim in sorted(claims, key=lambda claim: (-len(claim.path.parts), claim.name)):
        if (file := claim.file(path)) is not None:
            return claim, file
    return None
