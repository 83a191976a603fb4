"""What agents are told of data that jobs which wait are going to read at their clusters (`scheduler/ahead.py`).

Asked with every answer to an agent, so it is looked up every two seconds, and when the jobs change whose place is known. It is a
state, said again each time: what an agent did not hear it hears with the next answer.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from cluster.protocol import AheadFile
from scheduler.ahead import Awaited, Planned, foreseen, planned, with_inputs
from scheduler.clock import Clock
from scheduler.forecast import Promises
from scheduler.freeze import Candidate
from scheduler.market import read_market
from scheduler.outlook import Decision
from scheduler.store import fleet
from scheduler.store.session import Store

LOOK_S = 2.0
Awaiting = frozenset[tuple[str, str, tuple[str, ...]]]
Latest = Callable[[], tuple[Promises, Decision | None]]


class Prefetch:
    """By cluster what was found last. `latest` tells what the latest cycle promised and found. Safe between threads."""

    def __init__(self, store: Store, clock: Clock, latest: Latest) -> None:
        self._store, self._clock, self._latest = store, clock, latest
        self._lock, self._turn = Lock(), Lock()
        self._looked_at: float | None = None
        self._awaiting: Awaiting = frozenset()
        self._found: dict[str, tuple[Planned, ...]] = {}

    def decided(self) -> list[str]:
        """A cycle is over: the clusters that have to be told something else now, as far as that is seen from whom it is for."""
        awaiting = self._names(self._awaited())
        with self._lock:
            changed = awaiting ^ self._awaiting
            if changed:
                self._awaiting, self._looked_at = awaiting, None
        return sorted({cluster for cluster, _, _ in changed})

    def known(self, cluster: str) -> tuple[AheadFile, ...] | None:
        """What was found lately; None when it is time to look again."""
        with self._lock:
            if self._looked_at is None or not 0 <= self._clock.now() - self._looked_at < LOOK_S:
                return None
            return self._files(cluster)

    def look(self, cluster: str) -> tuple[AheadFile, ...]:
        """Look now, for all clusters; of many who ask at once one does, and the others wait for it."""
        with self._turn:
            known = self.known(cluster)
            if known is not None:
                return known
            now, awaited = self._clock.now(), self._awaited()
            found: dict[str, tuple[Planned, ...]] = {}
            if awaited:
                with self._store.read() as conn:
                    market = read_market(conn, [candidate.spec for candidate, _ in awaited], (candidate.id for candidate, _ in awaited))
                    found = planned(with_inputs(awaited, market), fleet.list_clusters(conn), now)
            with self._lock:
                self._looked_at, self._found = now, found
                return self._files(cluster)

    def of(self, job_id: str) -> list[tuple[str, AheadFile]]:
        """What is brought ahead for a job, with the cluster that it is brought to."""
        with self._lock:
            return [(name, one.wanted) for name, plan in sorted(self._found.items()) for one in plan if job_id in one.jobs]

    def _files(self, cluster: str) -> tuple[AheadFile, ...]:
        return tuple(one.wanted for one in self._found.get(cluster, ()))

    def _awaited(self) -> list[tuple[Candidate, Awaited]]:
        promises, decision = self._latest()
        if decision is None:
            return []
        frozen = decision.frozen
        return foreseen(promises, frozen.world.claims, frozen.candidates)

    @staticmethod
    def _names(awaited: list[tuple[Candidate, Awaited]]) -> Awaiting:
        return frozenset((item.cluster, item.job_id, item.nodes) for _, item in awaited)
