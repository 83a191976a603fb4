"""What a run is estimated to emit: declared intensity by the hour, published or declared power, and nothing where a part is unknown."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.carbon import LONGEST_S, Carbon
from cluster.computing_power import canonical_model, published_watts
from workloads.resources import Resources

MONDAY = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
HOUR = 3600.0
NIGHTS: dict[str, Any] = {"time_zone": "UTC", "hours": [{"from": "22:00", "to": "06:00", "grams_per_kwh": 200.0}]}


def carbon(**fields: Any) -> Carbon:
    return Carbon.model_validate({"grams_per_kwh": 600.0, "watts": {"core": 10.0}, **fields})


def asking(**fields: Any) -> Resources:
    return Resources.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "begin_h", "hours", "expected"),
    [
        ({}, 0, 5, 600.0),
        (NIGHTS, 0, 6, 200.0),
        (NIGHTS, 6, 4, 600.0),
        (NIGHTS, 4, 4, 400.0),
        (NIGHTS, 0, 24, (8 * 200 + 16 * 600) / 24),
        (NIGHTS, 23, 0, 200.0),
        ({**NIGHTS, "time_zone": "Asia/Shanghai"}, 14, 8, 200.0),
        # The hours of a century are those of a week.
        (NIGHTS, 0, 100 * 365 * 24, (8 * 200 + 16 * 600) / 24),
    ],
)
def test_intensity_is_that_of_the_hours_that_a_run_meets(fields: dict[str, Any], begin_h: float, hours: float, expected: float) -> None:
    assert carbon(**fields).mean_intensity(MONDAY + begin_h * HOUR, hours * HOUR) == pytest.approx(expected)
    assert LONGEST_S % (7 * 24 * HOUR) == 0


@pytest.mark.parametrize(
    ("fields", "asked", "model", "expected"),
    [
        ({}, {"cpu": 4}, None, 40.0),
        ({}, {"cpu": 4, "workers": 3}, None, 120.0),
        ({}, {"cpu": 4, "workers": {"min": 2, "max": 8}}, None, 80.0),
        ({}, {"cpu": 1, "accelerator": {"model": "H200", "count": 8}}, "H200", 5610.0),
        ({}, {"cpu": 1, "accelerator": {"model": "H200", "share": 0.25}}, "H200", 185.0),
        ({"watts": {"core": 10.0, "H200": 500.0}}, {"cpu": 1, "accelerator": {"model": "H200"}}, "H200", 510.0),
        ({"watts": {"core": 10.0, "Ascend-910B": 300.0}}, {"cpu": 1, "accelerator": {"model": "Ascend-910B"}}, "Ascend-910B", 310.0),
        ({}, {"cpu": 1, "accelerator": {"model": "Ascend-910B"}}, "Ascend-910B", None),
        # The name of two parts, which draw 350 and 700 W.
        ({}, {"cpu": 1, "accelerator": {"model": "H100"}}, "H100", None),
        ({"watts": {}}, {"cpu": 1}, None, None),
        ({"watts": {"H200": 700.0}}, {"cpu": 1, "accelerator": {"model": "H200"}}, "H200", None),
    ],
)
def test_power_is_declared_or_published_or_unknown(
    fields: dict[str, Any], asked: dict[str, Any], model: str | None, expected: float | None
) -> None:
    assert carbon(**fields).watts_of(asking(**asked), model) == expected
    assert (carbon(**fields).grams(asking(**asked), model, MONDAY, HOUR) is None) == (expected is None)


def test_grams_are_power_times_time_times_intensity_times_what_the_site_needs() -> None:
    found = carbon(overhead=1.25, watts={"core": 100.0}, **NIGHTS)
    assert found.grams(asking(cpu=10), None, MONDAY + 4 * HOUR, 4 * HOUR) == pytest.approx(1.0 * 4 * 1.25 * 400.0)
    assert found.grams(asking(cpu=10), None, MONDAY, 0.0) == 0.0


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"grams_per_kwh": -1.0}, ("grams_per_kwh",), "greater than or equal to 0"),
        ({"grams_per_kwh": float("nan")}, ("grams_per_kwh",), "finite"),
        ({"watts": {"core": 0.0}}, ("watts", "core"), "greater than 0"),
        ({"watts": {"": 5.0}}, ("watts", "", "[key]"), "at least 1 character"),
        ({"overhead": 0.5}, ("overhead",), "greater than or equal to 1"),
        ({"hours": NIGHTS["hours"]}, ("time_zone",), "hours need the zone"),
        ({**NIGHTS, "time_zone": "Shanghai"}, ("time_zone",), "not a time zone"),
        ({**NIGHTS, "hours": [*NIGHTS["hours"], {"from": "05:00", "to": "07:00", "grams_per_kwh": 1.0}]}, ("hours", 1), "overlaps"),
        ({"intensity": 5}, ("intensity",), "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(fields: dict[str, Any], path: tuple[str | int, ...], words: str) -> None:
    with pytest.raises(ValidationError) as found:
        carbon(**fields)
    (fault,) = found.value.errors()
    assert fault["loc"] == path
    assert words in fault["msg"]


def test_it_reads_back_what_it_writes() -> None:
    found = carbon(overhead=1.2, **NIGHTS)
    assert Carbon.model_validate(found.model_dump(mode="json")) == found


def test_every_published_figure_has_a_source_and_a_name_that_is_known() -> None:
    rows = list(csv.DictReader(files("cluster.ratings").joinpath("power.csv").read_text(encoding="utf-8").splitlines()))
    assert len({row["name"] for row in rows}) == len(rows) >= 10
    for row in rows:
        assert canonical_model(row["name"]) is not None
        assert 50 <= float(row["watts"]) <= 1500
        assert len(row["source"]) > 15
    assert published_watts("NVIDIA-H100-80GB-HBM3") == 700.0
    assert [published_watts(name) for name in ("A100", "H100", "V100", "P100", "anything")] == [None] * 5
