"""`cpn product`: data products, their versions, and who may use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controlplane.cli import completion
from controlplane.cli.failures import CommandError, usage
from controlplane.cli.options import Manifest, Output, ProductName, group
from controlplane.cli.output import fields, grid, heading, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, joined, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from controlplane.api.schemas import Page, ProductView, RevokedLicence
    from controlplane.client import Client
    from workloads.catalogue.licence import Licence
    from workloads.catalogue.product import Product

app = group()
Classification = Literal["public", "internal", "restricted", "personal"]
_MASKS = {"null": "left empty", "hash": "hashed", "year": "only the year"}


@app.command("publish")
def publish(
    context: typer.Context,
    file: Manifest,
    update_terms: Annotated[bool, typer.Option("--update-terms", help="Replace the terms of a product that is there already.")] = False,
    output: Output = "table",
) -> None:
    """Publish a product, or a new version of one.

    The document has the product's terms (name, owner, classification, purposes, jurisdictions, price, security_level,
    delivery, min_group, hidden_columns, masked_columns, kinds, algorithms, may_copy, sample) and, for
    a version, its format (parquet, csv, jsonl, arrow) and its replicas: a list of {cluster, uri}. With columns, a list
    of {name, type}, data with others is refused. The server reads every replica.
    """
    from controlplane.api.schemas import VersionRequest
    from controlplane.cli.documents import read_document, validated
    from workloads.catalogue.product import Product

    document = read_document(file)
    parts: dict[str, Any] = {key: document.pop(key) for key in ("format", "replicas", "columns") if key in document}
    product = validated(Product, document, str(file))
    request = validated(VersionRequest, parts, str(file)) if parts else None
    with connect(context) as client:
        view = _publish_terms(client, product, update_terms)
        if request is not None:
            client.publish_version(product.name, request)
            view = client.product(product.name)
        show(view, output, _published)


def _publish_terms(client: Client, product: Product, update_terms: bool) -> ProductView:
    from controlplane.errors import RequestFailedError

    try:
        return client.create_product(product)
    except RequestFailedError as error:
        if error.problem is None or error.problem.status != 409:
            raise
        if update_terms:
            return client.replace_terms(product)
        raise CommandError(str(error), hint="replace its terms with --update-terms, which holds from the next decision on") from error


def _published(view: ProductView) -> None:
    if not view.versions:
        print(f"published the terms of {view.product.name}; it has no version yet")
        return
    newest = view.versions[-1]
    where = joined([replica.cluster for replica in newest.replicas])
    print(f"published {newest.ref}: {newest.rows:,} rows, {size(newest.size_bytes)} of {newest.format}, at {where}")


@app.command("list")
def list_products(
    context: typer.Context,
    search: Annotated[str, typer.Option(metavar="TEXT", help="Words of the name, the owner or the description.")] = "",
    owner: Annotated[str, typer.Option(metavar="NAME", help="Only of this owner.")] = "",
    classification: Annotated[Classification | None, typer.Option("--class", "--classification", help="Only of this class.")] = None,
    max_price: Annotated[str, typer.Option(metavar="PRICE", help='Charging no more than that for anything, like "0.50 CNY".')] = "",
    output: Output = "table",
) -> None:
    """The catalogue, or what of it is looked for."""
    asked = {"search": search, "owner": owner, "classification": classification or "", "max_price": max_price}
    with connect(context) as client:
        show(client.products({key: value for key, value in asked.items() if value}), output, _table)


def _table(page: Page[ProductView]) -> None:
    rows: list[tuple[Any, ...]] = []
    for item in page.items:
        product, newest = item.product, item.versions[-1] if item.versions else None
        data = (newest.version, f"{newest.rows:,}", size(newest.size_bytes)) if newest else (None, None, None)
        clusters = joined([replica.cluster for replica in newest.replicas]) if newest else None
        rows.append((
            product.name, product.classification, *data, clusters, joined(product.purposes or ("any",)),
            joined(product.jurisdictions or ("anywhere",)), _price(product),
        ))  # fmt: skip
    headers = ["NAME", "CLASS", ">VERSION", ">ROWS", ">SIZE", "AT", "PURPOSES", "PROCESSED IN", ">PRICE"]
    grid(headers, rows, none="no products yet; publish one with `cpn product publish -f product.yaml`")


def _price(product: Product) -> str:
    price = product.price
    by = {"run": price.per_run, "GiB": price.per_gib, "row": price.per_row, "month": price.per_month}
    parts = [f"{amount}/{what}" if amount else "" for what, amount in by.items()]
    return " + ".join(part for part in parts if part) or "free"


@app.command("show")
def show_product(context: typer.Context, name: ProductName, output: Output = "table") -> None:
    """One product: terms, versions, columns, licences."""
    with connect(context) as client:
        view = client.product(name)
        licences = client.licences(name) if output == "table" else None
        show(view, output, lambda found: _details(found, licences.items if licences else []))


def _details(view: ProductView, licences: list[Licence]) -> None:
    product = view.product
    fields([
        ("name", product.name), ("owner", product.owner), ("description", product.description), ("classification", product.classification),
        ("purposes", joined(product.purposes or ("any",))), ("processed in", joined(product.jurisdictions or ("anywhere",))),
        ("price", _price(product)), ("published", clock(view.created_at)), *_terms(product),
    ])  # fmt: skip
    heading("Versions")
    rows = [
        (version.ref, version.format, f"{version.rows:,}", size(version.size_bytes),
         joined([replica.cluster for replica in version.replicas]),
         version.sha256[:12], f"{version.standing}: {version.standing_reason}" if version.standing_reason else version.standing)
        for version in view.versions
    ]  # fmt: skip
    grid(["REFERENCE", "FORMAT", ">ROWS", ">SIZE", "AT", "SHA-256", "STANDING"], rows, none="no version yet")
    if view.versions:
        heading(f"Columns of {view.versions[-1].ref}")
        grid(["COLUMN", "TYPE"], [(column.name, column.type) for column in view.versions[-1].columns])
    heading("Licences")
    _licence_table(licences)


def _terms(product: Product) -> list[tuple[str, str]]:
    """The terms that hold beside purposes and places, in words; those that limit nothing are left out."""
    found = []
    if product.security_level:
        found.append(("security", f"clusters of level {product.security_level} and more"))
    if product.delivery == "aggregates-only":
        found.append(("delivery", f"aggregates over groups of {product.min_group} and more; no rows"))
    if product.hidden_columns:
        found.append(("hidden", joined(product.hidden_columns)))
    if product.masked_columns:
        found.append(("masked", joined([f"{name} ({_MASKS[mask]})" for name, mask in product.masked_columns.items()])))
    if product.kinds:
        found.append(("jobs of kind", joined(product.kinds)))
    if product.algorithms:
        found.append(("programs", f"{len(product.algorithms)} permitted by content hash"))
    if not product.may_copy:
        found.append(("copies", "none; jobs go to clusters that hold it"))
    return found


def _licence_table(licences: list[Licence]) -> None:
    rows = [
        (item.id, item.tenant, joined(item.purposes), joined(item.jurisdictions or ("as the product",)), clock(item.expires_at),
         _left(item.runs_left, item.runs, str), _left(item.bytes_left, item.bytes_granted, size), "revoked" if item.revoked else "valid")
        for item in licences
    ]  # fmt: skip
    headers = ["ID", "TENANT", "PURPOSES", "PROCESSED IN", "EXPIRES", ">RUNS LEFT", ">DATA LEFT", "STATE"]
    grid(headers, rows, none="no licence yet; grant one with `cpn product grant`")


def _left(left: int | None, granted: int | None, shown: Callable[[int], str]) -> str | None:
    return None if left is None or granted is None else f"{shown(left)} of {shown(granted)}"


@app.command("sample")
def sample(
    context: typer.Context,
    name: ProductName,
    rows: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 10,
    output: Output = "table",
) -> None:
    """The first rows of a product, where its terms allow that: without hidden columns, and masked."""
    from controlplane.cli.results import print_preview

    with connect(context) as client:
        show(client.sample(name, rows), output, lambda found: print_preview(found.preview, ""))


@app.command("grant")
def grant(
    context: typer.Context,
    name: ProductName,
    tenant: Annotated[str, typer.Option(help="Who may use it.", autocompletion=completion.tenants)],
    purpose: Annotated[list[str], typer.Option(help="What for; repeatable.")],
    jurisdiction: Annotated[list[str] | None, typer.Option(help="Where it may be processed; repeatable. [default: as the product]")] = None,
    expires: Annotated[str | None, typer.Option(metavar="DATE", help="Until when, like 2027-01-01; else without end.")] = None,
    runs: Annotated[int | None, typer.Option(metavar="N", help="How many runs; else any number.")] = None,
    gib: Annotated[str | None, typer.Option(metavar="N", help="How many GiB all runs together may read; else any number.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Permitted kinds of jobs; repeatable. [default: as the product]")] = None,
    consent: Annotated[str, typer.Option(metavar="REFERENCE", help="Of the people's consent; required for personal data.")] = "",
    output: Output = "table",
) -> None:
    """Grant a tenant a licence."""
    from controlplane.api.schemas import LicenceRequest
    from controlplane.cli.documents import validated

    document: dict[str, Any] = {"tenant": tenant, "purposes": purpose, "jurisdictions": jurisdiction or []}
    document |= {"runs": runs, "gib": gib, "kinds": kind or [], "consent": consent}
    if expires is not None:
        document["expires_at"] = _moment(expires)
    request = validated(LicenceRequest, document, "the licence")
    with connect(context) as client:
        show(client.grant(name, request), output, _granted)


def _moment(text: str) -> str:
    """A date (its first moment here) or a time with its zone, as RFC 3339."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise usage(f"--expires {text!r} is not a date; write it like 2027-01-01 or 2027-01-01T08:00:00+08:00") from error
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()


