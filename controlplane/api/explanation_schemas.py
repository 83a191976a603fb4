"""Where a job stands, as a document of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from controlplane.api.bases import Answer
from controlplane.api.price_schemas import PromiseView
from controlplane.api.schemas import ClusterVerdict, EventView, Obstacle
from workloads.resources import ComputedMoney


class AheadView(Answer):
    """A waiting job whose turn comes earlier. A buyer is told nothing of other tenants' jobs but that they are there."""

    job_id: str | None = Field(description="null where the caller may not see the job; so are name and tenant")
    name: str | None
    tenant: str | None
    queue: str
    why: Literal["priority", "age", "quota", "share", "heir"]
    message: str


class WaitsForView(Answer):
    """The single tightest constraint: what stands against the cluster that came closest."""

    reason: str
    message: str
    remedy: str
    nodes: dict[str, int] = Field(description="nodes of permitted clusters by what stands against each")


class ExpectedView(Answer):
    """When the job is expected to start, in seconds from `as_of`: the median, and what nine in ten keep to. Null: nobody can say."""

    p50_s: float | None
    p90_s: float | None
    p50_at: datetime | None
    p90_at: datetime | None
    basis: list[str]
    unknown: list[str]


class ChangeView(Answer):
    """A field of the manifest, and what to write there."""

    path: str = Field(examples=["resources.memory"])
    old: Any
    new: Any


class ProposalView(Answer):
    """A change with which the job would start now."""

    changes: list[ChangeView]
    cluster: str
    start_s: float = Field(description="estimated seconds until the work starts, transfer included")
    price: ComputedMoney = Field(description="ceiling at max_runtime")
    message: str


class WaitingView(Answer):
    """Where a waiting job stands. Positions count from 1."""

    as_of: datetime = Field(description="when the decision was made that this is derived from")
    queue: str
    queue_position: int
    queue_length: int
    position: int = Field(description="in the order of turns over all queues")
    position_known: bool = Field(description="false: at least this far back")
    waiting: int
    ahead: list[AheadView] = Field(description="those right before it, the nearest last")
    waits_for: WaitsForView
    expected: ExpectedView
    sooner: list[ProposalView]


class PlacedView(Answer):
    """Where the current run was placed, and how good that place was among those that had room: 0 is best."""

    cluster: str
    nodes: list[str]
    score: float
    at: datetime


class BroughtAheadView(Answer):
    """A version that the job reads and that is brought to the cluster where it is to start while it waits."""

    ref: str
    cluster: str
    source: str = Field(description="the cluster that it comes from first")
    size_bytes: int


class ExplanationView(Answer):
    """Where a job stands: what the last decision found at each cluster, in words."""

    job_id: str
    state: str
    summary: str
    ahead_in_queue: int
    waiting: WaitingView | None = Field(default=None, description="null unless the job waits")
    promise: PromiseView | None = Field(default=None, description="null for a job that is not among the first that are blocked")
    placed: PlacedView | None = Field(default=None, description="null while the job waits")
    brought_ahead: list[BroughtAheadView] = Field(
        default=[], description="what is not there yet of the data that is brought there meanwhile"
    )
    verdicts: list[ClusterVerdict]
    events: list[EventView]
    holds: list[Obstacle] = Field(default=[], description="what keeps it from being looked at: its time, or the jobs that it comes after")
