"""Options and arguments that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli import completion
from controlplane.cli.output import Format

Output = Annotated[Format, typer.Option("-o", "--output", help="A table for people, or the API's document as JSON or YAML.")]
ClusterName = Annotated[str, typer.Argument(metavar="CLUSTER", help="The cluster's name.", autocompletion=completion.clusters)]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.", autocompletion=completion.queues)]
ProductName = Annotated[
    str, typer.Argument(metavar="PRODUCT", help="The product's name, owner/product.", autocompletion=completion.products)
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, job-….", autocompletion=completion.jobs)]
Manifest = Annotated[Path, typer.Option("-f", "--file", metavar="FILE", help="The document, YAML or JSON; - is standard input.")]
Manifests = Annotated[
    list[Path],
    typer.Option(
        "-f", "--file", metavar="FILE", help="The document, YAML or JSON; - is standard input. Repeatable, and one file may hold several."
    ),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the manifest, like resources.cpu=2; repeatable.")
]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Where data, logs and the database are kept (CPN_DATA_DIR).")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="The server's port; 0 takes a free one.")]


def group() -> typer.Typer:
    """An empty group of commands; its words stand beside its name in controlplane.cli.main."""
    return typer.Typer(rich_markup_mode=None)
