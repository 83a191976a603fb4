"""`cpn agent`: the process beside a cluster, and what it looks at before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controlplane.cli.failures import CommandError, as_command_error, usage
from controlplane.cli.kube_options import DataClaims, Image, Kubeconfig, KubeContext, LocalQueue, Namespace, Tolerate, kubernetes_part
from controlplane.cli.options import Output
from controlplane.cli.output import grid, say, show
from controlplane.cli.session import Asked, access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.checks import Check
    from cluster.model import BackendName, Endpoint
    from controlplane.agent_client import AgentClient
    from controlplane.doctor import Diagnosis


def agent(
    context: typer.Context,
    cluster: Annotated[str | None, typer.Argument(metavar="CLUSTER", help="The cluster that it speaks for; --join knows it.")] = None,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="The address of the cluster's head.")] = "",
    dashboard: Annotated[
        str, typer.Option(metavar="URL", help="The cluster's dashboard; its Job API is used where actors cannot be.")
    ] = "",
    driver: Annotated[
        Literal["auto", "actors", "job-api"], typer.Option(help="How it drives the cluster; the Job API runs single commands only.")
    ] = "auto",
    join: Annotated[
        str | None, typer.Option(metavar="TOKEN", envvar="CPN_JOIN_TOKEN", help="Join with a token of `cpn cluster token`, used once.")
    ] = None,
    backend: Annotated[Literal["ray", "kubernetes"], typer.Option(help="What runs there.")] = "ray",
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: Namespace = None,
    image: Image = None,
    tolerate: Tolerate = None,
    local_queue: LocalQueue = None,
    data_claim: DataClaims = None,
    ray_token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The cluster's own token.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it keeps journals and results until they are delivered.")
    ] = None,
    doctor: Annotated[bool, typer.Option("--doctor", help="Only look whether the agent could run here; exit 1 if not.")] = False,
    output: Output = "table",
) -> None:
    """Run a cluster's agent in the foreground.

    It runs on a machine of a Ray cluster, or where a Kubernetes cluster can be reached, like in a pod of it. It needs a join token
    (--join), or one of the role agent (CPN_TOKEN, or `cpn --token …`).
    """
    asked = context.ensure_object(Asked)
    if not cluster and not join:
        raise usage("an agent speaks for one cluster", "name it, or give --join TOKEN")
    if backend == "kubernetes":
        part = kubernetes_part(kubeconfig, kube_context, namespace, image, tolerate, local_queue, data_claim)
        endpoint = _kubernetes(part, address or dashboard)
    else:
        endpoint = _endpoint(address, dashboard, driver, ray_token_file)
    if doctor:
        _diagnose(asked, cluster, join, backend, endpoint, data_dir, output)
    server, token, name, folder = _member(asked, cluster, join, data_dir)
    from controlplane.agent_process import main as run

    status = run(
        cluster=name, server=server, token=token, backend=backend, endpoint=endpoint, data_dir=folder,
    )  # fmt: skip
    raise typer.Exit(status)


def _endpoint(address: str, dashboard: str, driver: str, token_file: Path | None) -> Endpoint:
    from cluster.model import Endpoint
    from controlplane.cli.documents import validated

    if not address and (driver == "actors" or not dashboard):
        raise usage("an agent needs to know its cluster", "give --address HOST:PORT of its head, or --dashboard URL for its Job API alone")
    given = {"address": address, "dashboard": dashboard, "driver": driver, "token_file": str(token_file or "")}
    return validated(Endpoint, given, "the endpoint")


def _kubernetes(given: dict[str, Any], head: str) -> Endpoint:
    from cluster.model import Endpoint
    from controlplane.cli.documents import validated

    if head:
        raise usage("a Kubernetes cluster has no head or dashboard", "leave out --address and --dashboard, or give --backend ray")
    return validated(Endpoint, {"kubernetes": given}, "the endpoint")


def _agents_dir() -> Path:
    import os

    from controlplane.settings import default_data_dir

    return (default_data_dir(dict(os.environ)) / "agents").absolute()


def _client(server: str, token: str) -> AgentClient:
    from controlplane.agent_client import AgentClient
    from controlplane.cli import session

    return AgentClient(server, token, transport=session.transport, answer_s=15.0)


def _member(asked: Asked, cluster: str | None, join_token: str | None, data_dir: Path | None) -> tuple[str, str, str, Path]:
    """Server, token, cluster and directory of the agent that is to run."""
    found = access(asked)
    if not join_token:
        assert cluster is not None
        if not found.token:
            remedy = f"make one with `cpn cluster token {cluster}` and give it by --join, or put an agent's token in CPN_TOKEN"
            raise usage("an agent needs a token", remedy)
        return found.server, found.token, cluster, (data_dir or _agents_dir() / cluster).absolute()
    from controlplane.errors import ClientError
    from controlplane.joining import join

    try:
        member = join(
            join_token, cluster, data_dir.absolute() if data_dir else None, _agents_dir(), lambda token: _client(found.server, token)
        )
    except ClientError as error:
        raise as_command_error(error) from error
    except OSError as error:
        raise CommandError(
            f"the agent's token cannot be kept in {error.filename}: {error.strerror}", hint="choose another --data-dir"
        ) from error
    return found.server, member.token, member.cluster, member.directory


def _diagnose(
    asked: Asked, cluster: str | None, join: str | None, backend: BackendName, endpoint: Endpoint, data_dir: Path | None, output: Output
) -> None:
    from controlplane.doctor import AgentPlan, diagnose

    found = access(asked)
    plan = AgentPlan(
        cluster=cluster, token=found.token, join_token=join or "", backend=backend, endpoint=endpoint,
        directory=data_dir.absolute() if data_dir else None, agents=_agents_dir(),
    )  # fmt: skip
    report = diagnose(plan, lambda token: _client(found.server, token))
    show(report, output, _table)
    raise typer.Exit(0 if report.ok else 1)


def _table(report: Diagnosis) -> None:
    check_table(report.checks)


def check_table(checks: Sequence[Check]) -> None:
    """What was looked at, and under it what to do about what failed."""
    grid(["CHECK", "STATE", "FOUND"], [(check.name, check.state, check.found) for check in checks])
    for check in checks:
        if check.remedy:
            say(f"{check.name}: {check.remedy}")
