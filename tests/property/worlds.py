"""Random worlds for the engine, and a second opinion on plans: plain Python, one job and one node at a time.

The worlds are small and their numbers few, so that ties, full nodes, gangs that just fit and queues at their limit are
common. Fractions like 0.1 + 0.2 are among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot, Weights
from tests.builders import DrawnJob, DrawnQueue, cluster, job, queue, world
from tests.property.queue_rules import family, held_back_in_vain, may_be_held

SLACK = 1e-9  # of a node's total

# Sampled wholes instead of parts that are put together: a world is drawn in milliseconds.
nodes = st.lists(
    st.sampled_from([
        "8", "4", "2", "4/8", "1/4", "8@gold", "4@gold@ssd", "8+2H200", "4+1/2H200@gold", "8+2H200+1A100",
        "0.3", "2:1", "0/8", "8!", "0", "",
    ]),
    min_size=1, max_size=4,
).map(" ".join)  # fmt: skip
clusters = st.builds(
    cluster,
    st.just("?"),
    nodes,
    healthy=st.sampled_from([True] * 7 + [False]),
    cordoned=st.sampled_from([False] * 7 + [True]),
    wait_s=st.sampled_from([1.0, 1.0, 0.0, 2.5]),
)
limits = st.sampled_from([(0, None), (1, None), (2, None), (0, 3), (1, 4), (2, 2)])
weights = st.sampled_from([1.0, 1.0, 3.0, 0.5, 0.0])
shapes = st.sampled_from([
    ("1", 1, ""), ("2", 1, ""), ("4", 1, ""), ("0.1", 1, ""), ("0.2", 1, ""), ("0.1", 3, ""), ("3:0", 1, ""), ("1:5", 1, ""), ("9", 1, ""),
    ("0", 2, ""), ("1", 5, ""), ("2", 3, ""), ("4", 3, ""), ("1+1H200", 1, ""), ("1+1H200", 2, ""), ("0+1H200+1A100", 1, ""),
    ("1", 1, "gold"), ("3", 2, "gold"), ("1", 1, "gold ssd"),
])  # fmt: skip
# Nodes that stand in zones and racks, and gangs that must be in one of them.
grouped_nodes = st.lists(
    st.sampled_from(["4#a.1", "2#a.1", "4/8#a.2", "2#a.2", "8#b.1", "1/4#b.1", "4#b", "8", "4!#a.1", "4@gold#a.2", "0.3#a.1"]),
    min_size=1, max_size=6,
).map(" ".join)  # fmt: skip
gangs = st.sampled_from([
    (size, workers, labels, same)
    for size, workers, labels in (
        ("2", 2, ""), ("2", 3, ""), ("4", 2, ""), ("1", 5, ""), ("0.1", 3, ""), ("2", 2, "gold"),
        ("2", (1, 3), ""), ("1", (2, 6), ""), ("4", (1, 2), "gold"), ("0.1", (3, 9), ""), ("1", (1, 40), ""),
    )
    for same in ("rack", "zone", "", "")
])  # fmt: skip
refusals = st.sampled_from([
    {}, {}, {}, {"sh": Reason.LICENCE_PURPOSE}, {"gz": Reason.LICENCE_JURISDICTION, "bj": Reason.OVER_BUDGET},
    dict.fromkeys(("bj", "gz", "tj"), Reason.JOB_CLUSTER),
])  # fmt: skip
by_cluster = st.sampled_from([{}, {}, {"sh": 0.0, "gz": 2.5}, {"gz": 0.0, "tj": 3.0}, {"bj": 5.0, "sh": 5.0}])


histories = st.sampled_from([Weights(), Weights(history=0.5)])
# Each queue with the one that it is below.
trees = st.sampled_from([
    [("default", "")], [("urgent", ""), ("batch", "")], [("default", ""), ("urgent", ""), ("batch", "")],
    [("org", ""), ("batch", "org"), ("urgent", "org")], [("a", ""), ("b", ""), ("a1", "a"), ("a2", "a"), ("b1", "b")],
    [("org", ""), ("dept", "org"), ("team", "dept"), ("other", "org"), ("default", "")],
])  # fmt: skip
# What a queue holds and used, what is guaranteed to it, and the most it may hold.
terms = st.sampled_from([
    {"held": held, "used": used, **quota, **ceiling}
    for held in ("0", "1", "4+1H200")
    for used in ("0", "0", "2")
    for quota in ({}, {}, {}, {"quota": "4"}, {"quota": "0+1H200"}, {"quota": "6", "kept": "4"}, {"quota": "4", "kept": "4"})
    for ceiling in ({}, {}, {"ceiling": "6"}, {"ceiling": "8:64+1H200"}, {"ceiling": "1"})
])  # fmt: skip


@st.composite
def drawn_queues(draw: st.DrawFn, name: str, below: str) -> DrawnQueue:
    """A queue that may have a limit, a quota and a ceiling, and may hold something."""
    running, limit = draw(limits)
    return queue(name, draw(weights), running=running, limit=limit, below=below, **draw(terms))


@st.composite
def drawn_jobs(draw: st.DrawFn, name: str, queues: Sequence[str]) -> DrawnJob:
    """A job in one of these queues. Jobs may be of one age."""
    (size, workers, labels), rank, sequence = draw(shapes), draw(st.sampled_from([0, 0, 100, -100])), draw(st.integers(0, 5))
    return job(
        name, size, workers=workers, labels=labels, queue=draw(st.sampled_from(queues)), rank=rank, sequence=sequence,
        refused=draw(refusals), cost=draw(by_cluster), transfer_s=draw(by_cluster),
    )  # fmt: skip


@st.composite
def snapshots(draw: st.DrawFn, *, most_jobs: int = 7, weighed: Weights | None = None) -> Snapshot:
    """A world with up to 4 clusters of up to 4 nodes, up to 3 queues, and some jobs."""
    members = [replace(draw(clusters), name=name) for name in draw(st.permutations(["bj", "gz", "sh", "tj"]))[: draw(st.integers(1, 4))]]
    queues = [draw(drawn_queues(name, below)) for name, below in draw(trees)]
    names = [item.name for item in queues]
    jobs = [draw(drawn_jobs(f"j{place}", names)) for place in range(draw(st.integers(most_jobs // 3, most_jobs)))]
    return world(*members, jobs=jobs, queues=queues, weights=weighed or draw(histories))


@st.composite
def gang_worlds(draw: st.DrawFn, *, most_jobs: int = 5) -> Snapshot:
    """A world of one or two clusters with zones and racks, and gangs in one queue or two that may have a ceiling."""
    members = [cluster(name, draw(grouped_nodes)) for name in draw(st.sampled_from([["sh"], ["gz", "sh"]]))]
    queues = draw(st.sampled_from([
        [queue("a")], [queue("a"), queue("b", 3.0)], [queue("a", ceiling="6"), queue("b", quota="4")],
        [queue("a", spread=True)], [queue("a", spread=True, on="sh.n1 sh.n1 sh.n2"), queue("b")],
    ]))  # fmt: skip
    jobs = []
    for place in range(draw(st.integers(1, most_jobs))):
        size, workers, labels, same = draw(gangs)
        where, cost, paid = draw(st.sampled_from(queues)).name, draw(by_cluster), draw(st.sampled_from([{}, {}, {"sh": 2}]))
        paid = paid if isinstance(workers, tuple) and workers[0] <= 2 <= workers[1] else {}
        jobs.append(job(f"j{place}", size, workers=workers, labels=labels, same=same, queue=where, cost=cost, paid=paid))
    return world(*members, jobs=jobs, queues=queues)


def rows_of(snapshot: Snapshot) -> Iterator[tuple[int, int]]:
    """Every (job row, cluster row)."""
    return ((job, cluster) for job in range(len(snapshot.jobs.ids)) for cluster in range(len(snapshot.clusters.names)))


def left_over(snapshot: Snapshot, plan: Plan) -> list[list[float]]:
    """What is free on each node once the plan is carried out."""
    left: list[list[float]] = snapshot.nodes.free.tolist()
    for item in plan.placements:
        for node in item.nodes:
            left[node] = [have - asked for have, asked in zip(left[node], snapshot.jobs.request[item.job].tolist(), strict=True)]
    return left


def open_to(snapshot: Snapshot, job: int, cluster: int) -> bool:
    """Whether rights, health and cordon let a job to a cluster."""
    allowed = snapshot.jobs.policy[job, cluster] == Reason.FITS
    return bool(allowed and snapshot.clusters.healthy[cluster] and not snapshot.clusters.cordoned[cluster])


def suits(snapshot: Snapshot, job: int, node: int) -> bool:
    """Whether a node is one that a job may use, room aside."""
    asked, there = snapshot.jobs.request[job, 2:].tolist(), snapshot.nodes.total[node, 2:].tolist()
    has_models = all(total > 0 for count, total in zip(asked, there, strict=True) if count > 0)
    return bool(snapshot.nodes.ready[node] and snapshot.nodes.label_ok[snapshot.jobs.label_class[job], node] and has_models)


def workers_that_fit(snapshot: Snapshot, job: int, node: int, left: list[list[float]]) -> float:
    """How many workers of a job fit in what is left on a node."""
    rooms = [
        math.floor((have + SLACK * total) / asked)
        for have, total, asked in zip(left[node], snapshot.nodes.total[node].tolist(), snapshot.jobs.request[job].tolist(), strict=True)
        if asked > 0
    ]
    return min(rooms, default=math.inf)


def fits(snapshot: Snapshot, job: int, cluster: int, left: list[list[float]]) -> bool:
    """Whether a cluster could take a whole job with what is left."""
    if not open_to(snapshot, job, cluster):
        return False
    return most_together(snapshot, job, cluster, left) >= int(snapshot.jobs.least[job])


def most_together(snapshot: Snapshot, job: int, cluster: int, left: list[list[float]]) -> float:
    """How many workers of a job a cluster, or one group of it where they must be together, could take with what is left."""
    rooms: dict[int, float] = {0: 0.0}
    for node in range(len(snapshot.nodes.names)):
        group = group_of(snapshot, job, node)
        if snapshot.nodes.cluster[node] == cluster and suits(snapshot, job, node) and group is not None:
            rooms[group] = rooms.get(group, 0.0) + workers_that_fit(snapshot, job, node, left)
    return max(rooms.values())


def group_of(snapshot: Snapshot, job: int, node: int) -> int | None:
    """The group whose nodes may take a job's workers together with this node; None where this one may take none."""
    level = int(snapshot.jobs.same[job])
    number = int(snapshot.nodes.group[node, level]) if level >= 0 else 0
    return number if number >= 0 else None


