"""What agents are told of copies that may not lie at their clusters any more.

Asked with every answer to an agent, so it is looked up only once in a while: a licence that ends is known within seconds.
"""

from __future__ import annotations

from threading import Lock

from scheduler.clock import Clock
from scheduler.store import fleet
from scheduler.store.session import Store
from scheduler.withdrawn import withdrawn

LOOK_S = 2.0


class Withdrawals:
    """By cluster what was found last. Safe between threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._found: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._lock = Lock()

    def known(self, cluster: str) -> tuple[str, ...] | None:
        """What was found lately; None when it is time to look again."""
        with self._lock:
            looked_at, versions = self._found.get(cluster, (None, ()))
        if looked_at is None or not 0 <= self._clock.now() - looked_at < LOOK_S:
            return None
        return versions

    def look(self, cluster: str) -> tuple[str, ...]:
        """Look now. Raises NotFoundError."""
        now = self._clock.now()
        with self._store.read() as conn:
            versions = withdrawn(conn, fleet.get_cluster(conn, cluster), now)
        with self._lock:
            self._found[cluster] = now, versions
        return versions
