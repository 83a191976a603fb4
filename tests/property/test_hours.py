"""Values over the hours of a week, compared with reading the wall clock minute by minute."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from workloads.hours import DAYS, Hours, Week, overlaps

TIMES = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 30)]
ZONES = ("UTC", "Asia/Shanghai", "Asia/Kathmandu", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns")
some_hours = st.builds(
    lambda begin, end, days: Hours.model_validate({"from": begin, "to": end, "days": days}),
    st.sampled_from(TIMES[::2]), st.sampled_from(TIMES[1::2]), st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
)  # fmt: skip


@st.composite
def weeks(draw: st.DrawFn) -> tuple[str, list[tuple[Hours, float]]]:
    kept: list[Hours] = []
    for item in draw(st.lists(some_hours, max_size=5)):
        if not list(overlaps([*kept, item])):
            kept.append(item)
    return draw(st.sampled_from(ZONES)), [(item, float(number)) for number, item in enumerate(kept)]


def read_off(zone: str, hours: list[tuple[Hours, float]], moment: float) -> float:
    wall = datetime.fromtimestamp(moment, ZoneInfo(zone))
    minute = wall.weekday() * 1440 + wall.hour * 60 + wall.minute
    return next((value for item, value in hours if any(begin <= minute < end for begin, end in item.spans())), -1.0)


@given(weeks(), st.integers(0, 366 * 24 * 2), st.integers(1, 9 * 24 * 3600), st.lists(st.floats(0, 1), min_size=5, max_size=20))
def test_pieces_cover_the_time_without_gaps_and_agree_with_the_wall_clock(
    week: tuple[str, list[tuple[Hours, float]]], half_hour: int, length: int, looks: list[float]
) -> None:
    zone, hours = week
    begin = 1_767_225_600.0 + half_hour * 1800.0
    found = Week(zone, -1.0, hours).pieces(begin, begin + length)
    assert (found[0].begin_s, found[-1].end_s) == (begin, begin + length)
    assert all(left.end_s == right.begin_s and left.value != right.value for left, right in pairwise(found))
    for look in looks:
        at = begin + float(int(look * (length - 1)))
        piece = next(item for item in found if item.begin_s <= at < item.end_s)
        assert piece.value == read_off(zone, hours, at)


@given(weeks(), st.integers(0, 366 * 24 * 2))
def test_the_next_change_is_the_second_piece(week: tuple[str, list[tuple[Hours, float]]], half_hour: int) -> None:
    zone, hours = week
    table, begin = Week(zone, -1.0, hours), 1_767_225_600.0 + half_hour * 1800.0
    found, pieces = table.next_change(begin), table.pieces(begin, begin + 20 * 86_400)
    if found is None:
        assert len(pieces) == 1
    else:
        assert (found.begin_s, found.value) == (pieces[1].begin_s, pieces[1].value)
