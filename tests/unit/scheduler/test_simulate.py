"""The simulator on small work: nothing is lost or doubled, two runs are one, and EASY is the textbook's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.simulator.names import POLICY_NAMES
from scheduler.simulator.outcome import Outcome, figures
from scheduler.simulator.policies import POLICIES
from scheduler.simulator.simulate import replay, simulate
from scheduler.simulator.world import World, build_world
from scheduler.traces.machines import read_machines
from scheduler.traces.trace import Builder, Trace

# When a job comes, how long it takes, how long it asks for, and how many processors it needs.
Drawn = tuple[int, int, int, int]
PROCESSORS = 4
# After how long, how long, how much more is asked for, how large.
drawn_rows = st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 4), st.integers(1, PROCESSORS))
drawn_jobs = st.lists(drawn_rows, min_size=1, max_size=9).map(
    lambda rows: [
        (sum(row[0] for row in rows[1 : place + 1]), length, length + spare, size) for place, (_, length, spare, size) in enumerate(rows)
    ]
)


def _trace(jobs: Sequence[Drawn]) -> Trace:
    built = Builder()
    for row, (at, length, limit, size) in enumerate(jobs):
        built.add(float(at), float(length), limit=float(limit), workers=size, cpu_milli=1000, group=f"user-{row % 3}")
    return built.trace()


def _run(jobs: Sequence[Drawn], policy: str, backfill: str = "none", machines: str = f"procs={PROCESSORS}") -> tuple[World, Outcome]:
    world = build_world(_trace(jobs), read_machines(machines))
    return world, simulate(world, policy, backfill)


def _textbook(jobs: Sequence[Drawn], *, easy: bool) -> list[int]:
    """[J] Starts under first come, first served, second by second (Mu'alem & Feitelson, IEEE TPDS 2001)."""
    starts = [-1] * len(jobs)
    for now in range(sum(limit for _, _, limit, _ in jobs) + 20):
        running = [row for row, start in enumerate(starts) if start >= 0 and now < start + jobs[row][1]]
        free = PROCESSORS - sum(jobs[row][3] for row in running)
        line = [row for row, (at, *_) in enumerate(jobs) if at <= now and starts[row] < 0]
        while line and jobs[line[0]][3] <= free:
            head = line.pop(0)
            starts[head], free = now, free - jobs[head][3]
            running.append(head)
        if easy and line:
            due = sorted((starts[row] + jobs[row][2], jobs[row][3]) for row in running)
            shadow, extra = _shadow(due, free, jobs[line[0]][3])
            for row in line[1:]:
                _, _, limit, size = jobs[row]
                if size <= free and (now + limit <= shadow or size <= extra):
                    starts[row], free = now, free - size
                    extra -= size if now + limit > shadow else 0
    return starts


def _shadow(due: list[tuple[int, int]], free: int, wanted: int) -> tuple[int, int]:
    """When the first in the line will fit, and how much it leaves then."""
    for place, (end, _) in enumerate(due):
        there = free + sum(size for _, size in due[: place + 1])
        if there >= wanted and (place + 1 == len(due) or due[place + 1][0] > end):
            return end, there - wanted
    raise AssertionError("a job that fits on empty machines fits when all have ended")


@settings(max_examples=100)
@given(drawn_jobs)
def test_fifo_with_easy_is_the_textbook_algorithm(jobs: list[Drawn]) -> None:
    assert _run(jobs, "fifo", "easy")[1].start_s.tolist() == _textbook(jobs, easy=True)


@settings(max_examples=50)
@given(drawn_jobs)
def test_fifo_alone_lets_nobody_pass(jobs: list[Drawn]) -> None:
    assert _run(jobs, "fifo")[1].start_s.tolist() == _textbook(jobs, easy=False)


def test_easy_fills_a_gap_and_delays_nobody() -> None:
    # a holds three of four; b wants all and waits; c fits beside a and ends before b's time; d would not.
    jobs = [(0, 10, 10, 3), (1, 5, 5, 4), (2, 8, 8, 1), (3, 9, 9, 1)]
    assert _run(jobs, "fifo")[1].start_s.tolist() == [0, 10, 15, 15]
    assert _run(jobs, "fifo", "easy")[1].start_s.tolist() == [0, 10, 2, 15]
    assert _run(jobs, "fifo", "conservative")[1].start_s.tolist() == [0, 10, 2, 15]


@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
@pytest.mark.parametrize("policy", POLICY_NAMES)
@settings(max_examples=6)
@given(jobs=drawn_jobs)
def test_jobs_and_time_are_conserved(policy: str, backfill: str, jobs: list[Drawn]) -> None:
    world, outcome = _run(jobs, policy, backfill)
    length_s, submit_s = world.trace.work, world.trace.submit_s
    assert (outcome.end_s >= 0).all()
    assert (outcome.start_s >= submit_s).all()
    assert outcome.ran_s == pytest.approx(length_s)
    assert (outcome.end_s - outcome.start_s >= length_s - 1e-6).all()
    assert outcome.busy == pytest.approx(float((length_s * world.size).sum()))
    found = figures(world, outcome)
    assert (found["jobs"], found["finished"], found["rejected"]) == (len(jobs), len(jobs), 0)
    assert 0.0 < found["utilisation"] <= 1.0 + 1e-9
    if outcome.preemptions == 0:
        times = np.concatenate([outcome.start_s, outcome.end_s])
        held = [float(world.size[(outcome.start_s <= at) & (at < outcome.end_s - 1e-9)].sum()) for at in times]
        assert max(held) <= world.capacity


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_two_runs_are_one(policy: str) -> None:
    chance = np.random.default_rng(7)
    jobs = [(int(at), int(length), int(length) + 5, int(size)) for at, length, size in zip(
        np.sort(chance.integers(0, 200, 60)), chance.integers(1, 60, 60), chance.integers(1, PROCESSORS + 1, 60), strict=True
    )]  # fmt: skip
    (_, first), (_, second) = _run(jobs, policy, "easy"), _run(jobs, policy, "easy")
    for field in fields(Outcome):
        if field.name not in {"decision_s", "wall_s"}:
            assert np.array_equal(getattr(first, field.name), getattr(second, field.name)), field.name


def test_what_fits_nowhere_is_counted_and_in_nobodys_way() -> None:
    trace = _trace([(0, 5, 5, PROCESSORS + 1), (0, 5, 5, PROCESSORS), (1, 5, 5, 1)])
    for name, found in replay(trace, f"procs={PROCESSORS}", POLICY_NAMES).figures().items():
        assert (found["jobs"], found["finished"], found["rejected"]) == (3, 2, 1), name
        # Our own may hold a job back for those to come.
        assert found["makespan_s"] == pytest.approx(10.0) or name == "cpn", name


def test_every_policy_has_its_name() -> None:
    assert tuple(POLICIES) == POLICY_NAMES


def test_the_figures_are_those_of_a_case_worked_out_by_hand() -> None:
    # One processor, two users: a job of 20 s, then one of 5 s that waits 19 s; the third waits 14 s and runs 100 s.
    jobs = [(0, 20, 20, 1), (1, 5, 5, 1), (11, 100, 100, 1)]
    world, outcome = _run(jobs, "fifo", machines="procs=1")
    found = figures(world, outcome)
    assert (found["makespan_s"], found["utilisation"]) == (125.0, 1.0)
    assert (found["mean_wait_s"], found["p50_wait_s"]) == (pytest.approx(11.0), 14.0)
    assert found["mean_jct_s"] == pytest.approx((20 + 24 + 114) / 3)
    # A job of 5 s counts as one of 10 s, so it was slowed down 2.4 times and not 4.8 times.
    assert found["mean_bounded_slowdown"] == pytest.approx((1.0 + 2.4 + 1.14) / 3)
    served = np.array([1.0, 1 / 2.4, 1 / 1.14])
    assert found["jain_fairness"] == pytest.approx(served.sum() ** 2 / (3 * (served**2).sum()))
