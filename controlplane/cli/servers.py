"""`cpn up`, `serve`, `migrate`, `demo`: the processes of a network; `cpn agent` stands in agents.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from controlplane.cli.agents import agent
from controlplane.cli.failures import NOT_REACHABLE, CommandError, usage
from controlplane.cli.kube_options import Image, KubeContext, Namespace
from controlplane.cli.options import DataDir, Port
from controlplane.cli.output import say


def add_to(app: typer.Typer) -> None:
    """Put the commands without a group into an application."""
    for command in (up, serve, migrate, agent, demo):
        app.command(command.__name__)(command)


DatabaseUrl = Annotated[str | None, typer.Option(metavar="URL", help="A PostgreSQL database instead of SQLite (CPN_DATABASE_URL).")]


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
    database_url: DatabaseUrl = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"] | None, typer.Option(help="What is logged. [default: info]")] = None,
) -> None:
    """Run the control plane in the foreground."""
    settings = _settings(host=host, port=port, data_dir=data_dir, database_url=database_url, log_level=log_level)
    from controlplane.daemon import serve as run

    raise typer.Exit(run(settings))


def migrate(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if the database lacks steps of this version.")] = False,
    wait: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait while a server holds the database or it does not answer, like 10m.")
    ] = "0s",
) -> None:
    """Bring the database to the schema of this version, as a server does when it starts; no server may use it meanwhile."""
    import time

    from controlplane.migration import bring_up_to_date
    from scheduler.clock import SystemClock
    from scheduler.errors import ConflictError
    from scheduler.store.session import StoreUnavailableError
    from workloads.errors import UnitError
    from workloads.resources import parse_duration

    settings = _settings(data_dir=data_dir, database_url=database_url)
    try:
        wait_s = parse_duration(wait)
    except UnitError as error:
        raise usage(f"--wait {error}") from error
    try:
        done = bring_up_to_date(settings, check=check, wait_s=wait_s, clock=SystemClock(), pause=time.sleep)
    except StoreUnavailableError as error:
        raise CommandError(str(error), status=NOT_REACHABLE, hint="look at --database-url, or CPN_DATABASE_URL") from error
    except ConflictError as error:
        raise CommandError(str(error)) from error
    say(f"the database is at step {done.now}" + ("" if done.before == done.now else f", and was {_step(done.before)}"))


def _step(step: str | None) -> str:
    return f"at step {step}" if step else "empty"


def demo(
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep everything here; else in a temporary folder.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The server's port; 0 takes a free one.")] = 0,
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Add a Kubernetes cluster as a third member.")
    ] = None,
    kube_context: KubeContext = None,
    namespace: Namespace = None,
    image: Image = None,
) -> None:
    """Show the whole on two local clusters, and on a Kubernetes cluster where one is named.

    Data products are published, jobs planned, run, refused and settled. Takes about a minute and a half, and stops
    everything that it started. A Kubernetes cluster reads the demo's files at the paths that they have on this machine.
    """
    from controlplane.demo.kubernetes import KubeAccess
    from controlplane.demo.story import run as tell_story

    added = KubeAccess(kubeconfig.absolute(), kube_context or "", namespace or "", image or "") if kubeconfig is not None else None
    if added is None and (kube_context or namespace or image):
        raise usage("--context, --namespace and --image are of a Kubernetes cluster", "name its --kubeconfig too")
    raise typer.Exit(tell_story(data_dir, port, added))
