"""Which nodes that are not there would make room for jobs that wait, and for how long they are asked for.

Pure. Only jobs for which the plan found no room, and makes none by ending or shrinking others, ask; and none that is promised a start
on nodes that are there sooner than new ones come. Nothing is booked: a job is placed when its nodes are there, like any other, so no
room is given away twice. Nodes that do not come within a limit are asked for no more, and again after as long a rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster.health import Health
from cluster.scaling import NodeType
from scheduler.bells import Bells, agent_bell
from scheduler.engine.plan import Plan, Unplaced
from scheduler.engine.reasons import Reason
from scheduler.freeze import Candidate, Frozen, held_of
from scheduler.store import fleet
from scheduler.store.records import ClusterRecord
from scheduler.store.session import Connection, Store
from scheduler.wishes import Wish, scale_key

USUAL_S, LIMIT_S = 120.0, 900.0
# The jobs behind these ask when these have been placed.
MOST_ASKS = 1000
# What stands against a cluster for want of room, which other nodes would have.
ROOM = frozenset({
    Reason.NODE_NOT_READY, Reason.NODE_LABELS, Reason.NODE_ACCELERATOR_MODEL, Reason.NODE_TOO_SMALL, Reason.NODE_BUSY,
    Reason.GANG_DOES_NOT_FIT, Reason.RESERVED_FOR_ANOTHER,
})  # fmt: skip
Amounts = dict[str, float]


@dataclass(frozen=True)
class Ask:
    """A waiting job and the nodes that it asks for: so many new ones of a type of a cluster, there in about `wait_s`."""

    job_id: str
    cluster: str
    node_type: str
    nodes: int
    wait_s: float


def types_for(candidate: Candidate, cluster: ClusterRecord, place: int, now: float) -> list[tuple[int, NodeType]]:
    """The ways to run a job and the types that could hold one of its workers so, at a cluster (row `place`) that may run it."""
    if cluster.scaling is None or cluster.health is not Health.HEALTHY or cluster.cordon != "open" or candidate.spec.placement.same:
        return []
    resting = {wish.node_type for wish in cluster.wishes if wish.rests_until > now}
    needed = candidate.spec.placement.labels.items()
    return [
        (choice, kind)
        for choice, way in enumerate(candidate.ways) if way.assessments[place].reason is Reason.FITS
        for kind in cluster.scaling.types
        if kind.absent and kind.name not in resting and needed <= {**cluster.spec.labels, **kind.labels}.items()
        and _holds(_amounts(kind), _request(candidate, choice))
    ]  # fmt: skip


@dataclass
class _New:
    """New nodes of one type: what is left of each."""

    kind: NodeType
    left: list[Amounts] = field(default_factory=list)

    def with_workers(self, workers: int, request: Amounts) -> _New | None:
        """The same with so many more workers on it; None where there may not be enough nodes."""
        left = [dict(node) for node in self.left]
        for _ in range(workers):
            node = next((node for node in left if _holds(node, request)), None)
            if node is None:
                if len(left) >= self.kind.absent:
                    return None
                node = _amounts(self.kind)
                left.append(node)
            for resource, amount in request.items():
                if resource in node:
                    node[resource] -= amount
        return replace(self, left=left)


def asks(frozen: Frozen, plan: Plan, waits: Mapping[str, float]) -> tuple[Ask, ...]:
    """What jobs ask for, in the order of the plan; `waits` say how long starts, and new nodes (`scale_key`), usually take."""
    if not any(cluster.scaling for cluster in frozen.world.clusters):
        return ()
    helped = {item.job for item in plan.evictions} | {item.job for item in plan.shrinks}
    soon = {item.job: item.start_s for item in plan.promises}
    new: dict[tuple[str, str], _New] = {}
    found: list[Ask] = []
    for item in plan.unplaced:
        if len(found) < MOST_ASKS and item.blocker in ROOM and item.job not in helped:
            ask = _best(frozen, item, new, waits, soon.get(item.job))
            if ask is not None:
                found.append(ask)
    return tuple(found)


def _best(
    frozen: Frozen, item: Unplaced, new: dict[tuple[str, str], _New], waits: Mapping[str, float], promised_s: float | None
) -> Ask | None:
    """The nodes that would be there soonest, of those the cheapest place; books them in `new`."""
    candidate, options = frozen.candidates[item.job], []
    workers = candidate.spec.resources.fewest
    for place, cluster in enumerate(frozen.world.clusters):
        wait_s = waits.get(scale_key(cluster.name), USUAL_S)
        if item.clusters[place] not in ROOM or (promised_s is not None and promised_s <= wait_s):
            continue
        for choice, kind in types_for(candidate, cluster, place, frozen.world.now):
            known = new.get((cluster.name, kind.name), _New(kind))
            after = known.with_workers(workers, _request(candidate, choice))
            if after is not None:
                assessment, opened = candidate.ways[choice].assessments[place], len(after.left) - len(known.left)
                rank = wait_s + assessment.transfer_s, assessment.cost, cluster.name, opened, kind.name
                options.append((rank, Ask(candidate.id, cluster.name, kind.name, opened, wait_s), after))
    if not options:
        return None
    _, ask, after = min(options, key=lambda option: option[0])
    new[ask.cluster, ask.node_type] = after
    return ask


def wishes_after(cluster: ClusterRecord, asked: Sequence[Ask], now: float, limit_s: float) -> tuple[Wish, ...]:
    """What a cluster is asked for from now on. What did not come within `limit_s` rests for as long."""
    before = {wish.node_type: wish for wish in cluster.wishes}
    found = []
    for kind in cluster.scaling.types if cluster.scaling else ():
        nodes = sum(item.nodes for item in asked if item.cluster == cluster.name and item.node_type == kind.name)
        known = before.get(kind.name)
        if known is not None and known.rests_until > now:
            found.append(known)
        elif any(item.cluster == cluster.name and item.node_type == kind.name for item in asked):
            fresh = known is None or not known.count or known.present != kind.present
            since = now if fresh or known is None else known.since
            if now - since >= limit_s:
                found.append(Wish(kind.name, 0, since, kind.present, now + limit_s))
            else:
                found.append(Wish(kind.name, min(kind.present + nodes, kind.most), since, kind.present))
    return tuple(wish for wish in found if wish.count or wish.rests_until > now)


class Scaling:
    """What autoscalers are asked for, kept with the members as decisions are stored."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._open = True  # An earlier server may have asked.

    def note(self, conn: Connection, frozen: Frozen, asked: Sequence[Ask]) -> set[str]:
        """Store what is asked for from now on; the bells of the agents that have to be told."""
        self._open, rung = False, set()
        for cluster in frozen.world.clusters:
            if cluster.scaling is None and not cluster.wishes:
                continue
            after = wishes_after(cluster, asked, frozen.world.now, self._limit_s)
            self._open = self._open or bool(after)
            if after != cluster.wishes:
                fleet.update_cluster(conn, cluster.name, wishes=[wish.stored() for wish in after])
                rung.add(agent_bell(cluster.name))
        return rung

    def withdraw(self, store: Store, bells: Bells) -> None:
        """Ask for nothing any more, where something may be asked for: nobody waits."""
        if self._open:
            self._open = False
            for name in store.write(lambda tx: fleet.drop_wishes(tx.conn)):
                bells.ring(agent_bell(name))


def _request(candidate: Candidate, choice: int) -> Amounts:
    held = held_of(candidate.ways[choice].resources)
    amounts = {"cpu": float(held["cpu"]), "memory": float(held["memory_bytes"])}
    if held["accelerator_model"]:
        amounts[held["accelerator_model"]] = float(held["accelerator_count"])
    return amounts


def _amounts(kind: NodeType) -> Amounts:
    found: Amounts = {"cpu": kind.cpu, **{model: float(count) for model, count in kind.accelerators.items()}}
    return found if kind.memory_bytes is None else {**found, "memory": float(kind.memory_bytes)}


def _holds(node: Amounts, request: Amounts) -> bool:
    # Memory that nobody has declared is not asked about.
    return all(node.get(resource, float("inf") if resource == "memory" else 0.0) >= amount for resource, amount in request.items())
