"""Tokens, capacity and targets."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from controlplane.api import views
from controlplane.api.auth import Operator, Plane, Reader
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import CapacityView, Page, TargetRequest, TargetView, TokenCreated, TokenRequest, TokenView, Unrated
from controlplane.tokens import JOIN, JOIN_S
from controlplane.wiring import ControlPlane
from scheduler.errors import InvalidError, Problem
from scheduler.store import access, fleet

router = APIRouter()


@router.post("/tokens", status_code=201, tags=["tokens"])
async def create_token(request: TokenRequest, principal: Operator, plane: Plane) -> TokenCreated:
    """Create a token; its text is shown this once."""

    def work() -> TokenCreated:
        _check_binding(plane, request)
        lasts_s = JOIN_S if request.expires_in is None and request.role == JOIN else request.expires_in
        expires_at = None if lasts_s is None else plane.clock.now() + lasts_s
        record, secret = plane.tokens.create(
            request.role, tenant=request.tenant, cluster=request.cluster, expires_at=expires_at, by=principal.token_id
        )
        return TokenCreated.model_validate({**views.token_fields(record), "token": secret})

    return await run_in_threadpool(work)


def _check_binding(plane: ControlPlane, request: TokenRequest) -> None:
    problems = []
    if (request.role == "buyer") != (request.tenant is not None):
        problems.append(Problem("tenant", "binding", "a buyer's token is bound to a tenant; tokens of other roles are not"))
    if (request.role in ("agent", JOIN)) != (request.cluster is not None):
        problems.append(Problem("cluster", "binding", "an agent's token and a join token are bound to a cluster; others are not"))
    with plane.store.read() as conn:
        if request.tenant is not None and not access.has_tenant(conn, request.tenant):
            problems.append(Problem("tenant", "unknown", f"there is no tenant {request.tenant!r}; create it with `cpn tenant create`"))
        if request.cluster is not None and request.cluster not in {cluster.name for cluster in fleet.list_clusters(conn)}:
            problems.append(Problem("cluster", "unknown", f"there is no cluster {request.cluster!r}; register it first"))
    if problems:
        raise InvalidError(tuple(problems))


@router.get("/tokens", tags=["tokens"])
async def list_tokens(_principal: Operator, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[TokenView]:
    """All tokens without their texts, by id."""

    def work() -> list[TokenView]:
        with plane.store.read() as conn:
            return sorted((views.token_view(token) for token in access.list_tokens(conn)), key=lambda token: token.id)

    return page_of(await run_in_threadpool(work), lambda token: token.id, cursor, limit)


@router.delete("/tokens/{token_id}", tags=["tokens"])
async def revoke_token(token_id: str, principal: Operator, plane: Plane) -> TokenView:
    """End a token at once."""
    return views.token_view(await run_in_threadpool(plane.tokens.revoke, token_id, principal.token_id))


def _targets(plane: ControlPlane) -> list[TargetRequest]:
    with plane.store.read() as conn:
        return [TargetRequest.model_validate(document) for document in access.list_targets(conn)]


@router.get("/capacity", tags=["capacity"])
async def get_capacity(_principal: Reader, plane: Plane) -> CapacityView:
    """Computing power by class and precision, and against each target."""

    def work() -> CapacityView:
        capacity, targets = plane.capacity(), _targets(plane)
        return CapacityView(
            at=views.moment(plane.clock.now()), flops=views.flops(capacity.total),
            by_cluster={name: views.flops(powers) for name, powers in capacity.by_cluster.items()},
            unrated=[Unrated.model_validate(vars(item)) for item in capacity.unrated], rated_share=capacity.rated_share,
            targets=[views.target_view(target, capacity.total) for target in targets],
        )  # fmt: skip

    return await run_in_threadpool(work)


@router.post("/targets", status_code=201, tags=["capacity"])
async def set_target(request: TargetRequest, _principal: Operator, plane: Plane) -> TargetView:
    """Set a target, in place of one of the same name."""
    if request.due <= request.baseline_date:
        raise InvalidError((Problem("due", "order", "the due date must be after the baseline's date"),))
    if request.baseline <= 0:
        raise InvalidError((Problem("baseline", "range", "the baseline must be more than 0"),))
    now = plane.clock.now()
    await asyncio.wrap_future(plane.write(lambda tx: access.set_target(tx.conn, request.name, request.model_dump(mode="json"), now)))
    return views.target_view(request, (await run_in_threadpool(plane.capacity)).total)


@router.get("/targets", tags=["capacity"])
async def list_targets(_principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[TargetView]:
    """All targets with their standing, by name."""

    def work() -> list[TargetView]:
        total = plane.capacity().total
        return [views.target_view(target, total) for target in _targets(plane)]

    return page_of(await run_in_threadpool(work), lambda target: target.name, cursor, limit)
