"""The ledger: its entries, and whether it is sound."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Operator, Plane
from controlplane.api.money_schemas import BalanceView, EntryView, FaultView, HoldingView, PostingView
from controlplane.api.paging import Cursor, Limit, decode_number, encode
from controlplane.api.periods import From, To, in_order, seconds_of
from controlplane.api.schemas import Page
from controlplane.api.views import moment
from scheduler.balance import verify
from scheduler.store import ledger
from scheduler.store.ledger import Entry

router = APIRouter(tags=["money"])
ACCOUNT_PATTERN = r"^(buyer|owner|cluster|fee)/[a-z0-9-]{1,63}$"
Account = Annotated[
    str | None, Query(pattern=ACCOUNT_PATTERN, description="those of one account: buyer/TENANT, owner/OWNER, cluster/CLUSTER, fee/market")
]


@router.get("/ledger")
async def list_entries(
    _principal: Operator, plane: Plane, begins: From = None, to: To = None, account: Account = None,
    run: Annotated[str | None, Query(max_length=48, description="that of one run")] = None,
    cursor: Cursor = None, limit: Limit = 100,
) -> Page[EntryView]:  # fmt: skip
    """Entries of the journal, the first one first."""
    begin, end, after = seconds_of(begins), seconds_of(to), decode_number(cursor) or 0
    in_order(begin, end)

    def work() -> Page[EntryView]:
        with plane.store.read() as conn:
            found = list(ledger.entries(conn, run_id=run, account=account, begin=begin, end=end, after=after, most=limit + 1))
        more = encode(str(found[limit - 1].sequence)) if len(found) > limit else None
        return Page(items=[_view(entry) for entry in found[:limit]], next_cursor=more)

    return await run_in_threadpool(work)


@router.get("/ledger:verify")
async def verify_ledger(_principal: Operator, plane: Plane) -> BalanceView:
    """Look at every entry and every receipt: that each sums up, and that each has the other."""

    def work() -> BalanceView:
        with plane.store.read() as conn:
            balance = verify(conn)
        return BalanceView(
            sound=balance.sound, entries=balance.entries, receipts_without_entry=balance.receipts_without_entry, faults=balance.faults,
            accounts=[
                HoldingView(account=account, currency=currency, amount=_text(amount))
                for (account, currency), amount in sorted(balance.accounts.items())
            ],
            told=[FaultView(fault=one.fault.value, run_id=one.run_id, message=one.message) for one in balance.told],
        )  # fmt: skip

    return await run_in_threadpool(work)


def _view(entry: Entry) -> EntryView:
    postings = [PostingView(account=account, amount=_text(amount)) for account, amount in sorted(entry.postings.items())]
    return EntryView(
        sequence=entry.sequence, at=moment(entry.at), run_id=entry.run_id, job_id=entry.job_id, currency=entry.currency, postings=postings
    )


def _text(amount: Decimal) -> str:
    return f"{amount:.4f}"
