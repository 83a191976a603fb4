"""Values over the hours of a week: what is written, what is refused, and which value holds when."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter, ValidationError

from workloads.hours import Hours, Week, ZoneName, overlaps

SHANGHAI = "Asia/Shanghai"


def hours(begin: str, end: str, *days: str) -> Hours:
    return Hours.model_validate({"from": begin, "to": end, **({"days": days} if days else {})})


def moment(text: str, zone: str = SHANGHAI) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def shown(week: Week[float], begin: str, end: str, zone: str = SHANGHAI) -> list[tuple[str, str, float]]:
    def wall(at: float) -> str:
        return f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%a %H:%M}"

    return [(wall(item.begin_s), wall(item.end_s), item.value) for item in week.pieces(moment(begin, zone), moment(end, zone))]


NIGHT = Week(SHANGHAI, 1.0, [(hours("22:00", "06:00"), 0.6)])


@pytest.mark.parametrize(
    ("at", "value"),
    [("2026-11-30T21:59", 1.0), ("2026-11-30T22:00", 0.6), ("2026-12-01T05:59:59", 0.6), ("2026-12-01T06:00", 1.0),
     ("2026-12-06T23:00", 0.6), ("2026-12-07T00:00", 0.6)],
)  # fmt: skip
def test_a_night_ends_on_the_following_day_also_from_sunday_to_monday(at: str, value: float) -> None:
    assert NIGHT.at(moment(at)) == value


def test_pieces_follow_each_other_and_neighbours_differ() -> None:
    assert shown(NIGHT, "2026-11-30T20:00", "2026-12-01T07:00") == [
        ("Mon 20:00", "Mon 22:00", 1.0), ("Mon 22:00", "Tue 06:00", 0.6), ("Tue 06:00", "Tue 07:00", 1.0),
    ]  # fmt: skip
    assert NIGHT.pieces(5.0, 5.0) == []


def test_hours_of_some_days_begin_on_these_days_alone() -> None:
    week = Week("UTC", 1.0, [(hours("20:00", "04:00", "fri"), 0.5), (hours("00:00", "24:00", "sun"), 0.25)])
    assert shown(week, "2026-12-04T12:00", "2026-12-07T12:00", "UTC") == [
        ("Fri 12:00", "Fri 20:00", 1.0), ("Fri 20:00", "Sat 04:00", 0.5), ("Sat 04:00", "Sun 00:00", 1.0),
        ("Sun 00:00", "Mon 00:00", 0.25), ("Mon 00:00", "Mon 12:00", 1.0),
    ]  # fmt: skip


def test_the_next_change_is_told_with_its_value_and_of_a_flat_week_there_is_none() -> None:
    found = NIGHT.next_change(moment("2026-11-30T12:34:56.7"))
    assert found is not None
    assert (found.begin_s, found.value) == (moment("2026-11-30T22:00"), 0.6)
    assert Week("UTC", 1.0).next_change(0.0) is None
    assert Week("UTC", 1.0, [(hours("00:00", "24:00"), 0.5)]).is_flat


def test_a_night_is_an_hour_shorter_when_clocks_are_put_forward_and_longer_when_they_are_put_back() -> None:
    berlin = "Europe/Berlin"
    week = Week(berlin, 1.0, [(hours("22:00", "06:00"), 0.6)])
    spring = week.pieces(moment("2027-03-27T20:00", berlin), moment("2027-03-28T12:00", berlin))
    autumn = week.pieces(moment("2026-10-24T20:00", berlin), moment("2026-10-25T12:00", berlin))
    assert [(item.end_s - item.begin_s) / 3600 for item in spring] == [2, 7, 6]
    assert [(item.end_s - item.begin_s) / 3600 for item in autumn] == [2, 9, 6]


def test_an_hour_that_is_skipped_has_no_value_and_one_that_comes_twice_has_it_twice() -> None:
    berlin = "Europe/Berlin"
    week = Week(berlin, 1.0, [(hours("02:00", "03:00"), 0.5)])
    assert {item.value for item in week.pieces(moment("2027-03-28T00:00", berlin), moment("2027-03-28T12:00", berlin))} == {1.0}
    doubled = week.pieces(moment("2026-10-25T00:00", berlin), moment("2026-10-25T12:00", berlin))
    assert [(item.end_s - item.begin_s) / 3600 for item in doubled] == [2, 2, 9]
    found = week.next_change(moment("2027-03-28T00:00", berlin))
    assert found is not None
    assert found.begin_s == moment("2027-03-29T02:00", berlin)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"from": 1320, "to": "06:00"}, "put it in quotes"),
        ({"from": "22", "to": "06:00"}, 'write it like "22:00"'),
        ({"from": "25:00", "to": "06:00"}, "not a time of day"),
        ({"from": "06:00", "to": "06:00"}, "no time at all"),
        ({"from": "06:00", "to": "08:00", "days": []}, "days is empty"),
        ({"from": "06:00", "to": "08:00", "days": ["mon", "mon"]}, "named twice"),
        ({"from": "06:00", "to": "08:00", "days": ["monday"]}, "'mon', 'tue'"),
        ({"from": "06:00"}, "Field required"),
    ],
)
def test_bad_hours_are_refused_with_what_to_write(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Hours.model_validate(document)


def test_hours_that_share_a_minute_are_found_with_their_place_also_around_the_end_of_the_week() -> None:
    assert list(overlaps([hours("22:00", "06:00"), hours("06:00", "22:00")])) == []
    night = [hours("00:00", "01:00", "mon"), hours("22:00", "00:30", "sun")]
    assert list(overlaps(night)) == [((1,), "22:00-00:30 on sun overlaps with 00:00-01:00 on mon; give every hour one value")]


def test_a_time_zone_is_known_or_refused_by_name() -> None:
    assert TypeAdapter(ZoneName).validate_python("Asia/Shanghai") == SHANGHAI
    for unknown in ("Asia/Shangai", "../etc/passwd", "", 8):
        with pytest.raises(ValidationError, match="IANA"):
            TypeAdapter(ZoneName).validate_python(unknown)


def test_hours_read_back_to_the_same_hours() -> None:
    found = hours("22:00", "06:00", "mon")
    assert Hours.model_validate_json(found.model_dump_json()) == found
    assert found.model_dump(mode="json") == {"from": "22:00", "to": "06:00", "days": ["mon"]}
