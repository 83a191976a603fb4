"""The tree of queues as the API shows it: what each is entitled to, receives, and borrows, all below it included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from controlplane.api.queue_schemas import QueueResource, QueueView
from scheduler.engine.snapshot import Floats, Snapshot
from scheduler.engine.tree import upward, with_children
from scheduler.freeze import World, freeze
from scheduler.lifecycle import State
from scheduler.quotas import layout, preemption_of, warnings
from scheduler.store.records import QueueRecord


def queue_views(world: World, counts: Mapping[tuple[str, str], int]) -> list[QueueView]:
    """All queues by name; `counts` are jobs that are not final, by queue and state."""
    snapshot = freeze(world, [], {}).snapshot
    queues, order = snapshot.queues, upward(snapshot.queues.parent)
    total = snapshot.nodes.total.sum(axis=0)
    held, recent = (with_children(queues.parent, order, own) for own in (queues.held, queues.used))
    waiting = np.array([_counted(counts, name) for name in queues.names], dtype=np.float64).reshape(len(queues.names), 2)
    numbers = with_children(queues.parent, order, waiting).astype(int).tolist()
    entitled = entitled_shares(snapshot)
    capacity = dict(zip(snapshot.resources, total.tolist(), strict=True))
    found, by_name = [], {queue.name: queue for queue in world.queues}
    in_effect = {queue.name: preemption_of(queue, by_name).label for queue in world.queues}
    for row, queue in enumerate(world.queues):
        parts = _resources(snapshot, row, entitled[row], total, held[row], recent[row])
        found.append(
            QueueView(
                name=queue.name, parent=queue.parent, depth=_depth(world.queues, queue), weight=queue.weight, max_running=queue.max_running,
                order=queue.order, layout=layout(queue, by_name), layout_inherited=queue.layout is None,
                preemption=in_effect[queue.name], preemption_own=queue.preemption,  # type: ignore[arg-type]
                children=[item.name for item in world.queues if item.parent == queue.name],
                quota=queue.quota, borrow_limit=queue.borrow_limit, lend_limit=queue.lend_limit,
                queued=numbers[row][0], running=numbers[row][1], entitled_share=entitled[row],
                dominant_share=largest_share([part.held for part in parts], total),
                borrowed_share=largest_share([part.borrowed for part in parts], total),
                recent_share=largest_share([part.recent for part in parts], total),
                resources=parts, warnings=list(warnings(queue, world.queues, capacity)),
                created_at=datetime.fromtimestamp(queue.created_at, UTC),
            )
        )  # fmt: skip
    return found


def entitled_shares(snapshot: Snapshot) -> list[float]:
    """[Q] The share of the network by weight while all queues have work: of the parent's share the part of its weight among sisters'."""
    queues = snapshot.queues
    sisters = {parent: float(queues.weight[queues.parent == parent].sum()) for parent in set(queues.parent.tolist())}
    shares = [0.0] * len(queues.names)
    for row in upward(queues.parent)[::-1].tolist():
        parent = int(queues.parent[row])
        of_parent = shares[parent] if parent >= 0 else 1.0
        shares[row] = of_parent * float(queues.weight[row]) / sisters[parent] if sisters[parent] else 0.0
    return shares


def largest_share(amounts: Sequence[float], total: Floats) -> float:
    """The largest part of what there is of any resource."""
    return max((amount / there for amount, there in zip(amounts, total.tolist(), strict=True) if there > 0), default=0.0)


def _counted(counts: Mapping[tuple[str, str], int], name: str) -> tuple[int, int]:
    queued = counts.get((name, State.QUEUED.value), 0)
    return queued, sum(count for (queue, _), count in counts.items() if queue == name) - queued


def _depth(queues: Sequence[QueueRecord], queue: QueueRecord) -> int:
    above = next((item for item in queues if item.name == queue.parent), None)
    return 1 + _depth(queues, above) if above else 0


def _resources(snapshot: Snapshot, row: int, entitled: float, total: Floats, held: Floats, recent: Floats) -> list[QueueResource]:
    queues, parts = snapshot.queues, []
    for column, resource in enumerate(snapshot.resources):
        quota, top, has = float(queues.quota[row, column]), float(queues.ceiling[row, column]), float(held[column])
        due = quota or entitled * float(total[column])
        parts.append(
            QueueResource(
                resource=resource, total=total[column], entitled=due, quota=quota, ceiling=top if np.isfinite(top) else None,
                kept=queues.kept[row, column], held=has, borrowed=max(has - due, 0.0), recent=recent[column],
            )
        )  # fmt: skip
    return parts
