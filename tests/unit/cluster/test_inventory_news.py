"""How much of an inventory is told, and how large it is."""

from __future__ import annotations

from cluster.inventory_news import InventoryNews
from cluster.model import Inventory
from cluster.protocol import SyncRequest
from tests.benchmarks.inventory import cache_alone, first, inventory

PLAIN = SyncRequest(agent_id="agent-1", reachable=True)
KIB = 1024


def test_a_thousand_nodes_fit_the_bound_that_is_stated() -> None:
    whole = first(1000).model_dump_json().encode()
    assert len(whole) <= 512 * KIB
    assert len(SyncRequest.model_validate_json(whole).inventory.nodes) == 1000  # type: ignore[union-attr]


def test_a_cache_alone_does_not_grow_with_the_nodes() -> None:
    sizes = [len(cache_alone(nodes, 10).model_dump_json()) for nodes in (1, 100)]
    assert sizes[1] < sizes[0] + 64
    assert sizes[1] < 2 * KIB


def test_what_is_composed_counts_as_told_only_when_it_was_accepted() -> None:
    news = InventoryNews()
    assert (bool(news), news.add_to(PLAIN)) == (False, PLAIN)
    news.saw(inventory(2))
    request = news.add_to(PLAIN)
    assert (request.inventory, request.cache, bool(news)) == (inventory(2), None, True)
    # Meanwhile a copy came; what was sent before does not cover it.
    news.saw(inventory(2, 1))
    assert (news.accepted(request), bool(news)) == (True, True)
    request = news.add_to(PLAIN)
    assert (request.inventory, request.cache and request.cache.state) == (None, inventory(2, 1).cache)
    assert (news.accepted(PLAIN), bool(news)) == (False, True)
    assert (news.accepted(request), bool(news)) == (True, False)
    news.saw(inventory(2, 1))
    assert not news, "the same again is no news"


def test_another_version_or_id_is_told_with_everything() -> None:
    news, before = InventoryNews(), inventory(2, 1)
    news.saw(before)
    news.accepted(news.add_to(PLAIN))
    after: Inventory = before.model_copy(update={"remote_id": "cd" * 28, "cache": None})
    news.saw(after)
    request = news.add_to(PLAIN)
    assert (request.inventory, request.cache) == (after, None)
