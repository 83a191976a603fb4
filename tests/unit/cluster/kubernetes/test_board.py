"""What is known of runs' pods and Jobs: by their label, told when it changes, and never in part."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cluster.backends.kubernetes.board import Board
from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.errors import ExpiredError, ForbiddenError, UnreachableError
from tests.unit.cluster.kubernetes.fake_api import FakeApi, pod
from tests.virtual_time import until_so, virtual, virtual_clock

PODS, JOBS = "/api/v1/namespaces/cpn/pods", "/apis/batch/v1/namespaces/cpn/jobs"
RAY_JOBS = "/apis/ray.io/v1/namespaces/cpn/rayjobs"


def fake() -> FakeApi:
    api = FakeApi()
    api.objects |= {PODS: {}, JOBS: {}, RAY_JOBS: {}}
    return api


def item(name: str, run: str, **status: Any) -> Document:
    return {**pod(name, labels={"cpn.dev/run": run}), "status": status}


class Told:
    """A board and the runs of which it said that something changed."""

    def __init__(self, api: FakeApi) -> None:
        self.runs: list[str] = []
        self.board = Board(cast(KubeClient, api), "cpn", "lab", self.runs.append, seconds=virtual_clock().now)

    def names(self, run: str) -> list[str]:
        return [one.name for one in self.board.pods(run)] + [one["metadata"]["name"] for one in self.board.jobs(run)]


@virtual
async def test_a_runs_pods_and_jobs_are_found_by_its_label() -> None:
    api = fake()
    api.put(PODS, item("p1", "a-1", phase="Running"))
    api.put(JOBS, item("j1", "a-1"))
    api.put(PODS, item("p2", "b-1"))
    told = Told(api)
    await told.board.open()
    assert (told.names("a-1"), told.names("b-1"), told.names("c-1")) == (["p1", "j1"], ["p2"], [])
    assert sorted(told.runs) == ["a-1", "a-1", "b-1"]
    assert {query["labelSelector"] for query in api.queries} == {"cpn.dev/cluster=lab"}
    await told.board.close()


@virtual
async def test_each_change_is_told_once_and_a_list_tells_only_what_is_another_than_before() -> None:
    api = fake()
    for name, run in (("p1", "a-1"), ("p2", "b-1"), ("p3", "c-1")):
        api.put(PODS, item(name, run))
    told = Told(api)
    await told.board.open()
    await until_so(lambda: len(api.watched_from) == 2, "both are watched")
    told.runs.clear()
    api.put(PODS, item("p1", "a-1", phase="Running"))
    api.bookmark()
    await until_so(lambda: told.runs == ["a-1"], "the change is told")
    api.faults["watch"] = [ExpiredError("410")] * 2
    api.silently(PODS, None, "pod-p2")
    api.end_watches()
    await until_so(lambda: told.runs == ["a-1", "b-1"], "the one that is gone is told")
    assert (told.names("b-1"), told.names("c-1")) == ([], ["p3"])
    await told.board.close()


@virtual
async def test_a_pod_of_the_same_name_that_came_meanwhile_is_the_one_that_counts() -> None:
    api = fake()
    api.put(PODS, item("p1", "a-1"))
    told = Told(api)
    await told.board.open()
    again = item("p1", "a-1")
    again["metadata"]["uid"] = "another"
    api.drop(PODS, api.objects[PODS]["pod-p1"])
    api.put(PODS, again)
    await until_so(lambda: [one.uid for one in told.board.pods("a-1")] == ["another"], "the new one is known")
    await told.board.close()


@virtual
async def test_a_board_that_could_not_be_opened_is_opened_again_and_watches_once() -> None:
    api = fake()
    told = Told(api)
    api.refuse = lambda path: UnreachableError("no answer") if path == JOBS else None
    with pytest.raises(UnreachableError, match="no answer"):
        await told.board.open()
    api.refuse = lambda _path: None
    await told.board.open()
    await told.board.open()
    await until_so(lambda: len(api.watched_from) == 2, "both are watched")
    assert sorted(api.lists) == sorted([PODS, JOBS, JOBS])
    await told.board.close()


@virtual
async def test_rayjobs_are_watched_from_when_the_right_to_them_is_there() -> None:
    api = fake()
    api.put(RAY_JOBS, item("r1", "a-1"))
    told = Told(api)
    await told.board.open()
    api.refuse = lambda path: ForbiddenError("rayjobs is forbidden") if path == RAY_JOBS else None
    with pytest.raises(ForbiddenError):
        await told.board.add_rayjobs()
    assert told.names("a-1") == []
    told.board.check(15)
    api.refuse = lambda _path: None
    await told.board.add_rayjobs()
    await told.board.add_rayjobs()
    assert (told.names("a-1"), api.lists.count(RAY_JOBS)) == (["r1"], 2)
    await told.board.close()


@virtual
async def test_a_board_that_does_not_see_for_long_says_so() -> None:
    api = fake()
    told = Told(api)
    await told.board.open()
    api.refuse = lambda path: ForbiddenError("jobs is forbidden") if path == JOBS else None
    api.end_watches()
    begun = virtual_clock().now()
    await until_so(lambda: virtual_clock().now() > begun + 16, "some time")
    with pytest.raises(UnreachableError, match="the pods and Jobs of its runs cannot be watched: jobs is forbidden"):
        told.board.check(15)
    await told.board.close()
