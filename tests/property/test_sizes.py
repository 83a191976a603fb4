"""Sizes in worlds that go on: gangs grow into what nobody wants and shrink for whoever waits, while others come, go and are ended.

The stories are those of preemption, with gangs that are resized in them; workers that leave take some cycles to go.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot
from tests.property.test_preemption import Story, Work
from tests.reordering import reordered
from tests.running import sizes_told

stories = st.builds(Story, st.integers(0, 10**9), elastic=st.just(True), several=st.booleans())


def elastic(story: Story) -> list[Work]:
    return [work for work in story.works.values() if work.places and isinstance(work.workers, tuple)]


def keeps_its_bounds(story: Story) -> None:
    """No gang is smaller than its least or larger than its most, and nobody takes what was granted without a right to it."""
    for work in elastic(story):
        least, most = work.workers  # type: ignore[misc]
        assert least <= work.stays <= len(work.places) <= most


def holds_what_runs(story: Story, snapshot: Snapshot) -> None:
    """All that runs, workers that join or leave too, fits on the nodes: what is free is what they leave."""
    held = np.zeros_like(snapshot.nodes.free)
    running = snapshot.evictable
    np.add.at(held, running.node, running.request[running.owner])
    assert np.allclose(snapshot.nodes.free + held, snapshot.nodes.total)
    assert (snapshot.nodes.free >= -1e-9 * snapshot.nodes.total).all()
    assert len(running.node) == sum(len(work.places) for work in story.works.values())


def live(story: Story) -> tuple[int, int]:
    """Tell a story to its end; how often gangs shrank and grew."""
    shrinks = growths = 0
    for _ in range(30):
        snapshot = story.snapshot()
        holds_what_runs(story, snapshot)
        plan = place(snapshot)
        check(snapshot, plan)
        shrinks, growths = shrinks + len(plan.shrinks), growths + len(plan.growths)
        story.carry_out(snapshot, plan)
        keeps_its_bounds(story)
        if story.over():
            break
    return shrinks, growths


@given(stories)
@settings(max_examples=8)
def test_every_plan_of_a_life_is_accepted_and_gangs_keep_their_bounds(story: Story) -> None:
    live(story)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(stories)
@settings(max_examples=300)
def test_every_plan_of_many_more_lives_is_accepted(story: Story) -> None:
    live(story)


def test_gangs_do_shrink_and_grow_in_these_stories() -> None:
    found = [live(Story(seed, elastic=True)) for seed in range(12)]
    assert sum(shrinks for shrinks, _ in found) > 0
    assert sum(growths for _, growths in found) > 0


@given(stories, st.integers(1, 12))
@settings(max_examples=8)
def test_in_a_world_that_stands_still_sizes_come_to_rest(story: Story, cycles: int) -> None:
    """Everything that plans order comes true at once, and nothing else happens: who grew is never shrunk then, and growing ends.

    A gang may grow in several of them: what it takes first may move starts that are promised, and so let it take more.
    """
    snapshot, plan = when_something_is_resized(story, cycles)
    shrunk, grown = set[str](), set[str]()
    most = sum(work.workers[1] for work in elastic(story))  # type: ignore[index, misc]
    for _ in range(most + len(story.works)):
        shrunk |= {snapshot.evictable.jobs[row] for item in plan.shrinks for row, _ in item.gangs}
        grown |= {snapshot.elastic.jobs.ids[item.gang] for item in plan.growths} if snapshot.elastic else set()
        assert not shrunk & grown, "a gang shrinks and grows though nothing happens"
        as_ordered(story, snapshot, plan)
        keeps_its_bounds(story)
        snapshot = story.snapshot()
        plan = place(snapshot)
        check(snapshot, plan)
        if not plan.growths and not plan.shrinks:
            return
    raise AssertionError("sizes change for ever")


def when_something_is_resized(story: Story, cycles: int) -> tuple[Snapshot, Plan]:
    """The world and the plan with which it comes to that, after some cycles at least; stories without it are passed over."""
    for cycle in range(24):
        snapshot = story.snapshot()
        plan = place(snapshot)
        if cycle >= cycles and (plan.growths or plan.shrinks):
            return snapshot, plan
        story.carry_out(snapshot, plan)
    reject()


def as_ordered(story: Story, snapshot: Snapshot, plan: Plan) -> None:
    """Placements, growths and shrinks come true at once; time stands still, and nobody is ended."""
    where = story._nodes(snapshot)
    for item in plan.placements:
        work = story.works[snapshot.jobs.ids[item.job]]
        work.places, work.ran, work.own = tuple(where[node] for node in item.nodes), 0, len(item.nodes)
        work.holds = work.ways[item.choice]
        story.claims.pop(work.name, None)
    story._resize(snapshot, plan, where)
    for work in elastic(story):
        work.places, work.leaving, work.leaving_for = work.places[: work.stays], 0, ""


@given(stories, st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=6)
def test_the_order_of_rows_changes_no_size(story: Story, cycles: int, random: Random) -> None:
    for _ in range(cycles):
        snapshot = story.snapshot()
        story.carry_out(snapshot, place(snapshot))
    # Gangs are by rows of clusters and nodes, which stay; queues and jobs change theirs.
    snapshot = replace(story.snapshot(), elastic=None)
    counts = (("clusters", len(snapshot.clusters.names)), ("nodes", len(snapshot.nodes.names)), ("queues", len(snapshot.queues.names)),
              ("jobs", len(snapshot.jobs.ids)))  # fmt: skip
    other = reordered(snapshot, **{name: random.sample(range(count), count) for name, count in counts})
    assert sizes_told(snapshot, place(snapshot)) == sizes_told(other, place(other))
