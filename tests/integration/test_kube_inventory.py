"""The inventory of a real Kubernetes: what its nodes let us have, through watches that are cut, expire and are refused."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.inventory import KubeInventory
from cluster.computing_power import rate_node
from cluster.errors import (
    AlreadyThereError,
    AuthenticationError,
    ClusterError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidObjectError,
    NotThereError,
    TransientError,
    UnreachableError,
)
from cluster.model import Node, NodeAccelerator
from tests.kube.control_plane import Kubernetes
from tests.kube.faulty import FaultyApi, running_faulty_api
from tests.kube.kubelet import MERGE, Kubelet, node_object

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

WAIT_S = 60.0
SPACE = "inventory"
RIGHTS = ("get", "list", "watch")
OURS = {"cpn.dev/cluster": "lab"}


@pytest.fixture(scope="module")
def servers(kubelet: Kubelet) -> Kubernetes:
    """With a namespace for us, one for others, and a user who may look at nodes and pods."""
    space = {"apiVersion": "v1", "kind": "Namespace"}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "inventory"}}
    kubelet.servers.apply(*(space | {"metadata": {"name": name}} for name in (SPACE, "neighbours")), role | {"rules": RULES}, BINDING)
    return kubelet.servers


RULES = [{"apiGroups": [""], "resources": ["nodes", "pods", "namespaces"], "verbs": list(RIGHTS)}]
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "inventory"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "inventory"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def admin(servers: Kubernetes) -> Iterator[httpx.Client]:
    with servers.client() as found:
        yield found


@pytest.fixture
def gpu_node(admin: httpx.Client) -> Iterator[str]:
    """A node that no kubelet's stand-in plays, so nothing on it changes by itself."""
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"}
    item = node_object("gpu-1", 1, cpu=64, gib=512, labels=labels, **{"nvidia.com/gpu": "8"})
    item["spec"] = {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}
    admin.post("/api/v1/nodes", json=item).raise_for_status()
    yield "gpu-1"
    admin.delete("/api/v1/nodes/gpu-1")


@pytest.fixture
def faulty(servers: Kubernetes, tmp_path: Path) -> Iterator[FaultyApi]:
    with running_faulty_api(tmp_path, servers) as found:
        yield found


Scenario = Callable[[KubeInventory], Awaitable[None]]


def watch(access: Access, scenario: Scenario) -> None:
    """Live through a scenario with an open inventory."""

    async def live() -> None:
        client = KubeClient(access)
        inventory = KubeInventory(client, lambda pod: pod["metadata"].get("labels", {}) == OURS)
        try:
            await inventory.open()
            await scenario(inventory)
        finally:
            await inventory.close()
            await client.close()

    asyncio.run(live())


