"""Windows: times at which nodes are not for everybody: under maintenance for nobody, reserved for one tenant or queue.

A job is kept off a node if it could still run there when a window begins that is not open to it, if it takes as long as it may.
Maintenance and reservations are promises of people, so its limit counts and not how long it is expected to take.
"""

from __future__ import annotations

import numpy as np

from scheduler.engine.snapshot import Bools, Floats, Snapshot


def reach_s(snapshot: Snapshot) -> Floats:
    """[J, C] Seconds from its placement at a cluster until a job has ended there at the latest."""
    jobs = snapshot.jobs
    latest: Floats = jobs.limit_s[:, None] + jobs.transfer_s + snapshot.clusters.wait_s
    return latest


def shut(snapshot: Snapshot, job: int, start_s: float = 0.0) -> Bools:
    """[W, N] Which nodes each window keeps a job off, if it is placed so many seconds from now."""
    windows = snapshot.windows
    if windows is None:
        return np.zeros((0, len(snapshot.nodes.names)), dtype=np.bool_)
    until_s = start_s + reach_s(snapshot)[job, snapshot.nodes.cluster]
    meets = (windows.begin_s[:, None] < until_s) & (windows.end_s > start_s)[:, None]
    found: Bools = windows.covers & meets & ~windows.open_to[:, job, None]
    return found


def shut_by(snapshot: Snapshot, job: int, *, maintenance: bool) -> Bools:
    """[N] The nodes that maintenance, or that reservations keep a job off if it is placed now."""
    if snapshot.windows is None:
        return np.zeros(len(snapshot.nodes.names), dtype=np.bool_)
    found: Bools = shut(snapshot, job)[snapshot.windows.maintenance == maintenance].any(axis=0)
    return found
