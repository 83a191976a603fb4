"""A real control plane on loopback: etcd, API server, controller manager and scheduler, as `make kube` puts them in the cache.

All of it are children on leashes, so nothing outlives the test run, however that ends. Users have tokens, and rights by RBAC; `admin`
may do everything. There are no nodes until a stand-in for kubelets brings some (kubelet.py).
"""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from cluster.runs.leashed import Leashed, put_on_leash
from tests.kube.certificates import write_certificates
from tests.network import free_port, until

VERSION = "1.20.2"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
MISSING = "the Kubernetes servers for tests are not here; run `make kube`, which fetches or builds them"
ADMIN = "admin"
# Users beside the admin: they have the rights that a test gives them.
USERS = ("agent", "registrar", "guest")
MOST_PUTS = 100  # of one transaction of etcd
READY_S = 90.0  # Some 7 s where nothing else is running.
GRACE_S = 2.0
# Without a kubelet's controllers: no lease makes a node of the stand-in fail, and no service account has a secret.
CONTROLLERS = "job,garbagecollector,namespace,podgc"
# With the controller that gives up nodes from which nothing is heard, in seconds instead of minutes.
SILENT_S = 10
OF_NODES = (f"--controllers={CONTROLLERS},nodelifecycle", "--node-monitor-period=1s", f"--node-monitor-grace-period={SILENT_S}s")
SOON_GIVEN_UP = ("--default-unreachable-toleration-seconds=1", "--default-not-ready-toleration-seconds=1")


