"""The queues as a tree: what each holds with all below it, and what it may still hold.

A *quota* is guaranteed: a job within the quotas of its queue goes before others' jobs above theirs. What a queue leaves of its
quota others may use, but for the part that it *keeps*. A *ceiling* is the most that a queue may hold, quota and borrowed
together. What is kept back counts as held everywhere above: it is a *claim*, so that no sister fills the parent's ceiling, and
nobody the network, with what was kept. A queue that takes what it kept raises no claim.

`Tree` holds arrays, for the compiled loop of the board; `Amounts` the same numbers as lists, for `Turns`: both must answer alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Queues, Snapshot

MOST = np.iinfo(np.int64).max


class Tree(NamedTuple):
    """Queues with all below them. `upward[Q]` are the rows, children before their parents.

    `held[Q, R]`, `quota`, `ceiling` (both with room for rounding) and `recent` (weighted past use) count for the share and the
    limits; `left[Q]` is how many more may run. `base[Q, R]` is what own runs hold and children claim, `claim[Q, R]` that or
    what is kept, `spare[R]` how far claims may grow. Flags: `inner` has children, `guaranteed` has a quota, `limited` must be asked
    before it holds more, `steady` is placed by what it holds alone, whichever job is its next.
    """

    parent: Ints
    upward: Ints
    held: Floats
    recent: Floats
    quota: Floats
    ceiling: Floats
    kept: Floats
    base: Floats
    claim: Floats
    spare: Floats
    left: Ints
    inner: Bools
    guaranteed: Bools
    limited: Bools
    steady: Bools


def capacity_of(snapshot: Snapshot) -> Floats:
    """[R] What the healthy clusters have."""
    nodes = snapshot.nodes
    capacity: Floats = nodes.total[snapshot.clusters.healthy[nodes.cluster]].sum(axis=0)
    return capacity


def free_of(snapshot: Snapshot) -> Floats:
    """[R] What is free on the nodes that may be used now."""
    nodes, clusters = snapshot.nodes, snapshot.clusters
    usable = nodes.ready & (clusters.healthy & ~clusters.cordoned)[nodes.cluster]
    free: Floats = nodes.free[usable].sum(axis=0)
    return free


def per_unit(capacity: Floats) -> Floats:
    """[R] One unit of a resource as a share of all; what no healthy cluster has, nobody competes for."""
    shares: Floats = np.divide(1.0, capacity, out=np.zeros_like(capacity), where=capacity > 0)
    return shares


def upward(parent: Ints) -> Ints:
    """[Q] Rows, children before their parents. Raises ValueError for a queue that is below itself."""
    depth, at = np.zeros(len(parent), dtype=np.int64), parent.copy()
    while (at >= 0).any():
        depth += at >= 0
        if depth.max() > len(parent):
            raise ValueError("the queues are no tree: one of them is below itself")
        at = np.where(at >= 0, parent[at], -1)
    return np.argsort(-depth, kind="stable")


def with_children(parent: Ints, order: Ints, own: Floats) -> Floats:
    """[Q, …] Of each queue its own value and those of all below it."""
    sums = own.copy()
    for queue in order[parent[order] >= 0].tolist():
        sums[parent[queue]] += sums[queue]
    return sums


def any_of(flags: Bools) -> Bools:
    """[Q] Whether a flag is set for any resource."""
    found: Bools = np.asarray(flags.any(axis=1), dtype=np.bool_)
    return found


class Stem:
    """What of a tree stays while jobs start and end. `history` is the weight of past use."""

    def __init__(self, queues: Queues, history: float) -> None:
        parent, order = queues.parent, upward(queues.parent)
        self._below, self._top, self._limits = order[parent[order] >= 0].tolist(), parent < 0, queues.max_running
        # Where nothing is kept back, the nodes themselves are the limit, and what is free on them is not asked for.
        self.keeps = bool(queues.kept.any())
        guaranteed, limited = any_of(queues.quota > 0), any_of(np.isfinite(queues.ceiling)) | self.keeps
        for queue in self._below[::-1]:
            limited[queue] |= limited[parent[queue]]
        none, count = np.zeros((len(parent), queues.held.shape[1])), np.zeros(len(parent), dtype=np.int64)
        self._tree = Tree(
            parent=parent.astype(np.int64), upward=order, held=none, recent=history * with_children(parent, order, queues.used),
            quota=queues.quota * (1 + ROUNDING), ceiling=queues.ceiling * (1 + ROUNDING), kept=queues.kept.copy(), base=none, claim=none,
            spare=none[:1].sum(axis=0), left=count, inner=np.isin(np.arange(len(parent)), parent), guaranteed=guaranteed,
            limited=limited, steady=self._top & ~guaranteed,
        )  # fmt: skip

    def grow(self, own: Floats, started: Ints, capacity: Floats, free: Floats) -> Tree:
        """The tree when own runs of the queues hold `own[Q, R]` and are `started[Q]` many.

        Of its arrays `held`, `base`, `claim`, `spare` and `left` may be changed.
        """
        tree, base, held, running = self._tree, own.copy(), own.copy(), started.copy()
        for queue in self._below:
            above = tree.parent[queue]
            base[above] += np.maximum(tree.kept[queue], base[queue])
            held[above] += held[queue]
            running[above] += running[queue]
        claim = np.maximum(tree.kept, base)
        back = (claim[self._top] - held[self._top]).sum(axis=0)
        return tree._replace(
            held=held, base=base, claim=claim, left=np.where(self._limits < 0, MOST, self._limits - running),
            spare=np.where(back > ROUNDING * capacity, free - back + ROUNDING * capacity, np.inf),
        )  # fmt: skip


def grow(queues: Queues, history: float, capacity: Floats, free: Floats) -> Tree:
    """The tree of some queues as they stand."""
    return Stem(queues, history).grow(queues.held, queues.running, capacity, free)


class Amounts:
    """The numbers of a tree as lists, which one job at a time is looked up in and booked on."""

    def __init__(self, tree: Tree) -> None:
        self._parent, self._inner, self._limited, self._guaranteed = (
            part.tolist() for part in (tree.parent, tree.inner, tree.limited, tree.guaranteed)
        )
        self._held, self._recent, self._quota, self._ceiling = (
            part.tolist() for part in (tree.held, tree.recent, tree.quota, tree.ceiling)
        )
        self._kept, self._base, self._claim, self._spare = (part.tolist() for part in (tree.kept, tree.base, tree.claim, tree.spare))
        self.left: list[int] = tree.left.tolist()

    def share(self, queue: int, grant: list[float], per_unit: list[float]) -> float:
        """The largest part that a queue holds of any resource, or of those that its next job asks for where others are below it."""
        held, recent, inner = self._held[queue], self._recent[queue], self._inner[queue]
        found = 0.0
        for resource, unit in enumerate(per_unit):
            if not inner or grant[resource] > 0.0:
                found = max(found, (held[resource] + recent[resource]) * unit)
        return found

    def is_within_quota(self, queue: int, grant: list[float]) -> bool:
        """Whether what a job asks for of the guaranteed resources, if it asks for one, is guaranteed."""
        if not self._guaranteed[queue]:
            return False
        held, quota, asked = self._held[queue], self._quota[queue], False
        for resource, amount in enumerate(grant):
            if amount > 0.0 and quota[resource] > 0.0:
                if held[resource] + amount > quota[resource]:
                    return False
                asked = True
        return asked

    def may_hold(self, queue: int, grant: list[float]) -> bool:
        """Whether a queue and all above it may hold a job more."""
        if not self._limited[queue]:
            return True
        for resource, amount in enumerate(grant):
            if not amount > 0.0:
                continue
            at, more = queue, amount
            while at >= 0:
                ceiling, claim = self._ceiling[at][resource], self._claim[at][resource]
                raised = max(self._kept[at][resource], self._base[at][resource] + more)
                if self._held[at][resource] + amount > ceiling or (raised > claim and raised > ceiling):
                    return False
                at, more = self._parent[at], raised - claim
            if more > 0.0 and more > self._spare[resource]:
                return False
        return True

    def hold(self, queue: int, grant: list[float]) -> None:
        """Book a job on a queue and all above it."""
        at = queue
        while at >= 0:
            self.left[at] -= 1
            at = self._parent[at]
        for resource, amount in enumerate(grant):
            at, more = queue, amount
            while at >= 0:
                self._held[at][resource] += amount
                self._base[at][resource] += more
                raised = max(self._kept[at][resource], self._base[at][resource])
                more, self._claim[at][resource] = raised - self._claim[at][resource], raised
                at = self._parent[at]
            self._spare[resource] -= more

    def is_full(self, queue: int) -> bool:
        """Whether a queue, or one above it, runs as many jobs as it may."""
        at = queue
        while at >= 0:
            if self.left[at] <= 0:
                return True
            at = self._parent[at]
        return False
