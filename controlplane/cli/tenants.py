"""`cpn tenant`: who submits jobs, where its results lie and how long they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlplane.cli import completion
from controlplane.cli.failures import usage
from controlplane.cli.options import Output, group
from controlplane.cli.output import fields, grid, note, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, number, size

if TYPE_CHECKING:
    from controlplane.api.schemas import Page
    from controlplane.api.tenant_schemas import TenantView

app = group()
DIRECTORY, USUAL = "directory", "default"

Store = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where its results lie: s3://bucket/prefix, or `directory`: with the server. [default: directory]"),
]
Days = Annotated[
    str | None,
    typer.Option(metavar="DAYS", help="How long results are kept after their run; 0: no limit; `default`: as the server's."),
]
Bytes = Annotated[
    str | None, typer.Option(metavar="SIZE", help="How much of them is kept, like 500GiB; 0: no limit; `default`: as the server's.")
]
Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Whose.", autocompletion=completion.tenants)]


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TENANT", help="The name to give it.")],
    result_store: Store = None,
    keep_results_days: Days = None,
    keep_results_bytes: Bytes = None,
    output: Output = "table",
) -> None:
    """Create a tenant. A store for its results is tried first."""
    from controlplane.api.tenant_schemas import TenantRequest
    from controlplane.cli.documents import validated

    document = {"name": name, **_terms(result_store, keep_results_days, keep_results_bytes)}
    with connect(context) as client:
        view = client.create_tenant(validated(TenantRequest, document, "the tenant"))
        show(view, output, lambda found: print(f"created tenant {found.name}"))


@app.command("change")
def change(
    context: typer.Context,
    name: Tenant,
    result_store: Store = None,
    keep_results_days: Days = None,
    keep_results_bytes: Bytes = None,
    output: Output = "table",
) -> None:
    """Change where a tenant's results lie and how long. What is not given stays.

    Results that the server has are moved to a new store; those in an old store stay there.
    """
    from controlplane.api.tenant_schemas import TenantPatch
    from controlplane.cli.documents import validated

    terms = _terms(result_store, keep_results_days, keep_results_bytes)
    if not terms:
        raise usage("nothing is to be changed", "give --result-store, --keep-results-days or --keep-results-bytes")
    with connect(context) as client:
        show(client.change_tenant(name, validated(TenantPatch, terms, "the tenant")), output, _details)


@app.command("show")
def show_tenant(context: typer.Context, name: Tenant, output: Output = "table") -> None:
    """One tenant, and whether its results get to their store."""
    with connect(context) as client:
        show(client.tenant(name), output, _details)


@app.command("list")
def list_tenants(context: typer.Context, output: Output = "table") -> None:
    """All tenants."""
    with connect(context) as client:
        show(client.tenants(), output, _table)


def _terms(store: str | None, days: str | None, size_bytes: str | None) -> dict[str, Any]:
    """What is given, as the API takes it."""
    terms: dict[str, Any] = {}
    if store is not None:
        terms["result_store"] = None if store == DIRECTORY else store
    if days is not None:
        terms["keep_results_days"] = None if days == USUAL else _days(days)
    if size_bytes is not None:
        terms["keep_results_bytes"] = None if size_bytes == USUAL else _bytes(size_bytes)
    return terms


def _days(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise usage(f"--keep-results-days {text!r} is no number", "write days, like 90, or `default`") from None


def _bytes(text: str) -> int:
    from workloads.errors import UnitError
    from workloads.resources import parse_memory

    if text == "0":
        return 0
    try:
        return parse_memory(text)
    except UnitError as error:
        raise usage(f"--keep-results-bytes: {error}", "write an amount, like 500GiB, or `default`") from error


def _table(page: Page[TenantView]) -> None:
    rows = [
        (item.name, clock(item.created_at), item.result_store or DIRECTORY, _kept(item), item.waiting_results or None)
        for item in page.items
    ]
    grid(["NAME", "CREATED", "RESULTS", "KEPT", ">WAITING"], rows, none="no tenants yet; make one with `cpn tenant create`")


def _details(view: TenantView) -> None:
    fields([
        ("name", view.name), ("created", clock(view.created_at)), ("results", view.result_store or "in the server's directory"),
        ("kept", _kept(view)),
    ])  # fmt: skip
    if view.waiting_for:
        results = "1 result waits" if view.waiting_results == 1 else f"{view.waiting_results:,} results wait"
        note(f"{results} with the server: {view.waiting_for}")


def _kept(view: TenantView) -> str:
    days, size_bytes = view.keep_results_days, view.keep_results_bytes
    if days is None and size_bytes is None:
        return "as the server's"
    words = ["as the server's" if days is None else f"{number(days)} days" if days else "for good"]
    words.append("" if size_bytes is None else size(size_bytes) if size_bytes else "any size")
    return ", ".join(filter(None, words))
