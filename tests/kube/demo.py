"""`cpn demo` with a Kubernetes cluster as its third member: a real control plane, and a stand-in for the kubelets of two nodes.

make kube                # once
make demo DEMO_KUBE=1
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.kube.control_plane import ADMIN, MISSING, binaries, running_kubernetes
from tests.kube.kubelet import running_kubelet

SPACE, IMAGE = "cpn", "local/cpn"
USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Run the demo with these arguments besides; its exit status."""
    if binaries() is None:
        print(f"error: {MISSING}", file=sys.stderr)
        return USAGE
    with tempfile.TemporaryDirectory(prefix="cpn-kube-") as place:
        folder = Path(place)
        with running_kubernetes(folder) as servers, running_kubelet(servers, folder / "pods"):
            servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
            print(
                f"a real control plane of Kubernetes answers at {servers.url}; its nodes are a stand-in that runs pods as processes",
                flush=True,
            )
            told = ["--kubeconfig", str(servers.kubeconfig(ADMIN)), "--namespace", SPACE, "--image", IMAGE]
            return subprocess.run([sys.executable, "-m", "controlplane.cli.main", "demo", *told, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
