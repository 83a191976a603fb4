"""Carbon: how much CO2 a run emits at a cluster, estimated before it starts and again when it has ended.

Energy is the power of what the run holds, at its greatest, over the time that it takes, times what the site needs on top; intensity is
that of the cluster's electricity as its operator declares it, by the hour if it changes. The power of an accelerator is its
vendor's figure (cluster/ratings/power.csv) unless the operator knows better. What a core draws depends on the machine, so it is
declared or unknown; memory is not counted. A run of which any part is unknown has no estimate: it is unrated, never guessed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cluster.computing_power import published_watts
from workloads.faults import Fault, refuse
from workloads.hours import WEEK_S, Hours, Week, ZoneName, overlaps
from workloads.resources import Resources

CORE = "core"
# A longer run is taken to meet the hours of the week as its first weeks do, so that nobody counts the hours of a century.
LONGEST_S = 4 * WEEK_S
JOULES_PER_KWH = 3.6e6

Intensity = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False, examples=[550])]
Watts = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
Drawing = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class CarbonHours(Hours):
    """Hours at which the electricity has another intensity."""

    grams_per_kwh: Intensity


class Carbon(BaseModel):
    """What is known of a cluster's electricity and of what its machines draw."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    grams_per_kwh: Intensity = Field(description="grams of CO2 for a kilowatt-hour, at all hours that `hours` does not name")
    time_zone: ZoneName | None = Field(default=None, description="that of `hours`")
    hours: tuple[CarbonHours, ...] = Field(default=(), strict=False, max_length=100)
    watts: dict[Drawing, Watts] = Field(
        default={}, examples=[{"core": 6.5, "H200": 700}],
        description="accelerator model → what one draws, where the vendor's figure is not meant; `core`: what a core draws",
    )  # fmt: skip
    overhead: float = Field(
        default=1.0, ge=1, le=10, allow_inf_nan=False, description="energy of the site for each unit of its machines (PUE)"
    )

    @model_validator(mode="after")
    def _one_value_for_every_hour(self) -> Self:
        unclear: list[Fault] = (
            [] if self.time_zone or not self.hours else [(("time_zone",), "is missing; hours need the zone of their clock")]
        )
        refuse("Carbon", [*unclear, *((("hours", *path), reason) for path, reason in overlaps(self.hours))])
        return self

    @property
    def week(self) -> Week[float]:
        """The intensity of every moment, in grams for a kilowatt-hour."""
        return _week(self.time_zone or "UTC", self.grams_per_kwh, self.hours)

    def mean_intensity(self, begin_s: float, seconds: float) -> float:
        """Grams for a kilowatt-hour, on average over so many seconds from a moment on (seconds since the epoch)."""
        if not self.hours:
            return self.grams_per_kwh
        if seconds <= 0:
            return self.week.at(begin_s)
        pieces = self.week.pieces(begin_s, begin_s + min(seconds, LONGEST_S))
        return sum((piece.end_s - piece.begin_s) * piece.value for piece in pieces) / sum(piece.end_s - piece.begin_s for piece in pieces)

    def watts_of_device(self, model: str) -> float | None:
        """What one accelerator draws at most; None where nobody knows."""
        return self.watts.get(model, published_watts(model))

    def watts_of(self, resources: Resources, model: str | None) -> float | None:
        """What all workers draw together at most, with accelerators of one model; None where a part is unknown."""
        core = self.watts.get(CORE)
        device = 0.0
        if resources.accelerator is not None and model is not None:
            known = self.watts_of_device(model)
            if known is None:
                return None
            device = known * resources.accelerator.amount
        return None if core is None else (core * resources.cpu + device) * resources.fewest

    def kilowatt_hours(self, resources: Resources, model: str | None, seconds: float) -> float | None:
        """The energy of a run with what the site needs on top, of an elastic one with the fewest workers; None where a part is unknown."""
        watts = self.watts_of(resources, model)
        return None if watts is None else watts * seconds / JOULES_PER_KWH * self.overhead

    def grams(self, resources: Resources, model: str | None, begin_s: float, seconds: float) -> float | None:
        """Grams of CO2 of a run from a moment on, of an elastic one with the fewest workers; None where a part is unknown."""
        energy = self.kilowatt_hours(resources, model, seconds)
        return None if energy is None else energy * self.mean_intensity(begin_s, seconds)


@lru_cache(maxsize=1024)
def _week(zone: str, usual: float, hours: tuple[CarbonHours, ...]) -> Week[float]:
    return Week(zone, usual, ((item, item.grams_per_kwh) for item in hours))
