"""Classes: jobs that get the same answers from every filter, so that each question is asked once for all of them."""

from __future__ import annotations

import numpy as np

from scheduler.engine.foresight import holds_s
from scheduler.engine.snapshot import Snapshot
from scheduler.engine.windows import reach_s


def job_classes(snapshot: Snapshot) -> list[int]:
    """[J] The number of each job's class; jobs of one class get the same answers from every filter."""
    jobs = snapshot.jobs
    # How long a job holds room counts where it may delay a promised start.
    lasts = holds_s(snapshot) if snapshot.heads or snapshot.later or snapshot.promised else np.zeros((len(jobs.ids), 0))
    if snapshot.windows is not None:
        lasts = np.concatenate([lasts, reach_s(snapshot), snapshot.windows.open_to.T], axis=1)
    wanted = zip(jobs.workers.tolist(), jobs.least.tolist(), jobs.same.tolist(), jobs.label_class.tolist(), strict=True)
    keys = zip(map(bytes, jobs.request), map(bytes, jobs.policy), map(bytes, jobs.most), wanted, map(bytes, lasts), strict=True)
    numbers: dict[tuple[bytes, bytes, bytes, tuple[int, int, int, int], bytes], int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]
