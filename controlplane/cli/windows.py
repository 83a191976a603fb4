"""`cpn maintenance` and `cpn reservation`: times at which nodes are not for everybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlplane.cli import completion
from controlplane.cli.failures import usage
from controlplane.cli.options import Output, group
from controlplane.cli.output import fields, grid, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock

if TYPE_CHECKING:
    from controlplane.api.schemas import Page
    from controlplane.api.window_schemas import WindowView

maintenance = group()
reservations = group()

Cluster = Annotated[str, typer.Option(metavar="CLUSTER", help="The cluster.", autocompletion=completion.clusters)]
Begins = Annotated[str, typer.Option("--from", metavar="TIME", help="When it begins: like 2026-12-01T08:00:00+08:00, now, or +2h.")]
Ends = Annotated[str, typer.Option("--until", metavar="TIME", help="When it ends, written alike; +2h counts from now.")]


def moment(text: str, option: str) -> str:
    """A time as the API takes it: RFC 3339, `now`, or `+` and a duration from now; without a zone it is local time."""
    from workloads.resources import parse_duration

    try:
        if text == "now" or text.startswith("+"):
            return (datetime.now(UTC) + timedelta(seconds=0.0 if text == "now" else parse_duration(text[1:]))).isoformat()
        return datetime.fromisoformat(text.strip()).astimezone().isoformat()
    except ValueError as error:
        raise usage(f"{option} {text!r} is not a time", "write it like 2026-12-01T08:00:00+08:00, now, or +2h") from error


def _nodes(texts: list[str] | None) -> list[str]:
    return [name for text in texts or [] for name in text.split(",") if name]


@maintenance.command("create")
def create_maintenance(
    context: typer.Context,
    cluster: Cluster,
    begins: Begins,
    ends: Ends,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The name to give it. [default: one is made up]")] = None,
    node: Annotated[list[str] | None, typer.Option("--node", metavar="NODE", help="A node; repeatable. [default: all]")] = None,
    reason: Annotated[str, typer.Option(help="What is done then; shown to those who wait.")] = "",
    output: Output = "table",
) -> None:
    """Announce maintenance: nothing is started there that could run into it, and nothing while it lasts."""
    from controlplane.api.window_schemas import MaintenanceRequest
    from controlplane.cli.documents import validated

    document: dict[str, Any] = {
        "name": name, "cluster": cluster, "nodes": _nodes(node), "reason": reason,
        "begins_at": moment(begins, "--from"), "ends_at": moment(ends, "--until"),
    }  # fmt: skip
    with connect(context) as client:
        show(client.create_maintenance(validated(MaintenanceRequest, document, "the maintenance")), output, _created)


@maintenance.command("list")
def list_maintenance(context: typer.Context, output: Output = "table") -> None:
    """Maintenance that is not over."""
    with connect(context) as client:
        show(client.maintenance(), output, window_table)


@maintenance.command("remove")
def remove_maintenance(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]) -> None:
    """Call it off, or end it early."""
    with connect(context) as client:
        client.remove_maintenance(name)
    print(f"removed {name}")


@reservations.command("create")
def create_reservation(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to give it.")],
    cluster: Cluster,
    begins: Begins,
    ends: Ends,
    nodes: Annotated[
        list[str] | None, typer.Option("--nodes", metavar="NODE,…", help="Nodes, separated by commas; repeatable. [default: all]")
    ] = None,
    cpu: Annotated[float, typer.Option(help="Instead of nodes: few whole nodes that together have so many cores.")] = 0.0,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Instead of nodes: and so much memory, like 64GiB.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="For this tenant's jobs.", autocompletion=completion.tenants)] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="For the jobs of this queue.", autocompletion=completion.queues)
    ] = None,
    output: Output = "table",
) -> None:
    """Reserve nodes: while it lasts they take only the jobs of one tenant or queue, and before, nothing that could run into it."""
    from controlplane.api.window_schemas import ReservationRequest
    from controlplane.cli.documents import validated

    document: dict[str, Any] = {
        "name": name, "cluster": cluster, "nodes": _nodes(nodes), "cpu": cpu, "memory": memory, "tenant": tenant, "queue": queue,
        "begins_at": moment(begins, "--from"), "ends_at": moment(ends, "--until"),
    }  # fmt: skip
    with connect(context) as client:
        show(client.create_reservation(validated(ReservationRequest, document, "the reservation")), output, _created)


@reservations.command("list")
def list_reservations(context: typer.Context, output: Output = "table") -> None:
    """Reservations that are not over."""
    with connect(context) as client:
        show(client.reservations(), output, window_table)


ReservationName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]


@reservations.command("show")
def show_reservation(context: typer.Context, name: ReservationName, output: Output = "table") -> None:
    """One reservation."""
    with connect(context) as client:
        show(client.reservation(name), output, _details)


@reservations.command("remove")
def remove_reservation(context: typer.Context, name: ReservationName) -> None:
    """Give the nodes back to everybody."""
    with connect(context) as client:
        client.remove_reservation(name)
    print(f"removed {name}")


def _created(item: WindowView) -> None:
    print(f"{item.purpose} {item.name}: {where(item)}, from {clock(item.begins_at)} until {clock(item.ends_at)}")


def where(item: WindowView) -> str:
    """The nodes of a window."""
    return f"{item.cluster}, " + (f"nodes {', '.join(item.nodes)}" if item.nodes else "all nodes")


def whom(item: WindowView) -> str:
    """For whom its nodes are kept."""
    if item.purpose == "maintenance":
        return "nobody"
    return f"tenant {item.tenant}" if item.tenant else f"queue {item.queue}"


def _details(item: WindowView) -> None:
    fields([
        ("name", item.name), ("where", where(item)), ("for", whom(item)), ("from", clock(item.begins_at)), ("until", clock(item.ends_at)),
        ("standing", item.standing), ("created", clock(item.created_at)),
    ])  # fmt: skip


def window_rows(items: list[WindowView]) -> None:
    """Windows as a table."""
    rows = [
        (item.name, item.cluster, ", ".join(item.nodes) or "all", whom(item), clock(item.begins_at), clock(item.ends_at), item.standing,
         item.reason or None)
        for item in items
    ]  # fmt: skip
    grid(["NAME", "CLUSTER", "NODES", "FOR", "FROM", "UNTIL", "STANDING", "REASON"], rows, none="none is planned")


def window_table(page: Page[WindowView]) -> None:
    """A list of windows."""
    window_rows(page.items)
