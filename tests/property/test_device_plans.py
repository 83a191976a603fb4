"""Plans for worlds whose devices are told apart: none is given out twice, none is split, and what fits is found."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.board import Board, classes_of
from scheduler.engine.check import check
from scheduler.engine.order import by_name
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.snapshot import WHOLE, Snapshot
from scheduler.engine.verdicts import verdicts
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, job, world
from tests.reordering import reordered

nodes = st.lists(
    st.sampled_from(["8+1,1H200", "8+1,.5,0H200", "8+.5,.5H200", "1+1,1,1,1H200", "8+1,.25H200+1,1A100", "8", "8+2H200", "8+.75,.2H200!"]),
    min_size=1, max_size=3,
).map(" ".join)  # fmt: skip
sizes = st.sampled_from([
    ("1+.25H200", 1), ("1+.5H200", 1), ("1+.3H200", 1), ("1+.75H200", 1), ("1+.5H200", 3), ("0.5+.2H200", 4), ("1+1H200", 1),
    ("1+2H200", 1), ("1+1H200", 2), ("1+.5A100", 1), ("1+1A100", 1), ("2", 1), ("1+1H200+.5A100", 1),
])  # fmt: skip


@st.composite
def shared_worlds(draw: st.DrawFn) -> Snapshot:
    """Up to three clusters of nodes with devices partly in use, and jobs that ask for shares and whole ones."""
    members = [cluster("one", "8+1,1H200"), *(cluster(name, draw(nodes)) for name in ("b", "a")[: draw(st.integers(0, 2))])]
    jobs = [job(f"j{place}", size, workers=workers) for place, (size, workers) in enumerate(draw(st.lists(sizes, min_size=1, max_size=8)))]
    return world(*draw(st.permutations(members)), jobs=jobs)


def used(snapshot: Snapshot, plan: Plan) -> Counter[tuple[int, int, int]]:
    """Thousandths of each (node, model, device) that a plan gives out, counted from the requests."""
    found: Counter[tuple[int, int, int]] = Counter()
    for item in plan.placements:
        for node, devices in zip(item.nodes, item.devices, strict=True) if item.devices else ():
            for row, device in devices:
                found[node, row - 2, device] += min(round(float(snapshot.jobs.request[item.job, row]) * WHOLE), WHOLE)
    return found


def fits_alone(snapshot: Snapshot, left: np.ndarray, item: int) -> bool:
    """Whether a job of one worker fits somewhere, cores and devices, by plain loops; all nodes are judged."""
    request = snapshot.jobs.request[item].tolist()
    for node in range(len(snapshot.nodes.names)):
        enough = all(have + 1e-6 >= asked for have, asked in zip(left_cores(snapshot, node), request[:2], strict=True))
        for model, asked in enumerate(request[2:]):
            devices = [int(free) for free in left[node, model]]
            if 0 < asked < 1:
                enough = enough and any(free >= round(asked * WHOLE) for free in devices)
            else:
                enough = enough and devices.count(WHOLE) >= asked
        if enough and snapshot.nodes.ready[node]:
            return True
    return False


def left_cores(snapshot: Snapshot, node: int) -> list[float]:
    cores: list[float] = snapshot.nodes.free[node, :2].tolist()
    return cores


@settings(max_examples=40)
@given(shared_worlds())
def test_no_device_is_given_out_twice_or_split(snapshot: Snapshot) -> None:
    before = snapshot.nodes.devices.copy()
    plan = place(snapshot)
    check(snapshot, plan)
    assert np.array_equal(before, snapshot.nodes.devices), "a plan changes nothing of its snapshot"
    for (node, model, device), milli in used(snapshot, plan).items():
        assert milli <= before[node, model, device]
    for item in plan.placements:
        for row in range(2, len(snapshot.resources)):
            asked = float(snapshot.jobs.request[item.job, row])
            counts = [sum(1 for resource, _ in devices if resource == row) for devices in item.devices]
            assert all(count == (1 if 0 < asked < 1 else asked) for count in counts)


@settings(max_examples=40)
@given(shared_worlds())
def test_what_waits_does_not_fit(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    left = snapshot.nodes.devices.copy()
    for (node, model, device), milli in used(snapshot, plan).items():
        left[node, model, device] -= milli
    free = snapshot.nodes.free.copy()
    for item in plan.placements:
        for node in item.nodes:
            free[node] -= snapshot.jobs.request[item.job]
    after = replace(snapshot, nodes=replace(snapshot.nodes, free=free))
    for waiting in plan.unplaced:
        if snapshot.jobs.workers[waiting.job] == 1:
            assert not fits_alone(after, left, waiting.job)


@settings(max_examples=40)
@given(shared_worlds(), st.data())
def test_a_plan_with_devices_does_not_depend_on_the_order_of_rows(snapshot: Snapshot, data: st.DataObject) -> None:
    orders = {
        "clusters": data.draw(st.permutations(range(len(snapshot.clusters.names)))),
        "nodes": data.draw(st.permutations(range(len(snapshot.nodes.names)))),
    }
    other = reordered(snapshot, queues=range(len(snapshot.queues.names)), jobs=range(len(snapshot.jobs.ids)), **orders)
    back = np.array(orders["nodes"])
    again = [(item.job, tuple(back[list(item.nodes)].tolist()), item.devices) for item in place(other).placements]
    assert again == [(item.job, item.nodes, item.devices) for item in place(snapshot).placements]


def corrupted(item: Placement, kind: str) -> Placement:
    """A placement with something wrong about the devices of its first worker."""
    (row, device), *rest = item.devices[0]
    first = {
        "none": (), "another": ((row, device + 50), *rest), "negative": ((row, -1), *rest), "twice": ((row, device), (row, device), *rest),
        "one more": ((row, device), (row, device + 1), *rest), "of a core": ((0, device), *rest), "of another model": ((99, device), *rest),
    }[kind]  # fmt: skip
    return replace(item, devices=(first, *item.devices[1:]))


@settings(max_examples=40)
@given(shared_worlds(), st.sampled_from(["none", "another", "negative", "twice", "one more", "of a core", "of another model"]), st.data())
def test_check_rejects_wrong_devices(snapshot: Snapshot, kind: str, data: st.DataObject) -> None:
    plan = place(snapshot)
    with_devices = [row for row, item in enumerate(plan.placements) if item.devices]
    if not with_devices:
        return
    row = data.draw(st.sampled_from(with_devices))
    placements = list(plan.placements)
    placements[row] = corrupted(placements[row], kind)
    with pytest.raises(PlanRejectedError):
        check(snapshot, replace(plan, placements=tuple(placements)))


@settings(max_examples=40)
@given(shared_worlds())
def test_check_rejects_a_device_that_has_become_fuller(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    given_out = used(snapshot, plan)
    if not given_out:
        return
    (node, model, device), milli = min(given_out.items())
    devices = snapshot.nodes.devices.copy()
    devices[node, model, device] = milli - 1
    with pytest.raises(PlanRejectedError, match="thousandths"):
        check(replace(snapshot, nodes=replace(snapshot.nodes, devices=devices)), plan)


@settings(max_examples=40)
@given(shared_worlds())
def test_what_explain_says_is_what_place_did(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    for waiting in plan.unplaced:
        found = verdicts(snapshot, waiting.job, plan)
        assert [item.reason for item in found] == list(waiting.clusters)


@settings(max_examples=40)
@given(shared_worlds())
def test_the_board_refuses_worlds_whose_devices_are_told_apart(snapshot: Snapshot) -> None:
    named = by_name(snapshot)
    classes, _ = classes_of(named.snapshot.jobs)
    with pytest.raises(ValueError, match="told apart"):
        Board(named.snapshot, classes)
