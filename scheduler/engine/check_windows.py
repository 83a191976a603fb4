"""The part of `check` that proves windows: nothing is placed, and no start promised, that could run into one it is not for.

Written apart from `windows` on purpose: one worker and one window at a time, in plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot


def window_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Placements and promises that are in a window which is not open to their job, or could run into it."""
    faults = [fault for item in plan.placements for fault in _faults(snapshot, item.job, item.cluster, item.nodes, 0.0)]
    return faults + [fault for item in plan.promises for fault in _faults(snapshot, item.job, item.cluster, item.nodes, item.start_s)]


def _faults(snapshot: Snapshot, job: int, cluster: int, nodes: Sequence[int], start_s: float) -> list[str]:
    windows = snapshot.windows
    if windows is None:
        return []
    end_s = start_s + float(snapshot.jobs.limit_s[job] + snapshot.jobs.transfer_s[job, cluster] + snapshot.clusters.wait_s[cluster])
    found = []
    for row, name in enumerate(windows.names):
        apart = end_s <= float(windows.begin_s[row]) or start_s >= float(windows.end_s[row])
        if not apart and not windows.open_to[row, job] and any(windows.covers[row, node] for node in set(nodes)):
            found.append(f"{snapshot.jobs.ids[job]}: is placed where it could run into {name}")
    return found
