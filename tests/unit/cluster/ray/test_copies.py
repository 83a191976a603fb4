"""What the nodes of a cluster say of their copies, asked of a worker on each."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from cluster.backends.ray.copies import Copies
from cluster.backends.ray.session import Session
from cluster.errors import WorkerGoneError
from cluster.replicas import CacheLimits

LIMITS = CacheLimits(capacity_bytes=100)


class Nodes:
    """A session whose workers, named by their nodes, answer with what they hold; None: the worker is gone."""

    def __init__(self, **held: tuple[str, ...] | None) -> None:
        self.held = held
        self.unwanted: list[list[str]] = []

    async def ask(self, actor: str, method: str, limits: dict[str, Any], unwanted: list[str]) -> dict[str, Any]:
        assert (method, CacheLimits.model_validate(limits)) == ("copies", LIMITS)
        self.unwanted.append(unwanted)
        versions = self.held[actor]
        if versions is None:
            raise WorkerGoneError("it is gone")
        return {"folder": actor, "capacity_bytes": 100, "used_bytes": 10, "copies": len(versions), "versions": versions}


def looked(copies: Copies, *nodes: str) -> None:
    asyncio.run(copies.look([(node, node) for node in nodes]))


def versions(copies: Copies, *nodes: str) -> tuple[str, ...] | None:
    state = copies.state(nodes)
    return state.versions if state else None


def test_a_version_counts_where_every_node_has_it_and_all_were_heard() -> None:
    one, other = "a" * 64, "b" * 64
    session = Nodes(n1=(one, other), n2=(other,), n3=None)
    copies = Copies(cast("Session", session), LIMITS)
    looked(copies, "n1", "n2", "n3")
    assert versions(copies, "n1", "n2") == (other,)
    assert versions(copies, "n1", "n2", "n3") is None
    assert versions(copies, "n1") == (one, other)
    assert versions(copies, "n1", "n2") is None, "a node that went is asked anew"


def test_a_node_that_does_not_answer_counts_as_it_was() -> None:
    session = Nodes(n1=("a" * 64,))
    copies = Copies(cast("Session", session), LIMITS)
    looked(copies, "n1")
    session.held["n1"] = None
    looked(copies, "n1")
    assert versions(copies, "n1") == ("a" * 64,)


def test_what_may_not_lie_there_is_said_with_each_look() -> None:
    session = Nodes(n1=())
    copies = Copies(cast("Session", session), LIMITS)
    copies.refuse(["b", "a"])
    looked(copies, "n1")
    looked(copies, "n1")
    copies.refuse(())
    looked(copies, "n1")
    assert session.unwanted == [["a", "b"], ["a", "b"], []]
