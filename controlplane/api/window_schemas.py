"""Maintenance and reservations in the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from workloads.resources import MemoryBytes
from workloads.spec import Moment, Name

NodeNames = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=253)]], Field(max_length=10_000)]
Text = Annotated[str, StringConstraints(max_length=500)]


class _WindowTerms(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    cluster: Name
    nodes: NodeNames = Field(default=[], description="all nodes of the cluster, later ones too, where none is named")
    begins_at: Moment
    ends_at: Moment


class MaintenanceRequest(_WindowTerms):
    """A time at which nothing runs on nodes that is started from now on."""

    name: Name | None = Field(default=None, description="made up where it is left out")
    reason: Text = ""


class ReservationRequest(_WindowTerms):
    """A time at which nodes take only the jobs of one tenant or one queue."""

    name: Name
    cpu: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False, description="instead of nodes: few whole nodes with so many cores")
    memory: MemoryBytes | None = Field(default=None, description="instead of nodes: few whole nodes with so much memory")
    tenant: Name | None = None
    queue: Name | None = None

    @model_validator(mode="after")
    def _is_for_one(self) -> Self:
        if (self.tenant is None) == (self.queue is None):
            raise ValueError("a reservation is for a tenant or for a queue; give one of them")
        if self.nodes and (self.cpu > 0 or self.memory):
            raise ValueError("give nodes, or cpu and memory, not both")
        return self


class WindowView(BaseModel):
    """A maintenance or a reservation."""

    model_config = ConfigDict(extra="forbid")
    name: str
    purpose: Literal["maintenance", "reservation"]
    cluster: str
    nodes: list[str] = Field(description="none named: all nodes of the cluster")
    tenant: str | None
    queue: str | None
    reason: str
    begins_at: datetime
    ends_at: datetime
    standing: Literal["planned", "now", "over"]
    created_at: datetime
