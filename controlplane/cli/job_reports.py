"""`cpn job`: explain, result, receipt, metrics: what became of a job and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controlplane.cli.failures import usage
from controlplane.cli.options import JobId, Output
from controlplane.cli.output import fields, grid, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, number, span

if TYPE_CHECKING:
    from controlplane.api.schemas import Page, ProgressView
    from workloads.catalogue.pricing import Quote, Receipt


def add_to(app: typer.Typer) -> None:
    """Put these commands into the group of jobs."""
    for name, command in (("explain", explain), ("result", result), ("receipt", receipt), ("metrics", metrics)):
        app.command(name)(command)


def explain(context: typer.Context, job_id: JobId, output: Output = "table") -> None:
    """Why a job is where it is, and what would start it sooner.

    Of a job that waits: its place in the line, who goes first and why, what it waits for, when it is expected to start, and the
    changes with which it would start now. Then every cluster's standing, and how the job came where it is.
    """
    from controlplane.cli.explanation import print_explanation

    with connect(context) as client:
        show(client.explanation(job_id), output, print_explanation)


def result(
    context: typer.Context,
    job_id: JobId,
    form: Annotated[
        Literal["table", "json", "csv", "parquet"],
        typer.Option("--format", help="The first rows as a table, or the whole result table as JSON, CSV or Parquet."),
    ] = "table",
    download: Annotated[Path | None, typer.Option(metavar="DIR", help="Write all files of the result into this folder.")] = None,
    output: Output = "table",
) -> None:
    """The result of a job: its table, or the files that it wrote."""
    from controlplane.cli import results

    if output != "table" and (form != "table" or download is not None):
        raise usage("-o prints the API's document about the result; use it without --format and --download")
    with connect(context) as client:
        view = client.result(job_id)
        if download is not None:
            results.download_all(client, view, download)
        elif form != "table":
            results.write_table(client, view, form)
        else:
            show(view, output, results.print_result)


def receipt(context: typer.Context, job_id: JobId, output: Output = "table") -> None:
    """What a job was charged, line by line; never more than its quote."""
    with connect(context) as client:
        found = client.receipt(job_id)
        quoted = client.job(job_id).quote if output == "table" else None
    show(found, output, lambda view: _receipt(view, quoted))


def _receipt(view: Receipt, quoted: Quote | None) -> None:
    from controlplane.cli.verdicts import engine_words, grams, print_hours, print_lines

    fields([
        ("job", view.job_id), ("run", view.run_id), ("tenant", view.tenant), ("purpose", view.purpose), ("cluster", view.cluster),
        *([("engine", engine_words(view.engine))] if view.engine else []),
        ("charged for", span(view.wall_s)), ("quoted at most", str(view.quote_total)), ("issued", clock(view.issued_at)),
        *(("licence", f"{use.licence} for {use.ref}") for use in view.uses if use.licence),
        *([("CO2, an estimate", grams(view.carbon_g))] if view.carbon_g is not None else []),
    ])  # fmt: skip
    say()
    print_lines(view.lines, str(view.total), quoted)
    print_hours(view.hours)


def metrics(
    context: typer.Context,
    job_id: JobId,
    after: Annotated[int, typer.Option(min=0, help="Leave out the first so many reports.")] = 0,
    output: Output = "table",
) -> None:
    """What a job reported while it ran, such as the loss of a training."""
    with connect(context) as client:
        show(client.all_metrics(job_id, after), output, _metrics)


def _metrics(page: Page[ProgressView]) -> None:
    names = sorted({name for item in page.items for name in item.metrics})
    rows = [
        (item.step, *(number(item.metrics[name]) if name in item.metrics else None for name in names), clock(item.at))
        for item in page.items
    ]
    grid(
        [">STEP", *(f">{name}" for name in names), "AT"],
        rows,
        none="nothing reported (a job reports by appending to the file CPN_PROGRESS_FILE)",
    )
