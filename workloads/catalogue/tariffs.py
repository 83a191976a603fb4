"""Tariffs: at some hours an hour costs another part of its price.

Processor, memory and accelerator time have one factor for each hour of the week; data and transfers cost what they cost. An hour at
factor 0.6 counts as 0.6 of an hour, so a quote's quantities are hours so weighed, at the plain unit price, and the quote says how
many hours there are at which factor: anybody can multiply and add it up again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from workloads.faults import Fault, refuse
from workloads.hours import Hours, Week, ZoneName, overlaps
from workloads.resources import EXACT

USUAL = Decimal(1)
# What would run for longer is charged for the rest at its dearest factor, so that nobody counts the hours of a century.
LONGEST_S = 400 * 86_400
_HOUR_QUANTUM = Decimal("1e-12")


def _read_factor(value: object) -> object:
    if isinstance(value, Decimal):
        return value
    try:
        return Decimal("" if isinstance(value, bool) else str(value))
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not a number; write a part of the price like 0.6") from error


Factor = Annotated[
    Decimal, BeforeValidator(_read_factor), Field(gt=0, le=1000, decimal_places=4, allow_inf_nan=False),
    PlainSerializer(float, return_type=float),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1000, "examples": [0.6]}),
]  # fmt: skip
HourCount = Annotated[
    Decimal, BeforeValidator(_read_factor), Field(ge=0, allow_inf_nan=False),
    PlainSerializer(lambda value: f"{value:f}", return_type=str), WithJsonSchema({"type": "string", "examples": ["7.5"]}),
]  # fmt: skip


class TariffHours(Hours):
    """Hours at which time costs `factor` times its price."""

    factor: Factor


class Tariffs(BaseModel):
    """What hours cost, as parts of the price; hours that are not listed cost the price."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    time_zone: ZoneName
    hours: tuple[TariffHours, ...] = Field(strict=False, max_length=100)

    @model_validator(mode="after")
    def _one_value_for_every_hour(self) -> Tariffs:
        none: list[Fault] = [] if self.hours else [((), "is empty; name hours, or leave tariffs out")]
        refuse("Tariffs", _below("hours", [*none, *overlaps(self.hours)]))
        return self

    @property
    def week(self) -> Week[Decimal]:
        """The factor of every moment."""
        return _week(self)


class HoursAt(BaseModel):
    """How many hours are charged at one factor."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    factor: Factor
    hours: HourCount


class Weighed(NamedTuple):
    """Seconds as they are charged, and the hours that they are made of, by factor; no hours where there are no tariffs."""

    seconds: Decimal
    hours: tuple[HoursAt, ...] = ()


def weigh(tariffs: Tariffs | None, begin_s: float, seconds: Decimal) -> Weighed:
    """Weigh so many seconds from a time on (seconds since the epoch), which counts to the second."""
    return Weighed(seconds) if tariffs is None else _weighed(tariffs, math.floor(begin_s), seconds)


@lru_cache(4096)
def _weighed(tariffs: Tariffs, begin_s: int, seconds: Decimal) -> Weighed:
    found: dict[Decimal, Decimal] = {}
    known = min(seconds, Decimal(LONGEST_S))
    left = known
    for piece in tariffs.week.pieces(float(begin_s), begin_s + float(known)):
        # Changes fall on whole seconds, so only the last piece has a fraction: what is left.
        here = min(Decimal(round(piece.end_s - begin_s)) - (known - left), left) if piece.end_s < begin_s + float(known) else left
        found[piece.value] = EXACT.add(found.get(piece.value, Decimal(0)), here)
        left = EXACT.subtract(left, here)
    if seconds > known:
        dearest = max(tariffs.week.values())
        found[dearest] = EXACT.add(found.get(dearest, Decimal(0)), EXACT.subtract(seconds, known))
    return Weighed(_sum(found), tuple(HoursAt(factor=factor, hours=_hours(found[factor])) for factor in sorted(found)))


@lru_cache(1024)
def _week(tariffs: Tariffs) -> Week[Decimal]:
    return Week(tariffs.time_zone, USUAL, [(item, item.factor) for item in tariffs.hours])


def _sum(found: Mapping[Decimal, Decimal]) -> Decimal:
    total = Decimal(0)
    for factor, seconds in found.items():
        total = EXACT.add(total, EXACT.multiply(factor, seconds))
    return total


def _hours(seconds: Decimal) -> Decimal:
    return EXACT.quantize(EXACT.divide(seconds, Decimal(3600)), _HOUR_QUANTUM).normalize(EXACT)


def _below(field: str, faults: Iterable[Fault]) -> Iterator[Fault]:
    for path, reason in faults:
        yield (field, *path), reason
