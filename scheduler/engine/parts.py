"""Parts: running gangs as workers that may be ended one by one, the highest rank first, so that victims and rooms need know no more.

A gang that may shrink is a run of its least workers and, behind it, a part for each further one. A part is a row like any other:
it holds room, devices and what its queue is counted; only that its end ends no run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler.engine.alternatives import chosen_rows, with_alternatives
from scheduler.engine.evictable import Claims, Evictable
from scheduler.engine.plan import Shrink
from scheduler.engine.snapshot import Floats, Ints, Snapshot


@dataclass(frozen=True, eq=False)
class Parts:
    """Running work by parts: `gang[V]` is the run that each row was, `rank[V]` its first worker there."""

    evictable: Evictable
    gang: Ints
    rank: Ints

    def rows(self, gang: int, kept: int) -> list[int]:
        """The parts of a gang beyond so many workers, the highest rank first."""
        found = np.flatnonzero((self.gang == gang) & (self.rank >= kept))
        return sorted(found.tolist(), key=lambda row: -int(self.rank[row]))


def by_worker(evictable: Evictable, floors: Ints) -> Parts:
    """Running work with each worker beyond the first `floors[V]` of a run as a part of its own."""
    return _split(evictable, [(run, range(floor, count)) for run, (floor, count) in enumerate(_pairs(floors, evictable.workers()))])


def shrunk(snapshot: Snapshot, shrinks: Sequence[Shrink]) -> Snapshot:
    """The world in which these gangs are shrinking: the workers that leave are ending, and who they leave for claims their room."""
    if not shrinks:
        return snapshot
    evictable, claims, jobs = snapshot.evictable, snapshot.claims, snapshot.jobs
    kept = {run: count for item in shrinks for run, count in item.gangs}
    workers = evictable.workers()
    cuts = [(run, (kept[run],) if run in kept and kept[run] < workers[run] else ()) for run in range(len(evictable.ids))]
    parts = _split(evictable, cuts)
    leaving = np.array([row for row, rank in enumerate(parts.rank.tolist()) if rank > 0 and int(parts.gang[row]) in kept], dtype=np.int64)
    ending = parts.evictable.ending.copy()
    ending[leaving] = True
    places = [(row, node, count) for row, item in enumerate(shrinks, start=len(claims.ids)) for node, count in Counter(item.nodes).items()]
    pending = [_leaving(evictable, workers, shrinks[row - len(claims.ids)], node) for row, node, _ in places]
    more = Claims(
        ids=tuple(jobs.ids[item.job] for item in shrinks), job=np.array([item.job for item in shrinks], dtype=np.int64),
        queue=jobs.queue[[item.job for item in shrinks]], choice=np.array([item.choice for item in shrinks], dtype=np.int64),
        request=with_alternatives(snapshot).jobs.request[chosen_rows(snapshot, shrinks)],
        node=np.array([node for _, node, _ in places], dtype=np.int64), owner=np.array([row for row, _, _ in places], dtype=np.int64),
        workers=np.array([count for _, _, count in places], dtype=np.int64), pending=np.array(pending),
    )  # fmt: skip
    return replace(snapshot, evictable=replace(parts.evictable, ending=ending), claims=_joined(claims, more) if claims.ids else more)


def _leaving(evictable: Evictable, workers: Ints, shrink: Shrink, node: int) -> Floats:
    """[R] What workers that leave for a job hold on a node."""
    found = np.zeros(evictable.request.shape[1])
    for run, kept in shrink.gangs:
        found += evictable.request[run] * int((evictable.node[evictable.owner == run][kept : workers[run]] == node).sum())
    return found


def _joined(first: Claims, second: Claims) -> Claims:
    names = ("job", "queue", "request", "node", "owner", "workers", "pending", "choice")
    columns = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return Claims(ids=(*first.ids, *second.ids), **columns)


def _pairs(floors: Ints, workers: Ints) -> list[tuple[int, int]]:
    return list(zip(np.minimum(floors, workers).tolist(), workers.tolist(), strict=True))


def _split(evictable: Evictable, cuts: Iterable[tuple[int, Iterable[int]]]) -> Parts:
    """Each run cut before these ranks (1 and more). Runs keep their rows, without what is cut off; the parts come behind all of them."""
    begins = np.array([(run, rank) for run, ranks in cuts for rank in (0, *ranks)], dtype=np.int64).reshape(-1, 2)
    workers = evictable.workers()
    stride = int(workers.max(initial=0)) + 1
    order = np.argsort(begins[:, 1] > 0, kind="stable")
    row = np.argsort(order)

    def part_of(run: Ints, rank: Ints) -> Ints:
        """The row that has a worker: of the last cut of its run that is not behind it."""
        cut = np.searchsorted(begins[:, 0] * stride + begins[:, 1], run * stride + rank, side="right") - 1
        found: Ints = row[cut]
        return found

    owner, device = part_of(evictable.owner, _number_within(evictable.owner, workers)), evictable.device.copy()
    if len(device):
        # All workers of a run hold as many devices, and theirs follow one another in the order of ranks.
        counts = np.bincount(device[:, 0], minlength=len(workers))
        each = np.maximum(counts // np.maximum(workers, 1), 1)[device[:, 0]]
        device[:, 0] = part_of(device[:, 0], np.minimum(_number_within(device[:, 0], counts) // each, stride - 1))
    gang, rank = begins[order].T
    found = Evictable(
        ids=tuple(evictable.ids[run] + (f"#{first:06d}" if first else "") for run, first in begins[order].tolist()),
        jobs=tuple(evictable.jobs[run] for run in gang.tolist()), queue=evictable.queue[gang], rank=evictable.rank[gang],
        request=evictable.request[gang], lost_s=evictable.lost_s[gang], restarts=evictable.restarts[gang], ending=evictable.ending[gang],
        fixed=evictable.fixed[gang], node=evictable.node, owner=owner, device=device, past=evictable.past,
        part=evictable.part[gang] | (rank > 0),
    )  # fmt: skip
    return Parts(found, gang, rank)


def _number_within(owner: Ints, counts: Ints) -> Ints:
    """[W] The place of each entry among those of its owner, in their order."""
    by_owner, number = np.argsort(owner, kind="stable"), np.zeros(len(owner), dtype=np.int64)
    number[by_owner] = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return number
