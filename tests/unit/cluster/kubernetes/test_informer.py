"""List and watch, as all that this backend knows of a cluster depends on it: nothing is missed, nothing stays, nobody is pressed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.backends.kubernetes.informer import LONGEST_PAUSE_S, RESYNC_S, Informer, Watches
from cluster.errors import BusyError, ClusterError, ExpiredError, ForbiddenError, TransientError, UnreachableError
from tests.unit.cluster.kubernetes.fake_api import FakeApi, pod
from tests.virtual_time import until_so, virtual, virtual_clock

PODS = "/api/v1/pods"
MISSING_RIGHT = ForbiddenError("GET /api/v1/pods: 403 pods is forbidden")


class Names:
    """Keeps the names of objects, and what was done to it."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.unseen: set[str] = set()
        self.done: list[str] = []

    def begin(self) -> None:
        self.done.append("begin")
        self.unseen = set(self.held)

    def end(self) -> None:
        self.done.append("end")
        self.held -= self.unseen

    def put(self, item: Document) -> None:
        name = item["metadata"]["name"]
        self.unseen.discard(name)
        self.held.add(name)

    def drop(self, item: Document) -> None:
        self.held.discard(item["metadata"]["name"])


@asynccontextmanager
async def informed(api: FakeApi) -> AsyncIterator[tuple[Informer, Names]]:
    """An informer of pods that runs."""
    names = Names()
    informer = Informer(cast(KubeClient, api), PODS, names, seconds=virtual_clock().now, fields="status.phase!=Failed", labels="a=b")
    task = asyncio.create_task(informer.run())
    try:
        yield informer, names
        assert not task.done(), "it runs until it is cancelled"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def api_with(*names: str) -> FakeApi:
    api = FakeApi()
    for name in names:
        api.put(PODS, pod(name))
    return api


async def settled(informer: Informer, names: Names, wanted: set[str]) -> None:
    await until_so(lambda: informer.trouble is None and names.held == wanted, f"{wanted} are known")


@virtual
async def test_all_pages_are_taken_and_the_watch_begins_where_the_list_ends() -> None:
    api = api_with(*"abcdefg")
    async with informed(api) as (informer, names):
        await settled(informer, names, set("abcdefg"))
        await until_so(lambda: api.watched_from, "it watches")
        assert (api.lists, api.watched_from, names.done) == ([PODS], [str(api.version)], ["begin", "end"])
        assert informer.listed.is_set()
        assert api.queries == [{"fieldSelector": "status.phase!=Failed", "labelSelector": "a=b"}] * 2


@virtual
async def test_what_comes_changes_and_goes_is_taken_in_order() -> None:
    api = api_with("a")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a"})
        api.put(PODS, pod("b"))
        api.put(PODS, pod("b", cpu="2"))
        api.drop(PODS, pod("a"))
        api.put(PODS, pod("c"))
        api.drop(PODS, pod("c"))
        await settled(informer, names, {"b"})
        assert api.lists == [PODS]


@virtual
async def test_a_bookmark_changes_nothing_and_is_where_the_next_watch_begins() -> None:
    api = api_with("a")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a"})
        await until_so(lambda: api.watched_from, "it watches")
        api.version += 50
        api.bookmark()
        api.end_watches()
        await until_so(lambda: len(api.watched_from) == 2, "it watches again")
        assert (api.watched_from[1], names.held, api.lists) == (str(api.version), {"a"}, [PODS])


@virtual
async def test_a_watch_that_is_cut_goes_on_from_its_last_change() -> None:
    api = api_with("a")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a"})
        api.put(PODS, pod("b"))
        await settled(informer, names, {"a", "b"})
        last = str(api.version)
        api.cut(UnreachableError("cut"))
        await until_so(lambda: informer.trouble is not None, "it is known to be cut")
        api.put(PODS, pod("c"))
        api.drop(PODS, pod("a"))
        api.cut(None)
        await settled(informer, names, {"b", "c"})
        assert api.lists == [PODS]
        assert last in api.watched_from[1:]


