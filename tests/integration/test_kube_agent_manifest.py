"""What `cpn cluster manifest` prints, on a real API server: taken as it is, and its account may do what the backend needs, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.backend import KubernetesBackend
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.manifest import NAME, SECRET, AgentManifest
from cluster.backends.kubernetes.objects import RunSettings
from cluster.backends.kubernetes.rights import RIGHTS
from tests.charts import CHARTS, helm
from tests.kube.accounts import Rule, account_token, as_account, rules_of
from tests.kube.applying import applied, dropped
from tests.kube.control_plane import ADMIN
from tests.kube.kubelet import Kubelet
from tests.kube.kuberay import install as install_kuberay
from tests.kube.kuberay import running_kuberay
from tests.kube.member import IMAGE, FixedStock
from tests.kube.scene import scene
from tests.ray_runs import command, request

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

MANIFEST = AgentManifest("lab", "https://cpn.example.org", "cpn:0.1.0", "members", "cpn_join_x", network_policy=True)
# What everybody may who is known: ask what he may.
EVERYBODY = {
    ("authorization.k8s.io", resource, "create") for resource in ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
}  # fmt: skip


@pytest.fixture(scope="module")
def api(kubelet: Kubelet) -> Iterator[httpx.Client]:
    with kubelet.servers.client() as client:
        yield client


@pytest.fixture(scope="module")
def account(kubelet: Kubelet, api: httpx.Client) -> Iterator[httpx.Client]:
    """The agent's own account, as its pod has it."""
    for item in MANIFEST.objects():
        if item["kind"] != "Deployment":
            assert dropped(item, applied(api, item)) == [], item["kind"]
    with as_account(kubelet.servers, account_token(api, MANIFEST.namespace, NAME)) as client:
        yield client


def rights(*, everywhere: bool) -> set[Rule]:
    return {(right.group, right.resource, verb) for right in RIGHTS if right.everywhere == everywhere for verb in right.verbs}


def test_every_object_is_taken_and_nothing_of_it_is_dropped(api: httpx.Client, account: httpx.Client) -> None:
    assert account.get("/api/v1/nodes").status_code == httpx.codes.OK
    for item in MANIFEST.objects():
        assert dropped(item, applied(api, item)) == [], item["kind"]


def test_the_account_may_do_what_the_backend_needs_and_nothing_else(account: httpx.Client) -> None:
    assert rules_of(account, MANIFEST.namespace) == rights(everywhere=True) | rights(everywhere=False) | EVERYBODY
    assert rules_of(account, "default") == rights(everywhere=True) | EVERYBODY


def test_it_reads_nobody_elses_secrets_and_changes_nothing_of_the_cluster(api: httpx.Client, account: httpx.Client) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": "default"}, "stringData": {"a": "b"}}
    applied(api, theirs)
    assert api.get("/api/v1/namespaces/default/secrets/theirs").status_code == httpx.codes.OK
    assert account.get(f"/api/v1/namespaces/{MANIFEST.namespace}/secrets").status_code == httpx.codes.OK
    for method, path in (
        ("GET", "/api/v1/namespaces/default/secrets/theirs"), ("GET", "/api/v1/namespaces/default/secrets"), ("GET", "/api/v1/secrets"),
        ("DELETE", "/api/v1/nodes/node-1"), ("PATCH", "/api/v1/nodes/node-1"), ("DELETE", f"/api/v1/namespaces/{MANIFEST.namespace}"),
        ("POST", "/apis/batch/v1/namespaces/default/jobs"), ("DELETE", "/api/v1/namespaces/default/pods/any"),
        ("POST", f"/api/v1/namespaces/{MANIFEST.namespace}/pods/any/exec"),
        ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{MANIFEST.namespace}/rolebindings"),
        ("POST", f"/api/v1/namespaces/{MANIFEST.namespace}/serviceaccounts/{NAME}/token"),
    ):  # fmt: skip
        body = {"content": "{}", "headers": {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}}
        asked = account.request(method, path, **(body if method in ("POST", "PATCH") else {}))
        assert asked.status_code == httpx.codes.FORBIDDEN, f"{method} {path}: {asked.text}"


def test_the_backend_runs_single_jobs_gangs_and_rayjobs_with_these_rights_alone(
    kubelet: Kubelet, api: httpx.Client, account: httpx.Client, tmp_path: Path
) -> None:
    assert account.get("/api/v1/nodes").status_code == httpx.codes.OK
    install_kuberay(kubelet.servers)
    space = MANIFEST.namespace
    kubelet.servers.kubeconfig(NAME, account_token(api, space, NAME))
    single, together = command("node-1", "echo", "hello"), request(("node-1", "node-2"), command=("echo", "hello"))
    program = request(("node-1",), kind="ray", command=("python", "main.py"), files={"main.py": "print('hello')"}, cpu=1.0)
    cancelled = command("node-2", "sleep", "600")

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, space):
            async with scene(kubelet, space, tmp_path, account_member(kubelet, space, tmp_path)) as here:
                for run in (single, together, program):
                    finished = await here.run(run)
                    assert finished.outcome == "succeeded", finished.message
                    assert "hello" in here.log(run)
                await here.started(cancelled)
                await here.backend.stop(cancelled.run_id, outcome="cancelled", grace_s=1.0)
                assert (await here.ended(cancelled)).outcome == "cancelled"
                for run in (single, together, program, cancelled):
                    await here.backend.forget(run.run_id)
                left = [f"secrets/{SECRET}"]
                await here.until(lambda: here.operator.names() == left, "nothing of the runs is left, and the agent's own is")

    asyncio.run(scenario())


def account_member(kubelet: Kubelet, space: str, directory: Path) -> KubernetesBackend:
    """The backend as the agent's pod has it; the kubeconfig says who it is."""
    client = KubeClient(Access(kubelet.servers.directory / f"{NAME}.kubeconfig", namespace=space))
    return KubernetesBackend(client, FixedStock(kubelet), RunSettings(cluster="lab", namespace=space, image=IMAGE), directory)


def test_helm_installs_the_same_with_the_same_rights(api: httpx.Client, kubelet: Kubelet) -> None:
    values = {"cluster": "lab", "server": "https://cpn.example.org", "joinToken": "cpn_join_x", "networkPolicy": {"enabled": True}}
    config = {"KUBECONFIG": str(kubelet.servers.kubeconfig(ADMIN))}
    install = ("upgrade", "--install", "agent", str(CHARTS / "cpn-agent"), "--namespace", "helmed", "--create-namespace")
    done = helm(*install, values=values, **config)
    assert done.returncode == 0, done.stderr
    assert "cpn cluster show lab" in done.stdout
    with as_account(kubelet.servers, account_token(api, "helmed", NAME)) as client:
        assert rules_of(client, "helmed") == rights(everywhere=True) | rights(everywhere=False) | EVERYBODY
    deployment = "/apis/apps/v1/namespaces/helmed/deployments/cpn-agent"
    before = api.get(deployment).json()["metadata"]["generation"]
    again = helm(*install, values={**values, "joinToken": "cpn_join_y"}, **config)
    assert again.returncode == 0, again.stderr
    assert api.get(deployment).json()["metadata"]["generation"] > before, "another join token starts the agent anew"
    removed = helm("uninstall", "agent", "--namespace", "helmed", **config)
    assert removed.returncode == 0, removed.stderr
