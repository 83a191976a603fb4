"""What of a cluster's inventory its control plane has not been told yet.

Copies of data come and go with the runs, nodes hardly ever; so a change of the caches alone is told by itself, and a cluster of a
thousand nodes does not name them all again for each.
"""

from __future__ import annotations

from cluster.model import Inventory
from cluster.protocol import CacheNews, SyncRequest


class InventoryNews:
    """The newest inventory beside the one that the control plane has accepted."""

    def __init__(self) -> None:
        self._now: Inventory | None = None
        self._telling: Inventory | None = None
        self._told: Inventory | None = None

    def saw(self, inventory: Inventory) -> None:
        """Take in what the backend counts now."""
        if inventory != self._now:
            self._now = inventory

    def __bool__(self) -> bool:
        return self._now is not self._told

    def add_to(self, request: SyncRequest) -> SyncRequest:
        """The request with what has to be told: everything, or the caches where nothing else changed."""
        now, told = self._now, self._told
        if now is None or now is told:
            return request
        self._telling = now
        if told is not None and now.model_copy(update={"cache": told.cache}) == told:
            return request.model_copy(update={"cache": CacheNews(state=now.cache)})
        return request.model_copy(update={"inventory": now})

    def accepted(self, request: SyncRequest) -> bool:
        """The control plane has what the latest `add_to` put into this request. False when that was nothing."""
        if request.inventory is None and request.cache is None:
            return False
        self._told = self._telling
        return True
