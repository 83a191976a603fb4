"""What the nodes of a cluster say of their copies, asked of a worker on each."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from cluster.backends.ray.copies import AHEAD_S, Copies
from cluster.backends.ray.session import Session
from cluster.errors import WorkerGoneError
from cluster.protocol import AheadFile, InputFile
from cluster.replicas import CacheLimits

LIMITS = CacheLimits(capacity_bytes=100)


class Nodes:
    """A session whose workers, named by their nodes, answer with what they hold; None: the worker is gone."""

    def __init__(self, **held: tuple[str, ...] | None) -> None:
        self.held = held
        self.unwanted: list[list[str]] = []
        self.ahead: list[tuple[str, str]] = []  # The node, and the letters that it is to bring.
        self.shared: set[str] = set()

    async def ask(self, actor: str, method: str, limits: dict[str, Any], told: list[Any], *more: float) -> dict[str, Any] | None:
        assert CacheLimits.model_validate(limits) == LIMITS
        versions = self.held[actor]
        if versions is None:
            raise WorkerGoneError("it is gone")
        if method == "bring_ahead":
            assert more == (AHEAD_S,)
            self.ahead.append((actor, "".join(file["sha256"][0] for file in told)))
            return None
        assert method == "copies"
        self.unwanted.append(told)
        folder = "shared" if actor in self.shared else actor
        return {"folder": folder, "capacity_bytes": 100, "used_bytes": 10, "copies": len(versions), "versions": versions}


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


def ahead(letter: str, *nodes: str) -> AheadFile:
    file = InputFile(ref="nyc/a@1", uri="https://sh/a", format="csv", size_bytes=1, sha256=letter * 64, local=False, source="sh")
    return AheadFile(file=file, nodes=nodes)


def test_what_is_to_be_brought_ahead_is_said_with_each_look_and_once_more_when_it_is_wanted_no_more() -> None:
    session = Nodes(n1=(), n2=(), n3=())
    copies, ids = Copies(cast("Session", session), LIMITS), {f"node-{number}": f"n{number}" for number in (1, 2, 3)}
    copies.bring([ahead("a", "node-1", "node-2", "gone"), ahead("b", "node-1")], ids)
    for _ in range(2):
        looked(copies, "n1", "n2", "n3")
    assert session.ahead == [("n1", "ab"), ("n2", "a")] * 2
    session.ahead.clear()
    copies.bring([ahead("b", "node-1")], ids)
    for _ in range(2):
        looked(copies, "n1", "n2", "n3")
    assert session.ahead == [("n1", "b"), ("n2", ""), ("n1", "b")]


def test_of_nodes_that_share_a_folder_one_brings_it() -> None:
    session = Nodes(n1=(), n2=(), n3=())
    session.shared = {"n1", "n2"}
    copies = Copies(cast("Session", session), LIMITS)
    looked(copies, "n1", "n2", "n3")
    copies.bring([ahead("a", "n3", "n2", "n1")], {name: name for name in session.held})
    looked(copies, "n1", "n2", "n3")
    assert session.ahead == [("n1", "a"), ("n3", "a")]
