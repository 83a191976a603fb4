"""What the client makes of answers: those of a server that is busy, broken, of another kind, or not there at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.client import KubeClient, rest_s
from cluster.errors import (
    AlreadyThereError,
    AuthenticationError,
    BusyError,
    ClusterError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidObjectError,
    NotThereError,
    PermanentError,
    TransientError,
    UnreachableError,
)
from tests.kube.faulty import FaultyApi, running_faulty_api
from tests.network import free_port

PODS = "/api/v1/pods"


@pytest.fixture(scope="module")
def one_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyApi]:
    with running_faulty_api(tmp_path_factory.mktemp("faulty")) as found:
        yield found


@pytest.fixture
def api(one_api: FaultyApi) -> FaultyApi:
    one_api.forget()
    return one_api


class Paused:
    """Pauses that take no time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def ask(api: FaultyApi, question: Callable[[KubeClient], Awaitable[Any]], pause: Paused | None = None) -> Any:
    """The answer to a question by a client of its own."""

    async def run() -> Any:
        client = KubeClient(Access(api.kubeconfig()), pause=pause or Paused())
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(run())


def refused(api: FaultyApi, question: Callable[[KubeClient], Awaitable[Any]]) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        ask(api, question)
    return caught.value


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "BadRequest", InvalidObjectError), (401, "Unauthorized", AuthenticationError), (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotThereError), (405, "MethodNotAllowed", NotThereError), (408, "Timeout", TransientError),
        (409, "AlreadyExists", AlreadyThereError), (409, "Conflict", ConflictError), (410, "Expired", ExpiredError),
        (413, "RequestEntityTooLarge", InvalidObjectError), (418, "", PermanentError), (422, "Invalid", InvalidObjectError),
        (500, "InternalError", TransientError), (502, "", UnreachableError), (503, "ServiceUnavailable", UnreachableError),
        (504, "Timeout", UnreachableError), (302, "", PermanentError),
    ],
)  # fmt: skip
def test_an_answer_is_an_error_by_what_can_be_done_about_it(api: FaultyApi, status: int, reason: str, kind: type[ClusterError]) -> None:
    api.fail("POST", PODS, status=status, times=None, document={"kind": "Status", "reason": reason, "message": "so says the server"})
    found = refused(api, lambda client: client.create(PODS, {"kind": "Pod"}))
    assert type(found) is kind
    assert str(found) == f"POST {PODS}: {status} so says the server"


def test_a_state_that_a_server_has_not_reached_is_one_that_it_does_not_keep(api: FaultyApi) -> None:
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    api.fail("GET", PODS, status=504, document={"reason": "Timeout", "message": "Too large", "details": {"causes": [cause]}})
    assert isinstance(refused(api, lambda client: client.get(PODS, resourceVersion="99")), ExpiredError)


def test_a_call_that_a_busy_server_refuses_is_made_again_when_it_says(api: FaultyApi) -> None:
    pause = Paused()
    api.fail("POST", PODS, status=429, times=2, headers={"Retry-After": "3"})
    api.fail("POST", PODS, status=201, document={"metadata": {"name": "made"}})
    assert ask(api, lambda client: client.create(PODS, {}), pause)["metadata"]["name"] == "made"
    assert pause.seconds == [3.0, 3.0]


def test_a_server_that_stays_busy_is_left_in_peace(api: FaultyApi) -> None:
    api.fail(PODS, status=429, times=None, headers={"Retry-After": "1"})
    found = refused(api, lambda client: client.get(PODS))
    assert isinstance(found, BusyError)
    assert (found.retry_after_s, api.asked[f"GET {PODS}"]) == (1.0, 4)


def test_a_long_pause_is_left_to_who_asked(api: FaultyApi) -> None:
    api.fail(PODS, status=429, times=None, headers={"Retry-After": "60"})
    found = refused(api, lambda client: client.get(PODS))
    assert isinstance(found, BusyError)
    assert (found.retry_after_s, api.asked[f"GET {PODS}"]) == (60.0, 1)


@pytest.mark.parametrize(
    ("error", "tries", "seconds"),
    [
        (UnreachableError("x"), 0, 0.2), (UnreachableError("x"), 9, 5.0), (BusyError("x", 7.0), 0, 7.0), (BusyError("x", 1.0), 9, 5.0),
        (BusyError("x", 3600.0), 0, 60.0),
    ],
)  # fmt: skip
def test_who_asks_until_there_is_an_answer_rests_as_long_as_the_server_asks(error: ClusterError, tries: int, seconds: float) -> None:
    assert rest_s(error, tries) == seconds


NOON, NOON_S = "Tue, 01 Dec 2026 12:00:00 GMT", 1796126400.0


