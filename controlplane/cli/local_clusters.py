"""`cpn cluster start-local`: a cluster on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlplane.cli.failures import usage
from controlplane.cli.output import say
from controlplane.cli.session import connect

if TYPE_CHECKING:
    from controlplane.network import Member


def add_to(app: typer.Typer) -> None:
    """Put these commands into the group of clusters."""
    app.command("start-local")(start_local)


def start_local(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CLUSTER", help="The name to give it.")],
    cpus: Annotated[float | None, typer.Option(min=0.01, metavar="N", help="Cores that it may use. [default: all]")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory, like 8GiB. [default: four fifths of it]")] = None,
    labels: Annotated[str, typer.Option(metavar="KEY=VALUE,…", help="Labels of the cluster and of its node.")] = "",
    jurisdiction: Annotated[str, typer.Option(help="Where this machine stands, like CN-SH; ZZ is nowhere in particular.")] = "ZZ",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it keeps its token, logs and journals.")] = None,
) -> None:
    """Start a Ray on this machine and be its member's agent, until Ctrl-C stops both.

    The Ray asks for a token. The cluster is registered, free of charge, where the name is new.
    """
    member = _member(name, cpus, memory, labels, jurisdiction)
    import os

    from controlplane.local_cluster import start_local as run
    from controlplane.settings import default_data_dir

    directory = (data_dir or default_data_dir(dict(os.environ)) / "local" / name).absolute()
    with connect(context) as client:
        raise typer.Exit(run(member, directory, client, say=say))


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
