"""Values that depend on the hour: tariffs, carbon, whatever repeats from week to week by the clock on the wall.

An operator writes some hours of some days, each with a value, in one time zone; outside of them the usual value holds. Which value
holds at a moment is read off the wall clock at that moment. So when clocks are put back the doubled hour has its value twice, and
an hour that is skipped has none; a night is an hour longer or shorter, and nothing else has to be said of summer time.

Days begin with Monday. Times are seconds since the epoch; within a week they are counted in minutes from Monday, 0:00.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Generic, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from workloads.faults import Fault

V = TypeVar("V")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES, DAY_S = 24 * 60, 86_400.0
WEEK_MINUTES, WEEK_S = 7 * DAY_MINUTES, 7 * DAY_S

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


def _read_day_time(value: object) -> object:
    if isinstance(value, str) and _TIME.fullmatch(value.strip()):
        return value.strip()
    # Without quotes YAML takes 22:00 for the number 1320.
    quotes = "; put it in quotes" if isinstance(value, int) else ""
    raise PydanticCustomError("day_time", "{reason}", {"reason": f'{value!r} is not a time of day; write it like "22:00"{quotes}'})


def _read_zone(value: object) -> object:
    if isinstance(value, str) and value in _zones():
        return value
    remedy = "name one of the IANA time zones, like Asia/Shanghai or UTC"
    raise PydanticCustomError("time_zone", "{reason}", {"reason": f"{value!r} is not a time zone; {remedy}"})


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) | {"UTC"}


DayTime = Annotated[str, BeforeValidator(_read_day_time), Field(examples=["22:00"])]
ZoneName = Annotated[str, BeforeValidator(_read_zone), Field(examples=["Asia/Shanghai"])]


class Hours(BaseModel):
    """Some hours of some days, to be given a value by a subclass. Where `to` is not after `from`, they end on the following day."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, serialize_by_alias=True)

    begin: DayTime = Field(alias="from", description="begin, by the clock on the wall")
    end: DayTime = Field(alias="to", description="end; an earlier time than `from` is on the following day")
    days: tuple[Day, ...] = Field(default=DAYS, strict=False, description="days on which they begin; left out, every day")

    @model_validator(mode="after")
    def _last(self) -> Self:
        if self.begin == self.end or self.begin == "24:00":
            reason = f'from "{self.begin}" to "{self.end}" is no time at all; a whole day is from "00:00" to "24:00"'
            raise PydanticCustomError("hours", "{reason}", {"reason": reason})
        if not self.days:
            raise PydanticCustomError("hours", "{reason}", {"reason": "days is empty; name days, or leave it out for every day"})
        if len(set(self.days)) < len(self.days):
            raise PydanticCustomError("hours", "{reason}", {"reason": "a day is named twice in days; name it once"})
        return self

    def spans(self) -> Iterator[tuple[int, int]]:
        """Begin and end in minutes of the week, in pieces that do not go beyond its end."""
        begin, end = minute_of(self.begin), minute_of(self.end)
        length = (end - begin) % DAY_MINUTES or DAY_MINUTES
        for day in self.days:
            first = DAYS.index(day) * DAY_MINUTES + begin
            yield first, min(first + length, WEEK_MINUTES)
            if first + length > WEEK_MINUTES:
                yield 0, first + length - WEEK_MINUTES

    def __str__(self) -> str:
        which = "" if set(self.days) == set(DAYS) else " on " + ", ".join(self.days)
        return f"{self.begin}-{self.end}{which}"


def minute_of(time: str) -> int:
    """`22:30` → 1350, minutes since midnight."""
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)


def overlaps(hours: Sequence[Hours]) -> Iterator[Fault]:
    """Hours that share a minute with earlier ones of the list, each with its place in it; for validators."""
    taken: list[tuple[int, int, int]] = []
    for place, item in enumerate(hours):
        spans = list(item.spans())
        clash = next((other for begin, end, other in taken if any(begin < last and first < end for first, last in spans)), None)
        if clash is not None:
            yield (place,), f"{item} overlaps with {hours[clash]}; give every hour one value"
        taken += [(begin, end, place) for begin, end in spans]


@dataclass(frozen=True)
class Piece(Generic[V]):
    """A stretch of time with one value."""

    begin_s: float
    end_s: float
    value: V


class Week(Generic[V]):
    """A value for every moment, the same from week to week: `usual`, and other ones at hours that do not overlap."""

    def __init__(self, zone: str, usual: V, hours: Iterable[tuple[Hours, V]] = ()) -> None:
        self._zone = ZoneInfo(zone)
        spans = sorted(((begin, end, value) for item, value in hours for begin, end in item.spans()), key=lambda span: span[:2])
        self._begins, self._values = [0], [usual]
        for begin, end, value in spans:
            if begin == self._begins[-1]:
                self._values[-1] = value
            else:
                self._begins.append(begin)
                self._values.append(value)
            if end < WEEK_MINUTES:
                self._begins.append(end)
                self._values.append(usual)

    @property
    def is_flat(self) -> bool:
        """Whether it is the same at all hours."""
        return all(value == self._values[0] for value in self._values)

    def values(self) -> list[V]:
        """All values that there are, in the order of the hours, some of them more than once."""
        return list(self._values)

    def at(self, moment: float) -> V:
        """The value at a moment."""
        return self._values[self._row(moment)[0]]

    def pieces(self, begin_s: float, end_s: float) -> list[Piece[V]]:
        """The values from `begin_s` up to `end_s`, in order; neighbours differ. Nothing where the end is not later."""
        found: list[Piece[V]] = []
        at = begin_s
        while at < end_s:
            value, until = self.at(at), min(self._until(at), end_s)
            if found and found[-1].value == value:
                found[-1] = Piece(found[-1].begin_s, until, value)
            else:
                found.append(Piece(at, until, value))
            at = until
        return found

    def next_change(self, moment: float) -> Piece[V] | None:
        """The stretch that follows the one at `moment`, which may be longer than is told; None where all hours are alike."""
        if self.is_flat:
            return None
        value, at = self.at(moment), moment
        # Two weeks, because the only hours that differ may be skipped in the first.
        while at < moment + 2 * WEEK_S:
            at = self._until(at)
            if (found := self.at(at)) != value:
                return Piece(at, self._until(at), found)
        return None

    def _row(self, moment: float) -> tuple[int, float]:
        """The row of the table, and the seconds since Monday, 0:00, on the wall."""
        wall = datetime.fromtimestamp(moment, self._zone)
        minute = wall.weekday() * DAY_MINUTES + wall.hour * 60 + wall.minute
        return bisect_right(self._begins, minute) - 1, minute * 60 + wall.second + wall.microsecond / 1e6

    def _until(self, moment: float) -> float:
        """A later moment before which the value at `moment` does not change: the row's end, a change of the clocks, or a day on."""
        row, second = self._row(moment)
        end = self._begins[row + 1] if row + 1 < len(self._begins) else WEEK_MINUTES
        until = moment + min(end * 60 - second, DAY_S)
        if self._offset(until) == self._offset(moment):
            return _whole(until)
        before, after = int(moment), int(until) + 1
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if self._offset(middle) == self._offset(moment) else (before, middle)
        return min(float(after), until) if after > moment else until

    def _offset(self, moment: float) -> float:
        offset = datetime.fromtimestamp(moment, self._zone).utcoffset()
        return offset.total_seconds() if offset is not None else 0.0


def _whole(moment: float) -> float:
    """Changes fall on whole seconds; what sums of floats are off by is taken away."""
    near = float(round(moment))
    return near if abs(moment - near) < 1e-3 else moment
