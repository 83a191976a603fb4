"""What depends on the hour, as documents of the API: tariffs, promised starts, and the prices that a job waits for."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from controlplane.api.bases import Answer
from workloads.resources import ComputedMoney, format_grams


class TariffView(Answer):
    """What an hour costs now as a part of the price, and what it will after the next change; null where it never changes."""

    factor: float
    changes_at: datetime | None
    next_factor: float | None


class SavingView(Answer):
    """Why a flexible job waits: what it would cost and emit at most if it started now where that is least, and what at its promised start.

    Least is the cost, or the CO2 of a job that waits for a cleaner hour.
    """

    waits_for: Literal["cheaper", "cleaner", "affordable"] = Field(description="the kind of hour; affordable: one that its budget pays for")
    cost_now: ComputedMoney
    cost_then: ComputedMoney
    saved: ComputedMoney = Field(description="0 where the hour costs more, as a cleaner one may")
    part: float = Field(description="what is saved of the cost now, 0..1")
    carbon_g_now: float | None = Field(default=None, description="estimated grams of CO2; null where a part is unknown")
    carbon_g_then: float | None = Field(default=None, description="estimated grams of CO2; null where a part is unknown")
    carbon_part: float | None = Field(
        default=None, description="what is avoided of the CO2 now, below 0 where there will be more; null where a part is unknown"
    )
    latest_start: datetime = Field(description="when it has to be placed there at the latest to keep its deadline, with a margin")

    @property
    def hour(self) -> str:
        """What it waits for."""
        return "an hour that its budget pays for" if self.waits_for == "affordable" else f"a {self.waits_for} hour"

    @property
    def gain(self) -> str:
        """What waiting brings, as a clause without its subject."""
        if self.waits_for != "cleaner" or self.carbon_g_now is None or self.carbon_g_then is None:
            return f"saves {self.saved} ({self.part:.0%})"
        less = f" ({self.carbon_part:.0%} less)" if self.carbon_part is not None else ""
        return f"emits {format_grams(self.carbon_g_then)} of CO2 instead of {format_grams(self.carbon_g_now)}{less}"


class PromiseView(Answer):
    """The start that a waiting job is promised: others are placed only where they do not delay it."""

    cluster: str
    nodes: list[str] = Field(description="one for each worker")
    start_at: datetime
    end_at: datetime | None = Field(description="when it is expected to end; null when unknown")
    accelerator_model: str | None = Field(default=None, description="of those that it may use the one that it is promised")
    saving: SavingView | None = Field(
        default=None, exclude_if=lambda value: value is None, description="left out unless the job waits for a cheaper or cleaner hour"
    )


class StartPrice(Answer):
    """What a flexible job would cost and emit at most if it was placed at a time at the cluster where that is least then.

    Least is the price, or the CO2 of a job with `flexible: cleanest`.
    """

    at: datetime
    cluster: str
    price: ComputedMoney
    carbon_g: float | None = Field(default=None, description="estimated grams of CO2; null where a part is unknown")
    within_budget: bool = Field(default=True, description="whether its budget pays for it")


class FlexiblePlan(Answer):
    """Of a flexible job: the hour that it would wait for, null if it would start now, and its price and CO2 by the hour."""

    by: Literal["cheapest", "cleanest"] = Field(default="cheapest", description="what it asked for")
    waits_for: PromiseView | None
    starts: list[StartPrice] = Field(
        description="now, and the times at which its price (or CO2) turns, until its latest start; at most 48; "
        "none with `cleanest` where no cluster that may take it has an estimate of CO2"
    )
    unrated: list[str] = Field(
        default=[], description="with `cleanest`: clusters without an estimate, for whose hours it never waits; it may start there now"
    )
