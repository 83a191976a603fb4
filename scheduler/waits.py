"""How long each member usually takes from placement to start, learned from the starts seen lately."""

from __future__ import annotations

import threading

NEWEST_SHARE = 0.2


class StartWaits:
    """An exponentially weighted mean per cluster; estimates only, so it lives in memory. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mean_s: dict[str, float] = {}

    def saw(self, cluster: str, seconds: float) -> None:
        """Learn from one start that brought no data in."""
        newest = max(seconds, 0.0)
        with self._lock:
            known = self._mean_s.get(cluster, newest)
            self._mean_s[cluster] = known + NEWEST_SHARE * (newest - known)

    def snapshot(self) -> dict[str, float]:
        """Seconds by cluster."""
        with self._lock:
            return dict(self._mean_s)
