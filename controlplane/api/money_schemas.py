"""The ledger and what was used, in the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from controlplane.api.bases import Answer
from workloads.resources import ComputedMoney

SIGNED = "to 1/10000 of the currency; below zero it is owed, above it is earned"
UsedBy = Literal["tenant", "queue", "cluster"]


class PostingView(Answer):
    """One account's side of an entry."""

    account: str = Field(description="buyer/TENANT, owner/OWNER, cluster/CLUSTER or fee/market")
    amount: str = Field(description=SIGNED)


class EntryView(Answer):
    """An entry of the journal: what a run cost its buyer, and who earns it. The amounts sum to 0."""

    sequence: int
    at: datetime
    run_id: str
    job_id: str
    currency: str
    postings: list[PostingView]


class HoldingView(Answer):
    """What an account holds by all entries."""

    account: str
    currency: str
    amount: str = Field(description=SIGNED)


class FaultView(Answer):
    """Something that is wrong with the ledger."""

    fault: Literal[
        "unbalanced", "unrounded", "without_receipt", "other_receipt", "without_entry", "receipt_total", "over_quote", "unreadable"
    ]
    run_id: str
    message: str


class BalanceView(Answer):
    """Whether the ledger is sound: every entry against its receipt, and every receipt against its entry."""

    sound: bool
    entries: int
    receipts_without_entry: int = Field(description="of jobs that cost nothing, or, where that is wrong, a fault each")
    accounts: list[HoldingView]
    faults: int
    told: list[FaultView] = Field(description="the first faults")


class UsedView(Answer):
    """What the jobs of a tenant, in a queue or at a cluster held and cost in a time."""

    name: str
    runs: int = Field(description="that held something in this time")
    cpu_hours: float
    memory_gib_hours: float
    accelerator_hours: dict[str, float] = Field(description="by model")
    charged: list[ComputedMoney] = Field(description="by the receipts of this time, one sum for each currency")


class UsageView(Answer):
    """Resource hours and money in a time."""

    begins_at: datetime
    ends_at: datetime
    by: UsedBy
    items: list[UsedView]
