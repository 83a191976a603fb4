"""One worker's part of a gang's log, however the log is cut into pieces."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.job_logs import OneWorker

LOG = b"from zero\n[rank 1] from one\n[rank 12] from twelve\n[rank 1] [rank 2] quoted\n\n[rank 1] last"
PARTS = {0: b"from zero\n\n", 1: b"from one\n[rank 2] quoted\nlast", 12: b"from twelve\n", 3: b""}


@given(st.sampled_from(sorted(PARTS)), st.lists(st.integers(0, len(LOG)), max_size=6), st.integers(0, 40))
def test_a_part_is_the_same_wherever_the_log_is_cut(worker: int, cuts: list[int], skip: int) -> None:
    places = [0, *sorted(cuts), len(LOG)]
    part = OneWorker(worker, skip)
    found = b"".join(part.feed(LOG[start:end]) for start, end in itertools.pairwise(places)) + part.end()
    assert found == PARTS[worker][skip:]
