"""Links between members in the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from controlplane.api.bases import Answer, Asked
from workloads.resources import ComputedMoney, MoneyAmount


class LinkView(Answer):
    """The way of data from one member to another."""

    source: str
    cluster: str = Field(description="where it comes in")
    mib_s: float = Field(description="what transfer times are estimated by")
    origin: Literal["measured", "declared"] = Field(description="measured: the median of the last transfers; declared: none was told yet")
    declared_mib_s: float = Field(description="for this link, or for all that lead to the cluster")
    latency_ms: float = Field(default=0.0, description="as declared; part of each transfer's time")
    price_gib: ComputedMoney | None = Field(default=None, description="of a GiB that comes this way")
    transfers: int = Field(description="so many of the last ones count")
    capped: bool = Field(description="a cap of the agent held one of these back")
    last_at: datetime | None


class LinkPatch(Asked):
    """What an operator says of one link; what is not given stays, and null takes it away, so that what holds for all links counts."""

    price_gib: MoneyAmount | None = Field(default=None, description="of a GiB; else the cluster's transfer_gib")
    bandwidth_mib_s: float | None = Field(default=None, gt=0, le=1e6, description="until transfers were measured; else the cluster's")
    latency_ms: float | None = Field(default=None, ge=0, le=600_000, description="until the first byte of each transfer; else 0")


class TransferView(Answer):
    """A version that would have to be brought in, and from where: the cluster whose link is fastest, as measured or declared."""

    ref: str
    size_bytes: int
    source: str
    mib_s: float
    seconds: float
    others: list[str] = Field(default=[], description="the clusters that it comes from instead when that fails, in this order")
    price: ComputedMoney | None = Field(default=None, description="in the quote; null without one")