def _granted(item: Licence) -> None:
    until = f"until {clock(item.expires_at)}" if item.expires_at else "without end"
    limits = [f"for {item.runs:,} runs" if item.runs else "", f"for {item.gib:f} GiB" if item.gib else ""]
    limits += [f"by jobs of kind {joined(item.kinds)}" if item.kinds else ""]
    said = ", ".join([until, *filter(None, limits)])
    print(f"granted {item.id}: {item.tenant} may use {item.product} for {joined(item.purposes)}, {said}")


@app.command("revoke")
def revoke(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="[PRODUCT] LICENCE", help="The licence's id, lic-…; the product may be left out.")],
    stop_running: Annotated[bool, typer.Option("--stop-running", help="Also end what runs under it; those jobs then wait.")] = False,
    output: Output = "table",
) -> None:
    """End a licence: nothing more is placed under it, and jobs that wait are held; what runs goes on, unless it is to be stopped."""
    if len(names) > 2:
        raise usage(f"{len(names)} names; give the licence's id, with its product before it or not")
    with connect(context) as client:
        name = names[0] if len(names) > 1 else client.licence(names[0]).product
        show(client.revoke_licence(name, names[-1], stop_running=stop_running), output, _revoked)


def _revoked(item: RevokedLicence) -> None:
    parts = [(item.waiting, "held"), (item.running, "running to their end"), (item.stopping, "told to end")]
    met = joined([f"{count} {what}" for count, what in parts if count])
    print(f"revoked {item.id} of {item.tenant}" + (f"; of its jobs {met}" if met else ""))


