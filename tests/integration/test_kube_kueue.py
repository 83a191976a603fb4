"""Runs that wait in a LocalQueue of Kueue: made suspended, told why they wait, begun when they are let go. Kueue is played."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.kubernetes.objects import name_of
from cluster.errors import RunRejectedError
from cluster.protocol import RunRequest, RunStarting
from tests.kube import kueue
from tests.kube.kubelet import Kubelet
from tests.kube.kuberay import API, install, running_kuberay
from tests.kube.member import member, namespace
from tests.kube.scene import Scene, scene
from tests.ray_runs import command, request

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

SPACE, QUEUE = "queued", "team-a"
NO_QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed"


@pytest.fixture(scope="module", autouse=True)
def kinds(kubelet: Kubelet) -> Iterator[None]:
    install(kubelet.servers)
    kueue.install(kubelet.servers)
    namespace(kubelet, SPACE)
    yield
    kueue.uninstall(kubelet.servers)


def program(text: str) -> RunRequest:
    return request(("node-1",), kind="ray", command=("python", "main.py"), files={"main.py": text}, cpu=1.0)


def place_of(run: RunRequest) -> str:
    return f"{API}/namespaces/{SPACE}/rayjobs/{name_of(run.run_id)}"


async def made(here: Scene, run: RunRequest) -> dict[str, Any]:
    await here.until(lambda: here.operator.send("GET", place_of(run), {}).is_success, "the RayJob is made")
    found: dict[str, Any] = here.operator.send("GET", place_of(run), {}).json()
    return found


async def told(here: Scene, run: RunRequest, words: str) -> None:
    def heard() -> bool:
        return any(isinstance(event, RunStarting) and event.message == words for event in here.watch.of(run.run_id))

    await here.until(heard, f"it is told that {words}")


def test_a_run_waits_until_kueue_lets_it_go_and_says_why(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program("print('admitted')")

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, SPACE):
            async with scene(kubelet, SPACE, tmp_path, member(kubelet, SPACE, tmp_path, local_queue=QUEUE)) as here:
                await here.backend.start(run)
                item = await made(here, run)
                assert item["spec"]["suspend"] is True
                assert item["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == QUEUE
                await told(here, run, f"Kueue has not looked at it yet; is there a LocalQueue {QUEUE}?")
                kueue.take_in(kubelet.servers, item, NO_QUOTA)
                await told(here, run, f"Kueue has not admitted it to {QUEUE}: {NO_QUOTA}")
                assert here.operator.names("jobs", "pods") == []
                kueue.admit(kubelet.servers, place_of(run))
                assert (await here.ended(run)).outcome == "succeeded"
                assert here.log(run) == "admitted\n"
                await here.backend.forget(run.run_id)

    asyncio.run(scenario())


def test_one_that_is_never_let_go_ends_with_kueues_words(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program("print('never')")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, member(kubelet, SPACE, tmp_path, local_queue=QUEUE, start_limit_s=0.5)) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert finished.message == f"it did not start within 0.5 s: Kueue has not looked at it yet; is there a LocalQueue {QUEUE}?"
            assert not here.operator.send("GET", place_of(run), {}).is_success
            await here.backend.forget(run.run_id)

    asyncio.run(scenario())


def test_a_server_that_cannot_suspend_jobs_starts_none_past_the_queue(kubelet: Kubelet, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, member(kubelet, SPACE, tmp_path, local_queue=QUEUE)) as here:
            with pytest.raises(RunRejectedError, match="this API server cannot suspend Jobs, so they would start past it"):
                await here.backend.start(command("node-1", "true"))
            assert here.operator.names() == []

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_queue_without_kueue_is_said(kubelet: Kubelet, tmp_path: Path) -> None:
    kueue.uninstall(kubelet.servers)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, member(kubelet, SPACE, tmp_path, local_queue=QUEUE)) as here:
            with pytest.raises(RunRejectedError, match=r"LocalQueue team-a, and the cluster has no Kueue"):
                await here.backend.start(program("print(1)"))

    try:
        asyncio.run(scenario())
    finally:
        kueue.install(kubelet.servers)
