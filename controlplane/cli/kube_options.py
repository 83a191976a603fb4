"""Options by which commands reach a Kubernetes cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Kubeconfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Kubernetes: the kubeconfig. [default: the service account around]", show_default=False)
]
KubeContext = Annotated[
    str | None,
    typer.Option("--context", metavar="NAME", help="Kubernetes: the context. [default: the kubeconfig's current one]", show_default=False),
]
Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="Kubernetes: the namespace of the runs. [default: cpn]", show_default=False)
]
Image = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", help="Kubernetes: what the runs' pods are made from. [default: cpn:VERSION]", show_default=False),
]
Tolerate = Annotated[
    list[str] | None, typer.Option(metavar="TAINT", help="Kubernetes: a taint that runs put up with, like dedicated=cpn; repeatable.")
]
LocalQueue = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Kubernetes: the LocalQueue of Kueue in which runs wait. [default: none]", show_default=False),
]

DataClaims = Annotated[
    list[str] | None,
    typer.Option(
        "--data-claim",
        metavar="NAME=PATH",
        help="Kubernetes: a PersistentVolumeClaim with replicas, and what stands for it in their file:// URIs; repeatable.",
    ),
]


def kubernetes_part(
    kubeconfig: Path | None, context: str | None, namespace: str | None, image: str | None, tolerate: list[str] | None,
    local_queue: str | None = None, data_claims: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`endpoint.kubernetes` as far as options say it. A kubeconfig's path is made whole: its reader stands elsewhere."""
    given = {
        "kubeconfig": str(kubeconfig.expanduser().absolute()) if kubeconfig else None, "context": context, "namespace": namespace,
        "image": image, "tolerations": tolerate or None, "local_queue": local_queue, "data_claims": data_claims or None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}
