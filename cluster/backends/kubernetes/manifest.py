"""What `kubectl apply -f -` takes to run an agent in the cluster that it is for: its rights, its join token, its disk and itself.

The objects are those of the chart deploy/helm/cpn-agent, and a test compares them. Rights are what the backend needs (rights.py): in the
namespace of the agent and its runs, and of the whole cluster only what says how much room there is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cluster.backends.kubernetes.rights import RIGHTS

Object = dict[str, Any]
NAME = "cpn-agent"
SECRET, KEY = f"{NAME}-join", "token"
DIRECTORY = "/var/lib/cpn-agent"
USER = 10001
# Where API servers listen, behind the address that pods call.
API_PORTS = (443, 6443)
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
# Signs of life are written every few seconds (controlplane/agent_signs.py); none for a minute is one too few.
SIGN = 'test -n "$(find {directory}/{name} -mmin -1)"'


@dataclass(frozen=True)
class AgentManifest:
    """What is wanted. `join_token` None: the Secret is there already. Without `storage` the agent's disk goes with its pod."""

    cluster: str
    server: str
    image: str
    namespace: str = "cpn"
    join_token: str | None = None
    storage: str | None = "1Gi"
    network_policy: bool = False
    local_queue: str = ""
    data_claims: tuple[str, ...] = ()

    def objects(self) -> list[Object]:
        """The objects, those first that others name."""
        found = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": RESTRICTED}},
            {**self._head("v1", "ServiceAccount"), "automountServiceAccountToken": False},
            *self._rights(),
        ]
        if self.join_token is not None:
            found.append({**self._head("v1", "Secret", SECRET), "type": "Opaque", "stringData": {KEY: self.join_token}})
        if self.storage:
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": self.storage}}}
            found.append({**self._head("v1", "PersistentVolumeClaim"), "spec": spec})
        found.append(self._deployment())
        if self.network_policy:
            found.append(self._network_policy())
        return found

    @property
    def _labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": self.cluster}

    def _head(self, version: str, kind: str, name: str = NAME, *, everywhere: bool = False) -> Object:
        place = {} if everywhere else {"namespace": self.namespace}
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **place, "labels": self._labels}}

    def _rights(self) -> list[Object]:
        group, wide = "rbac.authorization.k8s.io", f"{NAME}-{self.namespace}"
        agent = [{"kind": "ServiceAccount", "name": NAME, "namespace": self.namespace}]
        return [
            {**self._head(f"{group}/v1", "Role"), "rules": _rules(everywhere=False)},
            {
                **self._head(f"{group}/v1", "RoleBinding"),
                "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME}, "subjects": agent,
            },
            # Another namespace of the cluster may have an agent too.
            {**self._head(f"{group}/v1", "ClusterRole", wide, everywhere=True), "rules": _rules(everywhere=True)},
            {
                **self._head(f"{group}/v1", "ClusterRoleBinding", wide, everywhere=True),
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": wide}, "subjects": agent,
            },
        ]  # fmt: skip

    def _deployment(self) -> Object:
        metadata: Object = {"labels": self._labels}
        if self.join_token is not None:
            # Another token starts the agent anew, which uses it while it is valid.
            metadata["annotations"] = {"checksum/join-token": hashlib.sha256(self.join_token.encode()).hexdigest()[:16]}
        return {
            **self._head("apps/v1", "Deployment"),
            "spec": {
                "replicas": 1,
                # One agent speaks for a cluster, and its disk is in one place.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": self._labels},
                "template": {"metadata": metadata, "spec": self._pod()},
            },
        }

    def _pod(self) -> Object:
        disk = {"persistentVolumeClaim": {"claimName": NAME}} if self.storage else {"emptyDir": {}}
        return {
            "serviceAccountName": NAME,
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container()],
            "volumes": [{"name": "data", **disk}, {"name": "scratch", "emptyDir": {}}],
        }  # fmt: skip

    def _container(self) -> Object:
        return {
            "name": "agent",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": [
                "agent", self.cluster, "--backend", "kubernetes", "--namespace", self.namespace, "--image", self.image,
                "--data-dir", DIRECTORY, *(["--local-queue", self.local_queue] if self.local_queue else []),
                *(word for claim in self.data_claims for word in ("--data-claim", claim)),
            ],
            "env": [
                {"name": "CPN_SERVER", "value": self.server},
                {"name": "CPN_JOIN_TOKEN", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": KEY}}},
            ],
            "startupProbe": {**_sign("alive"), "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 60},
            "livenessProbe": {**_sign("alive"), "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6},
            "readinessProbe": {**_sign("answered"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 2},
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": "data", "mountPath": DIRECTORY}, {"name": "scratch", "mountPath": "/tmp"}],
        }  # fmt: skip

    def _network_policy(self) -> Object:
        ports = sorted({*API_PORTS, port_of(self.server)})
        return {
            **self._head("networking.k8s.io/v1", "NetworkPolicy"),
            "spec": {
                "podSelector": {"matchLabels": self._labels},
                "policyTypes": ["Ingress", "Egress"],
                # Nobody calls an agent; it calls name servers, the API server and the control plane.
                "egress": [
                    {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                    {"ports": [{"protocol": "TCP", "port": port} for port in ports]},
                ],
            },
        }


def _rules(*, everywhere: bool) -> list[Object]:
    return [
        {
            "apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs),
            **({"resourceNames": list(right.names)} if right.names else {}),
        }
        for right in RIGHTS if right.everywhere == everywhere
    ]  # fmt: skip


def port_of(server: str) -> int:
    """The port that a server's URL means. Raises ValueError for a port that is none."""
    parts = urlsplit(server)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _sign(name: str) -> Object:
    return {"exec": {"command": ["sh", "-c", SIGN.format(directory=DIRECTORY, name=name)]}}
