"""Links between members in the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from controlplane.api.bases import Answer
from workloads.resources import ComputedMoney


class LinkView(Answer):
    """The way of data from one member to another."""

    source: str
    cluster: str = Field(description="where it comes in")
    mib_s: float = Field(description="what transfer times are estimated by")
    origin: Literal["measured", "declared"] = Field(description="measured: the median of the last transfers; declared: none was told yet")
    declared_mib_s: float
    transfers: int = Field(description="so many of the last ones count")
    capped: bool = Field(description="a cap of the agent held one of these back")
    last_at: datetime | None


class TransferView(Answer):
    """A version that would have to be brought in, and from where: the cluster whose link is fastest, as measured or declared."""

    ref: str
    size_bytes: int
    source: str
    mib_s: float
    seconds: float
    others: list[str] = Field(default=[], description="the clusters that it comes from instead when that fails, in this order")
    price: ComputedMoney | None = Field(default=None, description="in the quote; null without one")
