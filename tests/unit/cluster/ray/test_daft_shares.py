"""How a run on Daft is spread: one process on each node, for all of the run's workers there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.backends.ray.daft_share import Share, shares


def test_workers_of_one_node_are_one_share() -> None:
    found = shares(("b", "a", "b", "b"))
    assert found == [Share("b", 0, 3), Share("a", 1, 1)]
    run = {"cpu": 1.5, "memory_bytes": 100}
    assert [(share.cores(run), share.memory_bytes(run)) for share in found] == [(4, 300), (1, 100)]
    assert Share("a", 0, 1).cores({"cpu": 0.25}) == 1


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_every_worker_is_in_one_share_whose_bundle_lies_on_its_node(nodes: list[str]) -> None:
    found = shares(nodes)
    assert sum(share.workers for share in found) == len(nodes)
    assert [share.node for share in found] == list(dict.fromkeys(nodes))
    assert all(nodes[share.bundle] == share.node for share in found)
