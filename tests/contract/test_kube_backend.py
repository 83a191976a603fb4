"""The Kubernetes backend keeps the promises of every backend, on a real control plane whose kubelets are stood in for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.protocol import ClusterBackend, RunRequest
from tests.contract.backend_suite import FAIL_EXIT_CODE, LOG_TEXT, BehaviourName, GangSuite
from tests.kube.kubelet import Kubelet
from tests.kube.member import member, namespace
from tests.ray_runs import command

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

SPACE = "contract"
BEHAVIOURS: dict[BehaviourName, tuple[str, ...]] = {
    "ok": ("true",),
    "fail": ("sh", "-c", f"exit {FAIL_EXIT_CODE}"),
    "slow": ("sleep", "600"),
    "logs": ("cat", "log"),
}


class TestKubernetesBackend(GangSuite):
    timeout_s = 60.0

    @pytest.fixture(autouse=True)
    def _keep(self, kubelet: Kubelet, tmp_path: Path) -> None:
        self.kubelet, self.directory = kubelet, tmp_path / "agent"
        namespace(kubelet, SPACE)

    @pytest.fixture
    def backend(self) -> ClusterBackend:
        return member(self.kubelet, SPACE, self.directory)

    def another(self, backend: ClusterBackend) -> ClusterBackend:  # noqa: ARG002
        return member(self.kubelet, SPACE, self.directory)

    def make_run(self, run_id: str, behaviour: BehaviourName, *, workers: int = 1, node: str | None = None) -> RunRequest:
        return command(node or "node-1", *BEHAVIOURS[behaviour], workers=workers, run_id=run_id, files={"log": LOG_TEXT})


class TestWithAnotherDisk(TestKubernetesBackend):
    """The same when each agent comes with a disk of its own: all that is needed is in the cluster."""

    pytestmark = pytest.mark.slow

    def another(self, backend: ClusterBackend) -> ClusterBackend:  # noqa: ARG002
        return member(self.kubelet, SPACE, self.directory / "another")
