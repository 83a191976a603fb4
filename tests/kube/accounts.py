"""Service accounts as pods have them: tokens that the API server signs, and what they open."""

from __future__ import annotations

from typing import Any

import httpx

from tests.kube.control_plane import Kubernetes

Rule = tuple[str, str, str]  # API group, resource, verb


def account_token(api: httpx.Client, namespace: str, name: str) -> str:
    """A token of a service account, for an hour."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    answer = api.post(path, json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}})
    assert answer.is_success, answer.text
    return str(answer.json()["status"]["token"])


def as_account(servers: Kubernetes, token: str) -> httpx.Client:
    """A client of the API with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=servers.url, verify=servers.tls(), headers=headers, timeout=30, trust_env=False)


def rules_of(account: httpx.Client, namespace: str) -> set[Rule]:
    """All that an account may do in a namespace, as the API server counts it up; `*` where that is everything."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    answer = account.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json=review)
    assert answer.is_success, answer.text
    status: dict[str, Any] = answer.json()["status"]
    assert not status["incomplete"]
    return {
        (group, resource, verb)
        for rule in status["resourceRules"] for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip
