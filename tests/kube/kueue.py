"""Kueue as far as runs meet it: its kinds with the fields that are used here, and what its controllers would do, done by hand.

The operator cannot be had where the tests run. The kinds' schemas are written from their published fields (kueue.x-k8s.io/v1beta1).
"""

from __future__ import annotations

from typing import Any

import httpx

from tests.kube.applying import applied
from tests.kube.control_plane import Kubernetes
from tests.network import until

Object = dict[str, Any]
API, WAIT_S = "/apis/kueue.x-k8s.io/v1beta1", 60.0
MERGE = {"Content-Type": "application/merge-patch+json"}
TEXT = {"type": "string"}
CONDITION = {"type": "object", "properties": dict.fromkeys(("type", "status", "reason", "message", "lastTransitionTime"), TEXT)}
SPECS = {
    "LocalQueue": {"clusterQueue": TEXT},
    "Workload": {"queueName": TEXT, "active": {"type": "boolean"}},
}


def _kind(name: str) -> Object:
    plural = f"{name.lower()}s"
    schema = {"type": "object", "properties": {
        "spec": {"type": "object", "properties": SPECS[name]},
        "status": {"type": "object", "properties": {"conditions": {"type": "array", "items": CONDITION}}},
    }}  # fmt: skip
    version = {"name": "v1beta1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.kueue.x-k8s.io"},
        "spec": {
            "group": "kueue.x-k8s.io", "scope": "Namespaced", "versions": [version],
            "names": {"kind": name, "plural": plural, "singular": name.lower(), "listKind": f"{name}List"},
        },
    }  # fmt: skip


def install(servers: Kubernetes) -> None:
    """Bring the kinds; returns when they are served."""
    with servers.client() as api:
        for name in SPECS:
            applied(api, _kind(name))
            until(lambda name=name: api.get(f"{API}/{name.lower()}s").is_success, f"{name} is served", WAIT_S)  # type: ignore[misc]


def uninstall(servers: Kubernetes) -> None:
    """Take them away; returns when they are served no more."""
    with servers.client() as api:
        for name in SPECS:
            api.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name.lower()}s.kueue.x-k8s.io")
        until(lambda: api.get(API).status_code == httpx.codes.NOT_FOUND, "Kueue is gone", WAIT_S)


def take_in(servers: Kubernetes, item: Object, message: str) -> None:
    """Make the Workload of a suspended object, which waits for quota."""
    metadata = item["metadata"]
    owner = {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "Workload",
        "metadata": {"name": f"{item['kind'].lower()}-{metadata['name']}", "namespace": metadata["namespace"], "ownerReferences": [owner]},
        "spec": {"queueName": metadata["labels"]["kueue.x-k8s.io/queue-name"], "active": True},
    }  # fmt: skip
    waits = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}
    with servers.client() as api:
        applied(api, workload)
        path = f"{API}/namespaces/{metadata['namespace']}/workloads/{workload['metadata']['name']}"  # type: ignore[index]
        api.patch(f"{path}/status", json={"status": {"conditions": [waits]}}, headers=MERGE).raise_for_status()


def admit(servers: Kubernetes, path: str) -> None:
    """Let the object at a path go."""
    with servers.client() as api:
        api.patch(path, json={"spec": {"suspend": False}}, headers=MERGE).raise_for_status()
