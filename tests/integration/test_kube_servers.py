"""The Kubernetes that other tests stand on: real servers make, bind and count, and the stand-in for kubelets runs what is bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.kube.kubelet import MERGE, Kubelet
from tests.kube.local_pod import MISSING_IMAGE
from tests.network import until

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

WAIT_S = 60.0
SPACE = "servers"


@pytest.fixture(scope="module")
def api(kubelet: Kubelet) -> Iterator[httpx.Client]:
    kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    with kubelet.servers.client() as client:
        yield client


def job(name: str, script: str, image: str = "local", **spec: Any) -> dict[str, Any]:
    container = {"name": "work", "image": image, "command": ["sh", "-c", script], **spec}
    pod = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 5}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": SPACE},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }  # fmt: skip


def pods_of(api: httpx.Client, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/api/v1/namespaces/{SPACE}/pods", params={"labelSelector": f"job-name={name}"}).json()["items"]
    return found


def phase_of(api: httpx.Client, name: str) -> str:
    pods = pods_of(api, name)
    return str(pods[0]["status"]["phase"]) if pods else ""


def test_a_job_runs_and_its_log_is_read_through_the_api_server(api: httpx.Client, kubelet: Kubelet) -> None:
    kubelet.servers.apply(job("greets", 'echo "hello from $WHO"', env=[{"name": "WHO", "value": "a pod"}]))
    path = f"/apis/batch/v1/namespaces/{SPACE}/jobs/greets"
    until(lambda: api.get(path).json()["status"].get("succeeded") == 1, "the job controller counts the pod", WAIT_S)
    (pod,) = pods_of(api, "greets")
    assert pod["spec"]["nodeName"] in {"node-1", "node-2"}
    assert api.get(f"/api/v1/namespaces/{SPACE}/pods/{pod['metadata']['name']}/log").text == "hello from a pod\n"


def test_an_exit_code_is_reported(api: httpx.Client, kubelet: Kubelet) -> None:
    kubelet.servers.apply(job("fails", "exit 3"))
    until(lambda: phase_of(api, "fails") == "Failed", "the pod fails", WAIT_S)
    (status,) = pods_of(api, "fails")[0]["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 3


def test_a_deleted_job_takes_its_process_with_it(api: httpx.Client, kubelet: Kubelet) -> None:
    kubelet.servers.apply(job("stays", "sleep 600"))
    until(lambda: phase_of(api, "stays") == "Running", "the pod runs", WAIT_S)
    local = kubelet.pods[pods_of(api, "stays")[0]["metadata"]["uid"]]
    api.delete(f"/apis/batch/v1/namespaces/{SPACE}/jobs/stays", params={"propagationPolicy": "Background"}).raise_for_status()
    until(lambda: not pods_of(api, "stays"), "the pod is gone", WAIT_S)
    assert local.process is not None
    assert local.process.returncode == -15


def test_what_a_job_mounts_lies_in_its_folder_and_follows_changes(api: httpx.Client, kubelet: Kubelet) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "words", "namespace": SPACE}, "stringData": {"word": "first"}}
    wanted = job("reads", 'cat "$AT/word"; until [ "$(cat "$AT/word")" = second ]; do sleep 0.05; done; echo " then second"')
    pod = wanted["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "given", "secret": {"secretName": "words"}}]
    pod["containers"][0] |= {"volumeMounts": [{"name": "given", "mountPath": "/given"}], "env": [{"name": "AT", "value": "/given"}]}
    kubelet.servers.apply(secret, wanted)
    until(lambda: phase_of(api, "reads") == "Running", "the pod runs", WAIT_S)
    path = f"/api/v1/namespaces/{SPACE}/secrets/words"
    api.patch(path, json={"stringData": {"word": "second"}}, headers=MERGE).raise_for_status()
    until(lambda: phase_of(api, "reads") == "Succeeded", "the pod sees the change", WAIT_S)
    assert api.get(f"/api/v1/namespaces/{SPACE}/pods/{pods_of(api, 'reads')[0]['metadata']['name']}/log").text == "first then second\n"


def test_an_image_that_cannot_be_had_is_said(api: httpx.Client, kubelet: Kubelet) -> None:
    kubelet.servers.apply(job("pulls", "true", image=MISSING_IMAGE))

    def waiting() -> str:
        statuses = pods_of(api, "pulls")[0]["status"].get("containerStatuses", []) if pods_of(api, "pulls") else []
        return str(statuses[0]["state"]["waiting"]["reason"]) if statuses else ""

    until(lambda: waiting() == "ImagePullBackOff", "the reason is in the pod's status", WAIT_S)


def test_users_have_the_rights_that_they_were_given(kubelet: Kubelet) -> None:
    with kubelet.servers.client("guest") as guest:
        assert guest.get("/api/v1/nodes").status_code == httpx.codes.FORBIDDEN
        assert guest.get("/api/v1/nodes", headers={"Authorization": "Bearer wrong"}).status_code == httpx.codes.UNAUTHORIZED
