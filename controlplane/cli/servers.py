"""`cpn up`, `serve`, `demo`: the processes of a network; `cpn agent` stands in agents.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from controlplane.cli.agents import agent
from controlplane.cli.failures import usage
from controlplane.cli.options import DataDir, Port
from controlplane.cli.output import say


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
