"""Preemption in worlds that go on: jobs come, run, are ended for others, begin again, and end, cycle after cycle.

The life of a world is told without store and clock: a plan is made, checked, and carried out; victims end some cycles later, as
they would once their agents are told. What must hold is said of every plan and of the whole story.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from scheduler.engine.alternatives import with_lengths
from scheduler.engine.check import check
from scheduler.engine.evictable import Budget, PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.plan import Eviction, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Running, Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnQueue, cluster, job, or_else, queue, world
from tests.reordering import reordered
from tests.running import DrawnRun, beside, claim, gang, run, told

POLICIES = (PreemptionPolicy.NEVER, PreemptionPolicy.LOWER_PRIORITY, *[PreemptionPolicy.RECLAIM_QUOTA] * 4)
MODELS = {"H200": "A100", "A100": "H200"}
SIZES = ("1", "2", "2", "4", "1+1H200", "0.1", "0.2")


@dataclass
class Work:
    """A job of the story and where it stands."""

    name: str
    size: str
    workers: int | tuple[int, int]
    queue: str
    rank: int
    labels: str
    fixed: bool
    same: str
    left: int  # Cycles that it needs to run.
    comes: int = 0
    other: str = ""  # What it asks for where it is run in its other way, if it has one.
    holds: str = ""
    places: tuple[str, ...] = ()
    ran: int = 0
    restarts: int = 0
    ending_for: str = ""
    ends_in: int = 0
    own: int = 0
    leaving: int = 0
    leaving_for: str = ""
    leaves_in: int = 0
    settles_at: int = 0

    @property
    def ways(self) -> tuple[str, ...]:
        """What it asks for in each of its ways."""
        return (self.size, self.other) if self.other else (self.size,)

    @property
    def stays(self) -> int:
        """How many workers it has without those that leave."""
        return len(self.places) - self.leaving


@dataclass
class Story:
    """A world that goes on; everything comes from the seed. In an `elastic` one running gangs are resized.

    With `several` there are two models of accelerators, and most who ask for one may use either.
    """

    seed: int
    elastic: bool = False
    several: bool = False
    budget: Budget = field(default_factory=lambda: Budget(runs=3, restarts=2))
    past: list[tuple[str, str]] = field(default_factory=list)
    claims: dict[str, tuple[tuple[str, ...], int, int]] = field(default_factory=dict)  # places, until which cycle, in which way
    cycle: int = 0
    overtaken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.heads = self.random.choice([0, 0, 1, 2])
        apart = self.random.random() < 0.5
        self.sizes = [*SIZES, *(("1+0.5H200", "0.1+0.3H200") if apart else ())]
        self.kinds = ["2", "4#z.1", "4#z.2", "4@gold", "4+1,1H200#z.1" if apart else "4+2H200#z.1"]
        if self.several:
            self.sizes = ["1+1H200", "1+1A100", "2+2H200", *self.sizes]
            self.kinds += ["4+2A100#z.2", "4+1A100+1H200#z.2"]
        nodes = [" ".join(self.random.choices(self.kinds, k=self.random.randint(1, 2))) for _ in "ab"]
        self.clusters = [cluster("gz", f"{nodes[0]} {self.kinds[4]}"), cluster("sh", " ".join([nodes[1], *self.kinds[5:6]]))]
        shape = self.random.choice([[("a", ""), ("b", "")], [("o", ""), ("a", "o"), ("b", "o"), ("c", "")]])
        self.queues = [self._queue(name, below) for name, below in shape]
        leaves = [name for name, _ in shape if name not in {below for _, below in shape}]
        self.works = {f"j{number:02}": self._work(f"j{number:02}", leaves) for number in range(self.random.randint(12, 20))}

    def _queue(self, name: str, below: str) -> DrawnQueue:
        quota = self.random.choice(["0", "4", "6", "6+2H200"])
        terms = self.random.choice(
            [{}, {}, {}, {}, {}, {"limit": 3}, {"ceiling": "6:99"}, {"strict": True}, {"strict": True}, {"kept": quota}]
        )
        return queue(name, below=below, quota=quota, preemption=self.random.choice(POLICIES), **terms)  # type: ignore[arg-type]

    def _work(self, name: str, leaves: list[str]) -> Work:
        # Who comes later is often more urgent, so that there is somebody to be ended.
        pick, comes = self.random.choice, self.random.randrange(7)
        found = Work(
            name, pick(self.sizes), pick([1, 1, 1, 2, (1, 3)]), pick(leaves), rank=pick([-100, 0, 0, 100]) + 20 * comes,
            labels=pick(["", "", "", "", "", "gold"]), fixed=self.random.random() < 0.1, same=pick(["", "", "", "rack"]),
            left=self.random.randint(5, 20), comes=comes,
        )  # fmt: skip
        if self.several and self.random.random() < 0.8:
            model = next((model for model in MODELS if model in found.size), "")
            found.other = found.size.replace(model, MODELS[model]) if model else ""
        return found

    def snapshot(self) -> Snapshot:
        """The world as the next plan sees it."""
        waiting = [work for work in self.works.values() if not work.places and work.left > 0 and work.comes <= self.cycle]
        running = [work for work in self.works.values() if work.places]
        refused = {"gz": Reason.JOB_CLUSTER}
        jobs = [
            job(work.name, work.size, workers=work.workers, queue=work.queue, rank=work.rank, labels=work.labels, same=work.same,
                sequence=int(work.name[1:]), refused=refused if work.name.endswith("3") else {})
            for work in waiting
        ]  # fmt: skip
        jobs = [or_else(item, work.other) if work.other else item for item, work in zip(jobs, waiting, strict=True)]
        # All sizes are named, so that resources are the same in every cycle.
        never = job("never", "1+1H200+1A100" if self.several else "1+1H200", queue=self.queues[-1].name)
        drawn = world(*self.clusters, jobs=[*jobs, never], queues=self.queues)
        drawn = reordered(
            drawn, clusters=range(2), nodes=range(len(drawn.nodes.names)), queues=range(len(self.queues)), jobs=range(len(jobs))
        )  # fmt: skip
        claims = [
            claim(name, self.works[name].ways[choice], *places, queue=self.works[name].queue, choice=choice)
            for name, (places, _, choice) in self.claims.items()
        ]
        drawn = with_lengths(drawn, [[60.0 * work.left] * len(work.ways) for work in waiting])
        parts = [(work, part) for work in running for part in self._drawn(work)]
        found = beside(drawn, *(part for _, part in parts), claims=claims, past=self.past, budget=self.budget)
        runs = found.evictable
        ends_s = np.array([60.0 * (work.left - work.ran) for work, _ in parts])
        if found.elastic is not None:
            homes = [self.works[name] for name in found.elastic.jobs.ids]
            policy = np.array([[Reason.JOB_CLUSTER if self._refused(work, name) else 0 for name in found.clusters.names] for work in homes])
            label_ok = np.array([[not work.labels or word in self._gold for word in self._nodes(found)] for work in homes])
            jobs = replace(found.elastic.jobs, policy=policy, label_class=np.arange(len(homes)))
            found = replace(found, elastic=replace(found.elastic, jobs=jobs, label_ok=label_ok))
        return replace(found, heads=self.heads, running=Running(runs.ids, runs.request, ends_s, runs.owner, runs.node))

    @property
    def _gold(self) -> set[str]:
        return {f"{item.name}/{node.name}" for item in self.clusters for node in item.nodes if "gold" in node.labels}

    @staticmethod
    def _refused(work: Work, cluster: str) -> bool:
        return work.name.endswith("3") and cluster == "gz"

    @staticmethod
    def _nodes(snapshot: Snapshot) -> list[str]:
        homes, names = snapshot.nodes.cluster, snapshot.nodes.names
        return [f"{snapshot.clusters.names[home]}/{name}" for home, name in zip(homes, names, strict=True)]

    def _drawn(self, work: Work) -> list[DrawnRun]:
        def part(name: str, places: tuple[str, ...], ending_for: str) -> DrawnRun:
            return run(
                name, work.holds, *places, queue=work.queue, rank=work.rank, lost_s=60.0 * work.ran, restarts=work.restarts,
                fixed=work.fixed, ending_for=ending_for,
            )  # fmt: skip

        whole = part(work.name, work.places[: work.stays], work.ending_for)
        if not self.elastic or not isinstance(work.workers, tuple):
            return [whole]
        if work.leaving:
            return [whole, part(f"{work.name}-leaving", work.places[work.stays :], work.leaving_for)]
        least, most = work.workers
        return [gang(whole, least, work.own, most if self.cycle >= work.settles_at else 0, same=work.same, left_s=60.0 * work.left)]

    def carry_out(self, snapshot: Snapshot, plan: Plan) -> None:
        """Seat what is placed, tell victims to end, and let time pass."""
        where = [f"{snapshot.clusters.names[home]}/{name}" for home, name in zip(snapshot.nodes.cluster, snapshot.nodes.names, strict=True)]
        for item in plan.placements:
            work = self.works[snapshot.jobs.ids[item.job]]
            work.places, work.ran, work.own = tuple(where[node] for node in item.nodes), 0, len(item.nodes)
            work.holds = work.ways[item.choice]
            self.claims.pop(work.name, None)
        for eviction in plan.evictions:
            gains = snapshot.jobs.ids[eviction.job]
            self.claims[gains] = (tuple(where[node] for node in eviction.nodes), self.cycle + 6, eviction.choice)
            for row in eviction.runs:
                victim = self.works[snapshot.evictable.jobs[row]]
                victim.ending_for, victim.ends_in = gains, self.random.randint(1, 3)
                self.past.append((gains, victim.name))
        self._resize(snapshot, plan, where)
        self._pass_time()

    def _resize(self, snapshot: Snapshot, plan: Plan, where: list[str]) -> None:
        for shrink in plan.shrinks:
            gains = snapshot.jobs.ids[shrink.job]
            self.claims[gains] = (tuple(where[node] for node in shrink.nodes), self.cycle + 6, shrink.choice)
            for row, kept in shrink.gangs:
                work = self.works[snapshot.evictable.jobs[row]]
                work.leaving, work.leaving_for, work.leaves_in = len(work.places) - kept, gains, self.random.randint(1, 3)
                work.settles_at = self.cycle + work.leaves_in + 2
        for growth in plan.growths:
            assert snapshot.elastic is not None
            work = self.works[snapshot.elastic.jobs.ids[growth.gang]]
            work.places += tuple(where[node] for node in growth.nodes)

    def _pass_time(self) -> None:
        self.cycle += 1
        for work in self.works.values():
            if not work.places:
                continue
            work.ran += 1
            if work.leaving and work.leaves_in <= 1:
                work.places, work.leaving, work.leaving_for = work.places[: work.stays], 0, ""
            work.leaves_in -= 1
            if work.ending_for and work.ends_in <= 1:
                work.places, work.ending_for, work.restarts, work.leaving = (), "", work.restarts + 1, 0
            elif work.ran >= work.left:
                work.places, work.ending_for, work.left, work.leaving = (), "", 0, 0
            work.ends_in -= 1
        # A job may be cancelled at any moment; a claim does not outlive it, nor its time.
        gone = [name for name in self.claims if self.random.random() < 0.1]
        for name in gone:
            self.works[name].left = 0
        self.claims = {
            name: (places, until, choice) for name, (places, until, choice) in self.claims.items()
            if self.works[name].left > 0 and until > self.cycle and not self.works[name].places
        }  # fmt: skip

    def over(self) -> bool:
        """Whether nothing is left to do."""
        return all(work.left == 0 for work in self.works.values())


stories = st.integers(0, 10**9).map(Story)
any_stories = stories | st.integers(0, 10**9).map(lambda seed: Story(seed, several=True))


def live(story: Story) -> None:
    """Tell a story to its end: `check` accepts every plan, and evictions make no circle."""
    for _ in range(30):
        snapshot = story.snapshot()
        plan = place(snapshot)
        check(snapshot, plan)
        story.carry_out(snapshot, plan)
        if story.over():
            break
    assert not [pair for pair in story.past if pair[::-1] in story.past]
    above: dict[str, set[str]] = {}
    for beneficiary, victim in story.past:  # in the order of time, so a circle would be closed by its last pair
        assert victim not in {beneficiary, *above.get(beneficiary, set())}
        for name in (victim, *(low for low, high in above.items() if victim in high)):
            above.setdefault(name, set()).update({beneficiary, *above.get(beneficiary, set())})
    restarts = Counter(victim for _, victim in story.past)
    assert max(restarts.values(), default=0) <= story.budget.restarts


@given(any_stories)
@settings(max_examples=5)
def test_every_plan_of_a_life_is_accepted_and_no_two_evictions_close_a_circle(story: Story) -> None:
    live(story)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(any_stories)
@settings(max_examples=200)
def test_every_plan_of_many_more_lives_is_accepted(story: Story) -> None:
    live(story)


@given(any_stories)
@settings(max_examples=6)
def test_whoever_room_is_made_for_gets_it_though_others_come_meanwhile(story: Story) -> None:
    for _ in range(20):
        snapshot = story.snapshot()
        plan = place(snapshot)
        story.carry_out(snapshot, plan)
        if plan.evictions:
            break
    assume(story.claims)
    name = next(iter(story.claims))
    gains, story.claims = story.works[name], {name: (story.claims[name][0], story.cycle + 99, story.claims[name][2])}
    for work in story.works.values():
        if work.ending_for == name:
            work.places, work.ending_for, work.restarts = (), "", work.restarts + 1
    # Small jobs of the greatest priority, which would take any room that is left.
    for number in range(90, 99):
        story.works[f"j{number}"] = Work(f"j{number}", "0.1", 1, gains.queue, 500, "", fixed=False, same="", left=9)
    snapshot = story.snapshot()
    plan = place(snapshot)
    check(snapshot, plan)
    placed = {snapshot.jobs.ids[item.job] for item in plan.placements}
    fits = (_room_of(snapshot) >= 0).all()
    limited = any(item.limit is not None or item.ceiling is not None or item.kept.cpu or item.strict for item in story.queues)
    assert name in placed or limited or not fits


def _room_of(snapshot: Snapshot) -> object:
    """What is free on the nodes of the one claim, once its workers are there; negative where others are ending there still."""
    claims = snapshot.claims
    return snapshot.nodes.free[claims.node] - claims.asked() + 1e-6


@given(any_stories, st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=6)
def test_the_order_of_rows_changes_no_eviction(story: Story, cycles: int, random: Random) -> None:
    for _ in range(cycles):
        snapshot = story.snapshot()
        story.carry_out(snapshot, place(snapshot))
    snapshot = story.snapshot()
    orders = {
        name: random.sample(range(count), count)
        for name, count in (
            ("clusters", len(snapshot.clusters.names)), ("nodes", len(snapshot.nodes.names)), ("queues", len(snapshot.queues.names)),
            ("jobs", len(snapshot.jobs.ids)),
        )
    }  # fmt: skip
    other = reordered(snapshot, **orders)
    assert told(snapshot, place(snapshot)) == told(other, place(other))


def spoiled(snapshot: Snapshot, plan: Plan, how: str, at: int) -> Plan:
    """A plan with one of its evictions changed for the worse."""
    item = plan.evictions[at % len(plan.evictions)]
    others = [row for row in range(len(snapshot.evictable.ids)) if row not in {row for one in plan.evictions for row in one.runs}]
    changed: dict[str, list[Eviction]] = {
        "one victim too few": [replace(item, runs=item.runs[1:], rights=item.rights[1:])],
        "one victim too many": [replace(item, runs=(*item.runs, row), rights=(*item.rights, item.rights[0])) for row in others],
        "the same twice": [item, item],
        "a worker without a seat": [replace(item, nodes=item.nodes[1:])],
        "a row that is not there": [replace(item, runs=(*item.runs, 99), rights=(*item.rights, item.rights[0]))],
        "another right": [replace(item, rights=("because we can",) * len(item.rights))],
        "a job that does not wait": [replace(item, job=placed.job) for placed in plan.placements],
    }
    evictions = changed[how]
    assume(evictions)
    kept = [one for one in plan.evictions if one is not item]
    return replace(plan, evictions=(*kept, *(evictions if how == "the same twice" else evictions[:1])))


def until_somebody_is_ended(story: Story) -> tuple[Snapshot, Plan]:
    """The world and the plan with which it comes to that; stories without one are passed over."""
    for _ in range(20):
        snapshot = story.snapshot()
        plan = place(snapshot)
        if plan.evictions:
            return snapshot, plan
        story.carry_out(snapshot, plan)
    reject()


@given(any_stories, st.integers(0, 99), st.sampled_from([
    "one victim too few", "one victim too many", "the same twice", "a worker without a seat", "a row that is not there", "another right",
    "a job that does not wait",
]))  # fmt: skip
@settings(max_examples=12)
def test_check_rejects_evictions_that_were_spoiled(story: Story, at: int, how: str) -> None:
    snapshot, plan = until_somebody_is_ended(story)
    try:
        check(snapshot, spoiled(snapshot, plan, how, at))
    except PlanRejectedError:
        return
    raise AssertionError(f"accepted though spoiled: {how}")


@given(any_stories)
@settings(max_examples=6)
def test_check_rejects_a_plan_whose_world_forbids_it(story: Story) -> None:
    snapshot, plan = until_somebody_is_ended(story)
    item = plan.evictions[0]
    running, none = snapshot.evictable, snapshot.queues.preemption * 0
    gains, victim = snapshot.jobs.ids[item.job], running.jobs[item.runs[0]]
    forbidding = [
        replace(snapshot, queues=replace(snapshot.queues, preemption=none)),
        replace(snapshot, budget=replace(snapshot.budget, runs=0)),
        replace(snapshot, budget=replace(snapshot.budget, restarts=0)),
        replace(snapshot, evictable=replace(running, fixed=running.fixed | True)),
        replace(snapshot, evictable=replace(running, past=((victim, gains),))),
        replace(snapshot, evictable=replace(running, past=((victim, "x"), ("x", gains)))),
        replace(snapshot, queues=replace(snapshot.queues, quota=snapshot.queues.quota * 0),
                evictable=replace(running, rank=running.rank + 900)),
    ]  # fmt: skip
    for other in forbidding:
        try:
            check(other, plan)
        except PlanRejectedError:
            continue
        raise AssertionError("accepted though forbidden")
