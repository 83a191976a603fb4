"""A Kubernetes cluster as a third member of the demo: the jobs that ran on Ray run there, and give the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from controlplane.demo.scene import Scene, check
from controlplane.demo.steps import SCRIPT_JOB, SQL_JOB, check_rows, keep

LAB = "lab-kubernetes"
PRICES = ("--cpu-price", "0.30 CNY", "--memory-price", "0.03 CNY", "--transfer-price", "0.60 CNY")


@dataclass(frozen=True)
class KubeAccess:
    """How the cluster is reached, and the image that its pods have; empty: as registration takes it."""

    kubeconfig: Path
    context: str = ""
    namespace: str = ""
    image: str = ""


def join(scene: Scene, access: KubeAccess) -> None:
    """Register it, and run the query and the script of before on it."""
    ways = {"--context": access.context, "--namespace": access.namespace, "--image": access.image}
    told = [part for option, value in ways.items() if value for part in (option, value)]
    scene.cpn(
        "cluster", "register", LAB, "--backend", "kubernetes", "--jurisdiction", "CN-SH", "--mode", "push", *PRICES, "--kubeconfig",
        str(access.kubeconfig), *told, role="operator",
    )  # fmt: skip
    scene.network.wait_healthy(LAB)
    scene.cpn("node", "list", "--cluster", LAB, role="operator")
    there = ("--set", f"placement.clusters=[{LAB}]")
    scene.cpn("job", "submit", "-f", SQL_JOB, *there, "--wait")
    job = keep(scene)
    check(job.cluster == LAB, f"the query ran at {LAB}")
    check_rows(scene, job)
    scene.cpn("job", "submit", "-f", SCRIPT_JOB, *there, "--wait")
    script = keep(scene)
    check(script.cluster == LAB, f"the script ran at {LAB}")
    before = next(item for item in scene.jobs if item.name == script.name)
    check(_files(scene, script.id) == _files(scene, before.id), f"its result has the bytes of that from {before.cluster}")
    scene.cpn("job", "show", script.id)
    with scene.client() as client:
        (run,) = client.job(script.id).runs
    check(run.remote.startswith(f"{access.namespace or 'cpn'}/"), "it says what its objects are called there")


def _files(scene: Scene, job_id: str) -> list[tuple[str, str]]:
    """Names and checksums of a result."""
    with scene.client() as client:
        return [(file.name, file.sha256) for file in client.result(job_id).files]
