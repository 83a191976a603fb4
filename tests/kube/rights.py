"""The rights of an agent on a control plane for tests, as documents that RBAC knows, all or some of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from cluster.backends.kubernetes.rights import RIGHTS, Right
from tests.kube.control_plane import Kubernetes
from tests.kube.kubelet import MERGE

GROUP = "rbac.authorization.k8s.io"


def grant(servers: Kubernetes, user: str, namespace: str, rights: tuple[Right, ...] = RIGHTS) -> None:
    """Give a user exactly these rights, in the namespace and everywhere."""
    roles = [_role("Role", user, namespace, rights), _role("ClusterRole", user, None, rights)]
    servers.apply(*roles, *(_binding(role, user) for role in roles))
    with servers.client() as admin:
        for role in roles:
            path = _path(role)
            admin.patch(path, json={"rules": role["rules"]}, headers=MERGE).raise_for_status()


def without(resource: str, *verbs: str) -> tuple[Right, ...]:
    """All rights but these verbs on a resource."""
    return tuple(
        dataclasses.replace(right, verbs=tuple(verb for verb in right.verbs if verb not in verbs))
        if right.resource == resource else right for right in RIGHTS
    )  # fmt: skip


def _role(kind: str, user: str, namespace: str | None, rights: tuple[Right, ...]) -> dict[str, Any]:
    rules = [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs), "resourceNames": list(right.names)}
        for right in rights if right.everywhere is (namespace is None) and right.verbs
    ]  # fmt: skip
    place = {} if namespace is None else {"namespace": namespace}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": f"cpn-{user}", **place}, "rules": rules}


def _binding(role: dict[str, Any], user: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1", "kind": f"{role['kind']}Binding", "metadata": role["metadata"],
        "roleRef": {"apiGroup": GROUP, "kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
    }  # fmt: skip


def _path(role: dict[str, Any]) -> str:
    place = f"namespaces/{role['metadata']['namespace']}/" if "namespace" in role["metadata"] else ""
    return f"/apis/{GROUP}/v1/{place}{role['kind'].lower()}s/{role['metadata']['name']}"