def is_legal(snapshot: Snapshot, plan: Plan) -> bool:
    """Whether every placement is allowed, whole, and within what is free and what queues may run."""
    for item in plan.placements:
        least, most = int(snapshot.jobs.least[item.job]), int(snapshot.jobs.most[item.job, item.cluster])
        if not open_to(snapshot, item.job, item.cluster) or not least <= len(item.nodes) <= most:
            return False
        if not all(snapshot.nodes.cluster[node] == item.cluster and suits(snapshot, item.job, node) for node in item.nodes):
            return False
        groups = {group_of(snapshot, item.job, node) for node in item.nodes}
        if len(groups) > 1 or None in groups:
            return False
    left = left_over(snapshot, plan)
    for node, amounts in enumerate(left):
        if any(have < -2 * SLACK * total for have, total in zip(amounts, snapshot.nodes.total[node].tolist(), strict=True)):
            return False
    within = all(within_limit(snapshot, plan.placements, queue) for queue in range(len(snapshot.queues.names)))
    if not (within and may_be_held(snapshot, plan.placements)) or held_back_in_vain(snapshot, plan):
        return False
    if any(could_be_larger(snapshot, plan, item) for item in plan.placements):
        return False
    return all(is_spread(snapshot, plan, place) for place in range(len(plan.placements)))


