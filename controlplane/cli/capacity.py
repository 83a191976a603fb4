"""`cpn capacity` and `cpn target`: the network's computing power, and how far it is on the way to its targets."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controlplane.cli.options import Output, group
from controlplane.cli.output import grid, heading, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import MISSING, clock

if TYPE_CHECKING:
    from controlplane.api.schemas import CapacityView, Flops, Page, TargetView

targets = group()
BAR = 24


def add_to(app: typer.Typer) -> None:
    """Put the commands without a group into an application."""
    app.command("capacity")(capacity)


def capacity(context: typer.Context, output: Output = "table") -> None:
    """Computing power now, and against each target.

    By class and precision: rated (all that is registered), available (what can be used now), allocated (what is held).
    """
    with connect(context) as client:
        show(client.capacity(), output, _capacity)


def _capacity(view: CapacityView) -> None:
    headers = ["CLASS", "PRECISION", ">RATED", ">AVAILABLE", ">ALLOCATED", ">IN USE"]
    grid(headers, [_power(item) for item in view.flops], none="no rated hardware", title=f"Computing power at {clock(view.at)}")
    rows = [(name, *_power(item)) for name, items in sorted(view.by_cluster.items()) for item in items]
    if len(view.by_cluster) > 1:
        heading("By cluster")
        grid(["CLUSTER", *headers], rows)
    if view.unrated:
        heading("Unrated: counted, never guessed")
        grid(["CLUSTER", "WHAT", ">COUNT"], [(item.cluster, item.what, item.count) for item in view.unrated])
    say(f"\n{view.rated_share:.0%} of the hardware has a rating.")
    for target in view.targets:
        say(target_line(target, view.at.date()))


def _power(item: Flops) -> tuple[str, ...]:
    from workloads.resources import format_flops

    in_use = f"{item.allocated / item.available:.1%}" if item.available else MISSING
    return (
        item.compute_class,
        item.precision,
        format_flops(item.rated),
        format_flops(item.available),
        format_flops(item.allocated),
        in_use,
    )


def target_line(target: TargetView, today: date) -> str:
    """A target in one line: where the network stands, with a bar."""
    from workloads.resources import format_flops

    share = target.rated_flops / target.target_flops
    filled = min(int(share * BAR), BAR)
    bar = "█" * filled + "░" * (BAR - filled)
    standing = "met" if target.met else f"missing {format_flops(target.missing_flops)}"
    when = f"was due {target.due}" if today > target.due and not target.met else f"due {target.due}"
    return (
        f"{target.name}: {format_flops(target.rated_flops)} of {format_flops(target.target_flops)} "
        f"({target.precision}, {target.compute_class}): {_percent(share)} [{bar}] {standing}; {when}"
    )


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "less than 0.1 %"
    # Short of the target is never shown as having reached it.
    return f"{min(share, 0.999) if share < 1 else share:.1%}".replace("%", " %")


@targets.command("list")
def list_targets(context: typer.Context, output: Output = "table") -> None:
    """All targets and where the network stands."""
    with connect(context) as client:
        show(client.targets(), output, _table)


def _table(page: Page[TargetView]) -> None:
    from workloads.resources import format_flops

    rows = [
        (item.name, item.compute_class, item.precision, f"{format_flops(item.baseline_flops)} ({item.baseline_date})",
         f"{item.multiple:g} x",
         format_flops(item.target_flops), format_flops(item.rated_flops), f"{item.ratio_to_baseline:.3g} x", str(item.due),
         "met" if item.met else "missing", item.scope, item.source)
        for item in page.items
    ]  # fmt: skip
    headers = ["NAME", "CLASS", "PRECISION", ">BASELINE", ">MULTIPLE", ">TARGET", ">RATED", ">REACHED", "DUE", "STATE", "SCOPE", "SOURCE"]
    grid(headers, rows, none="no targets yet; set one with `cpn target set`")


@targets.command("set")
def set_target(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="TARGET", help="Its name; one of the same name is replaced.")] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="The target as a document; options given here win.")
    ] = None,
    compute_class: Annotated[
        Literal["general", "intelligent", "super"] | None, typer.Option("--class", help="The class of computing power.")
    ] = None,
    precision: Annotated[Literal["fp64", "fp32", "tf32", "fp16"] | None, typer.Option(help="The precision that is counted.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="FLOPS", help='What there was, like "4500PFLOPS".')] = None,
    baseline_date: Annotated[str | None, typer.Option(metavar="DATE", help="When there was that.")] = None,
    multiple: Annotated[float | None, typer.Option(help="How many times the baseline is to be reached. [default: 4]")] = None,
    due: Annotated[str | None, typer.Option(metavar="DATE", help="By when.")] = None,
    scope: Annotated[str | None, typer.Option(help="What the baseline counts, in words.")] = None,
    source: Annotated[str | None, typer.Option(help="Who says so, and where.")] = None,
    output: Output = "table",
) -> None:
    """Set a target. The baseline must say its date, scope and source."""
    from controlplane.api.schemas import TargetRequest
    from controlplane.cli.documents import read_document, validated

    document = read_document(file) if file else {}
    given = {
        "name": name, "compute_class": compute_class, "precision": precision, "baseline": baseline, "baseline_date": baseline_date,
        "multiple": multiple, "due": due, "scope": scope, "source": source,
    }  # fmt: skip
    document.update({key: value for key, value in given.items() if value is not None})
    request = validated(TargetRequest, document, str(file) if file else "the target")
    with connect(context) as client:
        show(client.set_target(request), output, lambda found: say(target_line(found, date.today())))
