"""What depends on the hour, as documents of the API: tariffs, promised starts, and the prices that a job waits for."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from controlplane.api.bases import Answer
from workloads.resources import ComputedMoney


class TariffView(Answer):
    """What an hour costs now as a part of the price, and what it will after the next change; null where it never changes."""

    factor: float
    changes_at: datetime | None
    next_factor: float | None


class SavingView(Answer):
    """Why a flexible job waits: what it would cost at most if it started now where it costs least, and what at its promised start."""

    cost_now: ComputedMoney
    cost_then: ComputedMoney
    saved: ComputedMoney
    part: float = Field(description="what is saved of the cost now, 0..1")
    latest_start: datetime = Field(description="when it has to be placed there at the latest to keep its deadline, with a margin")


class PromiseView(Answer):
    """The start that a waiting job is promised: others are placed only where they do not delay it."""

    cluster: str
    nodes: list[str] = Field(description="one for each worker")
    start_at: datetime
    end_at: datetime | None = Field(description="when it is expected to end; null when unknown")
    accelerator_model: str | None = Field(default=None, description="of those that it may use the one that it is promised")
    saving: SavingView | None = Field(
        default=None, exclude_if=lambda value: value is None, description="left out unless the job waits for a cheaper hour"
    )


class StartPrice(Answer):
    """What a flexible job would cost at most if it was placed at a time at the cluster where it costs least then."""

    at: datetime
    cluster: str
    price: ComputedMoney


class FlexiblePlan(Answer):
    """Of a flexible job: the cheaper hour that it would wait for, null if it would start now, and its price by the hour."""

    waits_for: PromiseView | None
    starts: list[StartPrice] = Field(description="now, and the times at which its price turns, until its latest start; at most 48")
