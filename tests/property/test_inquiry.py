"""Questions about one more job: the answer is that of `place` on all jobs together, whatever was asked before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.aftermath import carried_out, only_jobs, placement_of
from scheduler.engine.gang import workers_per_node
from scheduler.engine.inquiry import Inquiry, Start
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import ROUNDING, Snapshot
from tests.property.test_alternative_plans import worlds_of_choice
from tests.property.test_array_limits import with_arrays
from tests.property.test_device_plans import shared_worlds
from tests.property.test_promises import in_time
from tests.property.worlds import gang_worlds, snapshots

WORLDS = (snapshots(most_jobs=9), snapshots(most_jobs=9), gang_worlds(most_jobs=8), shared_worlds(), worlds_of_choice(), with_arrays())


@st.composite
def left_behind(draw: st.DrawFn) -> Snapshot:
    """A world after a plan, or, so that some start before the job in question, as it was before."""
    snapshot = in_time(draw, draw(st.one_of(*WORLDS)))
    strict = np.array([draw(st.sampled_from([False, False, True])) for _ in snapshot.queues.names], dtype=np.bool_)
    snapshot = replace(snapshot, heads=draw(st.sampled_from([0, 1, 2, 4])), queues=replace(snapshot.queues, strict=strict))
    return carried_out(snapshot, place(snapshot)) if draw(st.sampled_from([True, True, False])) else snapshot


def changed(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """The world in which the last job asks for less, may go anywhere or has another rank."""
    jobs, last = snapshot.jobs, len(snapshot.jobs.ids) - 1
    if snapshot.further is not None and (snapshot.further.of == last).any():
        return snapshot
    request, policy, rank, workers = jobs.request.copy(), jobs.policy.copy(), jobs.rank.copy(), jobs.workers.copy()
    part = draw(st.sampled_from([1.0, 0.5, 0.25, 0.1]))
    if not request[last, 2:].any():
        request[last] *= part
    policy[last] = draw(st.sampled_from([policy[last], Reason.FITS]))
    rank[last] += draw(st.sampled_from([0, 0, 100]))
    most = jobs.most.copy()
    if jobs.least[last] == workers[last]:
        most[last] = workers[last] = draw(st.sampled_from([workers[last], 1]))
    least = np.minimum(jobs.least, workers)
    return replace(snapshot, jobs=replace(jobs, request=request, policy=policy, rank=rank, workers=workers, least=least, most=most))


def decided(asked: Snapshot) -> Start | None:
    """Where all jobs decided together leave the last."""
    found = placement_of(place(asked), len(asked.jobs.ids) - 1)
    return None if found is None else Start(found.cluster, found.nodes, found.score, found.choice)


@settings(max_examples=60)
@given(left_behind(), st.data())
def test_the_answer_is_that_of_the_whole_decision(snapshot: Snapshot, data: st.DataObject) -> None:
    inquiry, count = Inquiry(snapshot), len(snapshot.jobs.ids)
    for row in range(count):
        others = [other for other in data.draw(st.permutations(range(count))) if other != row]
        before = others[: data.draw(st.integers(0, count))]
        world = only_jobs(snapshot, [*before, row])
        for asked in (world, _drawn(data, world)):
            start = inquiry.start(asked, before)
            assert start == decided(asked)
            if start is not None:
                _fits_in(inquiry.spare(asked, before), asked, start)


def _drawn(data: st.DataObject, world: Snapshot) -> Snapshot:
    return data.draw(st.composite(lambda draw: changed(draw, world))())


def _fits_in(spare: np.ndarray, asked: Snapshot, start: Start) -> None:
    """Who starts takes no more than what is said to be to spare."""
    job, further = len(asked.jobs.ids) - 1, asked.further
    request = asked.jobs.request[job]
    if start.choice and further is not None:
        request = further.jobs.request[further.of == job][start.choice - 1]
    nodes: Sequence[tuple[int, int]] = list(Counter(start.nodes).items())
    rooms = workers_per_node(spare + ROUNDING * asked.nodes.total, request)
    assert all(rooms[node] >= workers for node, workers in nodes)
