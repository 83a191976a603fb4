"""`cpn link`: how fast data comes from one member to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from controlplane.cli import completion
from controlplane.cli.options import Output, group
from controlplane.cli.output import grid, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, number

if TYPE_CHECKING:
    from controlplane.api.link_schemas import LinkView
    from controlplane.api.schemas import Page

app = group()


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


def _table(page: Page[LinkView]) -> None:
    if not page.items:
        say("there are no two clusters yet")
        return
    rows = [
        (
            item.source, item.cluster, number(round(item.mib_s, 2)), item.origin + (", capped" if item.capped else ""),
            str(item.transfers), clock(item.last_at), number(item.declared_mib_s),
        )
        for item in page.items
    ]  # fmt: skip
    grid(["FROM", "TO", ">MIB/S", "BASIS", ">TRANSFERS", "LAST", ">DECLARED"], rows)