async def until_node(inventory: KubeInventory, name: str, wanted: Callable[[Node | None], object], what: str) -> None:
    """Until a node is as wanted; None: it is not there. Trouble of the watch is waited out."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    found: object = "nothing yet"
    while True:
        with contextlib.suppress(UnreachableError):
            nodes = {node.name: node for node in (await inventory.read()).nodes}
            found = nodes.get(name)
            if wanted(nodes.get(name)):
                return
        assert asyncio.get_running_loop().time() < deadline, f"not {what}: {found}"
        await asyncio.sleep(0.02)


def hold(admin: httpx.Client, name: str, node: str, cpu: str, labels: dict[str, str] | None = None, gpus: str = "0") -> None:
    """A pod of others, bound already."""
    asked = {"cpu": cpu, "memory": "1Gi", "nvidia.com/gpu": gpus}
    container = {"name": "c", "image": "local", "command": ["true"], "resources": {"requests": asked, "limits": asked}}
    item = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "neighbours", "labels": labels or {}},
        "spec": {"nodeName": node, "containers": [container]},
    }  # fmt: skip
    admin.post("/api/v1/namespaces/neighbours/pods", json=item).raise_for_status()


def let_go(admin: httpx.Client, name: str) -> None:
    admin.request("DELETE", f"/api/v1/namespaces/neighbours/pods/{name}", json={"gracePeriodSeconds": 0}).raise_for_status()


def change_status(admin: httpx.Client, path: str, status: dict[str, Any]) -> None:
    admin.patch(f"{path}/status", json={"status": status}, headers=MERGE).raise_for_status()


def test_what_a_node_has_left_follows_the_pods_of_others(servers: Kubernetes, admin: httpx.Client, gpu_node: str) -> None:
    async def scenario(inventory: KubeInventory) -> None:
        found = {node.name: node for node in (await inventory.read()).nodes}[gpu_node]
        assert (found.cpu, found.memory_bytes, found.ready) == (64.0, 512 * 1024**3, True)
        assert found.accelerators == (NodeAccelerator(model="NVIDIA-H100-80GB-HBM3", count=8),)
        assert (found.labels["topology.kubernetes.io/zone"], found.labels["topology.kubernetes.io/region"]) == ("z1", "r1")
        assert {part.what for part in rate_node(found).parts} == {"NVIDIA-H100-80GB-HBM3"}
        hold(admin, "greedy", gpu_node, "10", gpus="3")
        hold(admin, "mine", gpu_node, "20", OURS)
        await until_node(inventory, gpu_node, lambda node: node and (node.cpu, node.accelerators[0].count) == (54.0, 5), "less the pod")
        change_status(admin, "/api/v1/namespaces/neighbours/pods/greedy", {"phase": "Succeeded"})
        await until_node(inventory, gpu_node, lambda node: node and node.cpu == 64.0, "whole when the pod is over")
        let_go(admin, "greedy")
        let_go(admin, "mine")

    watch(Access(servers.kubeconfig("agent"), namespace=SPACE), scenario)


def test_nodes_that_are_cordoned_pressed_silent_or_gone_take_no_runs(servers: Kubernetes, admin: httpx.Client, gpu_node: str) -> None:
    path = f"/api/v1/nodes/{gpu_node}"

    async def scenario(inventory: KubeInventory) -> None:
        admin.patch(path, json={"spec": {"unschedulable": True}}, headers=MERGE).raise_for_status()
        await until_node(inventory, gpu_node, lambda node: node and node.trouble == "it is cordoned", "cordoned")
        admin.patch(path, json={"spec": {"unschedulable": None}}, headers=MERGE).raise_for_status()
        await until_node(inventory, gpu_node, lambda node: node and node.ready, "ready again")
        for kind, status, words in (("DiskPressure", "True", "DiskPressure: full"), ("Ready", "Unknown", "not ready: full")):
            conditions = [{"type": "Ready", "status": "True"}, {"type": kind, "status": status, "message": "full"}]
            change_status(admin, path, {"conditions": conditions[-1:] if kind == "Ready" else conditions})
            await until_node(inventory, gpu_node, lambda node, words=words: node and node.trouble == words, words)
        admin.delete(path).raise_for_status()
        await until_node(inventory, gpu_node, lambda node: node is None, "gone")

    watch(Access(servers.kubeconfig("agent"), namespace=SPACE), scenario)


def test_watches_that_are_cut_and_expire_miss_nothing(faulty: FaultyApi, admin: httpx.Client, gpu_node: str) -> None:
    async def scenario(inventory: KubeInventory) -> None:
        await until_node(inventory, gpu_node, lambda node: node and node.cpu == 64.0, "whole")
        faulty.fail("watch=1", status=500, times=2)
        faulty.cut()
        hold(admin, "first", gpu_node, "8")
        await until_node(inventory, gpu_node, lambda node: node and node.cpu == 56.0, "less what came while the watch was cut")
        lists = faulty.asked["GET /api/v1/pods"]
        expired = '{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}\n'
        faulty.fail("/pods", "watch=1", status=200, text=expired)
        faulty.fail("/nodes", "watch=1", status=410, document={"reason": "Expired", "message": "too old"})
        faulty.cut()
        let_go(admin, "first")
        hold(admin, "second", gpu_node, "16")
        await until_node(inventory, gpu_node, lambda node: node and node.cpu == 48.0, "as it is after a new list")
        assert faulty.asked["GET /api/v1/pods"] > lists
        let_go(admin, "second")

    watch(Access(faulty.kubeconfig("agent"), namespace=SPACE), scenario)


def test_a_list_that_the_real_server_does_not_keep_any_more_has_expired(servers: Kubernetes, admin: httpx.Client, gpu_node: str) -> None:
    async def live() -> None:
        client = KubeClient(Access(servers.kubeconfig("agent")))
        try:
            pages = client.pages("/api/v1/nodes", limit=1)
            assert len((await anext(pages))["items"]) == 1
            admin.patch(f"/api/v1/nodes/{gpu_node}", json={"metadata": {"labels": {"moved": "on"}}}, headers=MERGE).raise_for_status()
            servers.compact()
            with pytest.raises(ExpiredError, match="410 The provided continue parameter is too old"):
                await anext(pages)
        finally:
            await client.close()

    asyncio.run(live())


def test_a_server_that_is_busy_or_broken_is_asked_again(faulty: FaultyApi, gpu_node: str) -> None:
    faulty.fail("GET", "/api/v1/nodes", status=429, times=2, headers={"Retry-After": "0"})
    faulty.fail("GET", "/api/v1/pods", status=500, times=1, document={"reason": "InternalError", "message": "etcd leader changed"})

    async def scenario(inventory: KubeInventory) -> None:
        await until_node(inventory, gpu_node, lambda node: node and node.ready, "there")

    watch(Access(faulty.kubeconfig("agent"), namespace=SPACE), scenario)


def test_a_namespace_that_is_not_there_is_said(servers: Kubernetes) -> None:
    async def scenario(_inventory: KubeInventory) -> None:
        raise AssertionError("it cannot be opened")

    with pytest.raises(TransientError, match="the namespace nowhere is not there; make it: kubectl create namespace nowhere"):
        watch(Access(servers.kubeconfig("agent"), namespace="nowhere"), scenario)


def test_a_right_that_is_taken_away_is_said_and_one_that_is_given_back_serves(
    faulty: FaultyApi, admin: httpx.Client, gpu_node: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("cluster.backends.kubernetes.inventory.PATIENCE_S", 0.5)
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/inventory"

    async def scenario(inventory: KubeInventory) -> None:
        await until_node(inventory, gpu_node, lambda node: node and node.ready, "there")
        fewer = [{**RULES[0], "resources": ["pods", "namespaces"]}]
        admin.patch(path, json={"rules": fewer}, headers=MERGE).raise_for_status()
        said = await _until_unreachable(inventory, faulty)
        assert 'cannot watch resource "nodes"' in said or 'cannot list resource "nodes"' in said
        admin.patch(path, json={"rules": RULES}, headers=MERGE).raise_for_status()
        await until_node(inventory, gpu_node, lambda node: node and node.ready, "there again")

    try:
        watch(Access(faulty.kubeconfig("agent"), namespace=SPACE), scenario)
    finally:
        admin.patch(path, json={"rules": RULES}, headers=MERGE).raise_for_status()


async def _until_unreachable(inventory: KubeInventory, faulty: FaultyApi) -> str:
    """Cut what is still open, as servers do every few minutes, until the inventory says that it sees nothing."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while asyncio.get_running_loop().time() < deadline:
        faulty.cut()
        try:
            await inventory.read()
        except UnreachableError as error:
            if "forbidden" in str(error):
                return str(error)
        await asyncio.sleep(0.05)
    raise AssertionError("the inventory stayed as if nothing had happened")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A call and what the real server makes of it."""

    ask: Callable[[KubeClient], Awaitable[object]]
    kind: type[ClusterError]
    words: str


PODS = f"/api/v1/namespaces/{SPACE}/pods"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken", "namespace": SPACE}}
MAPS = f"/api/v1/namespaces/{SPACE}/configmaps"


@pytest.mark.parametrize(
    ("user", "refusal"),
    [
        ("guest", Refusal(lambda client: client.get("/api/v1/nodes"), ForbiddenError, 'cannot list resource "nodes"')),
        ("admin", Refusal(lambda client: client.get(f"{PODS}/gone"), NotThereError, 'pods "gone" not found')),
        ("admin", Refusal(lambda client: client.get("/apis/kueue.x-k8s.io/v1beta1"), NotThereError, "404")),
        ("admin", Refusal(lambda client: client.create(PODS, {"kind": "Pod", "apiVersion": "v1"}), InvalidObjectError, "422")),
        ("admin", Refusal(lambda client: client.create(MAPS, MAP), AlreadyThereError, 'configmaps "taken" already exists')),
        ("admin", Refusal(
            lambda client: client.ask("PUT", f"{MAPS}/taken", {}, {**MAP, "metadata": {**MAP["metadata"], "resourceVersion": "1"}}),
            ConflictError, "the object has been modified",
        )),
    ],
)  # fmt: skip
def test_refusals_of_the_real_server_are_told_apart(servers: Kubernetes, user: str, refusal: Refusal) -> None:
    servers.apply(MAP)

    async def live() -> None:
        client = KubeClient(Access(servers.kubeconfig(user)))
        try:
            with pytest.raises(refusal.kind, match=refusal.words):
                await refusal.ask(client)
        finally:
            await client.close()

    asyncio.run(live())


def test_a_wrong_token_and_a_wrong_authority_are_told_apart(servers: Kubernetes, tmp_path: Path) -> None:
    good = servers.kubeconfig("agent").read_text()

    async def ask(text: str) -> None:
        path = tmp_path / "config"
        path.write_text(text)
        client = KubeClient(Access(path))
        try:
            await client.get("/version")
        finally:
            await client.close()

    with pytest.raises(AuthenticationError, match="401 Unauthorized"):
        asyncio.run(ask(good.replace("token-of-agent", "stale")))
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        asyncio.run(ask(good.replace(f"certificate-authority: {servers.ca_file}", "tls-server-name: ''")))


def test_what_is_applied_twice_is_there_once(servers: Kubernetes) -> None:
    async def live() -> None:
        client = KubeClient(Access(servers.kubeconfig("admin")))
        path = f"{MAPS}/applied"
        item = {**MAP, "metadata": {"name": "applied", "namespace": SPACE}, "data": {"a": "1"}}
        try:
            first = await client.apply(path, item)
            second = await client.apply(path, {**item, "data": {"a": "2"}})
            assert (first["metadata"]["uid"], second["data"]) == (second["metadata"]["uid"], {"a": "2"})
            assert (await client.merge(path, {"data": {"b": "3"}}))["data"] == {"a": "2", "b": "3"}
            await client.delete(path, uid=first["metadata"]["uid"])
            await client.delete(path)
            with pytest.raises(NotThereError):
                await client.get(path)
        finally:
            await client.close()

    asyncio.run(live())