@pytest.mark.parametrize(
    ("date", "clock_s", "now_s"),
    [
        (NOON, NOON_S + 0.5, NOON_S + 0.5), (NOON, NOON_S + 600.0, NOON_S), (NOON, NOON_S - 600.0, NOON_S + 1.0),
        ("yesterday", NOON_S + 600.0, NOON_S + 600.0),
    ],
    ids=["agrees", "ours is ahead", "ours is behind", "the server does not say"],
)  # fmt: skip
def test_time_is_that_of_the_servers_clock_within_the_second_that_it_tells(
    api: FaultyApi, date: str, clock_s: float, now_s: float
) -> None:  # fmt: skip
    api.fail("GET", "/version", status=200, document={}, headers={"Date": date})

    async def run() -> float:
        client = KubeClient(Access(api.kubeconfig()), clock=lambda: clock_s)
        try:
            assert client.now() == clock_s, "nothing is known yet"
            await client.get("/version")
            return client.now()
        finally:
            await client.close()

    assert abs(asyncio.run(run()) - now_s) <= 1.0


@pytest.mark.parametrize("header", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "soon"])
def test_without_a_number_of_seconds_the_pause_is_the_usual_one(api: FaultyApi, header: str) -> None:
    pause = Paused()
    api.fail(PODS, status=429, headers={"Retry-After": header} if header else {})
    api.say(PODS, {"items": []})
    ask(api, lambda client: client.get(PODS), pause)
    assert pause.seconds == [1.0]


def test_a_busy_server_that_changed_something_maybe_is_not_asked_again(api: FaultyApi) -> None:
    api.fail("POST", PODS, status=503, times=None, headers={"Retry-After": "1"})
    assert isinstance(refused(api, lambda client: client.create(PODS, {})), BusyError)
    assert api.asked[f"POST {PODS}"] == 1


def test_a_token_that_was_renewed_where_it_comes_from_is_read_anew(api: FaultyApi) -> None:
    api.fail(PODS, status=401, times=1)
    api.say(PODS, {"items": []})

    async def question(client: KubeClient) -> Any:
        await client.get("/version")
        api.kubeconfig(token="renewed")
        return await client.get(PODS)

    api.say("/version", {"gitVersion": "v1.33.1"})
    assert ask(api, question) == {"items": []}
    assert api.tokens == ["Bearer token-of-agent", "Bearer token-of-agent", "Bearer renewed"]


def test_a_token_that_stays_refused_is_an_error(api: FaultyApi) -> None:
    api.fail(PODS, status=401, times=None, document={"kind": "Status", "message": "Unauthorized"})
    assert isinstance(refused(api, lambda client: client.get(PODS)), AuthenticationError)
    assert api.asked[f"GET {PODS}"] == 2


def test_what_is_not_there_is_deleted_already(api: FaultyApi) -> None:
    assert ask(api, lambda client: client.delete(f"{PODS}/gone", uid="u-1", grace_s=3)) is None
    assert api.asked[f"DELETE {PODS}/gone"] == 1


def test_another_server_at_the_address_is_told_from_kubernetes(api: FaultyApi) -> None:
    api.fail("/version", status=200, times=None, text="<html>welcome</html>")
    assert "is no Kubernetes API" in str(refused(api, lambda client: client.get("/version")))
    api.fail("/healthz", status=404, times=None, text="<html>not here</html>")
    assert str(refused(api, lambda client: client.get("/healthz"))) == "GET /healthz: 404 <html>not here</html>"


def test_nobody_at_the_address_is_unreachable(api: FaultyApi) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    path = api.kubeconfig("nobody", url=nowhere)

    async def run() -> None:
        client = KubeClient(Access(path))
        with pytest.raises(UnreachableError) as caught:
            await client.get("/version")
        assert str(caught.value).startswith(f"the Kubernetes API at {nowhere} does not answer: ")
        await client.close()

    asyncio.run(run())


def test_pages_follow_each_other_to_the_last(api: FaultyApi) -> None:
    api.fail("continue=more", status=200, document={"metadata": {"resourceVersion": "9"}, "items": [2]})
    api.fail(PODS, status=200, document={"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [1]})

    async def collect(client: KubeClient) -> list[Any]:
        return [item async for page in client.pages(PODS, limit=1, labelSelector="a=b") for item in page["items"]]

    assert ask(api, collect) == [1, 2]


async def _watched(client: KubeClient) -> list[tuple[str, Any]]:
    return [(event.type, event.item) async for event in client.watch(PODS, "7")]


def test_a_watch_tells_changes_and_bookmarks(api: FaultyApi) -> None:
    lines = '{"type":"ADDED","object":{"n":1}}\n{"type":"BOOKMARK","object":{"n":2}}\n'
    api.fail("watch=1", "resourceVersion=7", "allowWatchBookmarks=true", status=200, text=lines)
    assert ask(api, _watched) == [("ADDED", {"n": 1}), ("BOOKMARK", {"n": 2})]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ('{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n', ExpiredError),
        ('{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n', TransientError),
        ('{"type":"ADDED","obj', UnreachableError),
        ("null\n", UnreachableError),
    ],
)
def test_a_watch_that_breaks_says_how(api: FaultyApi, lines: str, kind: type[ClusterError]) -> None:
    api.fail("watch=1", status=200, text=lines)
    assert type(refused(api, _watched)) is kind
