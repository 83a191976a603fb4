"""`cpn cluster start-local` and `cpn cluster doctor`: what is done on a machine of the cluster itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlplane.cli.failures import CommandError, usage
from controlplane.cli.kube_options import Kubeconfig, KubeContext, Namespace, kubernetes_part
from controlplane.cli.options import ClusterName, Output
from controlplane.cli.output import grid, say, show
from controlplane.cli.session import Access, Asked, access, connect

if TYPE_CHECKING:
    from controlplane.network import Member
    from controlplane.orphans import OrphanReport


LocalDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Where it keeps its token, logs and journals.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands into the group of clusters."""
    app.command("start-local")(start_local)
    app.command("stop-local")(stop_local)
    app.command("doctor")(doctor)


def start_local(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CLUSTER", help="The name to give it.")],
    cpus: Annotated[float | None, typer.Option(min=0.01, metavar="N", help="Cores that it may use. [default: all]")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory, like 8GiB. [default: four fifths of it]")] = None,
    labels: Annotated[str, typer.Option(metavar="KEY=VALUE,…", help="Labels of the cluster and of its node.")] = "",
    jurisdiction: Annotated[str, typer.Option(help="Where this machine stands, like CN-SH; ZZ is nowhere in particular.")] = "ZZ",
    data_dir: LocalDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is healthy; `cpn cluster stop-local` ends it.")] = False,
) -> None:
    """Start a Ray on this machine and be its member's agent, until Ctrl-C stops both.

    The Ray asks for a token. The cluster is registered, free of charge, where the name is new.
    """
    member, directory = _member(name, cpus, memory, labels, jurisdiction), _directory(name, data_dir)
    if detach:
        options = {"--cpus": cpus, "--memory": memory, "--labels": labels, "--jurisdiction": jurisdiction, "--data-dir": directory}
        return _detach(access(context.ensure_object(Asked)), name, directory, [f"{key}={value}" for key, value in options.items() if value])
    from controlplane.local_cluster import start_local as run

    with connect(context) as client:
        raise typer.Exit(run(member, directory, client, say=say))


def _detach(found: Access, name: str, directory: Path, options: list[str]) -> None:
    import os

    from controlplane.detached import local_command, start_detached
    from controlplane.network import NetworkError

    environ = {**os.environ, "CPN_SERVER": found.server, "CPN_TOKEN": found.token}
    try:
        pid = start_detached(local_command(["cluster", "start-local", name, *options]), directory, environ)
    except NetworkError as error:
        raise CommandError(str(error)) from error
    say(f"{name} is healthy (process {pid}); `cpn cluster stop-local {name}` ends it")


def stop_local(
    name: Annotated[str, typer.Argument(metavar="CLUSTER", help="The cluster's name.")], data_dir: LocalDir = None
) -> None:  # fmt: skip
    """Stop a cluster of this machine that `cpn cluster start-local` runs, detached or in another terminal."""
    from controlplane.detached import stop_running
    from controlplane.network import NetworkError

    try:
        stop_running(name, _directory(name, data_dir))
    except NetworkError as error:
        raise CommandError(str(error), hint="give the --data-dir that it was started with") from error
    say(f"stopped; {name} stays registered: `cpn cluster start-local {name}` starts it again, `cpn cluster remove {name}` forgets it")


def _directory(name: str, data_dir: Path | None) -> Path:
    import os

    from controlplane.settings import default_data_dir

    return (data_dir or default_data_dir(dict(os.environ)) / "local" / name).absolute()


def doctor(
    context: typer.Context,
    name: ClusterName,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="The address of a Ray cluster's head, from a machine of it.")] = "",
    ray_token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The cluster's own token.")] = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: Namespace = None,
    fix: Annotated[bool, typer.Option("--fix", help="Also remove what is listed.")] = False,
    output: Output = "table",
) -> None:
    """List what runs that are over have left on a cluster: actors, placement groups, processes, directories; objects of Kubernetes.

    Only what bears the name of a run of cpn is looked at. Exit status 1 when something is left.
    """
    from cluster.errors import ClusterError
    from cluster.model import KubernetesEndpoint
    from controlplane.cli.documents import validated
    from controlplane.orphans import find_orphans, in_kubernetes

    kube = validated(KubernetesEndpoint, kubernetes_part(kubeconfig, kube_context, namespace, None, None), "the endpoint")
    with connect(context) as client:
        look, hint = None, "give the address and the token file of this cluster's head, on one of its machines"
        if client.cluster(name).backend == "kubernetes":
            look, hint = in_kubernetes(kube, name), "give a kubeconfig, a context and the namespace of this cluster's runs"
        elif not address:
            raise usage("a Ray cluster is looked at through its head", "give --address HOST:PORT")
        try:
            report = find_orphans(client, name, address, ray_token_file, fix=fix, look=look)
        except ClusterError as error:
            raise CommandError(str(error), hint=hint) from error
    show(report, output, _orphan_table)
    raise typer.Exit(0 if report.clean else 1)


def _orphan_table(report: OrphanReport) -> None:
    gone = set(report.removed)
    rows = [(item.kind, item.run_id, item.name, item.node[:12], "removed" if item in gone else "left") for item in report.orphans]
    grid(["KIND", "RUN", "NAME", "NODE", "STATE"], rows, none=f"nothing is left of runs that are over on {report.cluster}")
    for name in report.silent:
        say(f"{name} did not answer: what is there is not known")
    if rows and not report.clean:
        say("`--fix` removes what is left")


def _member(name: str, cpus: float | None, memory: str | None, labels: str, jurisdiction: str) -> Member:
    from cluster.model import ClusterSpec
    from controlplane.cli.documents import validated
    from controlplane.machine import this_machine
    from controlplane.network import Member
    from workloads.resources import parse_memory

    machine, own = this_machine(), _labels(labels)
    free = {"cpu_hour": "0.00 CNY", "memory_gib_hour": "0.00 CNY", "transfer_gib": "0.00 CNY"}
    document = {"name": name, "backend": "ray", "jurisdiction": jurisdiction, "labels": own, "prices": free}
    spec = validated(ClusterSpec, document, "the cluster")
    try:
        memory_bytes = machine.memory_bytes if memory is None else parse_memory(memory)
    except ValueError as error:
        raise usage(f"--memory {memory!r}: {error}") from error
    return Member(spec, cpus or machine.cpus, memory_bytes, machine.gpus, machine.accelerator_model, {**machine.labels, **own})


def _labels(text: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise usage(f"--labels: {part!r} is not KEY=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs
