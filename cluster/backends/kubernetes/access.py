"""Which Kubernetes cluster, as whom: a context of a kubeconfig, or the service account of the pod that this process runs in."""

from __future__ import annotations

import asyncio
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_CERT_FILENAME, SERVICE_TOKEN_FILENAME, InClusterConfigLoader

from cluster.errors import AuthenticationError

DEFAULT_NAMESPACE = "cpn"
# The log of each worker that runs is followed on a line of its own.
CONNECTIONS = 4000


@dataclass(frozen=True)
class Access:
    """Without a kubeconfig it is the cluster that this process runs in. `context` empty: the kubeconfig's current one."""

    kubeconfig: Path | None = None
    context: str = ""
    namespace: str = DEFAULT_NAMESPACE

    def __str__(self) -> str:
        if self.kubeconfig is None:
            return "the cluster around this pod"
        return f"the context {self.context!r} of {self.kubeconfig}" if self.context else f"the current context of {self.kubeconfig}"


class AccessError(AuthenticationError):
    """The way into the cluster is not as described; `field` names what has to be corrected."""

    def __init__(self, message: str, field: Literal["kubeconfig", "context"]) -> None:
        super().__init__(message)
        self.field = field


async def connect(access: Access, environ: Mapping[str, str] = os.environ) -> ApiClient:
    """A client of the API, which asks nothing yet. The environment's proxies are not used: the credentials are for the named server alone.

    Raises AccessError where the kubeconfig, the context or the service account cannot be used.
    """
    configuration = Configuration(client_session_kwargs={"trust_env": False}, connection_pool_maxsize=CONNECTIONS)
    if access.kubeconfig is None:
        _load_service_account(configuration, environ)
    else:
        await _load_kubeconfig(access, access.kubeconfig, configuration)
    try:
        return ApiClient(configuration)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise AccessError(f"the certificates of {access} cannot be used: {error}", "kubeconfig") from error


def _load_service_account(configuration: Configuration, environ: Mapping[str, str]) -> None:
    """The pod's own account; its token is read anew every minute, for Kubernetes renews it."""
    try:
        InClusterConfigLoader(SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME, environ=environ).load_and_set(configuration)
    except (ConfigException, OSError) as error:
        message = f"this process runs in no pod with a service account ({str(error).rstrip('.')}); name a kubeconfig"
        raise AccessError(message, "kubeconfig") from error


async def _load_kubeconfig(access: Access, path: Path, configuration: Configuration) -> None:
    _check_contexts(access, await asyncio.to_thread(_read, path))
    try:
        await load_kube_config(str(path), access.context or None, configuration, persist_config=False)
    except (ConfigException, OSError, LookupError, TypeError, AttributeError, ValueError, binascii.Error, yaml.YAMLError) as error:
        raise AccessError(f"{access} cannot be used: {error}", "kubeconfig") from error
    if not configuration.host.startswith(("https://", "http://")):
        raise AccessError(f"the server of {access} is {configuration.host!r}, which is no URL", "kubeconfig")


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AccessError(f"the kubeconfig {path} cannot be read: {error.strerror}", "kubeconfig") from error
    except (UnicodeError, yaml.YAMLError) as error:
        raise AccessError(f"the kubeconfig {path} is no YAML", "kubeconfig") from error


def _check_contexts(access: Access, document: object) -> None:
    """Say what is wrong in the words of who wrote the file; the client's own are about its parts."""
    items = document.get("contexts") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(items, list):
        raise AccessError(f"{access.kubeconfig} is no kubeconfig: it has no list of contexts", "kubeconfig")
    names = [str(item.get("name")) for item in items if isinstance(item, dict)]
    wanted = access.context or document.get("current-context")
    if not wanted:
        raise AccessError(f"{access.kubeconfig} has no current context; name one of {', '.join(names) or '(it has none)'}", "context")
    if wanted not in names:
        raise AccessError(f"{access.kubeconfig} has no context {wanted!r}; it has {', '.join(names) or 'none'}", "context")
