"""What an agent of a large Kubernetes cluster costs: `python -m tests.benchmarks.kube_inventory --nodes 5000 --pods 50000`.

A real etcd and API server hold so many nodes and pods of others, bound and with some kilobytes each. The inventory is read by a process of
its own, whose processor time and memory are told: the first lists, looks at which nothing changed, and pods of others that come and go.
Beside it one page of pods is read into the models of the client library.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.backends.kubernetes.access import Access, connect
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.inventory import KubeInventory
from tests.kube.control_plane import ADMIN, Kubernetes, binaries

MODULE = "tests.benchmarks.kube_inventory"
SPACE = "default"
PAGE = 500


def node(number: int) -> dict[str, Any]:
    """One with the labels and conditions that clouds give."""
    labels = {f"feature.node.kubernetes.io/cpu-cpuid.F{feature}": "true" for feature in range(12)}
    labels |= {
        "topology.kubernetes.io/zone": f"z{number % 3}",
        "topology.kubernetes.io/region": "r1",
        "nvidia.com/gpu.product": "NVIDIA-H200",
    }
    amounts = {"cpu": "96", "memory": "768Gi", "pods": "110", "nvidia.com/gpu": "8"}
    conditions = [{"type": kind, "status": "False", "reason": "Fine"} for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")]
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number:05}", "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": [*conditions, {"type": "Ready", "status": "True"}]},
    }  # fmt: skip


def pod(number: int, nodes: int, name: str = "") -> dict[str, Any]:
    """One of ten templates, bound to its node."""
    asked = {"cpu": f"{number % 10 * 100 + 100}m", "memory": f"{number % 10 + 1}Gi"}
    container = {
        "image": "registry.example.org/team/service:1.2.3", "resources": {"requests": asked, "limits": asked},
        "env": [{"name": f"SETTING_{setting}", "value": "some value of usual length"} for setting in range(12)],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}}, "ports": [{"containerPort": 8080}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name or f"pod-{number:06}", "namespace": SPACE, "labels": {"app": f"app-{number % 50}"}},
        "spec": {
            "nodeName": f"node-{number % nodes:05}", "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{**container, "name": "service"}, {**container, "name": "proxy"}],
        },
    }  # fmt: skip


def fill(servers: Kubernetes, nodes: int, pods: int) -> None:
    """Put all of them into etcd, as the API server keeps them, which is quicker than asking it for each."""
    made = "2026-11-01T00:00:00Z"
    items = [*(node(number) for number in range(nodes)), *(pod(number, nodes) for number in range(pods))]
    pairs = {}
    for number, item in enumerate(items):
        item["metadata"] |= {"uid": f"{number:08x}-0000-4000-8000-000000000000", "creationTimestamp": made}
        kind = f"pods/{SPACE}" if item["kind"] == "Pod" else "minions"
        pairs[f"/registry/{kind}/{item['metadata']['name']}"] = json.dumps(item).encode()
    servers.put(pairs)


def memory_mib(what: str = "VmRSS") -> float:
    """Memory of this process now, or the most that it was (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


async def measure(kubeconfig: Path, nodes: int, pods: int, churn: int) -> dict[str, float]:
    """Processor seconds and MiB of this process."""
    found: dict[str, float] = {"memory at the start, MiB": memory_mib()}
    client = KubeClient(Access(kubeconfig, namespace=SPACE))
    inventory = KubeInventory(client, lambda _pod: False)
    begun, used = time.monotonic(), time.process_time()
    await inventory.open()
    counted = await inventory.read()
    assert len(counted.nodes) == nodes
    assert sum(item.others is not None for item in counted.nodes) == min(nodes, pods)
    found |= {
        "first lists, processor s": time.process_time() - used, "first lists, wall s": time.monotonic() - begun,
        "memory after, MiB": memory_mib(), "most memory, MiB": memory_mib("VmHWM"),
    }  # fmt: skip
    used = time.process_time()
    for _ in range(20):
        assert await inventory.read() is counted
    found["a look without news, processor ms"] = (time.process_time() - used) / 20 * 1000
    found |= await _churn(client, inventory, nodes, churn)
    await inventory.close()
    found |= await _by_models(client)
    await client.close()
    return found


async def _churn(client: KubeClient, inventory: KubeInventory, nodes: int, churn: int) -> dict[str, float]:
    """Pods of others that come and go: what the watches take, and an inventory that is made anew."""
    maker = subprocess.Popen([sys.executable, "-m", MODULE, "--churn-with", str(client.access.kubeconfig), str(churn), str(nodes)])
    used = time.process_time()
    while maker.poll() is None:
        await asyncio.sleep(0.1)
    assert maker.returncode == 0
    await asyncio.sleep(1.0)
    events = 2 * churn
    found = {"a change of a pod, processor ms": (time.process_time() - used) / events * 1000}
    await asyncio.sleep(nodes / 250 + 1)
    used = time.process_time()
    await inventory.read()
    return found | {"a look with news of pods, processor ms": (time.process_time() - used) * 1000, "memory at the end, MiB": memory_mib()}


async def _by_models(client: KubeClient) -> dict[str, float]:
    """One page read into documents, and into models of the library."""
    from kubernetes.aio.client import CoreV1Api

    used = time.process_time()
    async for page in client.pages("/api/v1/pods", limit=PAGE):
        assert len(page["items"]) == PAGE
        break
    documents = time.process_time() - used
    api = await connect(client.access)
    used = time.process_time()
    await CoreV1Api(api).list_pod_for_all_namespaces(limit=PAGE)
    models = time.process_time() - used
    await api.close()
    return {"a page of 500 pods as documents, processor ms": documents * 1000, "the same as models, processor ms": models * 1000}


async def _make_churn(kubeconfig: Path, churn: int, nodes: int) -> None:
    client = KubeClient(Access(kubeconfig, namespace=SPACE))
    for number in range(churn):
        await client.create(f"/api/v1/namespaces/{SPACE}/pods", pod(number, nodes, f"churn-{number:05}"))
        await client.delete(f"/api/v1/namespaces/{SPACE}/pods/churn-{number:05}", grace_s=0)
    await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.kube_inventory", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--churn", type=int, default=500, help="pods that come and go")
    parser.add_argument("--measure-with", metavar="KUBECONFIG")
    parser.add_argument("--churn-with", nargs=3, metavar=("KUBECONFIG", "PODS", "NODES"))
    asked = parser.parse_args()
    if asked.churn_with:
        asyncio.run(_make_churn(Path(asked.churn_with[0]), int(asked.churn_with[1]), int(asked.churn_with[2])))
        return
    if asked.measure_with:
        print(json.dumps(asyncio.run(measure(Path(asked.measure_with), asked.nodes, asked.pods, asked.churn))))
        return
    programs = binaries()
    assert programs is not None, "run `make kube` first"
    with tempfile.TemporaryDirectory() as folder:
        servers = Kubernetes(Path(folder), programs)
        try:
            servers.start_store()
            begun = time.monotonic()
            fill(servers, asked.nodes, asked.pods)
            print(f"{asked.nodes} nodes and {asked.pods} pods were made in {time.monotonic() - begun:.0f} s", file=sys.stderr)
            command = [sys.executable, "-m", MODULE, "--measure-with", str(servers.kubeconfig(ADMIN))]
            command += ["--nodes", str(asked.nodes), "--pods", str(asked.pods), "--churn", str(asked.churn)]
            told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        finally:
            servers.stop()
    for name, value in told.items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
