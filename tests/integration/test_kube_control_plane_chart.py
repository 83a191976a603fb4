"""The control plane's chart on a real API server: every object is taken as it is written, and the migration Job does its work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scheduler.store.migrate import missing_steps
from scheduler.store.session import Store
from tests.acceptance.test_control_plane_chart import ALL
from tests.charts import CHARTS, helm, of_kind, render
from tests.kube.applying import applied, dropped, where
from tests.kube.control_plane import ADMIN
from tests.kube.kubelet import Kubelet
from tests.network import until
from tests.postgres import postgres

pytestmark = [pytest.mark.kube, pytest.mark.postgres, pytest.mark.timeout(240)]

SPACE, WAIT_S = "plane", 60.0
TEXT, OBJECT = {"type": "string"}, {"type": "object"}
ENDPOINT = {**OBJECT, "properties": {"port": TEXT, "path": TEXT, "interval": TEXT}}
WATCHED = {
    **OBJECT, "required": ["selector", "endpoints"],
    "properties": {
        "selector": {**OBJECT, "properties": {"matchLabels": {**OBJECT, "additionalProperties": TEXT}}},
        "endpoints": {"type": "array", "items": ENDPOINT},
    },
}  # fmt: skip
# As far as the chart needs it: the operator that brings this kind cannot be had here.
SERVICE_MONITORS = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com", "scope": "Namespaced",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor", "listKind": "ServiceMonitorList"},
        "versions": [{
            "name": "v1", "served": True, "storage": True,
            "schema": {"openAPIV3Schema": {**OBJECT, "properties": {"spec": WATCHED}}},
        }],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def api(kubelet: Kubelet) -> Iterator[httpx.Client]:
    kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    with kubelet.servers.client() as client:
        yield client


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as found:
        yield found.replace("postgresql+psycopg://", "postgresql://")


def test_every_object_is_taken_and_nothing_of_it_is_dropped(api: httpx.Client, kubelet: Kubelet) -> None:
    applied(api, SERVICE_MONITORS)
    path = "/apis/monitoring.coreos.com/v1"
    until(lambda: api.get(path).is_success, "the kind ServiceMonitor is served", WAIT_S)
    config = str(kubelet.servers.kubeconfig(ADMIN))
    # With --validate Helm asks the cluster what it serves, and each object is checked against its schema.
    objects = render("cpn", ALL, "--validate", namespace=SPACE, KUBECONFIG=config)
    assert of_kind(objects, "PodDisruptionBudget")["apiVersion"] == "policy/v1beta1"
    for item in objects:
        if item["kind"] != "Job":  # which the next test lets run
            assert dropped(item, applied(api, item)) == [], item["kind"]


def test_the_migration_job_brings_an_empty_database_to_the_schema(api: httpx.Client, url: str) -> None:
    objects = render("cpn", {"database": {"url": url}}, namespace=SPACE)
    job = of_kind(objects, "Job")
    applied(api, of_kind(objects, "Secret"))
    assert dropped(job, applied(api, job)) == []
    until(lambda: api.get(where(api, job)).json()["status"].get("succeeded") == 1, "the migration is done", WAIT_S)
    store = Store(url.replace("postgresql://", "postgresql+psycopg://"))
    with store.read() as conn:
        assert not missing_steps(conn)
    store.close()


def test_helm_installs_changes_and_removes_a_release_and_the_data_stays(api: httpx.Client, kubelet: Kubelet) -> None:
    config = {"KUBECONFIG": str(kubelet.servers.kubeconfig(ADMIN))}
    install = ("upgrade", "--install", "cpn", str(CHARTS / "cpn"), "--namespace", "released", "--create-namespace")

    def change(**values: Any) -> str:
        done = helm(*install, values={"database": {"existingSecret": "none"}, "migration": {"enabled": False}, **values}, **config)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "kubectl -n released exec deployment/cpn -- cat /var/lib/cpn/operator.token" in change()
    deployment = "/apis/apps/v1/namespaces/released/deployments/cpn"
    change(settings={"CPN_CAPTURE": "5"}, podDisruptionBudget={"enabled": True})
    (server,) = api.get(deployment).json()["spec"]["template"]["spec"]["containers"]
    assert {"name": "CPN_CAPTURE", "value": "5"} in server["env"]
    removed = helm("uninstall", "cpn", "--namespace", "released", **config)
    assert removed.returncode == 0, removed.stderr
    until(lambda: api.get(deployment).status_code == httpx.codes.NOT_FOUND, "the Deployment is gone", WAIT_S)
    assert api.get("/api/v1/namespaces/released/persistentvolumeclaims/cpn").is_success
