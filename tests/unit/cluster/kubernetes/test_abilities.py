"""What a cluster lacks is read from what its API server says, told with the inventory, and looked at again before a run is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cluster.backends.kubernetes.abilities import LOOK_S, Abilities
from cluster.backends.kubernetes.board import Board
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.making import Maker
from cluster.backends.kubernetes.objects import RunSettings
from cluster.drivers import BY_PODS, Lack
from cluster.errors import ForbiddenError, RunRejectedError, UnreachableError
from tests.unit.cluster.kubernetes.fake_api import FakeApi
from tests.virtual_time import until_so, virtual, virtual_clock

RAY, KUEUE = "/apis/ray.io/v1", "/apis/kueue.x-k8s.io/v1beta1"
RAY_JOBS = f"{RAY}/namespaces/cpn/rayjobs"


class Server(FakeApi):
    """An API server by what it serves. `suspends`: it keeps a Job's suspension; older ones drop it and say `created`."""

    def __init__(self, *, suspends: bool = True) -> None:
        super().__init__()
        self.objects |= {RAY_JOBS: {}}
        self.suspends = suspends
        self.probes = 0

    def serve(self, api: str, plural: str) -> None:
        self.single[api] = {"resources": [{"name": plural}, {"name": f"{plural}/status"}]}

    async def create(self, path: str, item: dict[str, Any], **query: str) -> dict[str, Any]:
        assert (path, query) == ("/apis/batch/v1/namespaces/cpn/jobs", {"dryRun": "All"}), "it is only asked about"
        self.probes += 1
        kept = {name: value for name, value in item["spec"].items() if self.suspends or name not in ("suspend", "completionMode")}
        return {**item, "spec": kept}


class Member:
    """Abilities with what they are about."""

    def __init__(self, server: Server, queue: str = "") -> None:
        client, seconds = cast(KubeClient, server), virtual_clock().now
        settings = RunSettings(cluster="lab", namespace="cpn", image="cpn", local_queue=queue)
        self.board = Board(client, "cpn", "lab", lambda _run: None, seconds=seconds)
        self.maker = Maker(client, settings, seconds, 300.0)
        self.abilities = Abilities(self.maker, self.board, seconds)

    async def lacks(self) -> tuple[Lack, ...]:
        """What it tells when it is time to look again."""
        virtual_clock().advance(LOOK_S)
        return (await self.abilities.told(BY_PODS)).lacks


@virtual
async def test_kuberay_that_comes_and_goes_is_told_and_followed() -> None:
    server = Server()
    member = Member(server)
    assert (await member.lacks(), member.maker.has_rayjobs) == ((Lack.KUBERAY,), False)
    server.serve(RAY, "rayjobs")
    assert (await member.lacks(), member.maker.has_rayjobs, server.lists) == ((), True, [RAY_JOBS])
    await member.abilities.insist("ray")
    del server.single[RAY]
    assert (await member.lacks(), member.maker.has_rayjobs) == ((Lack.KUBERAY,), False)
    member.board.check(0.0)
    await member.board.close()


@virtual
async def test_what_is_known_is_asked_again_only_after_a_while_and_before_a_run_is_refused() -> None:
    server = Server()
    member = Member(server)
    assert await member.lacks() == (Lack.KUBERAY,)
    server.serve(RAY, "rayjobs")
    assert (await member.abilities.told(BY_PODS)).lacks == (Lack.KUBERAY,), "it looked a moment ago"
    await member.abilities.insist("command")
    assert (await member.abilities.told(BY_PODS)).lacks == (Lack.KUBERAY,), "a command needs no Ray"
    await member.abilities.insist("ray")
    assert (await member.abilities.told(BY_PODS)).lacks == ()
    await member.board.close()


