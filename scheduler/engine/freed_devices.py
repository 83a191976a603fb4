"""Freed devices: what is free on each accelerator while runs are chosen to end, beside what is free by amounts.

Half of one device and half of another are no whole one, so ending a run helps only where its devices do. Nodes on which somebody
has claimed accelerators count as having none to give until that claim has come true: which of them it will take is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.engine.device_room import hold, milli_of, rooms_on
from scheduler.engine.plan import Placement
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Ints, Snapshot


class FreedDevices:
    """`devices[N, M, D]` as the plan has left them, once what is ending has ended. Where devices are not told apart, all have room."""

    def __init__(self, snapshot: Snapshot, placements: Sequence[Placement]) -> None:
        running, claims = snapshot.evictable, snapshot.claims
        self._free, self._told_apart = snapshot.nodes.devices.copy(), bool(snapshot.nodes.devices.size)
        self._milli, self._held = milli_of(snapshot.jobs.request), np.minimum(milli_of(running.request), WHOLE)
        if not self._told_apart:
            return
        by_run = np.argsort(running.device[:, 0], kind="stable")
        counts = np.bincount(running.device[:, 0], minlength=len(running.ids))
        self._of_run: list[Ints] = np.split(running.device[by_run], np.cumsum(counts)[:-1])
        for item in placements:
            for node, chosen in zip(item.nodes, item.devices, strict=False):
                for resource, number in chosen:
                    model = resource - FIRST_ACCELERATOR
                    self._free[node, model, number] -= min(int(self._milli[item.job, model]), WHOLE)
        for run in np.flatnonzero(running.ending).tolist():
            self.release(run)
        placed = {item.job for item in placements}
        for node, claim in zip(claims.node.tolist(), claims.owner.tolist(), strict=True):
            if int(claims.job[claim]) not in placed:
                self._free[node] = np.where(
                    (milli_of(claims.request[claim]) > 0)[:, None], np.minimum(self._free[node], 0), self._free[node]
                )

    def release(self, run: int) -> None:
        """A run ends."""
        if self._told_apart:
            self._add(self._free, np.arange(len(self._free)), run)

    def seat(self, job: int, nodes: Ints) -> None:
        """A job will be on these nodes, by rank; there must be room."""
        if self._told_apart and self._milli[job].any():
            hold(self._free, nodes.tolist(), self._milli[job])

    def limit(self, job: int, nodes: Ints, rooms: Ints, runs: Sequence[int] = ()) -> Ints:
        """[U] Of the workers `rooms[U]` that nodes (in order) have room for, those that find devices once these runs have ended."""
        if not self._told_apart or not self._milli[job].any():
            return rooms
        free = self._free[nodes]
        for run in runs:
            self._add(free, nodes, run)
        return np.minimum(rooms, rooms_on(free, self._milli[job]))

    def _add(self, free: Ints, nodes: Ints, run: int) -> None:
        for _, node, model, number in self._of_run[run].tolist():
            at = int(np.searchsorted(nodes, node))
            # A node may have come back with fewer devices.
            if at < len(nodes) and nodes[at] == node and number < free.shape[2] and free[at, model, number] >= 0:
                free[at, model, number] = min(free[at, model, number] + self._held[run, model], WHOLE)