Reference = Annotated[str, typer.Argument(metavar="PRODUCT@VERSION", help="The version, like owner/product@1.")]
WhyNot = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Told to whoever would use it.")]


@app.command("deprecate")
def deprecate(context: typer.Context, reference: Reference, reason: WhyNot = "", output: Output = "table") -> None:
    """Advise against a version: jobs run with it as before, and `cpn job plan` warns."""
    _set_standing(context, reference, "deprecate", reason, output)


@app.command("withdraw")
def withdraw(context: typer.Context, reference: Reference, reason: WhyNot = "", output: Output = "table") -> None:
    """Take a version back for good: what runs finishes, what waits is held, and new jobs are refused."""
    _set_standing(context, reference, "withdraw", reason, output)


def _set_standing(context: typer.Context, reference: str, verb: Literal["deprecate", "withdraw"], reason: str, output: str) -> None:
    from controlplane.api.schemas import StandingRequest
    from controlplane.cli.documents import validated
    from workloads.spec import split_ref

    try:
        name, version = split_ref(reference)
    except ValueError as error:
        raise usage(str(error)) from error
    request = validated(StandingRequest, {"reason": reason}, "the reason")
    with connect(context) as client:
        found = client.set_standing(name, version, verb, request)
        show(found, output, lambda one: print(f"{one.ref} is {one.standing}"))  # type: ignore[arg-type]
