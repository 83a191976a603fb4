"""Speeds: what the network has learned of how fast like jobs are on each accelerator model."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Plane, Reader
from controlplane.api.paging import Cursor, Limit, decode, encode
from controlplane.api.prose import speed_view
from controlplane.api.schemas import Page
from controlplane.api.speed_schemas import LikeSpeeds, ModelSpeed
from scheduler.engine.speeds import Rate, speeds_on
from scheduler.past import OF_GROUP
from scheduler.store.rates import Like, groups, models_of, newest
from scheduler.ways import prior_of

router = APIRouter(tags=["jobs"])
_PARTS = 3


def _known(like: Like, rates: Iterable[Rate]) -> LikeSpeeds:
    by_model: dict[str, list[Rate]] = {}
    for rate in rates:
        by_model.setdefault(rate.model, []).append(rate)
    speeds = speeds_on(dict.fromkeys(by_model), [rate for found in by_model.values() for rate in found], prior_of(by_model))
    tenant, kind, name = like
    return LikeSpeeds(tenant=tenant, kind=kind, name=name, models=[
        ModelSpeed(
            model=model, speed=speed_view(speeds[model]), runs=len(found),
            median_steps_per_s=_median(rate.steps_per_s for rate in found), median_run_s=_median(rate.seconds for rate in found),
        )
        for model, found in by_model.items()
    ])  # fmt: skip


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


@router.get("/speeds")
async def list_speeds(
    principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100,
    tenant: Annotated[str | None, Query(max_length=63, description="of one tenant alone; a buyer sees its own in any case")] = None,
) -> Page[LikeSpeeds]:  # fmt: skip
    """How fast like jobs were on each accelerator model, by tenant, kind and name; what any_of without a speed goes by."""
    wanted = principal.tenant if principal.role == "buyer" else tenant
    if tenant is not None and not principal.may_see_tenant(tenant):
        raise HTTPException(403, f"your token is bound to the tenant {principal.tenant!r}")
    key = decode(cursor)
    parts = key.split("/") if key is not None else []
    if parts and len(parts) != _PARTS:
        raise HTTPException(400, "the cursor is not one of this list; start without a cursor")
    after = (parts[0], parts[1], parts[2]) if parts else None

    def work() -> Page[LikeSpeeds]:
        with plane.store.read() as conn:
            found = groups(conn, wanted, after, limit + 1)
            items = [_known(like, newest(conn, like, models_of(conn, like), OF_GROUP)) for like in found[:limit]]
        return Page(items=items, next_cursor=encode("/".join(found[limit - 1])) if len(found) > limit else None)

    return await run_in_threadpool(work)
