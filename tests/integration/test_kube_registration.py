"""Registering a real Kubernetes cluster: what is not as it has to be is said, with what to do, and nothing wrong becomes a member."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.backends.kubernetes.examining import examine
from cluster.backends.kubernetes.rights import RIGHTS, missing_words, remedy
from cluster.checks import Check, failures
from cluster.model import KubernetesEndpoint
from controlplane.cli.main import app
from controlplane.pushed import PushedAgents
from tests.kube.control_plane import Kubernetes
from tests.kube.faulty import FaultyApi, running_faulty_api
from tests.kube.kubelet import MERGE, Kubelet
from tests.kube.rights import grant, without
from tests.network import Network, free_port, job, until

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

SPACE = "registered"
# Nobody else gives this user rights, whose lack some of these tests are about.
USER = "registrar"
NEEDED = [right for right in RIGHTS if not right.with_kind]
PRICES = ("--jurisdiction", "CN-SH", "--cpu-price", "0.40 CNY", "--memory-price", "0.02 CNY", "--transfer-price", "0.50 CNY")


@pytest.fixture(scope="module")
def servers(kubelet: Kubelet) -> Kubernetes:
    kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    return kubelet.servers


@pytest.fixture
def granted(servers: Kubernetes) -> Kubernetes:
    """With all rights for the user `agent`."""
    grant(servers, USER, SPACE)
    return servers


@pytest.fixture
def faulty(granted: Kubernetes, tmp_path: Path) -> Iterator[FaultyApi]:
    with running_faulty_api(tmp_path, granted) as found:
        yield found


def endpoint(kubeconfig: Path, **changes: Any) -> KubernetesEndpoint:
    return KubernetesEndpoint.model_validate({"kubeconfig": str(kubeconfig), "namespace": SPACE, **changes})


def only_failure(to: KubernetesEndpoint) -> Check:
    found = failures(examine(to).checks)
    assert len(found) == 1, found
    assert found[0].remedy
    return found[0]


def test_a_cluster_that_can_become_a_member(granted: Kubernetes) -> None:
    found = examine(endpoint(granted.kubeconfig(USER), context="tests"))
    assert {check.state for check in found.checks} == {"passed"}, found
    assert [check.name for check in found.checks] == [
        "kubeconfig", "api-server", "credentials", "kube-version", "kube-clock", "namespace", "rights", "identity", "nodes",
    ]  # fmt: skip
    with granted.client() as admin:
        assert found.cluster_id == admin.get("/api/v1/namespaces/kube-system").json()["metadata"]["uid"]
    said = {check.name: check.found for check in found.checks}
    assert said["kube-version"] == "Kubernetes v1.20.2"
    assert said["rights"] == f"all {sum(len(right.verbs) for right in NEEDED)} rights that an agent needs are there"
    assert re.match(r"[1-9]\d* of [1-9]\d* nodes take runs", said["nodes"])


@pytest.mark.parametrize(
    ("resource", "verb", "others"), [("nodes", "watch", "list"), ("jobs", "create", "patch"), ("pods/log", "get", "list")]
)
def test_a_right_that_is_missing_is_named_with_the_commands_that_grant_it(
    servers: Kubernetes, resource: str, verb: str, others: str
) -> None:  # fmt: skip
    grant(servers, USER, SPACE, without(resource, verb))
    to = endpoint(servers.kubeconfig(USER))
    named = resource.replace("jobs", "jobs.batch")
    found: list[Check] = []

    def alone() -> bool:
        found[:] = [check for check in failures(examine(to).checks) if check.name == "rights"]
        return [check.found.split(" in the")[0] for check in found] == [f"it may not {verb} {named}"]

    until(alone, "the API server's cache of roles has the change")
    assert f"--verb={verb} --resource={named}" in found[0].remedy
    assert "--user=USER" in found[0].remedy
    assert others not in found[0].remedy


def test_the_commands_of_the_remedy_grant_what_is_missing() -> None:
    assert missing_words(RIGHTS[:1] + RIGHTS[4:5], "lab") == (
        "list, watch nodes; create, delete, list, patch, watch jobs.batch in the namespace lab"
    )
    assert remedy(RIGHTS[2:3], "lab", "--user=ops") == (
        "kubectl create clusterrole cpn-agent-1 --verb=get --resource=namespaces --resource-name=kube-system && "
        "kubectl create clusterrolebinding cpn-agent-1 --clusterrole=cpn-agent-1 --user=ops"
    )
    assert remedy(RIGHTS[6:7], "lab", "--serviceaccount=lab:ops") == (
        "kubectl -n lab create role cpn-agent-1 --verb=get --resource=pods/log && "
        "kubectl -n lab create rolebinding cpn-agent-1 --role=cpn-agent-1 --serviceaccount=lab:ops"
    )


def test_a_user_without_any_right_learns_all_that_is_missing(servers: Kubernetes) -> None:
    found = examine(endpoint(servers.kubeconfig("guest")))
    (wrong,) = failures(found.checks)
    assert wrong.name == "rights"
    assert len(re.findall("kubectl", wrong.remedy)) == 2 * len(NEEDED)
    assert {check.name for check in found.checks if check.state == "skipped"} == {"namespace", "identity", "nodes"}
    assert found.cluster_id == ""


def test_a_wrong_address(servers: Kubernetes, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(servers.kubeconfig(USER).read_text().replace(servers.url, f"https://127.0.0.1:{free_port()}"))
    wrong = only_failure(endpoint(path))
    assert (wrong.name, wrong.field) == ("api-server", "kubernetes.kubeconfig")
    assert "does not answer" in wrong.found


def test_a_wrong_token(servers: Kubernetes, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(servers.kubeconfig(USER).read_text().replace(f"token-of-{USER}", "stale"))
    found = examine(endpoint(path))
    (wrong,) = failures(found.checks)
    assert (wrong.name, wrong.field, "401" in wrong.found) == ("credentials", "kubernetes.context", True)
    assert {check.name for check in found.checks if check.state == "skipped"} >= {"rights", "nodes", "identity"}


def test_a_wrong_context_and_a_file_that_is_not_there(servers: Kubernetes, tmp_path: Path) -> None:
    wrong = only_failure(endpoint(servers.kubeconfig(USER), context="production"))
    assert (wrong.name, wrong.field) == ("kubeconfig", "kubernetes.context")
    assert "has no context 'production'; it has tests" in wrong.found
    wrong = only_failure(endpoint(tmp_path / "nowhere"))
    assert (wrong.name, wrong.field) == ("kubeconfig", "kubernetes.kubeconfig")


def test_a_namespace_that_is_not_there_or_going(granted: Kubernetes) -> None:
    grant(granted, USER, "kube-public")
    wrong = only_failure(endpoint(granted.kubeconfig("admin"), namespace="nowhere"))
    assert (wrong.name, wrong.field, wrong.remedy.split(",")[0]) == (
        "namespace", "kubernetes.namespace", "kubectl create namespace nowhere",
    )  # fmt: skip
    held = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}}
    keeper = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keeper", "namespace": "going", "finalizers": ["tests/keep"]}}
    granted.apply(held, keeper)
    with granted.client() as admin:
        admin.delete("/api/v1/namespaces/going").raise_for_status()
        assert "the namespace going is being deleted" in only_failure(endpoint(granted.kubeconfig("admin"), namespace="going")).found
        keeper_path = "/api/v1/namespaces/going/configmaps/keeper"
        admin.patch(keeper_path, json={"metadata": {"finalizers": None}}, headers=MERGE).raise_for_status()


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What is made wrong, and what is found then."""

    make: Callable[[FaultyApi], object]
    name: str
    words: str


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(lambda api: setattr(api, "date", "Tue, 01 Dec 2020 00:00:00 GMT"), "kube-clock", "behind this machine's clock"),
        Trouble(lambda api: setattr(api, "date", "Tue, 01 Dec 2099 00:00:00 GMT"), "kube-clock", "ahead of this machine's clock"),
        Trouble(lambda api: api.fail("/version", status=500, times=None, document={"message": "etcd"}), "api-server", "500 etcd"),
        Trouble(lambda api: api.fail("/version", status=429, times=None, headers={"Retry-After": "30"}), "api-server", "429"),
        Trouble(lambda api: api.fail("/version", status=200, times=None, text="<html>"), "api-server", "is no Kubernetes API"),
        Trouble(lambda api: api.say("/version", {"gitVersion": "v1.19.4"}), "kube-version", "Kubernetes v1.19.4 is not supported"),
        Trouble(lambda api: api.say("/version", {}), "kube-version", "Kubernetes (unknown) is not supported"),
        Trouble(lambda api: api.fail("selfsubjectaccessreviews", status=500, times=None), "credentials", "500"),
        Trouble(lambda api: api.fail("GET", "/api/v1/nodes", status=500, times=None), "nodes", "500"),
        Trouble(lambda api: api.say("/api/v1/nodes", {"items": []}), "nodes", "the cluster has no nodes"),
        Trouble(lambda api: api.fail("kube-system", status=404, times=None), "identity", "404"),
    ],
    ids=lambda trouble: f"{trouble.name}: {trouble.words}",
)  # fmt: skip
def test_troubles_of_an_api_server_are_found_each_by_its_check(faulty: FaultyApi, trouble: Trouble) -> None:
    trouble.make(faulty)
    wrong = only_failure(endpoint(faulty.kubeconfig(USER)))
    assert wrong.name == trouble.name
    assert trouble.words in wrong.found


