"""`cpn statement`, `cpn usage` and `cpn ledger`: what was charged, used and booked."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controlplane.cli import completion
from controlplane.cli.failures import usage as misused
from controlplane.cli.options import Output, group
from controlplane.cli.output import fields, grid, heading, note, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, number

if TYPE_CHECKING:
    from controlplane.api.money_schemas import BalanceView, EntryView, UsageView
    from controlplane.api.schemas import Page
    from workloads.catalogue.statement import OwnerStatement, Part, Statement

app = group()
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="From then on: 2026-12-01, or with a time and zone.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until before then.")]


def add_to(application: typer.Typer) -> None:
    """Put the commands without a group into an application."""
    application.command("statement")(statement)
    application.command("usage")(usage)


def statement(
    context: typer.Context,
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", help="Whose; or give --owner.", autocompletion=completion.tenants)
    ] = None,
    month: Annotated[str | None, typer.Argument(metavar="[YYYY-MM]", help="Which month. [default: this one]")] = None,
    owner: Annotated[str | None, typer.Option(metavar="OWNER", help="The uses and the income of an owner's products instead.")] = None,
    output: Annotated[
        Literal["table", "json", "csv", "html"], typer.Option("-o", "--output", help="A table for people, JSON, CSV, or a page to print.")
    ] = "table",
) -> None:
    """What a tenant was charged in a month, or what an owner's products earned.

    Totals by purpose, cost centre and research. Amounts are exact to 1/10000; what is to be paid is rounded once, to the cent.
    """
    if owner is not None and tenant is not None and month is None:
        # The only argument beside --owner is the month.
        tenant, month = None, tenant
    if (tenant is None) == (owner is None):
        raise misused("it is not said whose statement is wanted", "give a TENANT, or --owner OWNER")
    chosen = month or datetime.now(UTC).strftime("%Y-%m")
    with connect(context) as client:
        if output in ("csv", "html"):
            for piece in client.statement_text(tenant, owner, chosen, output):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        elif tenant is not None:
            show(client.statement(tenant, chosen), "json" if output == "json" else "table", _statement)
        elif owner is not None:
            show(client.owner_statement(owner, chosen), "json" if output == "json" else "table", _owner)


def usage(
    context: typer.Context,
    by: Annotated[Literal["tenant", "queue", "cluster"], typer.Option(help="A line for each of these.")] = "tenant",
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Of one tenant alone.", autocompletion=completion.tenants)] = None,
    begin: Since = None,
    end: Until = None,
    output: Output = "table",
) -> None:
    """What jobs held and cost in a time, by tenant, queue or cluster. [default: this month until now]"""
    with connect(context) as client:
        show(client.usage(by, _time("--from", begin), _time("--to", end), tenant), output, _usage)


@app.command("list")
def list_entries(
    context: typer.Context,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="The entry of one run, job-…-1.")] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Of one account: buyer/TENANT, owner/OWNER, cluster/CLUSTER or fee/market.")
    ] = None,
    begin: Since = None,
    end: Until = None,
    most: Annotated[int, typer.Option("--limit", min=1, help="The first so many.")] = 1000,
    output: Output = "table",
) -> None:
    """Entries of the journal: what each run cost its buyer, and who earns it."""
    with connect(context) as client:
        found = client.ledger(run, account, _time("--from", begin), _time("--to", end), most)
        show(found, output, _entries)
        if found.next_cursor is not None:
            note("there are more; raise --limit, or narrow the time by --from and --to")


@app.command("verify")
def verify(context: typer.Context, output: Output = "table") -> None:
    """Look at every entry and every receipt: that each sums up, and that each has the other. Exit status 1 where one is wrong."""
    with connect(context) as client:
        found = client.verify_ledger()
        show(found, output, _balance)
    if not found.sound:
        raise typer.Exit(1)


def _time(option: str, text: str | None) -> str | None:
    """A day or a moment as the API takes it; a day begins at midnight UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise misused(f"{option} {text!r} is no time", "write a day like 2026-12-01, or a moment like 2026-12-01T08:00:00+08:00") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def _statement(view: Statement) -> None:
    fields([("tenant", view.tenant), ("month", _month(view))])
    if not view.accounts:
        say("\nnothing was charged in this month")
    for account in view.accounts:
        heading(f"{account.currency}: {account.payable} to be paid, for {account.jobs:,} jobs, exactly {account.total}")
        by = (("what", account.by_kind), ("purpose", account.by_purpose), ("cost centre", account.by_cost_centre))
        rows = [(f"by {what}" if not index else "", *_part(part)) for what, parts in by for index, part in enumerate(parts)]
        rows += [("by research" if not index else "", *_part(part)) for index, part in enumerate(account.by_research)]
        grid(["", "", ">JOBS", ">EXACTLY", ">IN CENTS"], rows)
    if view.items:
        heading("Jobs")
        jobs = [
            (
                clock(item.issued_at),
                item.job_id,
                item.purpose,
                item.cost_centre,
                "yes" if item.research else None,
                item.cluster,
                str(item.total),
            )
            for item in view.items
        ]
        grid(["ISSUED", "JOB", "PURPOSE", "COST CENTRE", "RESEARCH", "CLUSTER", ">TOTAL"], jobs)
    if view.items_left_out:
        note(f"{view.items_left_out:,} more jobs are in the totals; -o csv lists all")


