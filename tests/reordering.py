"""Worlds with their rows in another order, for tests that no decision may depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scheduler.engine.evictable import on_rows
from scheduler.engine.snapshot import Clusters, Further, Ints, Jobs, Nodes, Queues, Snapshot


def reordered(snapshot: Snapshot, *, clusters: Sequence[int], nodes: Sequence[int], queues: Sequence[int], jobs: Sequence[int]) -> Snapshot:
    """The same world with its rows in another order: row i of the answer is row `order[i]` of the snapshot."""
    c, n, q, j = (np.array(rows, dtype=np.int64) for rows in (clusters, nodes, queues, jobs))
    old, running = snapshot, snapshot.running
    new_job = np.append(np.argsort(j), -1)
    evictable, claims = on_rows(old.evictable, old.claims, np.argsort(q), np.argsort(n))
    return replace(
        old,
        evictable=evictable,
        claims=replace(claims, job=new_job[claims.job]) if claims.ids else claims,
        clusters=Clusters(_named(old.clusters.names, c), old.clusters.healthy[c], old.clusters.cordoned[c], old.clusters.wait_s[c]),
        nodes=Nodes(
            _named(old.nodes.names, n), np.argsort(c)[old.nodes.cluster[n]], old.nodes.ready[n], old.nodes.total[n], old.nodes.free[n],
            old.nodes.label_ok[:, n], old.nodes.group[n], old.nodes.devices[n] if old.nodes.devices.size else old.nodes.devices,
        ),
        queues=Queues(
            _named(old.queues.names, q), old.queues.weight[q], old.queues.held[q], old.queues.running[q], old.queues.max_running[q],
            np.append(np.argsort(q), -1)[old.queues.parent[q]], old.queues.quota[q], old.queues.ceiling[q], old.queues.kept[q],
            old.queues.used[q], old.queues.strict[q], old.queues.spread[q],
            old.queues.seats[np.ix_(q, n)] if old.queues.seats.size else old.queues.seats,
            old.queues.preemption[q],
        ),
        jobs=Jobs(
            ids=_named(old.jobs.ids, j), queue=np.argsort(q)[old.jobs.queue[j]], rank=old.jobs.rank[j], sequence=old.jobs.sequence[j],
            workers=old.jobs.workers[j], request=old.jobs.request[j], label_class=old.jobs.label_class[j],
            policy=old.jobs.policy[np.ix_(j, c)], transfer_s=old.jobs.transfer_s[np.ix_(j, c)], cost=old.jobs.cost[np.ix_(j, c)],
            prefer=old.jobs.prefer[j],
            length_s=old.jobs.length_s[j],
            same=old.jobs.same[j], least=old.jobs.least[j], most=old.jobs.most[np.ix_(j, c)],
            limit_s=old.jobs.limit_s[j],
            longer_s=old.jobs.longer_s[j], carbon_g=old.jobs.carbon_g[np.ix_(j, c)],
        ),
        windows=replace(old.windows, covers=old.windows.covers[:, n], open_to=old.windows.open_to[:, j]) if old.windows else None,
        running=replace(running, node=np.argsort(n)[running.node]) if running else None,
        later=tuple(
            replace(item, at_s=item.at_s[c], cost=item.cost[c], latest_s=item.latest_s[c], within_s=item.within_s[c]) for item in old.later
        ),
        further=old.further and _further_reordered(old.further, q, j, c),
    )  # fmt: skip


def _further_reordered(further: Further, q: Ints, j: Ints, c: Ints) -> Further:
    """The further ways of the same jobs, whose rows, queues and clusters have moved."""
    rows = further.jobs
    moved = replace(rows, queue=np.argsort(q)[rows.queue], policy=rows.policy[:, c], transfer_s=rows.transfer_s[:, c], cost=rows.cost[:, c])
    moved = replace(moved, carbon_g=rows.carbon_g[:, c])
    return Further(np.argsort(j)[further.of], moved)


def _named(names: tuple[str, ...], rows: Ints) -> tuple[str, ...]:
    return tuple(names[row] for row in rows.tolist())
