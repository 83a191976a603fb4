"""Placement on devices, on any nodes and any queue: nothing is ever given twice, and the compiled form decides as the NumPy form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.device_kernel import CODES
from scheduler.engine.device_loop import FILLING, HARMLESS, PATIENCE, board_of, place_queue, place_window, window_of
from scheduler.engine.device_scores import DEVICE, POLICIES, Facts, choose, place
from scheduler.engine.devices import WHOLE, DeviceNodes, Shapes, fitting, shares_device, take
from scheduler.engine.snapshot import Floats, Ints
from tests.pictures import facts, nodes, shapes

MODELS = ("G2", "P100", "T4")


@dataclass(frozen=True, eq=False)
class Case:
    """Nodes, requests, what is known of both, a queue of requests, and what is drawn for each of it."""

    world: DeviceNodes
    asks: Shapes
    known: Facts
    queue: Ints
    draws: Floats

    def copy(self) -> DeviceNodes:
        """The nodes once more."""
        return DeviceNodes(*(field.copy() for field in self.world))


NODE = st.builds(
    lambda model, cores, devices: " ".join([model, str(cores), *["1000"] * devices]),
    st.sampled_from(MODELS), st.sampled_from([8, 16, 96]), st.sampled_from([0, 1, 2, 4, 8]),
)  # fmt: skip
SHARE = st.sampled_from(["10", "110", "190", "320", "470", "500", "530", "810"])
WANTED = st.one_of(SHARE, st.sampled_from(["1000", "1000", "2x1000", "4x1000"]))
MODELS_ASKED = st.sampled_from(["", "", "", " T4", " G2|P100"])
ASK = st.one_of(
    st.builds(lambda cores, wanted, models: f"{cores} {wanted}{models}", st.integers(0, 12), WANTED, MODELS_ASKED),
    st.integers(1, 12).map(str),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small worlds in which room runs out."""
    world = nodes(*draw(st.lists(NODE, min_size=1, max_size=6)))
    world.memory_mib[:] = draw(st.sampled_from([2, 1 << 20]))
    asks = shapes(*draw(st.lists(ASK, min_size=1, max_size=8)))
    queue = np.array(draw(st.lists(st.integers(0, len(asks.devices) - 1), min_size=1, max_size=40)), dtype=np.int64)
    drawn = np.random.default_rng(draw(st.integers(0, 1 << 30))).random((len(queue), 2))
    return Case(world, asks, facts(world, asks), queue, drawn)


def _compiled(policy: str, case: Case) -> tuple[Ints, DeviceNodes]:
    world, chosen = case.copy(), np.full(len(case.queue), -1, dtype=np.int64)
    board = board_of(len(case.asks.devices), len(world.devices), len(case.queue))
    place_queue(CODES[policy], world, case.asks, case.known, case.queue, case.draws, board, 0, len(case.queue), chosen)
    return chosen, world


def _windowed(case: Case, size: int, marks: list[int]) -> tuple[Ints, Ints, DeviceNodes]:
    world, chosen = case.copy(), np.full(len(case.queue), -1, dtype=np.int64)
    window = window_of(size, len(case.asks.devices), case.queue, np.array(marks, dtype=np.int64))
    board = board_of(len(case.asks.devices), len(world.devices), len(case.queue))
    place_window(world, case.asks, case.known, case.queue, window, board, 0, len(case.queue), chosen)
    return chosen, window.order, world


def _assert_sound(case: Case, chosen: Ints, left: DeviceNodes) -> None:
    """What is free and what is held together are what there was, on every node; devices hold at most one device each."""
    for node in range(len(left.devices)):
        held = case.queue[chosen == node]
        assert case.world.cpu_milli[node] - case.asks.cpu_milli[held].sum() == left.cpu_milli[node] >= 0
        assert case.world.memory_mib[node] - case.asks.memory_mib[held].sum() == left.memory_mib[node] >= 0
        free = left.gpu_milli[node, : left.devices[node]]
        assert ((free >= 0) & (free <= WHOLE)).all()
        assert (left.gpu_milli[node, left.devices[node] :] == -1).all()
        size = case.asks.devices[held] * case.asks.gpu_milli[held]
        assert free.sum() + size.sum() == WHOLE * left.devices[node]
        # Whole devices are nobody else's: as many are empty as are held whole, beside those that shares fill.
        assert (free == 0).sum() >= case.asks.devices[held][case.asks.gpu_milli[held] == WHOLE].sum()
        needs_device = held[case.asks.devices[held] > 0]
        assert case.asks.models[needs_device, left.model[node]].all()


@given(cases(), st.sampled_from(sorted(POLICIES)))
@settings(max_examples=80, deadline=None)
def test_the_compiled_form_decides_as_the_numpy_form(case: Case, policy: str) -> None:
    slow = case.copy()
    expected = place(policy, slow, case.asks, case.known, case.queue, case.draws)
    chosen, left = _compiled(policy, case)
    assert chosen.tolist() == expected.tolist()
    assert [field.tolist() for field in left] == [field.tolist() for field in slow]