def binaries() -> Path | None:
    """Where the servers lie, None when `make kube` has not been run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "cpn" / f"kube-{VERSION}" / "bin"
    return folder if all(os.access(folder / name, os.X_OK) for name in PROGRAMS) else None


class Kubernetes:
    """The servers' processes, and an administrator's way in."""

    def __init__(self, directory: Path, programs: Path, *, loses_nodes: bool = False) -> None:
        self.directory, self._programs, self._loses_nodes = directory, programs, loses_nodes
        self._children: dict[str, Leashed] = {}
        self._etcd, self._peers, self._port = (free_port() for _ in range(3))
        self.url = f"https://127.0.0.1:{self._port}"
        self.ca_file = directory / "ca.crt"

    def start(self) -> None:
        """Start all servers; returns when Jobs are made into pods and pods are bound to nodes."""
        self.start_store()
        config = f"--kubeconfig={self.directory}/{ADMIN}.kubeconfig"
        loose = (config, "--leader-elect=false", "--port=0", "--secure-port=0", "--kube-api-qps=5000", "--kube-api-burst=5000")
        accounts = (f"--service-account-private-key-file={self.directory}/accounts.key", f"--root-ca-file={self.ca_file}")
        controllers = OF_NODES if self._loses_nodes else (f"--controllers={CONTROLLERS}",)
        self._spawn("kube-controller-manager", *loose, *accounts, "--use-service-account-credentials=true", *controllers)
        self._spawn("kube-scheduler", *loose)

    def start_store(self) -> None:
        """Start etcd and the API server alone, with which nothing happens by itself."""
        write_certificates(self.directory)
        users = [f"{token_of(user)},{user},{user}" for user in USERS]
        tokens = self.directory / "tokens.csv"
        tokens.write_text("\n".join([f'{token_of(ADMIN)},{ADMIN},{ADMIN},"system:masters"', *users]) + "\n")
        self.kubeconfig(ADMIN)
        self._start_etcd()
        self.start_api_server()

    def start_api_server(self) -> None:
        """Start the API server, anew or for the first time, and wait until it is ready."""
        at = self.directory
        self._spawn(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self._etcd}", "--bind-address=127.0.0.1", f"--secure-port={self._port}",
            f"--tls-cert-file={at}/server.crt", f"--tls-private-key-file={at}/server.key", f"--token-auth-file={at}/tokens.csv",
            f"--service-account-key-file={at}/accounts.pub", f"--service-account-signing-key-file={at}/accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--endpoint-reconciler-type=none", "--kubelet-preferred-address-types=InternalIP",
            *(SOON_GIVEN_UP if self._loses_nodes else ()),
        )  # fmt: skip
        until(lambda: self._answers(f"{self.url}/readyz", "kube-apiserver"), "the API server is ready", READY_S)

    def stop_api_server(self) -> None:
        """End the API server at once; what it serves stays in etcd."""
        self._stop("kube-apiserver")

    def compact(self) -> None:
        """Have etcd forget all versions but the newest, as the API server does every five minutes."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self._etcd}/v3", trust_env=False) as etcd:
            revision = etcd.post("/maintenance/status", json={}).raise_for_status().json()["header"]["revision"]
            etcd.post("/kv/compaction", json={"revision": revision}).raise_for_status()

    def put(self, pairs: Mapping[str, bytes]) -> None:
        """Write keys of etcd, past the API server."""
        found = list(pairs.items())
        with httpx.Client(base_url=f"http://127.0.0.1:{self._etcd}/v3", trust_env=False, timeout=60) as etcd:
            for begin in range(0, len(found), MOST_PUTS):
                puts = [
                    {"requestPut": {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()}}
                    for key, value in found[begin : begin + MOST_PUTS]
                ]
                etcd.post("/kv/txn", json={"success": puts}).raise_for_status()

    def stop(self) -> None:
        """End all servers."""
        for name in reversed(tuple(self._children)):
            self._stop(name)

    def client(self, user: str = ADMIN) -> httpx.Client:
        """A client of the API with a user's token."""
        return httpx.Client(
            base_url=self.url, verify=self.tls(), headers={"Authorization": f"Bearer {token_of(user)}"}, timeout=30, trust_env=False
        )

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make objects as the administrator, or leave those that exist."""
        with self.client() as client:
            for item in objects:
                answer = client.post(path_of(item), json=item)
                assert answer.status_code in (201, 409), answer.text

    def tls(self) -> ssl.SSLContext:
        """Trust in this server alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def kubeconfig(self, user: str, token: str = "") -> Path:
        """A kubeconfig with the context `tests` for a user, or for whoever has this token."""
        path = self.directory / f"{user}.kubeconfig"
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": user, "user": {"token": token or token_of(user)}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(document))
        return path

    def log(self, name: str) -> str:
        """The last that a server wrote."""
        with contextlib.suppress(OSError):
            return (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]
        return "(it wrote no log)"

    def _start_etcd(self) -> None:
        here, peers = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peers}"
        self._spawn(
            "etcd", "--data-dir", str(self.directory / "etcd"), "--listen-client-urls", here, "--advertise-client-urls", here,
            "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
            "--unsafe-no-fsync", "--log-level", "error",
        )  # fmt: skip
        until(lambda: self._answers(f"{here}/health", "etcd"), "etcd is ready", READY_S)

    def _spawn(self, name: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            command = [str(self._programs / name), *arguments]
            self._children[name] = put_on_leash(command, env={"HOME": str(self.directory)}, cwd=self.directory, output=log)

    def _stop(self, name: str) -> None:
        child = self._children.pop(name)
        # Nothing of what they hold is wanted, and the API server waits a minute for those who watch.
        child.stop(0.0)
        child.process.wait(GRACE_S + 10)
        child.close()

    def _answers(self, url: str, name: str) -> bool:
        assert self._children[name].process.poll() is None, f"{name} ended: {self.log(name)}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, verify=self.tls(), headers=_bearer(ADMIN), trust_env=False).is_success
        return False


def token_of(user: str) -> str:
    """The token of a user."""
    return f"token-of-{user}"


def _bearer(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(user)}"}


def path_of(item: dict[str, Any]) -> str:
    """Where objects of this kind are made."""
    version, kind = item["apiVersion"], item["kind"].lower()
    base = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    namespace = item["metadata"].get("namespace")
    return f"{base}/namespaces/{namespace}/{kind}s" if namespace else f"{base}/{kind}es" if kind.endswith("ss") else f"{base}/{kind}s"


@contextmanager
def running_kubernetes(directory: Path, *, loses_nodes: bool = False) -> Iterator[Kubernetes]:
    """A control plane that ends with the context. `loses_nodes`: nodes have to report themselves, as to any other."""
    programs = binaries()
    assert programs is not None, MISSING
    servers = Kubernetes(directory, programs, loses_nodes=loses_nodes)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