@virtual
@pytest.mark.parametrize("when", ["watch", "event"])
async def test_what_is_not_kept_any_more_is_listed_anew_and_what_is_gone_goes(when: Any) -> None:
    api = api_with("a", "b")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a", "b"})
        await until_so(lambda: api.watched_from, "it watches")
        api.faults[when] = [ExpiredError("410")]
        api.silently(PODS, None, "pod-a")
        api.silently(PODS, pod("c"))
        api.end_watches()
        await settled(informer, names, {"b", "c"})
        assert api.lists == [PODS, PODS]
        assert informer.trouble is None, "that is in the nature of watches"


@virtual
@pytest.mark.parametrize("error", [ExpiredError("410"), UnreachableError("cut"), TransientError("500")])
async def test_a_list_that_breaks_off_is_begun_anew_and_takes_nothing_away_meanwhile(error: ClusterError) -> None:
    api = api_with(*"abcdefg")
    async with informed(api) as (informer, names):
        await settled(informer, names, set("abcdefg"))
        await until_so(lambda: api.watched_from, "it watches")
        api.faults["watch"], api.faults["page"] = [ExpiredError("410")], [error]
        api.silently(PODS, None, "pod-a")
        api.end_watches()
        await until_so(lambda: names.done.count("begin") == 2, "the second list has begun")
        assert names.held == set("abcdefg"), "as long as a list is not whole, nobody is missing"
        await settled(informer, names, set("bcdefg"))
        assert (len(api.lists), names.done) == (3, ["begin", "end", "begin", "begin", "end"])


@virtual
async def test_an_error_event_is_an_answer_like_another() -> None:
    api = api_with("a")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a"})
        await until_so(lambda: api.watched_from, "it watches")
        api.faults["event"] = [TransientError("GET /api/v1/pods: 500 etcd leader changed")]
        api.end_watches()
        await until_so(lambda: informer.trouble is not None, "it is told")
        api.put(PODS, pod("b"))
        await settled(informer, names, {"a", "b"})
        assert api.lists == [PODS]


@virtual
async def test_a_right_that_is_taken_away_is_said_and_what_was_missed_comes_with_it() -> None:
    api = api_with("a")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a"})
        api.refuse = lambda _path: MISSING_RIGHT
        api.end_watches()
        await until_so(lambda: informer.trouble is MISSING_RIGHT, "the reason is told")
        api.put(PODS, pod("b"))
        await asyncio.sleep(600)
        assert (informer.trouble, names.held) == (MISSING_RIGHT, {"a"}), "what is known stays"
        api.refuse = lambda _path: None
        await settled(informer, names, {"a", "b"})
        assert api.lists == [PODS]


@virtual
async def test_a_right_that_is_missing_from_the_first_is_said_and_waited_for() -> None:
    api = api_with("a")
    api.refuse = lambda _path: MISSING_RIGHT
    async with informed(api) as (informer, names):
        await until_so(lambda: informer.trouble is MISSING_RIGHT, "the reason is told")
        assert not informer.listed.is_set()
        api.refuse = lambda _path: None
        await settled(informer, names, {"a"})


@virtual
async def test_all_is_listed_anew_after_an_hour() -> None:
    api = api_with("a", "b")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a", "b"})
        api.silently(PODS, None, "pod-a")
        begun = virtual_clock().now()
        while names.held != {"b"}:
            assert virtual_clock().now() < begun + RESYNC_S + 120, "an error in what is kept stays"
            await asyncio.sleep(60)
            api.end_watches()
        assert virtual_clock().now() >= begun + RESYNC_S - 60
        assert api.lists == [PODS, PODS]


@virtual
@pytest.mark.parametrize("fault", [("watch", ExpiredError("410")), ("event", ExpiredError("410")), ("event", TransientError("500"))])
async def test_a_server_that_answers_nothing_but_errors_is_not_pressed(fault: tuple[Any, ClusterError]) -> None:
    api = api_with("a")
    kind, error = fault
    api.faults[kind] = [error] * 10_000
    async with informed(api) as (informer, names):
        await asyncio.sleep(600)
        assert 60 <= len(api.watched_from) <= 80, "at last every ten seconds"
        api.faults[kind].clear()
        api.put(PODS, pod("b"))
        await settled(informer, names, {"a", "b"})


