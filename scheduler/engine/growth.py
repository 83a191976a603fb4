"""Growth: gangs that run and may have more workers get the room that a plan leaves.

To grow is to place jobs of one worker each, by the same rules as all others, in the world that the plan leaves behind: so rights,
windows, labels, devices, promised starts and limits of queues hold, and of several gangs the next worker goes to the one whose queue
has least. Room that is claimed by somebody who waits is left alone, and so are gangs that the same plan shrinks or ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from scheduler.engine.aftermath import carried_out
from scheduler.engine.alternatives import ways_of, with_alternatives
from scheduler.engine.evictable import Claims
from scheduler.engine.parts import shrunk
from scheduler.engine.plan import Growth, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Bools, Elastic, Ints, Jobs, Promised, Snapshot

# How many workers join one gang in one plan at most.
MOST_AT_ONCE = 64


def grow(snapshot: Snapshot, plan: Plan, place: Callable[[Snapshot], Plan]) -> tuple[Growth, ...]:
    """Which gangs get which further workers once the plan is carried out, by row of `elastic`; `place` decides on the workers."""
    elastic = snapshot.elastic
    if elastic is None or not elastic.ids:
        return ()
    world, of = growth_world(snapshot, elastic, plan)
    nodes: dict[int, list[int]] = defaultdict(list)
    devices: dict[int, list[tuple[tuple[int, int], ...]]] = defaultdict(list)
    for item in place(world).placements:
        gang = int(of[item.job])
        nodes[gang].extend(item.nodes)
        devices[gang].extend(item.devices)
    return tuple(Growth(gang, tuple(nodes[gang]), tuple(devices[gang])) for gang in sorted(nodes))


def growth_world(snapshot: Snapshot, elastic: Elastic, plan: Plan) -> tuple[Snapshot, Ints]:
    """The world after a plan with a job for each worker that a gang may still have, and the gang of each [J]."""
    after = carried_out(shrunk(snapshot, plan.shrinks), plan)
    at_home = elastic.jobs.most[np.arange(len(elastic.ids)), elastic.cluster]
    rows = {run for item in plan.shrinks for run, _ in item.gangs} | {run for item in plan.evictions for run in item.runs}
    leaving = {snapshot.evictable.ids[run] for run in rows}
    missing = np.clip(at_home - elastic.workers, 0, MOST_AT_ONCE)
    missing[[name in leaving for name in elastic.ids]] = 0
    of = np.repeat(np.arange(len(elastic.ids)), missing)
    number = np.arange(len(of)) - np.repeat(np.cumsum(missing) - missing, missing)
    nodes, queues = after.nodes, after.queues
    ways, requests = ways_of(snapshot), with_alternatives(snapshot).jobs.request
    kept = (
        *(
            Promised(np.array(item.nodes, dtype=np.int64), requests[ways[item.job][item.choice]], item.start_s, item.end_s)
            for item in plan.promises
        ),
        *after.promised,
    )
    windows = snapshot.windows
    if windows is not None:
        windows = replace(windows, open_to=elastic.open_to[:, of])
    world = replace(
        after, nodes=replace(nodes, label_ok=_open_nodes(snapshot, elastic, plan), group=np.zeros((len(nodes.names), 0), dtype=np.int64)),
        queues=replace(queues, max_running=np.full_like(queues.max_running, -1), strict=np.zeros_like(queues.strict)),
        jobs=_workers(elastic, of, number), further=None, windows=windows, heads=0, promised=kept, claims=Claims(), elastic=None,
        later=(), waits=0,
    )  # fmt: skip
    return world, of


def _open_nodes(snapshot: Snapshot, elastic: Elastic, plan: Plan) -> Bools:
    """[E, N] The nodes that a worker may join each gang on, room aside."""
    nodes = snapshot.nodes
    found: Bools = elastic.label_ok[elastic.jobs.label_class] & (nodes.cluster == elastic.cluster[:, None])
    for gang, level in enumerate(elastic.jobs.same.tolist()):
        if level >= 0:
            group = elastic.group[:, level]
            found[gang] &= (group == group[elastic.first[gang]]) & (group >= 0)
    evicting, shrinking = ([node for item in made for node in item.nodes] for made in (plan.evictions, plan.shrinks))
    found[:, [*snapshot.claims.node.tolist(), *evicting, *shrinking]] = False
    return found


def _workers(elastic: Elastic, of: Ints, number: Ints) -> Jobs:
    """A job for each worker that is missing, alike but for its name, which counts them."""
    jobs, count = elastic.jobs, len(elastic.ids)
    columns: dict[str, Any] = {item.name: getattr(jobs, item.name)[of] for item in fields(Jobs) if item.name != "ids"}
    home = np.arange(jobs.policy.shape[1]) == elastic.cluster[:, None]
    policy = np.where(home, jobs.policy, np.int64(Reason.JOB_CLUSTER))
    one, none = np.ones(len(of), dtype=np.int64), np.full(len(of), -1, dtype=np.int64)
    return Jobs(
        tuple(f"{elastic.ids[gang]}+{place:06d}" for gang, place in zip(of.tolist(), number.tolist(), strict=True)),
        **{
            **columns, "policy": policy[of], "workers": one, "least": one, "most": np.ones((len(of), policy.shape[1]), dtype=np.int64),
            "same": none, "label_class": np.arange(count)[of], "array": none, "array_left": np.zeros(len(of), dtype=np.int64),
        },
    )  # fmt: skip