@given(cases(), st.sampled_from(sorted(POLICIES)))
@settings(max_examples=80, deadline=None)
def test_nothing_is_given_twice(case: Case, policy: str) -> None:
    _assert_sound(case, *_compiled(policy, case))


@given(cases(), st.sampled_from(sorted(POLICIES)))
@settings(max_examples=40, deadline=None)
def test_nobody_is_refused_who_fits(case: Case, policy: str) -> None:
    """Whoever was refused has no room afterwards either: room does not grow."""
    chosen, left = _compiled(policy, case)
    for shape in np.unique(case.queue[chosen < 0]).tolist():
        assert not fitting(left, case.asks, shape).any()


@given(cases(), st.sampled_from(sorted(POLICIES)))
@settings(max_examples=40, deadline=None)
def test_two_runs_are_identical(case: Case, policy: str) -> None:
    first, second = _compiled(policy, case), _compiled(policy, case)
    assert first[0].tolist() == second[0].tolist()
    assert [field.tolist() for field in first[1]] == [field.tolist() for field in second[1]]


@given(cases(), st.sampled_from(sorted(POLICIES)), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_a_run_may_be_interrupted_anywhere(case: Case, policy: str, at: int) -> None:
    world, chosen, at = case.copy(), np.full(len(case.queue), -1, dtype=np.int64), min(at, len(case.queue))
    board = board_of(len(case.asks.devices), len(world.devices), len(case.queue))
    for first, last in ((0, at), (at, len(case.queue))):
        place_queue(CODES[policy], world, case.asks, case.known, case.queue, case.draws, board, first, last, chosen)
    assert chosen.tolist() == _compiled(policy, case)[0].tolist()


MARKS = st.lists(st.integers(0, 40), max_size=2).map(sorted)


@given(cases(), st.integers(1, 9), MARKS)
@settings(max_examples=80, deadline=None)
def test_a_window_decides_each_worker_once(case: Case, size: int, marks: list[int]) -> None:
    chosen, order, left = _windowed(case, size, marks)
    assert sorted(order.tolist()) == list(range(len(case.queue)))
    _assert_sound(case, chosen, left)
    for shape in np.unique(case.queue[chosen < 0]).tolist():
        assert not fitting(left, case.asks, shape).any()


@given(cases(), st.integers(1, 9), MARKS)
@settings(max_examples=40, deadline=None)
def test_a_window_decides_as_the_plain_form(case: Case, size: int, marks: list[int]) -> None:
    chosen, order, _ = _windowed(case, size, marks)
    expected, expected_order = _plain_window(case, size, marks)
    assert order.tolist() == expected_order
    assert chosen.tolist() == expected


@given(cases())
@settings(max_examples=40, deadline=None)
def test_a_window_of_one_is_no_window(case: Case) -> None:
    chosen, order, _ = _windowed(case, 1, [])
    assert order.tolist() == list(range(len(case.queue)))
    assert chosen.tolist() == _compiled("cpn", case)[0].tolist()


@given(cases(), st.integers(1, 9), MARKS)
@settings(max_examples=40, deadline=None)
def test_a_window_looks_neither_too_far_nor_past_a_mark(case: Case, size: int, marks: list[int]) -> None:
    _, order, _ = _windowed(case, size, marks)
    for now, turn in enumerate(order.tolist()):
        assert turn < now + size
        assert now - turn <= PATIENCE * size + size
    for mark in (mark for mark in marks if mark <= len(order)):
        assert sorted(order[:mark].tolist()) == list(range(mark))


def _plain_window(case: Case, size: int, marks: list[int]) -> tuple[list[int], list[int]]:
    """A window written down as its rule says it, over the NumPy form of `cpn`."""
    world, length = case.copy(), len(case.queue)
    chosen, order, come, waiting = [-1] * length, [], 0, list[tuple[int, int]]()
    barriers = [*(mark for mark in marks if mark < length), length]
    while len(order) < length:
        barrier = next(mark for mark in barriers if mark > len(order))
        while len(waiting) < size and come < barrier:
            waiting.append((come, len(order)))
            come += 1
        merits = [_merit(case, world, int(case.queue[turn])) for turn, _ in waiting]
        at = max(range(len(waiting)), key=lambda at: (merits[at], -at))
        if len(order) - waiting[0][1] >= PATIENCE * size:
            at = 0
        turn, _ = waiting.pop(at)
        shape = int(case.queue[turn])
        node, device = choose("cpn", world, case.asks, shape, case.known, (0.0, 0.0))
        if node >= 0:
            take(world, case.asks, shape, node, device)
        chosen[turn] = node
        order.append(turn)
    return chosen, order


def _merit(case: Case, world: DeviceNodes, shape: int) -> float:
    node, device = choose("cpn", world, case.asks, shape, case.known, (0.0, 0.0))
    if node < 0:
        return np.inf
    loss = -float(POLICIES["cpn"](world, case.asks, shape, case.known)[0][node])
    if not case.asks.devices[shape]:
        return HARMLESS - loss
    worth = int(case.asks.devices[shape] * case.asks.gpu_milli[shape]) * (DEVICE // WHOLE) - loss
    if not shares_device(case.asks, shape):
        return worth
    return worth - FILLING if world.gpu_milli[node, device] == WHOLE else worth + FILLING
