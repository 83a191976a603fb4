"""`cpn up`, `serve`, `agent`, `demo`: the processes of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from controlplane.cli.failures import usage
from controlplane.cli.options import DataDir, Port
from controlplane.cli.output import say
from controlplane.cli.session import Asked, access


def add_to(app: typer.Typer) -> None:
    """Put the commands without a group into an application."""
    for command in (up, serve, agent, demo):
        app.command(command.__name__)(command)


def _settings(**overrides: Any) -> Any:
    from controlplane.settings import load

    try:
        return load(**overrides)
    except ValueError as error:
        raise usage(str(error)) from error


def up(
    data_dir: DataDir = None,
    port: Port = None,
    jurisdiction: Annotated[str, typer.Option(help="Where this machine stands, like CN-SH; ZZ is nowhere in particular.")] = "ZZ",
    with_demo: Annotated[
        bool, typer.Option("--demo", help="Bring up the demo's network: two clusters, products, a tenant, a queue.")
    ] = False,
) -> None:
    """Bring up a network on this machine, until Ctrl-C.

    A server with one member, a local Ray, and a token for this command line.
    """
    settings = _settings(data_dir=data_dir, port=port)
    from controlplane.up import up as bring_up

    try:
        status = bring_up(settings.data_dir, settings.port, demo=with_demo, jurisdiction=jurisdiction, say=say)
    except ValueError as error:
        raise usage(f"--jurisdiction {jurisdiction!r}: write it like CN-SH") from error
    raise typer.Exit(status)


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen at. [default: 127.0.0.1]")] = None,
    port: Port = None,
    data_dir: DataDir = None,
    database_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A PostgreSQL database instead of SQLite (CPN_DATABASE_URL).")
    ] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"] | None, typer.Option(help="What is logged. [default: info]")] = None,
) -> None:
    """Run the control plane in the foreground."""
    settings = _settings(host=host, port=port, data_dir=data_dir, database_url=database_url, log_level=log_level)
    from controlplane.daemon import serve as run

    raise typer.Exit(run(settings))


def agent(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER", help="The cluster that it speaks for.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="The address of the cluster's head.")],
    backend: Annotated[Literal["ray"], typer.Option(help="What runs there.")] = "ray",
    ray_token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The cluster's own token.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it keeps journals and results until they are delivered.")
    ] = None,
) -> None:
    """Run a cluster's agent in the foreground.

    It runs on a machine of that cluster and needs a token of the role agent: in CPN_TOKEN, or by `cpn --token …`.
    """
    from controlplane.settings import default_data_dir

    found = access(context.ensure_object(Asked))
    if not found.token:
        raise usage("an agent needs a token", f"make one with `cpn token create --role agent --cluster {cluster}` and put it in CPN_TOKEN")
    import os

    from controlplane.agent_process import main as run

    folder = (data_dir or default_data_dir(dict(os.environ)) / "agents" / cluster).absolute()
    status = run(
        cluster=cluster, server=found.server, token=found.token, backend=backend, address=address,
        token_file=str(ray_token_file or ""), data_dir=folder,
    )  # fmt: skip
    raise typer.Exit(status)


def demo(
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep everything here; else in a temporary folder.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The server's port; 0 takes a free one.")] = 0,
) -> None:
    """Show the whole on two local clusters.

    Data products are published, jobs planned, run, refused and settled. Takes about a minute and a half, and stops
    everything that it started.
    """
    from controlplane.demo.story import run as tell_story

    raise typer.Exit(tell_story(data_dir, port))