@virtual
async def test_a_run_that_needs_what_is_lacking_is_refused_with_what_to_do() -> None:
    member = Member(Server())
    await member.abilities.look()
    with pytest.raises(RunRejectedError, match=r"the cluster has no RayJob \(ray.io/v1\).*; ask its operator for KubeRay"):
        await member.abilities.insist("ray")
    await member.abilities.insist("sql")


@virtual
async def test_a_right_to_rayjobs_that_is_missing_or_taken_away_is_told() -> None:
    server = Server()
    server.serve(RAY, "rayjobs")
    server.refuse = lambda path: ForbiddenError("rayjobs is forbidden") if path == RAY_JOBS else None
    member = Member(server)
    assert await member.lacks() == (Lack.RAY_RIGHT,)
    server.refuse = lambda _path: None
    assert await member.lacks() == ()
    server.refuse = lambda path: ForbiddenError("rayjobs is forbidden") if path == RAY_JOBS else None
    server.end_watches()
    await until_so(lambda: member.board.may_not_see_rayjobs, "the watch is refused")
    assert await member.lacks() == (Lack.RAY_RIGHT,)
    member.board.check(0.0)
    await member.board.close()


@pytest.mark.parametrize(("suspends", "lacks"), [(True, ()), (False, (Lack.SUSPENSION,))], ids=["kept", "dropped"])
@virtual
async def test_whether_jobs_can_be_suspended_is_decided_by_what_the_server_makes_of_one(suspends: bool, lacks: tuple[Lack, ...]) -> None:
    server = Server(suspends=suspends)
    server.serve(RAY, "rayjobs")
    server.serve(KUEUE, "workloads")
    member = Member(server, "team-a")
    driver = await member.abilities.told(BY_PODS)
    assert (driver.queue, driver.lacks, member.maker.suspends, member.maker.indexed) == ("team-a", lacks, suspends, suspends)
    await member.abilities.insist("ray")
    if suspends:
        await member.abilities.insist("command")
        assert server.probes == 1, "what it can do it goes on to do"
    else:
        with pytest.raises(RunRejectedError, match="the LocalQueue team-a, and this API server cannot suspend Jobs"):
            await member.abilities.insist("command")
        server.suspends = True
        await member.abilities.insist("command")
    await member.board.close()


@virtual
async def test_a_queue_needs_kueue_for_every_kind_and_without_one_nobody_asks() -> None:
    server = Server()
    server.serve(RAY, "rayjobs")
    queued, free = Member(server, "team-a"), Member(server)
    assert (await queued.lacks(), await free.lacks(), server.probes) == ((Lack.KUEUE,), (), 0)
    for kind in ("sql", "ray"):
        with pytest.raises(RunRejectedError, match="the LocalQueue team-a, and the cluster has no Kueue"):
            await queued.abilities.insist(kind)
        await free.abilities.insist(kind)
    await queued.board.close()
    await free.board.close()


@virtual
async def test_a_first_look_that_is_refused_keeps_nobody_from_beginning_and_is_taken_again() -> None:
    server = Server()
    server.serve(RAY, "rayjobs")
    server.serve(KUEUE, "workloads")
    member = Member(server, "team-a")
    server.refuse = lambda path: ForbiddenError("kueue is closed") if path == KUEUE else None
    await member.abilities.begin()
    with pytest.raises(ForbiddenError, match="kueue is closed"):
        await member.abilities.insist("command")
    server.refuse = lambda path: UnreachableError("no answer") if path == KUEUE else None
    with pytest.raises(UnreachableError):
        await member.abilities.begin()
    server.refuse = lambda _path: None
    await member.abilities.insist("command")
    assert await member.lacks() == ()
    await member.board.close()


@virtual
async def test_while_the_cluster_cannot_be_asked_what_is_known_stays() -> None:
    server = Server()
    member = Member(server)
    assert await member.lacks() == (Lack.KUBERAY,)
    server.refuse = lambda _path: UnreachableError("no answer")
    assert await member.lacks() == (Lack.KUBERAY,)
    with pytest.raises(UnreachableError):
        await member.abilities.insist("ray")
