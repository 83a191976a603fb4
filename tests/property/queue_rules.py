"""A second opinion on what queues may hold: plain Python, one queue and one resource at a time, from the words of the rules."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot

SLACK = 1e-8

# What each queue's own runs hold, by resource.
Held = list[list[float]]


def children(snapshot: Snapshot, queue: int) -> list[int]:
    """The queues right below one; -1 is the top."""
    return [row for row, parent in enumerate(snapshot.queues.parent.tolist()) if parent == queue]


def family(snapshot: Snapshot, queue: int) -> list[int]:
    """A queue and all below it."""
    return [queue, *(row for child in children(snapshot, queue) for row in family(snapshot, child))]


def path(snapshot: Snapshot, queue: int) -> list[int]:
    """A queue and all above it."""
    return [queue, *path(snapshot, int(snapshot.queues.parent[queue]))] if queue >= 0 else []


def held_after(snapshot: Snapshot, placements: Sequence[Placement]) -> Held:
    """What each queue's own runs hold with these placements."""
    held: Held = snapshot.queues.held.tolist()
    for item in placements:
        # One without nodes is a question: may its queue hold the job with the fewest workers?
        workers, queue = len(item.nodes) or int(snapshot.jobs.least[item.job]), int(snapshot.jobs.queue[item.job])
        held[queue] = [have + amount * workers for have, amount in zip(held[queue], snapshot.jobs.request[item.job].tolist(), strict=True)]
    return held


def together(snapshot: Snapshot, held: Held, queue: int, resource: int) -> float:
    """What a queue holds with all below it."""
    return sum(held[row][resource] for row in family(snapshot, queue))


def claim(snapshot: Snapshot, held: Held, queue: int, resource: int) -> float:
    """The same, where less is held than kept back what is kept."""
    below = held[queue][resource] + sum(claim(snapshot, held, child, resource) for child in children(snapshot, queue))
    return max(float(snapshot.queues.kept[queue, resource]), below)


def total_claim(snapshot: Snapshot, held: Held, resource: int) -> float:
    """What all queues together claim."""
    return sum(claim(snapshot, held, queue, resource) for queue in children(snapshot, -1))


def may_be_held(snapshot: Snapshot, placements: Sequence[Placement]) -> bool:
    """Whether queues may hold what they hold with these placements."""
    before, after = held_after(snapshot, ()), held_after(snapshot, placements)
    for resource in range(len(snapshot.resources)):
        for queue in range(len(snapshot.queues.names)):
            ceiling = float(snapshot.queues.ceiling[queue, resource]) * (1 + SLACK)
            for measure in (together, claim):
                has, had = measure(snapshot, after, queue, resource), measure(snapshot, before, queue, resource)
                if has > had and has > ceiling:
                    return False
        if beyond_what_is_kept(snapshot, before, after, resource):
            return False
    return True


def beyond_what_is_kept(snapshot: Snapshot, before: Held, after: Held, resource: int) -> bool:
    """Whether placements take what queues keep back of the network's free capacity."""
    nodes, clusters = snapshot.nodes, snapshot.clusters
    free = sum(
        float(nodes.free[row, resource])
        for row, home in enumerate(nodes.cluster.tolist())
        if nodes.ready[row] and clusters.healthy[home] and not clusters.cordoned[home]
    )
    had = total_claim(snapshot, before, resource)
    kept = had - sum(row[resource] for row in before)
    grown = total_claim(snapshot, after, resource) - had
    return kept > SLACK and grown > max(free - kept, 0.0) + SLACK * max(free, 1.0)


def held_back_in_vain(snapshot: Snapshot, plan: Plan) -> list[int]:
    """Jobs that wait for a quota though their queue may hold them too."""
    return [
        item.job
        for item in plan.unplaced
        if Reason.QUEUE_QUOTA in item.clusters and may_be_held(snapshot, (*plan.placements, Placement(item.job, 0, (), 0.0)))
    ]