def test_a_busy_server_is_asked_again(faulty: FaultyApi) -> None:
    faulty.fail("selfsubjectaccessreviews", status=429, times=2, headers={"Retry-After": "0"})
    assert not failures(examine(endpoint(faulty.kubeconfig(USER))).checks)


def test_nodes_that_take_no_runs_are_told_with_why(faulty: FaultyApi) -> None:
    nodes = [
        {"metadata": {"name": f"n{number}"}, "spec": {"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]},
         "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        for number in range(2)
    ]  # fmt: skip
    faulty.say("/api/v1/nodes", {"items": nodes})
    wrong = only_failure(endpoint(faulty.kubeconfig(USER)))
    assert wrong.found == "0 of 2 nodes take runs (n0: taint dedicated=db:NoSchedule; n1: taint dedicated=db:NoSchedule)"
    assert not failures(examine(endpoint(faulty.kubeconfig(USER), tolerations=["dedicated=db"])).checks)


def test_rights_to_kinds_that_a_cluster_may_have_are_no_condition(faulty: FaultyApi) -> None:
    faulty.say("/apis/ray.io", {"kind": "APIGroup"})
    grant_but_ray = tuple(right for right in RIGHTS if not right.with_kind)
    assert faulty.servers is not None
    grant(faulty.servers, USER, SPACE, grant_but_ray)
    to = endpoint(faulty.kubeconfig(USER))
    words = "it may not create, delete, list, patch, watch rayjobs.ray.io in the namespace registered, which it takes to run kind ray"
    until(lambda: any(words in check.found for check in examine(to).checks), "the API server's cache of roles has the change")
    assert not failures(examine(to).checks)


def test_a_newer_server_says_who_we_are(faulty: FaultyApi) -> None:
    account = {"status": {"userInfo": {"username": "system:serviceaccount:lab:ops"}}}
    faulty.fail("selfsubjectreviews", status=201, times=None, document=account)
    faulty.fail("selfsubjectaccessreviews", status=201, times=None, document={"status": {"allowed": False}})
    found = {check.name: check for check in examine(endpoint(faulty.kubeconfig(USER))).checks}
    assert found["credentials"].found == "the API server knows us as system:serviceaccount:lab:ops"
    assert "--serviceaccount=lab:ops" in found["rights"].remedy


# --- as a user does it ---


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network") / "data") as running:
        yield running


def cpn(network: Network, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--server", network.url, "--token", network.operator_token(), *arguments], prog_name="cpn")


def test_a_cluster_is_registered_once_whatever_its_name(network: Network, granted: Kubernetes) -> None:
    kubeconfig = str(granted.kubeconfig(USER))
    place = ("--backend", "kubernetes", "--kubeconfig", kubeconfig, "--context", "tests", "--namespace", SPACE, *PRICES)
    said = cpn(network, "cluster", "register", "lab", *place)
    assert said.exit_code == 0, said.output
    assert "registered lab (CN-SH, push mode)" in said.stdout
    view = json.loads(cpn(network, "cluster", "show", "lab", "-o", "json").stdout)
    assert (view["backend"], view["mode"], len(view["remote_id"])) == ("kubernetes", "push", 36)
    said = cpn(network, "cluster", "register", "again", *place)
    assert said.exit_code != 0
    assert "this cluster is the member 'lab' already" in said.stderr
    assert cpn(network, "cluster", "remove", "lab").exit_code == 0


def test_what_is_missing_is_told_where_it_was_registered(network: Network, servers: Kubernetes) -> None:
    grant(servers, USER, SPACE, without("jobs", "create"))
    kubeconfig = str(servers.kubeconfig(USER))

    def register() -> Result:
        return cpn(
            network, "cluster", "register", "lab", "--backend", "kubernetes", "--kubeconfig", kubeconfig, "--namespace", SPACE, *PRICES
        )

    said: list[Result] = []

    def refused() -> bool:
        said.append(register())
        if said[-1].exit_code == 0:
            cpn(network, "cluster", "remove", "lab")
        return said[-1].exit_code != 0

    until(refused, "the API server's cache of roles has the change")
    words = " ".join(said[-1].stderr.split())
    assert "endpoint.kubernetes.context: it may not create jobs.batch in the namespace registered" in words
    assert "create role cpn-agent-1 --verb=create --resource=jobs.batch" in words
    assert cpn(network, "cluster", "show", "lab").exit_code != 0


def test_the_doctor_looks_at_the_same(network: Network, granted: Kubernetes, tmp_path: Path) -> None:
    kubeconfig = str(granted.kubeconfig(USER))
    said = cpn(network, "cluster", "register", "pulled", "--backend", "kubernetes", "--mode", "pull", *PRICES)
    assert "cpn agent --join cpn_join_" in said.stderr
    assert "--backend kubernetes" in said.stderr
    (token,) = re.findall(r"--join (\S+)", said.stderr)
    command = ("agent", "--join", token, "--doctor", "--data-dir", str(tmp_path), "-o", "json", "--namespace", SPACE)
    found = cpn(network, *command, "--backend", "kubernetes", "--kubeconfig", kubeconfig)
    document = json.loads(found.stdout)
    assert (found.exit_code, document["ok"], document["cluster"]) == (0, True, "pulled"), document
    assert {"rights", "identity", "server-token", "nodes"} <= {check["name"] for check in document["checks"]}
    wrong = json.loads(cpn(network, *command, "--backend", "kubernetes").stdout)
    assert [check["name"] for check in wrong["checks"] if check["state"] == "failed"] == ["kubeconfig"]
    other = json.loads(cpn(network, *command[:-2], "--address", "127.0.0.1:1").stdout)
    assert "server-token" in [check["name"] for check in other["checks"] if check["state"] == "failed"]
    cpn(network, "cluster", "remove", "pulled")


def test_a_member_that_was_registered_runs_jobs(network: Network, servers: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.orphans.SETTLE_S", 0.1)
    grant(servers, USER, SPACE)
    network.add_tenant()
    place = ("--backend", "kubernetes", "--kubeconfig", str(servers.kubeconfig(USER)), "--namespace", SPACE)
    registered = []

    def register() -> bool:
        registered.append(cpn(network, "cluster", "register", "lab", *place, *PRICES))
        return registered[-1].exit_code == 0

    until(register, "the API server's cache of roles has all rights")
    with PushedAgents(network.plane, network.url):
        until(lambda: network.cluster("lab")["health"] == "healthy", "its agent has joined", 60)
        shown = cpn(network, "cluster", "show", "lab").stdout
        assert "runs only" in shown
        assert "kubernetes (kubernetes v1.20.2)" in shown
        assert "Jobs of Kubernetes and their pods" in shown
        nodes = cpn(network, "node", "list", "--cluster", "lab").stdout
        assert re.search(r"lab +node-1 +ready", nodes)
        made = network.submit(job("adds", sql="SELECT 40 + 2 AS sum"))
        ended = network.wait(made["id"], seconds=60)
        assert (ended["state"], ended["cluster"]) == ("succeeded", "lab"), ended
        assert network.ok(network.operator.get(f"/jobs/{made['id']}/result"))["preview"]["rows"] == [[42]]
        _clears_up(network, servers)
    cpn(network, "cluster", "remove", "lab")


def test_an_agent_joins_in_pull_mode_and_takes_the_member_with_it(network: Network, granted: Kubernetes, tmp_path: Path) -> None:
    said = cpn(network, "cluster", "register", "pulled", "--backend", "kubernetes", *PRICES)
    (token,) = re.findall(r"--join (\S+)", said.stderr)
    command = [sys.executable, "-m", "controlplane.cli.main", "agent", "--join", token, "--backend", "kubernetes", "--namespace", SPACE]
    command += ["--kubeconfig", str(granted.kubeconfig(USER)), "--data-dir", str(tmp_path / "agent")]
    environ = {**os.environ, "CPN_SERVER": network.url}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=environ, stdout=log, stderr=log) as agent:
        try:
            until(lambda: network.cluster("pulled")["health"] == "healthy", "its agent has joined", 60)
            found = network.cluster("pulled")
            assert (found["backend_version"], found["driver"]["way"], found["nodes_ready"] > 0) == ("kubernetes v1.20.2", "pods", True)
        finally:
            agent.terminate()
    assert agent.returncode == 0, (tmp_path / "log").read_text()
    cpn(network, "cluster", "remove", "pulled")


def _clears_up(network: Network, servers: Kubernetes) -> None:
    """What bears this member's label and no run that the network knows is found and removed; nothing else is touched."""
    labels = {"cpn.dev/cluster": "lab", "cpn.dev/run": "job-gone-1"}
    left = {"name": "cpn-job-gone-1", "namespace": SPACE, "labels": labels, "annotations": {"cpn.dev/run-id": "job-gone-1"}}
    others = {**left, "name": "not-ours", "labels": {**labels, "cpn.dev/cluster": "other"}}
    servers.apply(*({"apiVersion": "v1", "kind": "Secret", "metadata": metadata} for metadata in (left, others)))
    command = ("cluster", "doctor", "lab", "--kubeconfig", str(servers.kubeconfig(USER)), "--namespace", SPACE, "-o", "json")
    found = json.loads(cpn(network, *command).stdout)
    assert [(item["kind"], item["run_id"]) for item in found["orphans"]] == [("Secret", "job-gone-1")]
    fixed = cpn(network, *command, "--fix")
    assert (fixed.exit_code, len(json.loads(fixed.stdout)["removed"])) == (0, 1)
    with servers.client() as admin:
        path = f"/api/v1/namespaces/{SPACE}/secrets"
        assert (admin.get(f"{path}/cpn-job-gone-1").status_code, admin.get(f"{path}/not-ours").status_code) == (404, 200)
        admin.delete(f"{path}/not-ours").raise_for_status()