def _part(part: Part) -> tuple[str, str, str, str]:
    return part.name, f"{part.jobs:,}", str(part.total), str(part.payable)


def _month(view: Statement | OwnerStatement) -> str:
    return f"{view.month} in {view.time_zone}" + ("" if view.closed else ", not over yet")


def _owner(view: OwnerStatement) -> None:
    fields([("owner", view.owner), ("month", _month(view))])
    if not view.accounts:
        say("\nnone of the products was used in this month")
    for account in view.accounts:
        heading(f"{account.currency}: {account.payable} to be paid out; income {account.income}, less the market's fee of {account.fee}")
        grid(["PRODUCT", ">USES", ">INCOME"], [(item.product, item.uses, str(item.income)) for item in account.products])
    if view.uses:
        heading("Uses")
        rows = [
            (clock(use.issued_at), use.ref, use.licence, use.tenant, use.purpose, use.cluster, use.job_id, str(use.income))
            for use in view.uses
        ]
        grid(["AT", "VERSION", "LICENCE", "TENANT", "PURPOSE", "CLUSTER", "JOB", ">INCOME"], rows)
    if view.uses_left_out:
        note(f"{view.uses_left_out:,} more uses are in the totals; -o csv lists all")


def _usage(view: UsageView) -> None:
    rows = [
        (
            item.name, item.runs, number(round(item.cpu_hours, 4)), number(round(item.memory_gib_hours, 4)),
            ", ".join(f"{round(hours, 4):g} {model}" for model, hours in item.accelerator_hours.items()),
            ", ".join(str(amount) for amount in item.charged),
        )
        for item in view.items
    ]  # fmt: skip
    title = f"From {clock(view.begins_at)} until {clock(view.ends_at)}"
    headers = [view.by.upper(), ">RUNS", ">CPU HOURS", ">GIB HOURS", ">ACCELERATOR HOURS", ">CHARGED"]
    grid(headers, rows, none="nothing ran and nothing was charged", title=title)


def _entries(page: Page[EntryView]) -> None:
    rows = [
        (item.sequence if not index else None, clock(item.at) if not index else "", item.run_id if not index else "", posting.account,
         f"{posting.amount} {item.currency}")
        for item in page.items
        for index, posting in enumerate(item.postings)
    ]  # fmt: skip
    grid([">ENTRY", "AT", "RUN", "ACCOUNT", ">AMOUNT"], rows, none="no such entries")


def _balance(view: BalanceView) -> None:
    if view.accounts:
        grid(["ACCOUNT", ">HOLDS"], [(item.account, f"{item.amount} {item.currency}") for item in view.accounts])
        say()
    say(f"{view.entries:,} entries and {view.receipts_without_entry:,} receipts without one were looked at")
    if view.sound:
        say("the ledger is sound: every entry sums to 0 and agrees with its receipt")
        return
    grid(
        ["RUN", "FAULT", "WHAT IS WRONG"], [(item.run_id, item.fault, item.message) for item in view.told], title=f"{view.faults:,} faults"
    )
