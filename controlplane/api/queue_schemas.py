"""Queues in the HTTP API: what is asked for, and what is shown of the tree."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.resources import MemoryBytes
from workloads.spec import Name

Count = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0, le=1e6)]
QueueOrder = Literal["best-effort", "strict"]
QueueLayout = Literal["pack", "spread"]
MaxRunning = Annotated[int, Field(ge=1, le=1_000_000)]


QueuePreemption = Literal["never", "lower-priority", "reclaim-quota"]


class ResourceAmounts(BaseModel):
    """Amounts by resource: `cpu` in cores, `memory` with its unit, accelerators by model, like `H200`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Count] = Field(init=False)
    cpu: Count | None = None
    memory: MemoryBytes | None = None

    def by_resource(self) -> dict[str, float]:
        """The amounts that are given, memory in bytes."""
        found = {"cpu": self.cpu, "memory": self.memory, **self.__pydantic_extra__}
        return {name: float(amount) for name, amount in found.items() if amount is not None}


NOTHING = ResourceAmounts()


class _QueueTerms(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    weight: Weight = 1.0
    max_running: MaxRunning | None = Field(default=None, description="jobs that run at once in it and below it; null for no limit")
    parent: Name | None = Field(default=None, description="the queue that it is below; null at the top")
    quota: ResourceAmounts = Field(default=NOTHING, description="guaranteed; what is unused of it others may borrow")
    borrow_limit: ResourceAmounts = Field(default=NOTHING, description="most beyond the quota; no limit for what is left out")
    lend_limit: ResourceAmounts = Field(default=NOTHING, description="most of the unused quota that others get; all of what is left out")

    order: QueueOrder = Field(
        default="best-effort", description="strict: no job starts before those ahead of it in the queue, even where they do not fit"
    )

    layout: QueueLayout | None = Field(
        default=None, description="pack: on few nodes; spread: on as many as possible; null: as the queue above, at the top pack"
    )
    preemption: QueuePreemption | None = Field(
        default=None,
        description="whom its jobs may have ended to make room: nobody, runs of a lower priority in the same queue, and those by which "
        "others hold what it has lent; null: as the queue above it, at the top never",
    )

    def columns(self) -> dict[str, object]:
        """The fields that are given, as a queue is stored."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value.by_resource() if isinstance(value, ResourceAmounts) else value for name, value in given.items()}


class QueueRequest(_QueueTerms):
    """A new queue. Shares go by weight among the queues with the same parent."""

    name: Name


class QueuePatch(_QueueTerms):
    """Fields to change; what is left out stays, and an amount that is given replaces all of it."""


class QueueResource(BaseModel):
    """A queue's part of one resource, all below it included. Memory is in bytes."""

    model_config = ConfigDict(extra="forbid")
    resource: str
    total: float = Field(description="what the network has")
    entitled: float = Field(description="the quota, and without one the share by weight")
    quota: float
    ceiling: float | None = Field(description="most that may be held; null for no limit")
    kept: float = Field(description="part of the quota that is never lent")
    held: float
    borrowed: float = Field(description="held beyond what it is entitled to")
    recent: float = Field(description="held on average lately; a half-life ago counts half")


class QueueView(BaseModel):
    """A queue with what waits and runs in it and below it."""

    model_config = ConfigDict(extra="forbid")
    name: str
    parent: str | None
    depth: int = Field(description="0 at the top of the tree")
    children: list[str]
    weight: float
    max_running: int | None
    order: QueueOrder
    layout: QueueLayout = Field(description="its own, or that of the queue above")
    layout_inherited: bool = Field(description="it has none of its own")
    preemption: QueuePreemption = Field(description="what holds for it: its own word, or that of the nearest queue above it that has one")
    preemption_own: QueuePreemption | None = Field(description="its own word; null: as the queue above it")
    quota: dict[str, float] = Field(description="memory in bytes")
    borrow_limit: dict[str, float]
    lend_limit: dict[str, float]
    queued: int
    running: int
    entitled_share: float = Field(description="share of the network by weight while all queues have work")
    dominant_share: float = Field(description="received: largest share of any resource of the network that its runs hold")
    borrowed_share: float = Field(description="largest share of any resource held beyond what it is entitled to")
    recent_share: float = Field(description="received on average lately; a half-life ago counts half")
    resources: list[QueueResource]
    warnings: list[str] = Field(description="quotas that cannot be kept as things are")
    created_at: datetime
