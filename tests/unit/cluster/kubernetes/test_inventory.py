"""An inventory that is kept by watching: what changed is in it, what others hold is not, and silence is never taken for calm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.backends.kubernetes.informer import RESYNC_S
from cluster.backends.kubernetes.inventory import NODES, PATIENCE_S, PODS, KubeInventory
from cluster.backends.kubernetes.nodes import Use, machine_of, node_of
from cluster.backends.kubernetes.takes import take_of
from cluster.errors import BusyError, ClusterReplacedError, ForbiddenError, TransientError, UnreachableError
from cluster.model import Node
from tests.unit.cluster.kubernetes.fake_api import FakeApi, node, pod
from tests.virtual_time import in_virtual_time, until_so, virtual, virtual_clock

OURS = {"cpn.dev/cluster": "lab"}


def is_ours(item: Document) -> bool:
    return item["metadata"]["labels"] == OURS


@asynccontextmanager
async def watching(api: FakeApi) -> AsyncIterator[KubeInventory]:
    """An open inventory on virtual time."""
    found = KubeInventory(cast(KubeClient, api), is_ours, seconds=virtual_clock().now)
    await found.open()
    try:
        yield found
    finally:
        await found.close()


async def cores(inventory: KubeInventory) -> dict[str, float]:
    return {item.name: item.cpu for item in (await inventory.read()).nodes}


async def until_cores(inventory: KubeInventory, wanted: dict[str, float], seconds: float = 60.0) -> float:
    """Until the inventory says so; how long that took."""
    begun, seen = virtual_clock().now(), await _seen(inventory)
    while seen != wanted:
        assert virtual_clock().now() < begun + seconds, f"{seen}, not {wanted}"
        await _moment()
        seen = await _seen(inventory)
    return virtual_clock().now() - begun


async def _seen(inventory: KubeInventory) -> dict[str, float] | str:
    try:
        return await cores(inventory)
    except UnreachableError as error:
        return str(error)


async def _moment() -> None:
    await asyncio.sleep(0.1)


def cluster(*nodes: str) -> FakeApi:
    api = FakeApi()
    for name in nodes or ("n1", "n2"):
        api.put(NODES, node(name))
    return api


@virtual
async def test_all_nodes_are_there_at_the_first_look_in_pages_and_by_name() -> None:
    api = cluster(*(f"n{number}" for number in range(7, 0, -1)))
    api.put(PODS, pod("db", on="n3", cpu="2"))
    async with watching(api) as inventory:
        found = await inventory.read()
    assert [item.name for item in found.nodes] == [f"n{number}" for number in range(1, 8)]
    assert (found.version, found.remote_id, found.resizes) == ("kubernetes v1.33.1", "cluster-1", False)
    assert [item.cpu for item in found.nodes] == [8, 8, 6, 8, 8, 8, 8]


@virtual
async def test_pods_of_our_runs_hold_nothing_because_cpn_books_them_itself() -> None:
    api = cluster("n1")
    api.put(PODS, pod("mine", labels=OURS))
    api.put(PODS, pod("theirs", cpu="3"))
    async with watching(api) as inventory:
        assert await cores(inventory) == {"n1": 5.0}


@virtual
async def test_pods_and_nodes_that_come_change_and_go_are_seen() -> None:
    api = cluster("n1")
    async with watching(api) as inventory:
        await until_cores(inventory, {"n1": 8.0})
        api.put(PODS, pod("a", cpu="2"))
        await until_cores(inventory, {"n1": 6.0})
        api.put(PODS, pod("a", cpu="3"))
        await until_cores(inventory, {"n1": 5.0})
        api.put(PODS, pod("a", cpu="3", phase="Succeeded"))
        await until_cores(inventory, {"n1": 8.0})
        api.put(NODES, node("n2", cpu="4"))
        await until_cores(inventory, {"n1": 8.0, "n2": 4.0})
        api.drop(NODES, node("n1"))
        await until_cores(inventory, {"n2": 4.0})


@virtual
async def test_a_pod_that_is_there_before_its_node_counts_when_that_comes() -> None:
    api = cluster("n1")
    api.put(PODS, pod("early", on="n2", cpu="5"))
    async with watching(api) as inventory:
        await until_cores(inventory, {"n1": 8.0})
        api.put(NODES, node("n2"))
        await until_cores(inventory, {"n1": 8.0, "n2": 3.0})


@virtual
async def test_nothing_new_is_the_same_inventory() -> None:
    api = cluster()
    async with watching(api) as inventory:
        first = await inventory.read()
        api.put(NODES, node("n1"))
        api.bookmark()
        await _moment()
        assert await inventory.read() is first


@virtual
async def test_a_watch_that_ends_goes_on_from_its_last_bookmark() -> None:
    api = cluster()
    async with watching(api) as inventory:
        await inventory.read()
        await until_so(lambda: len(api.watched_from) == 2, "both watches are open")
        api.bookmark()
        api.end_watches()
        await until_so(lambda: len(api.watched_from) == 4, "both watches are open again")
        assert api.watched_from[2:] == [str(api.version)] * 2
        assert api.lists == [NODES, PODS]


@virtual
async def test_what_happened_while_a_watch_was_cut_is_told_when_it_is_back() -> None:
    api = cluster("n1")
    async with watching(api) as inventory:
        await until_cores(inventory, {"n1": 8.0})
        api.cut(UnreachableError("the line broke"))
        await _moment()
        api.put(PODS, pod("a", cpu="2"))
        api.drop(PODS, pod("a"))
        api.put(PODS, pod("b", cpu="4"))
        api.cut(None)
        await until_cores(inventory, {"n1": 4.0})
        assert api.lists == [NODES, PODS]


@virtual
async def test_what_a_server_does_not_keep_any_more_is_listed_anew() -> None:
    api = cluster()
    api.put(PODS, pod("gone", cpu="2"))
    async with watching(api) as inventory:
        await until_cores(inventory, {"n1": 6.0, "n2": 8.0})
        api.cut(UnreachableError("the line broke"))
        await _moment()
        api.silently(PODS, None, "pod-gone")
        api.silently(NODES, None, "node-n2")
        api.silently(NODES, node("n3", cpu="16"))
        api.silently(PODS, pod("new", on="n3", cpu="1"))
        api.forget()
        api.cut(None)
        await until_cores(inventory, {"n1": 8.0, "n3": 15.0})
        assert sorted(api.lists) == sorted([NODES, PODS] * 2)


@virtual
async def test_everything_is_listed_anew_from_time_to_time() -> None:
    api = cluster("n1")
    api.put(PODS, pod("lost", cpu="2"))
    async with watching(api) as inventory:
        await until_cores(inventory, {"n1": 6.0})
        api.silently(PODS, None, "pod-lost")
        virtual_clock().advance(RESYNC_S)
        api.end_watches()
        await until_cores(inventory, {"n1": 8.0})
        assert sorted(api.lists) == sorted([NODES, PODS] * 2)


@virtual
async def test_a_list_that_expires_between_two_pages_is_begun_again() -> None:
    api = cluster(*(f"n{number}" for number in range(7)))
    errors = iter([None, None, None, None, None, UnreachableError("410 in the middle")])
    api.refuse = lambda _path: next(errors, None)
    async with watching(api) as inventory:
        await until_so(lambda: api.lists.count(NODES) + api.lists.count(PODS) == 3, "one list was begun again")
        assert len((await inventory.read()).nodes) == 7


@virtual
async def test_a_watch_that_stays_away_makes_the_member_unreachable_with_the_reason() -> None:
    api = cluster()
    async with watching(api) as inventory:
        await inventory.read()
        api.refuse = lambda path: ForbiddenError("nodes is forbidden: User cannot watch") if path == NODES else None
        api.end_watches()
        assert (await inventory.read()).nodes, "for a moment that is the usual way of watches"
        await _until_refused(inventory, "cannot be watched: nodes is forbidden")
        api.refuse = lambda _path: None
        await until_cores(inventory, {"n1": 8.0, "n2": 8.0})


async def _until_refused(inventory: KubeInventory, words: str) -> None:
    begun = virtual_clock().now()
    while isinstance(seen := await _seen(inventory), dict):
        assert virtual_clock().now() < begun + 4 * PATIENCE_S, "the inventory stayed as if nothing had happened"
        await _moment()
    assert words in seen
    assert virtual_clock().now() >= begun + PATIENCE_S


@virtual
async def test_a_list_that_is_refused_says_so_at_once() -> None:
    api = cluster()
    api.refuse = lambda path: ForbiddenError("pods is forbidden") if path == PODS else None
    async with watching(api) as inventory:
        with pytest.raises(UnreachableError, match="the cluster's nodes and pods cannot be listed: pods is forbidden"):
            await inventory.read()


@virtual
async def test_a_busy_server_is_left_in_peace_as_long_as_it_asks() -> None:
    api = cluster()
    refusals: list[float] = []

    def busy(path: str) -> BusyError | None:
        if path == PODS and virtual_clock().now() < begun + 5:
            refusals.append(virtual_clock().now())
            return BusyError("too many requests", 4.0)
        return None

    begun = virtual_clock().now()
    api.refuse = busy
    async with watching(api):
        await until_so(lambda: PODS in api.lists and api.watched_from.count(str(api.version)) == 2, "both are watched")
    assert len(refusals) == 2
    assert refusals[1] - refusals[0] >= 4.0


@virtual
async def test_an_api_that_does_not_answer_is_unreachable_within_a_look() -> None:
    api = cluster()
    async with watching(api) as inventory:
        await inventory.read()
        api.refuse = lambda _path: UnreachableError("no answer")
        with pytest.raises(UnreachableError, match="no answer"):
            await inventory.read()


@virtual
async def test_another_cluster_at_the_address_is_noticed() -> None:
    api = cluster()
    async with watching(api) as inventory:
        await inventory.read()
        api.single["/api/v1/namespaces/kube-system"] = {"metadata": {"uid": "cluster-2"}}
        with pytest.raises(ClusterReplacedError, match=r"another one now \(cluster-2, not cluster-1\)"):
            await inventory.read()


@virtual
async def test_a_namespace_that_goes_is_said_and_one_that_comes_back_serves() -> None:
    api = cluster()
    async with watching(api) as inventory:
        await inventory.read()
        kept = api.single["/api/v1/namespaces/cpn"]
        api.single["/api/v1/namespaces/cpn"] = {**kept, "status": {"phase": "Terminating"}}
        with pytest.raises(TransientError, match="the namespace cpn is being deleted"):
            await inventory.read()
        del api.single["/api/v1/namespaces/cpn"]
        with pytest.raises(TransientError, match="make it: kubectl create namespace cpn"):
            await inventory.read()
        api.single["/api/v1/namespaces/cpn"] = kept
        assert (await inventory.read()).nodes


@virtual
async def test_an_error_of_our_own_in_a_watch_is_not_taken_for_calm() -> None:
    api = cluster()
    async with watching(api) as inventory:
        await inventory.read()
        api.put(NODES, cast(Any, {"metadata": {"uid": "node-odd"}}))
        await _moment()
        with pytest.raises(KeyError):
            await inventory.read()


@virtual
async def test_in_a_large_cluster_changes_of_others_are_told_from_time_to_time_and_those_of_nodes_at_once() -> None:
    api = cluster(*(f"n{number:04}" for number in range(2500)))
    async with watching(api) as inventory:
        first = await inventory.read()
        api.put(PODS, pod("a", on="n0001", cpu="2"))
        await _moment()
        assert await inventory.read() is first
        waited = await until_cores(inventory, {item.name: item.cpu - 2 * (item.name == "n0001") for item in first.nodes})
        assert 8.0 < waited < 11.0
        api.put(PODS, pod("b", on="n0002", cpu="3"))
        api.put(NODES, node("n0003", unschedulable=True))
        await _moment()
        found = {item.name: item for item in (await inventory.read()).nodes}
        assert (found["n0003"].trouble, found["n0002"].cpu) == ("it is cordoned", 5.0)


@virtual
async def test_the_resource_behind_a_model_is_found_for_a_node() -> None:
    api = FakeApi()
    api.put(NODES, node("n1", nvidia_com__gpu=8, labels={"nvidia.com/gpu.product": "NVIDIA-H200"}))
    async with watching(api) as inventory:
        await inventory.read()
        assert inventory.resource_of("n1", "NVIDIA-H200") == "nvidia.com/gpu"
        assert (inventory.resource_of("n1", "H100"), inventory.resource_of("n9", "NVIDIA-H200")) == ("", "")


KINDS = st.sampled_from(["pod", "unpod", "node", "unnode", "cut", "forget"])
STEP = st.tuples(KINDS, st.integers(0, 3), st.integers(0, 2), st.integers(0, 4))


@given(st.lists(STEP, max_size=25))
def test_whatever_happens_the_inventory_is_what_a_fresh_look_would_count(steps: list[tuple[str, int, int, int]]) -> None:
    async def live() -> None:
        api = cluster("n0", "n1")
        async with watching(api) as inventory:
            await inventory.read()
            for kind, one, other, amount in steps:
                _happen(api, kind, one, other, amount)
                if amount == 4:
                    await _moment()
            api.cut(None)
            api.bookmark()
            wanted, begun = _counted(api), virtual_clock().now()
            while await _nodes(inventory) != wanted:
                assert virtual_clock().now() < begun + 60, f"{await _nodes(inventory)}, not {wanted}"
                await _moment()

    in_virtual_time(live)


def _happen(api: FakeApi, kind: str, one: int, other: int, amount: int) -> None:
    uid_pod, uid_node = f"pod-p{one}", f"node-n{other}"
    if kind == "pod":
        api.put(PODS, pod(f"p{one}", on=f"n{other}", cpu=str(amount), phase="Failed" if amount == 3 else "Running"))
    elif kind == "unpod" and uid_pod in api.objects[PODS]:
        api.drop(PODS, api.objects[PODS][uid_pod])
    elif kind == "node":
        api.put(NODES, node(f"n{other}", cpu=str(8 + amount)))
    elif kind == "unnode" and uid_node in api.objects[NODES]:
        api.drop(NODES, api.objects[NODES][uid_node])
    elif kind == "cut":
        api.cut(UnreachableError("cut") if one % 2 else None)
    elif kind == "forget":
        api.cut(UnreachableError("cut"))
        api.forget()


async def _nodes(inventory: KubeInventory) -> dict[str, Node] | None:
    with contextlib.suppress(UnreachableError):
        return {item.name: item for item in (await inventory.read()).nodes}
    return None


def _counted(api: FakeApi) -> dict[str, Node]:
    """The nodes as one look at everything counts them."""
    found = {}
    for item in api.objects[NODES].values():
        use = Use()
        for other in api.objects[PODS].values():
            take = take_of(other)
            if take is not None and other["spec"]["nodeName"] == item["metadata"]["name"]:
                use.add(take)
        found[item["metadata"]["name"]] = node_of(machine_of(item), use)
    return found
