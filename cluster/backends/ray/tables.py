"""What an agent asks of the head's own tables: nodes, what is free on them, and placement groups.

Ray's client can tell all of this, and ends the whole process when the head is restarted while it is being asked: the new head refuses
the question as one for another cluster, which Ray takes for an error of its own (`ray.nodes()`, `available_resources()` and
`placement_group_table()` of Ray 2.60 do so, and none of them has a time limit). An agent has to tell then what became of its runs. So
it asks over a line of its own. All calls block, some seconds at most, and raise UnreachableError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from cluster.backends.ray.census import Books
from cluster.errors import UnreachableError

T = TypeVar("T")


def nodes(address: str) -> list[dict[str, Any]]:
    """All nodes, dead ones too, in the form of `ray.nodes()` as far as we need it."""
    return [_entry(node, node.state == node.ALIVE) for node in _asked(address, Books.nodes)]


def free(address: str) -> dict[str, dict[str, float]]:
    """What is left of each node's resources, by node id."""
    return {node.node_id.hex(): dict(node.resources_available) for node in _asked(address, Books.free)}


def groups(address: str, prefix: str) -> dict[str, bytes]:
    """The ids of the placement groups whose names begin so, by name."""
    found = sorted((group.name, group.placement_group_id) for group in _asked(address, Books.groups))
    return {name: identity for name, identity in found if name.startswith(prefix)}


def remove_groups(address: str, identities: Sequence[bytes]) -> None:
    """Remove placement groups; no harm where they are gone."""
    _asked(address, lambda books: books.remove([("placement-group", identity) for identity in identities]))


def _entry(node: Any, alive: bool) -> dict[str, Any]:
    return {
        "NodeID": node.node_id.hex(), "NodeName": node.node_name, "NodeManagerAddress": node.node_manager_address, "Alive": alive,
        "Resources": dict(node.resources_total) if alive else {}, "Labels": dict(node.labels),
    }  # fmt: skip


def _asked(address: str, ask: Callable[[Books], T]) -> T:
    import grpc  # type: ignore[import-untyped, unused-ignore]

    books = Books(address)
    try:
        return ask(books)
    except grpc.RpcError as error:
        raise UnreachableError(f"the Ray head at {address} does not tell what it has: {error.code().name}") from error
    finally:
        books.close()
