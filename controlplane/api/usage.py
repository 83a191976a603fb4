"""What was used: resource hours and money over a time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Buyer, Plane
from controlplane.api.money_schemas import UsageView, UsedBy, UsedView
from controlplane.api.periods import From, To, in_order, seconds_of
from controlplane.api.views import moment
from scheduler.errors import InvalidError, Problem
from scheduler.usage import Used, usage
from workloads.months import month_at, month_of
from workloads.resources import Money

router = APIRouter(tags=["money"])
LONGEST_S = 400 * 86_400.0


@router.get("/usage")
async def get_usage(
    principal: Buyer, plane: Plane, begins: From = None, to: To = None, by: UsedBy = "tenant",
    tenant: Annotated[str | None, Query(max_length=63, description="of one tenant alone; a buyer sees its own")] = None,
) -> UsageView:  # fmt: skip
    """Resource hours of runs and the money of receipts, from the beginning of this month until now where no times are given."""
    wanted = principal.tenant if principal.role == "buyer" else tenant
    if tenant is not None and not principal.may_see_tenant(tenant):
        raise InvalidError((Problem("tenant", "forbidden", f"your token is bound to the tenant {principal.tenant!r}"),))
    now, zone = plane.clock.now(), plane.settings.statement_zone
    end = seconds_of(to) or now
    begin = seconds_of(begins)
    begin = month_of(month_at(end, zone), zone).begin_s if begin is None else begin
    in_order(begin, end)
    if end - begin > LONGEST_S:
        raise InvalidError((Problem("from", "too_long", f"the time is longer than {LONGEST_S / 86_400:.0f} days; ask for a part of it"),))

    def work() -> UsageView:
        with plane.store.read() as conn:
            found = usage(conn, by, begin, end, now, wanted)
        items = [_view(name, used) for name, used in found.items()]
        return UsageView(begins_at=moment(begin), ends_at=moment(end), by=by, items=items)

    return await run_in_threadpool(work)


def _view(name: str, used: Used) -> UsedView:
    return UsedView(
        name=name, runs=used.runs, cpu_hours=used.cpu_hours, memory_gib_hours=used.memory_gib_hours,
        accelerator_hours=dict(sorted(used.accelerator_hours.items())),
        charged=[Money(amount=amount, currency=currency) for currency, amount in sorted(used.charged.items())],
    )  # fmt: skip
