"""Room for a run, held in Ray's own books by the actor that made it.

A warm supervisor asks for no resources, so what its run was granted is held beside it: a placement group of one bundle, bound to the
node by its label; of a run of kind ray one for each worker, each on its node. Ray counts it as taken from the moment it is there,
whoever else uses the cluster. It is made by the actor and is not detached, so Ray ends it with the actor, however that ends. One that an
actor asked for in its last moment may reach Ray after its end and stay, so the name says whose it is, and agents look for those of
actors that are no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

_NODE_LABEL = "ray.io/node-id"
_LOOK_S, _LOOKS = 0.003, 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Room:
    """At most one placement group at a time. `hold` and `release` block, and are called from one thread at a time."""

    def __init__(self, owner: str, node_id: str) -> None:
        self._owner, self._node_id = owner, node_id
        self._made = 0
        self._group: Any = None
        self._given_up = threading.Event()

    @property
    def group_id(self) -> str:
        """The placement group's id in hexadecimal digits; empty while there is none."""
        return self._group.id.hex() if self._group is not None else ""

    def hold(self, bundle: Mapping[str, float], limit_s: float, nodes: Sequence[str] = ()) -> bool:
        """Take the room, waiting up to `limit_s` for it: a bundle on this node, or one on each of `nodes`, all or none.

        False when there was none, or when it was given up.

        Ray tries a group at once when it is made, and later no more than once a second. What was let go of on a full node is
        known to it a little later; so a group that is not there at once is made anew.
        """
        self._given_up.clear()
        if not bundle:
            return True
        deadline, pause_s = time.monotonic() + limit_s, _FIRST_PAUSE_S
        while not self._given_up.is_set():
            self._group = self._make(bundle, nodes or (self._node_id,))
            if self._is_there():
                return True
            self.release()
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._given_up.wait(min(pause_s, left_s)):
                break
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        return False

    def give_up(self) -> None:
        """End a `hold` that waits. From any thread."""
        self._given_up.set()

    def release(self) -> None:
        """Give the room back. Twice does no harm."""
        from ray.util import remove_placement_group

        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def _make(self, bundle: Mapping[str, float], nodes: Sequence[str]) -> Any:
        from ray.util import placement_group

        self._made += 1
        places = [{_NODE_LABEL: node_id} for node_id in nodes]
        strategy = "STRICT_PACK" if len(set(nodes)) == 1 else "PACK"
        name = f"{self._owner}.{self._made}"
        return placement_group([dict(bundle) for _ in nodes], strategy=strategy, name=name, bundle_label_selector=places)

    def _is_there(self) -> bool:
        from ray.util import placement_group_table

        for _ in range(_LOOKS):
            if placement_group_table(self._group)["state"] == "CREATED":
                return True
            if self._given_up.wait(_LOOK_S):
                return False
        return False


def owner_of(name: str) -> str:
    """The actor whose room has this name."""
    return name.rpartition(".")[0]
