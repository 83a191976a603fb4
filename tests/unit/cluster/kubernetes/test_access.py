"""The way into a cluster: what is wrong with a kubeconfig is said in the words of who wrote it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.backends.kubernetes.access import Access, AccessError, connect

GOOD: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Config", "current-context": "lab",
    "clusters": [{"name": "lab", "cluster": {"server": "https://10.0.0.5:6443"}}],
    "users": [{"name": "ops", "user": {"token": "secret"}}],
    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "ops"}}, {"name": "odd", "context": {"cluster": "gone"}}],
}  # fmt: skip


def refusal(access: Access, environ: dict[str, str] | None = None) -> AccessError:
    with pytest.raises(AccessError) as caught:
        asyncio.run(connect(access, environ or {}))
    return caught.value


def written(folder: Path, document: object) -> Path:
    path = folder / "config"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_a_good_kubeconfig_leads_to_its_server_without_the_environments_proxies(tmp_path: Path) -> None:
    async def look() -> tuple[str, dict[str, str], object]:
        api = await connect(Access(written(tmp_path, GOOD)))
        try:
            return api.configuration.host, api.configuration.api_key, api.configuration.client_session_kwargs
        finally:
            await api.close()

    assert asyncio.run(look()) == ("https://10.0.0.5:6443", {"BearerToken": "Bearer secret"}, {"trust_env": False})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[1, 2", "is no YAML"),
        ("just text", "has no list of contexts"),
        ({**GOOD, "contexts": []}, "has no context 'lab'; it has none"),
        ({**GOOD, "clusters": []}, "Expected object with name lab"),
        ({**GOOD, "clusters": [{"name": "lab", "cluster": {"server": "10.0.0.5:6443"}}]}, "which is no URL"),
        ({**GOOD, "clusters": [{"name": "lab", "cluster": {}}]}, "which is no URL"),
        ({**GOOD, "clusters": [{"name": "lab", "cluster": {"server": "https://a", "certificate-authority": "/gone"}}]}, "/gone"),
        ({**GOOD, "clusters": [{"name": "lab", "cluster": {"server": "https://a", "certificate-authority-data": "AAAA"}}]}, "cannot be"),
    ],
)  # fmt: skip
def test_a_kubeconfig_that_cannot_be_used_is_said_to_be_so(tmp_path: Path, document: object, words: str) -> None:
    found = refusal(Access(written(tmp_path, document)))
    assert words in str(found)
    assert str(tmp_path) in str(found) or "/gone" in str(found)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = refusal(Access(tmp_path / "nowhere"))
    assert (found.field, str(found)) == ("kubeconfig", f"the kubeconfig {tmp_path}/nowhere cannot be read: No such file or directory")


def test_a_context_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    found = refusal(Access(written(tmp_path, GOOD), "production"))
    assert (found.field, str(found)) == ("context", f"{tmp_path}/config has no context 'production'; it has lab, odd")


def test_without_a_current_context_one_has_to_be_named(tmp_path: Path) -> None:
    found = refusal(Access(written(tmp_path, {**GOOD, "current-context": ""})))
    assert (found.field, str(found)) == ("context", f"{tmp_path}/config has no current context; name one of lab, odd")


def test_outside_a_pod_there_is_no_service_account() -> None:
    found = refusal(Access())
    assert found.field == "kubeconfig"
    assert str(found).startswith("this process runs in no pod with a service account (Service host/port is not set)")
