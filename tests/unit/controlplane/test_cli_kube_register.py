"""`cpn cluster register --backend kubernetes` and its agent: what options become, and which do not go together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from cluster.model import ClusterSpec, Endpoint
from controlplane.cli import session
from tests.unit.controlplane.cli_server import PRICES, SERVER, FakeServer, cluster

OPTIONS = (
    "cluster", "register", "lab", "--backend", "kubernetes", "--jurisdiction", "CN-SH", "--cpu-price", "0.40 CNY", "--memory-price",
    "0.02 CNY", "--transfer-price", "0.50 CNY",
)  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    made = {"id": "tok-1", "role": "join", "tenant": None, "cluster": "lab", "created_at": "2026-03-01T08:00:00Z", "expires_at": None,
            "revoked_at": None, "token": "cpn_join_x"}  # fmt: skip
    fake = FakeServer({"POST /clusters": (201, cluster("lab", backend="kubernetes")), "POST /tokens": (201, made)})
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    return fake


def test_a_kubeconfig_means_push_mode_and_its_path_is_made_whole(server: FakeServer) -> None:
    where = ("--kubeconfig", "lab.config", "--context", "prod", "--namespace", "runs", "--image", "reg.example.org/cpn:1")
    result = server.run(*OPTIONS, *where, "--tolerate", "dedicated=cpn", "--tolerate", "spot:NoSchedule")
    assert result.exit_code == 0, result.output
    sent = server.sent()
    assert (sent["backend"], sent["mode"]) == ("kubernetes", "push")
    assert sent["endpoint"]["kubernetes"] == {
        "kubeconfig": os.path.join(os.getcwd(), "lab.config"), "context": "prod", "namespace": "runs", "image": "reg.example.org/cpn:1",
        "tolerations": ["dedicated=cpn", "spot:NoSchedule"], "priority_class": "", "service_account": "", "pull_secret": "",
        "local_queue": "",
    }  # fmt: skip


def test_in_pull_mode_its_agents_command_is_told(server: FakeServer) -> None:
    result = server.run(*OPTIONS)
    assert server.sent(0)["mode"] == "pull"
    assert f"CPN_SERVER={SERVER} cpn agent --join cpn_join_x --backend kubernetes" in result.stderr


def test_options_win_over_the_document(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("mode: push\nendpoint: {kubernetes: {kubeconfig: /etc/lab, namespace: old, priority_class: batch}}\n")
    assert server.run(*OPTIONS, "-f", str(file), "--namespace", "new").exit_code == 0
    kube = server.sent()["endpoint"]["kubernetes"]
    assert (kube["kubeconfig"], kube["namespace"], kube["priority_class"]) == ("/etc/lab", "new", "batch")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--namespace", "Not A Name"], "endpoint.kubernetes.namespace"),
        (["--image", "no image"], "endpoint.kubernetes.image"),
        (["--tolerate", "a=b:Never"], "endpoint.kubernetes.tolerations"),
        (["--namespace", "cpn", "--address", "10.0.0.5:6379"], "endpoint.address: a cluster of backend kubernetes is reached by"),
        (["--data-claim", "lake"], "endpoint.kubernetes.data_claims.0"),
        (["--data-claim", "lake=/data/../etc"], "endpoint.kubernetes.data_claims.0"),
        (["--data-claim", "lake=/cpn/work"], "endpoint.kubernetes.data_claims.0: /cpn/work is a pod's own; name another path, like /data"),
        (["--data-claim", "a=/data", "--data-claim", "b=/data"], "data_claims.1: /data stands for a already; name another path"),
        (["--namespace", "cpn", "--token-file", "/t"], "endpoint.token_file: a cluster of backend kubernetes is reached by"),
    ],
)
def test_wrong_options_are_refused_with_the_fields_path(server: FakeServer, options: list[str], words: str) -> None:
    result = server.run(*OPTIONS, *options)
    assert (result.exit_code, server.requests) == (2, [])
    assert words in " ".join(result.stderr.split())


def test_a_ray_cluster_is_not_reached_by_a_kubeconfig(server: FakeServer) -> None:
    result = server.run(*OPTIONS[:4], "ray", *OPTIONS[5:], "--kubeconfig", "/k")
    assert (result.exit_code, server.requests) == (2, [])
    assert "endpoint.kubernetes: only a cluster of backend kubernetes is reached so" in " ".join(result.stderr.split())


def test_an_agent_of_kubernetes_takes_no_head(server: FakeServer) -> None:
    result = server.run("agent", "lab", "--backend", "kubernetes", "--address", "10.0.0.5:6379")
    assert (result.exit_code, "a Kubernetes cluster has no head or dashboard" in result.stderr) == (2, True)
    result = server.run("agent", "lab", "--backend", "kubernetes", "--namespace", "NO")
    assert (result.exit_code, "kubernetes.namespace" in result.stderr) == (2, True)


@pytest.mark.parametrize(("backend", "allowed"), [("ray", True), ("kubernetes", True), ("memory", False)])
def test_jobs_of_kind_ray_are_for_backends_that_run_them(backend: str, allowed: bool) -> None:
    document: dict[str, Any] = {"name": "a", "backend": backend, "jurisdiction": "CN-SH", "prices": PRICES, "ray_jobs": {}}
    if allowed:
        assert ClusterSpec.model_validate_json(json.dumps(document)).ray_jobs is not None
        return
    with pytest.raises(ValidationError, match="only a cluster of backend ray or kubernetes"):
        ClusterSpec.model_validate_json(json.dumps(document))


def test_an_endpoint_goes_to_an_agents_process_as_one_document() -> None:
    endpoint = Endpoint.model_validate({"kubernetes": {"namespace": "runs", "tolerations": ["a"]}})
    assert Endpoint.model_validate_json(endpoint.model_dump_json()) == endpoint
    assert "kubernetes" not in Endpoint(address="h:1").model_dump()


@pytest.mark.parametrize(("option", "sent"), [("s3://lab/results/", "s3://lab/results"), ("none", None)])
def test_a_store_for_what_is_too_large_for_logs(server: FakeServer, option: str, sent: str | None) -> None:
    assert server.run(*OPTIONS, "--result-store", option).exit_code == 0
    assert server.sent(0).get("result_store") == sent
    server.answers["PATCH /clusters/lab"] = (200, cluster("lab", backend="kubernetes", result_store=sent))
    changed = server.run("cluster", "change", "lab", "--result-store", option)
    assert changed.exit_code == 0, changed.output
    assert server.sent() == {"result_store": sent}
    assert (f"pods put them into {sent}" in changed.stdout) == (sent is not None)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--result-store", "/mnt/results"), "a store of results is s3://bucket or s3://bucket/prefix"),
        (("--result-store", "s3://key:secret@host/results"), "an S3 URI holds no credentials"),
        (("--backend", "ray", "--result-store", "s3://lab/results"), "only runs on a cluster of backend kubernetes"),
    ],
)
def test_what_is_no_store_is_refused_before_anything_is_sent(server: FakeServer, more: tuple[str, ...], words: str) -> None:
    result = server.run(*OPTIONS, *more)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert (f"result_store: {words}" in said, "key:secret" in said) == (True, False), said
    assert server.requests == []
