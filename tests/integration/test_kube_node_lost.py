"""A node that is gone, as a cluster with Kubernetes' own node controller has it: nothing of it answers, and its pods stay on the books."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backends.kubernetes import pod_attempt
from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.backend import KubernetesBackend
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.inventory import KubeInventory
from cluster.backends.kubernetes.member import ours
from tests.kube.control_plane import ADMIN, running_kubernetes
from tests.kube.kubelet import Kubelet, running_kubelet
from tests.kube.member import settings_of
from tests.kube.scene import Scene, scene
from tests.ray_runs import request, script

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(400)]

SPACE, WAIT_S = "lost", 180.0


@pytest.fixture
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """Servers and nodes of a test's own, for it loses one."""
    folder = tmp_path_factory.mktemp("kube")
    with running_kubernetes(folder, loses_nodes=True) as servers, running_kubelet(servers, folder / "pods", beat_s=1.0) as found:
        yield found


def watching(kubelet: Kubelet, directory: Path) -> KubernetesBackend:
    """A member that watches the cluster's nodes, as its agent has it."""
    client = KubeClient(Access(kubelet.servers.kubeconfig(ADMIN), namespace=SPACE))
    return KubernetesBackend(client, KubeInventory(client, ours("lab", SPACE)), settings_of(SPACE), directory)


async def trouble(here: Scene, node: str) -> str:
    return next(item.trouble for item in (await here.backend.inventory()).nodes if item.name == node)


def test_runs_on_a_node_that_is_gone_are_lost_and_all_others_go_on(
    kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(pod_attempt, "UNANSWERED_S", 2.0)
    go = tmp_path / "go"
    gang = request(("node-1", "node-2"), command=("sleep", "600"))
    there, here_too = script("node-2", "sleep 600"), script("node-1", f"until [ -e {go} ]; do sleep 0.1; done; echo done")

    async def scenario() -> None:
        kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        async with scene(kubelet, SPACE, tmp_path, watching(kubelet, tmp_path / "agent"), wait_s=WAIT_S) as here:
            await asyncio.gather(*(here.started(run) for run in (gang, there, here_too)))
            kubelet.lose("node-2")
            async with asyncio.timeout(WAIT_S):
                while not (said := await trouble(here, "node-2")):
                    await asyncio.sleep(0.2)
            assert said == "not ready: Kubelet stopped posting node status."
            assert await trouble(here, "node-1") == ""
            for run in (gang, there):
                finished = await here.ended(run)
                assert (finished.outcome, finished.category) == ("lost", "lost")
                assert finished.message.endswith("because its node does not answer, and node-2 did not say that it did")
            go.touch()
            assert (await here.ended(here_too)).outcome == "succeeded"
            for run in (gang, there, here_too):
                await here.backend.forget(run.run_id)
            await here.until(lambda: here.operator.names() == [], "not even what the lost node cannot let go of is left")

    asyncio.run(scenario())


def test_a_node_that_is_taken_out_of_the_cluster_takes_its_runs_along(kubelet: Kubelet, tmp_path: Path) -> None:
    there, here_too = script("node-2", "sleep 600"), script("node-1", "sleep 600")

    async def scenario() -> None:
        kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        async with scene(kubelet, SPACE, tmp_path, watching(kubelet, tmp_path / "agent"), wait_s=WAIT_S) as here:
            await asyncio.gather(here.started(there), here.started(here_too))
            kubelet.lose("node-2")
            here.operator.send("DELETE", "/api/v1/nodes/node-2", {}).raise_for_status()
            finished = await here.ended(there)
            assert (finished.outcome, finished.category) == ("lost", "lost")
            assert finished.message.endswith("on node-2 is gone: deleted by somebody else, or with its node")
            assert [node.name for node in (await here.backend.inventory()).nodes] == ["node-1"]
            await here.backend.stop(here_too.run_id, outcome="cancelled", grace_s=1.0)
            assert (await here.ended(here_too)).outcome == "cancelled"
            for run in (there, here_too):
                await here.backend.forget(run.run_id)
            await here.until(lambda: here.operator.names() == [], "nothing is left")

    asyncio.run(scenario())
