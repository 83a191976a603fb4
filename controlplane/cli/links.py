"""`cpn link`: how fast data comes from one member to another, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from controlplane.cli import completion
from controlplane.cli.failures import usage
from controlplane.cli.options import Output, group
from controlplane.cli.output import grid, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, number

if TYPE_CHECKING:
    from controlplane.api.link_schemas import LinkView
    from controlplane.api.schemas import Page

app = group()
USUAL = "default"


@app.command("list")
def list_links(
    context: typer.Context,
    cluster: Annotated[
        str | None, typer.Option(metavar="CLUSTER", help="Those that lead to one cluster.", autocompletion=completion.clusters)
    ] = None,
    output: Output = "table",
) -> None:
    """What transfer times are estimated by: the median of the last transfers over each link, else the declared speed."""
    with connect(context) as client:
        show(client.links(cluster), output, _table)


@app.command("set")
def set_link(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The cluster where the data lies.", autocompletion=completion.clusters)],
    cluster: Annotated[str, typer.Argument(metavar="TO", help="The cluster where it comes in.", autocompletion=completion.clusters)],
    price: Annotated[str | None, typer.Option(metavar="MONEY", help="Of a GiB, like '0.10 CNY'; `default`: as TO's transfer_gib.")] = None,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="MIB_S", help="MiB a second, until transfers were measured; `default`: as declared for TO.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until the first byte of a transfer, like 30ms; `default`: none.")
    ] = None,
    output: Output = "table",
) -> None:
    """Say what the way from one cluster to another costs, how broad and how long it is. What is not given stays."""
    from controlplane.api.link_schemas import LinkPatch
    from controlplane.api.schemas import Page
    from controlplane.cli.documents import validated

    given = {"price_gib": price, "bandwidth_mib_s": bandwidth, "latency_ms": latency}
    document = {name: None if value == USUAL else _read(name, value) for name, value in given.items() if value is not None}
    if not document:
        raise usage("nothing is said of the link", "give --price, --bandwidth or --latency")
    with connect(context) as client:
        view = client.set_link(source, cluster, validated(LinkPatch, document, "the link"))
    show(view, output, lambda found: _table(Page(items=[found], next_cursor=None)))


def _read(name: str, value: str) -> str | float:
    """What is given, as the API takes it."""
    from workloads.errors import UnitError
    from workloads.resources import parse_duration

    try:
        return value if name == "price_gib" else float(value) if name == "bandwidth_mib_s" else parse_duration(value) * 1000
    except UnitError as error:
        raise usage(f"--latency: {error}", "write a time, like 30ms, or `default`") from error
    except ValueError:
        raise usage(f"--bandwidth {value!r} is no number", "write MiB a second, like 250, or `default`") from None


def _table(page: Page[LinkView]) -> None:
    if not page.items:
        say("there are no two clusters yet")
        return
    rows = [
        (
            item.source, item.cluster, number(round(item.mib_s, 2)), item.origin + (", capped" if item.capped else ""),
            str(item.transfers), clock(item.last_at), number(item.declared_mib_s),
            number(item.latency_ms), str(item.price_gib) if item.price_gib else None,
        )
        for item in page.items
    ]  # fmt: skip
    grid(["FROM", "TO", ">MIB/S", "BASIS", ">TRANSFERS", "LAST", ">DECLARED", ">LATENCY MS", ">PRICE/GIB"], rows)
