"""What runs that are over may have left on a member's cluster, whatever its backend."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["actor", "placement-group", "process", "directory", "Secret", "Job", "RayJob", "Service", "Pod"]
# What members on one machine may share.
_SHARED = ("process", "directory")


class Leftover(BaseModel):
    """One thing of one run. `name` is an actor's or group's name (of a program's, NAMESPACE/ID), a directory's path, or a process's
    number and start (`PID/TICKS`).

    `node` is Ray's id of the node that it is on and `folder` the name of its directory of runs there; empty for what is on no node of Ray.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    name: str
    run_id: str
    node: str = ""
    folder: str = ""


class Survey(BaseModel):
    """Everything of ours that was found, whether its run goes on or not; `silent` are nodes and
    warm supervisors that did not answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    found: tuple[Leftover, ...]
    silent: tuple[str, ...] = ()


def orphans(found: Iterable[Leftover], here: Collection[str], everywhere: Collection[str]) -> list[Leftover]:
    """Those whose run is over. `here`: ids of the runs that the network has on this cluster; `everywhere`: on all of them.

    Members on one machine may share the directory of runs, so a directory or process is an orphan only where no member has its run.
    """

    def over(item: Leftover) -> bool:
        return item.run_id not in (everywhere if item.kind in _SHARED else here)

    return sorted((item for item in found if over(item)), key=lambda item: (item.run_id, item.kind, item.node, item.name))
