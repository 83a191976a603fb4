"""What a run on Daft has on each of its nodes: one process, with as many threads and as much memory as all of its workers there together.

`DAFT_MEMORY_LIMIT` bounds what Daft accounts for, not what it takes, so each process watches itself.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.resources import format_memory

_LOOK_S = 0.1
_REMEDY = "ask for more memory or workers, or for a join that makes fewer rows"


@dataclass(frozen=True)
class Share:
    """What a run has on one node: how many of its workers, and the bundle of the first one."""

    node: str
    bundle: int
    workers: int

    def cores(self, run: Mapping[str, Any]) -> int:
        """Threads that it takes; at least one."""
        return max(int(run["cpu"] * self.workers), 1)

    def memory_bytes(self, run: Mapping[str, Any]) -> int:
        """What Daft may hold there."""
        return int(run["memory_bytes"]) * self.workers


def shares(nodes: Sequence[str]) -> list[Share]:
    """The nodes of a run's workers, by rank, each node once."""
    count = Counter(nodes)
    return [Share(node, nodes.index(node), workers) for node, workers in count.items()]


def prepare_daft(run: Mapping[str, Any], share: Share) -> None:
    """Before the first import of Daft in a process that works."""
    quiet_daft()
    os.environ["DAFT_MEMORY_LIMIT"] = str(share.memory_bytes(run))


def quiet_daft() -> None:
    """Daft tells nobody of its use, and draws no bars."""
    os.environ |= {"DAFT_ANALYTICS_ENABLED": "0", "SCARF_NO_ANALYTICS": "true", "DAFT_PROGRESS_BAR": "0"}


def wait_beyond_memory(run: Mapping[str, Any], share: Share) -> str:
    """Blocks until this process holds more than it does now and what the run was granted here: what to say of it then."""
    granted = share.memory_bytes(run)
    limit = _own_bytes() + granted
    while _own_bytes() <= limit:
        time.sleep(_LOOK_S)
    return f"it needs more than the {format_memory(granted)} that it has on {share.node}: {_REMEDY}"


def _own_bytes() -> int:
    """Memory of this process, without what it shares with Ray's object store."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