@virtual
async def test_a_line_that_is_cut_now_and_then_is_taken_up_at_once() -> None:
    api = api_with("a")
    async with informed(api) as (informer, names):
        await settled(informer, names, {"a"})
        for count in range(8):
            await asyncio.sleep(LONGEST_PAUSE_S * 2)
            begun = virtual_clock().now()
            api.cut(UnreachableError("idle for too long"))
            await until_so(lambda: informer.trouble is not None, "it is cut")
            api.cut(None)
            api.put(PODS, pod(f"new-{count}"))
            await until_so(lambda count=count: f"new-{count}" in names.held, "it is told of the next one")  # type: ignore[misc]
            assert virtual_clock().now() - begun < 1.0
        assert api.lists == [PODS]


@virtual
async def test_a_busy_server_is_left_in_peace_as_long_as_it_asks_and_no_longer_than_bearable() -> None:
    api = api_with("a")
    api.faults["list"] = [BusyError("429", 4.0), BusyError("429", 3600.0)]
    begun = virtual_clock().now()
    async with informed(api) as (informer, names):
        await until_so(lambda: len(api.lists) == 2, "it asks again")
        assert virtual_clock().now() - begun >= 4.0
        await settled(informer, names, {"a"})
        assert virtual_clock().now() - begun < 4.0 + LONGEST_PAUSE_S + 2.0


def watches(*informers: Informer) -> Watches:
    return Watches("its things", virtual_clock().now, informers)


def informer_of(api: FakeApi, path: str = PODS) -> Informer:
    return Informer(cast(KubeClient, api), path, Names(), seconds=virtual_clock().now)


@virtual
async def test_trouble_is_borne_for_a_while_and_then_told_with_the_reason() -> None:
    api = api_with("a")
    group = watches(informer_of(api), informer_of(api, "/api/v1/nodes"))
    group.open()
    await group.listed(60)
    group.check(15)
    api.refuse = lambda path: MISSING_RIGHT if path == PODS else None
    api.end_watches()
    await asyncio.sleep(14)
    group.check(15)
    await asyncio.sleep(2)
    with pytest.raises(UnreachableError, match="its things cannot be watched: GET /api/v1/pods: 403 pods is forbidden"):
        group.check(15)
    api.refuse = lambda _path: None
    await asyncio.sleep(LONGEST_PAUSE_S + 1)
    group.check(15)
    await group.close()
    await group.close()


@virtual
async def test_lists_that_take_too_long_are_told() -> None:
    api = api_with("a")
    group = watches(informer_of(api))
    with pytest.raises(UnreachableError, match="its things were not listed within 5 s"):
        await group.listed(5)


@virtual
async def test_one_that_is_added_is_listed_first_and_left_out_where_that_is_refused() -> None:
    api = api_with("a")
    group = watches()
    api.faults["list"] = [MISSING_RIGHT]
    with pytest.raises(ForbiddenError):
        await group.add(informer_of(api))
    await asyncio.sleep(60)
    assert (api.lists, api.watched_from) == ([PODS], [])
    await group.add(informer_of(api))
    await group.add(informer_of(api))
    await until_so(lambda: api.watched_from, "it is watched")
    assert (api.lists, len(api.watched_from)) == ([PODS, PODS], 1), "once, however often it is added"
    await group.close()


@virtual
async def test_an_error_of_our_own_ends_nothing_in_silence() -> None:
    api = api_with("a")
    group = watches()
    await group.add(informer_of(api))
    api.put(PODS, cast(Any, {"metadata": {"uid": "pod-odd"}}))
    await asyncio.sleep(1)
    with pytest.raises(KeyError):
        group.check(15)
    await group.close()