def is_spread(snapshot: Snapshot, plan: Plan, place: int) -> bool:
    """Whether a placement is on as many nodes, and on those with as few workers of its queue, as what the whole plan leaves shows."""
    item, jobs, left = plan.placements[place], snapshot.jobs, left_over(snapshot, plan)
    row = int(jobs.queue[item.job])
    if not snapshot.queues.spread[row]:
        return True
    before = [node for other in plan.placements[:place] if jobs.queue[other.job] == row for node in other.nodes]
    count = {node: int(snapshot.queues.seats[row, node]) + before.count(node) for node in range(len(snapshot.nodes.names))}
    unused = [
        node
        for node in range(len(snapshot.nodes.names))
        if node not in item.nodes
        and snapshot.nodes.cluster[node] == item.cluster
        and suits(snapshot, item.job, node)
        and group_of(snapshot, item.job, node) == group_of(snapshot, item.job, item.nodes[0])
        and workers_that_fit(snapshot, item.job, node, left) >= 1
    ]
    is_twice = len(set(item.nodes)) < len(item.nodes)
    return not unused or (not is_twice and max(count[node] for node in item.nodes) <= min(count[node] for node in unused))


def could_be_larger(snapshot: Snapshot, plan: Plan, item: Placement) -> bool:
    """Whether a placed job could have one worker more, here or elsewhere, with what is left beside the others."""
    others = tuple(other for other in plan.placements if other is not item)
    left, more = left_over(snapshot, Plan(others, ())), len(item.nodes) + 1
    taking = [
        row
        for row in range(len(snapshot.clusters.names))
        if open_to(snapshot, item.job, row)
        and snapshot.jobs.most[item.job, row] >= more
        and most_together(snapshot, item.job, row, left) >= more
    ]
    return bool(taking) and may_be_held(snapshot, (*others, Placement(item.job, taking[0], (0,) * more, 0.0)))


def within_limit(snapshot: Snapshot, placements: tuple[Placement, ...], queue: int) -> bool:
    """Whether a queue with all below it starts no more than its limit leaves."""
    below = family(snapshot, queue)
    limit, running = int(snapshot.queues.max_running[queue]), sum(int(snapshot.queues.running[row]) for row in below)
    started = sum(1 for item in placements if snapshot.jobs.queue[item.job] in below)
    return limit < 0 or started <= max(limit - running, 0)
