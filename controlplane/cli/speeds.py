"""`cpn speed`: how fast like jobs are on each accelerator model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from controlplane.cli import completion
from controlplane.cli.options import Output, group
from controlplane.cli.output import grid, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import MISSING, number, span

if TYPE_CHECKING:
    from controlplane.api.schemas import Page
    from controlplane.api.speed_schemas import LikeSpeeds

app = group()


@app.command("list")
def list_speeds(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Of one tenant alone.", autocompletion=completion.tenants)] = None,
    output: Output = "table",
) -> None:
    """What was learned from runs of like jobs (one tenant, kind and name); speeds are compared with the slowest of their models."""
    with connect(context) as client:
        show(client.speeds(tenant), output, _table)


def _table(page: Page[LikeSpeeds]) -> None:
    if not page.items:
        say("no run on accelerators has been measured yet")
        return
    rows = [
        (
            item.tenant, item.kind, item.name, model.model, f"{model.speed.value:.2f}", model.speed.words, str(model.runs),
            number(model.median_steps_per_s) if model.median_steps_per_s is not None else MISSING, span(model.median_run_s),
        )
        for item in page.items
        for model in item.models
    ]  # fmt: skip
    grid(["TENANT", "KIND", "NAME", "MODEL", ">SPEED", "FROM", ">RUNS", ">STEPS/S", ">RUN TIME"], rows)
