"""Statements: what a tenant was charged in a month, and what an owner's products earned; as JSON, CSV or a page to print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from controlplane.api import statement_page, statement_table
from controlplane.api.auth import Buyer, Operator, Plane
from controlplane.api.direct import JSON
from controlplane.api.periods import MonthName, month_named
from scheduler.errors import InvalidError, NotFoundError, Problem
from scheduler.store import access, catalogue, ledger
from scheduler.store.session import Connection
from workloads.catalogue.postings import total_of
from workloads.catalogue.statement import OwnerStatement, Statement, owner_statement_of, statement_of
from workloads.months import Month

router = APIRouter(tags=["money"])
T = TypeVar("T", Statement, OwnerStatement)
CHUNK_BYTES = 64 * 1024
Form = Literal["json", "csv", "html"]
Asked = Annotated[Form | None, Query(alias="format", description="json, csv or html; left out, what the header Accept asks for")]
_TYPES: dict[str, Form] = {"application/json": "json", "text/csv": "csv", "text/html": "html"}
_FORMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}, "text/html": {"schema": {"type": "string"}}}}
}


def form_of(request: Request, asked: Form | None) -> Form:
    """The form that is asked for by parameter, else the first of the header Accept that there is. Raises InvalidError."""
    if asked is not None:
        return asked
    for wanted in request.headers.get("accept", "*/*").split(","):
        kind = wanted.partition(";")[0].strip().lower()
        if kind in ("*/*", "application/*", ""):
            return "json"
        if kind in _TYPES:
            return _TYPES[kind]
    words = f"there is {', '.join(_TYPES)}; ask for one of them, or by ?format="
    raise InvalidError((Problem("Accept", "unknown", words),))


@router.get("/statements/{tenant}/{month}", response_model=Statement, responses=_FORMS)
async def tenant_statement(tenant: str, month: MonthName, principal: Buyer, plane: Plane, request: Request, form: Asked = None) -> Response:
    """What a tenant was charged in a month, itemised by job, with totals by purpose, cost centre and research."""
    if not principal.may_see_tenant(tenant):
        raise HTTPException(403, f"your token is bound to the tenant {principal.tenant!r}")
    wanted, period = form_of(request, form), month_named(month, plane.settings.statement_zone)

    def receipts(conn: Connection) -> Iterator[dict[str, Any]]:
        return ledger.receipts_of(conn, tenant, period.begin_s, period.end_s)

    def statement() -> Statement:
        with plane.store.read() as conn:
            access.get_tenant(conn, tenant)
            return statement_of(tenant, period, receipts(conn), plane.clock.now())

    def table() -> IO[bytes]:
        with plane.store.read() as conn:
            access.get_tenant(conn, tenant)
            return statement_table.of_receipts(period, receipts(conn))

    return await _answer(wanted, statement, table, statement_page.of_statement, f"statement-{tenant}-{month}")


@router.get("/owner-statements/{owner}/{month}", response_model=OwnerStatement, responses=_FORMS)
async def owner_statement(
    owner: str, month: MonthName, _principal: Operator, plane: Plane, request: Request, form: Asked = None
) -> Response:
    """The uses and the income of an owner's products in a month, with the licence of each use."""
    wanted, period = form_of(request, form), month_named(month, plane.settings.statement_zone)

    def statement() -> OwnerStatement:
        with plane.store.read() as conn:
            products, net = _products_of(conn, owner), _net_of(conn, owner, period)
            found = ledger.receipts_between(conn, period.begin_s, period.end_s, of_data=True)
            return owner_statement_of(owner, period, products, found, net, plane.clock.now())

    def table() -> IO[bytes]:
        with plane.store.read() as conn:
            found = ledger.receipts_between(conn, period.begin_s, period.end_s, of_data=True)
            return statement_table.of_uses(period, found, _products_of(conn, owner))

    return await _answer(wanted, statement, table, statement_page.of_owner, f"income-{owner}-{month}")


def _products_of(conn: Connection, owner: str) -> frozenset[str]:
    names, after = set[str](), ""
    while some := catalogue.list_products(conn, after):
        names |= {product.name for product, _ in some if product.owner == owner}
        after = some[-1][0].name
    found = frozenset(names)
    if not found:
        raise NotFoundError(f"no product is of the owner {owner!r}; `cpn product list` shows what there is")
    return found


def _net_of(conn: Connection, owner: str, period: Month) -> dict[str, Any]:
    """What the owner has earned by the journal, by currency."""
    account = f"owner/{owner}"
    amounts: dict[str, list[Any]] = {}
    for entry in ledger.entries(conn, account=account, begin=period.begin_s, end=period.end_s):
        amounts.setdefault(entry.currency, []).append(entry.postings[account])
    return {currency: total_of(some) for currency, some in amounts.items()}


async def _answer(form: Form, statement: Callable[[], T], table: Callable[[], IO[bytes]], page: Callable[[T], str], name: str) -> Response:
    if form == "csv":
        file = await run_in_threadpool(table)
        headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return StreamingResponse(_pieces(file), media_type="text/csv; charset=utf-8", headers=headers)
    found = await run_in_threadpool(statement)
    if form == "html":
        return HTMLResponse(await run_in_threadpool(page, found), headers={"Content-Security-Policy": statement_page.POLICY})
    return Response(found.model_dump_json(), media_type=JSON)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
