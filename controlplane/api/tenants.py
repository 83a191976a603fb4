"""Tenants: who submits jobs and holds licences, and where their results lie."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from controlplane.api import views
from controlplane.api.auth import Operator, Plane
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import Page
from controlplane.api.tenant_schemas import TenantPatch, TenantRequest, TenantView
from controlplane.result_store import ResultStore, ResultStoreError
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.chain import Act
from scheduler.errors import InvalidError, Problem
from scheduler.store import access, audit
from scheduler.store.access import Tenant
from scheduler.store.audit import Entry
from scheduler.store.session import Transaction

router = APIRouter(tags=["queues"])


@router.post("/tenants", status_code=201)
async def create_tenant(request: TenantRequest, principal: Operator, plane: Plane) -> TenantView:
    """Create a tenant: who submits jobs and holds licences. A store for its results is tried first."""
    await run_in_threadpool(_try, request)
    now = plane.clock.now()

    def work(tx: Transaction) -> None:
        access.add_tenant(tx.conn, request.name, now, **request.columns())
        _note(tx, Act.TENANT_CREATED, request.name, request, principal, now)
        tx.after_commit(plane.shipments.look)

    await asyncio.wrap_future(plane.write(work))
    return await get_tenant(request.name, principal, plane)


@router.patch("/tenants/{name}")
async def change_tenant(name: str, patch: TenantPatch, principal: Operator, plane: Plane) -> TenantView:
    """Change where a tenant's results lie and how long. What the server has is moved to a new store; what an old one has stays there."""
    await run_in_threadpool(_try, patch)

    def work(tx: Transaction) -> None:
        access.update_tenant(tx.conn, name, **patch.columns())
        _note(tx, Act.TENANT_CHANGED, name, patch, principal, plane.clock.now())
        tx.after_commit(plane.shipments.look)

    await asyncio.wrap_future(plane.write(work))
    return await get_tenant(name, principal, plane)


@router.get("/tenants")
async def list_tenants(_principal: Operator, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[TenantView]:
    """All tenants, by name."""

    def work() -> list[TenantView]:
        with plane.store.read() as conn:
            return [_view(plane, tenant) for tenant in access.list_tenants(conn)]

    return page_of(await run_in_threadpool(work), lambda view: view.name, cursor, limit)


@router.get("/tenants/{name}")
async def get_tenant(name: str, _principal: Operator, plane: Plane) -> TenantView:
    """One tenant."""

    def work() -> TenantView:
        with plane.store.read() as conn:
            return _view(plane, access.get_tenant(conn, name))

    return await run_in_threadpool(work)


def _note(tx: Transaction, act: Act, name: str, terms: TenantPatch, principal: Principal, now: float) -> None:
    document = terms.model_dump(mode="json", exclude_unset=True, exclude={"name"})
    audit.append(tx.conn, [Entry(act, name, principal.token_id, now, document, tenant=name)])


def _try(terms: TenantPatch) -> None:
    """Raises InvalidError when a store that is named cannot be written to."""
    if terms.result_store is not None:
        try:
            ResultStore(terms.result_store).probe()
        except ResultStoreError as error:
            raise InvalidError((Problem("result_store", "store", str(error)),)) from error


def _view(plane: ControlPlane, tenant: Tenant) -> TenantView:
    standing = plane.shipments.standing(tenant.name)
    return TenantView(
        name=tenant.name, created_at=views.moment(tenant.created_at), result_store=tenant.result_store,
        keep_results_days=tenant.keep_results_days, keep_results_bytes=tenant.keep_results_bytes,
        waiting_results=standing.waiting, waiting_for=standing.message,
    )  # fmt: skip
