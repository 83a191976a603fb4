"""Flexible jobs on the virtual clock: they wait as on a server, by the hours of the trace's calendar, and start in time."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from cluster.carbon import Carbon
from scheduler.simulator.networks import Network, NodeGroup, Site, machines_of
from scheduler.simulator.outcome import Outcome
from scheduler.simulator.simulate import replay_on
from scheduler.traces.trace import Builder, Flexible, Trace
from tests.unit.workloads.samples import prices
from workloads.resources import GIB

HOUR = 3600.0
NIGHT = {"time_zone": "UTC", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.6}]}
SUN = {"grams_per_kwh": 500, "time_zone": "UTC", "hours": [{"from": "10:00", "to": "16:00", "grams_per_kwh": 100}], "watts": {"core": 5}}
AFTERNOON = datetime(2026, 3, 2, 16, tzinfo=UTC).timestamp()


def network(**more: object) -> Network:
    """One cluster of a node of 8 cores, and where it is asked for a second one that is always a little dearer."""
    carbon = Carbon.model_validate(SUN)
    groups = (NodeGroup(1, 8.0, 64 * GIB),)
    sites = [Site("sh", "CN-SH", prices(tariffs=NIGHT), groups, carbon)]
    if more.get("second"):
        sites.append(Site("tj", "CN-TJ", prices(cpu_hour="0.50 CNY"), groups))
    return Network(tuple(sites))


def trace(*jobs: tuple[float, float, Flexible | None]) -> Trace:
    """Jobs of 8 cores for four hours at most: when each comes, how long it takes and whether it may wait, in hours from the afternoon."""
    found = Builder()
    found.zero_at = AFTERNOON
    for at, hours, flexible in jobs:
        found.add(at * HOUR, hours * HOUR, limit=4 * HOUR, cpu_milli=8000, memory_mib=1024, flexible=flexible)
    return found.trace()


def run(work: Trace, backfill: str = "easy", **more: object) -> Outcome:
    return replay_on(work, machines_of(network(**more)), ["cpn-live"], backfill=backfill).outcomes["cpn-live"]


@pytest.mark.parametrize(
    ("by", "deadline_h", "backfill", "expected_h"),
    [
        ("cheapest", 20.0, "easy", 6.0),  # At 22:00.
        ("cheapest", 20.0, "conservative", 6.0),
        ("cheapest", 20.0, "none", 0.0),  # Without promises nobody waits.
        ("cheapest", 4.1, "easy", 0.0),  # There is no time to wait.
        ("cheapest", 7.2, "easy", 3.0),  # The latest start, less twelve minutes of margin: an hour of it is cheap.
        ("cleanest", 40.0, "easy", 18.0),  # At 10:00.
        ("cleanest", 20.0, "easy", 15.8),  # The latest start: as much of it as can be after 10:00.
    ],
)
def test_it_waits_for_the_best_hour_that_is_in_time(by: str, deadline_h: float, backfill: str, expected_h: float) -> None:
    found = run(trace((0.0, 2.0, Flexible(by, deadline_h * HOUR))), backfill)  # type: ignore[arg-type]
    assert found.start_s[0] / HOUR == pytest.approx(expected_h, abs=1e-6)
    assert found.end_s[0] - found.start_s[0] == 2 * HOUR


def test_others_go_in_front_where_they_are_done_by_then() -> None:
    patient = Flexible("cheapest", 20 * HOUR)
    # The second is done before the night, the third would not be and waits behind the first.
    found = run(trace((0.0, 1.0, patient), (0.5, 1.0, None), (3.0, 4.0, None)))
    assert (found.start_s / HOUR).tolist() == pytest.approx([6.0, 0.5, 7.0])


def test_it_goes_where_it_is_cheapest_then_and_others_where_it_is_cheapest_now() -> None:
    found = run(trace((0.0, 1.0, None), (0.0, 1.0, Flexible("cheapest", 20 * HOUR))), second=True)
    assert found.start_s.tolist() == pytest.approx([0.0, 6 * HOUR])
    # By day the first cluster costs 0.40 CNY, by night 0.24 CNY.
    assert found.model.tolist() == [0, 0]


def test_deadlines_stay_with_their_jobs_when_rows_are_sorted_and_taken_apart() -> None:
    jobs = Builder()
    for at, flexible in ((9.0, Flexible("cheapest", 50.0)), (2.0, None), (5.0, Flexible("cleanest", 40.0))):
        jobs.add(at, 1.0, flexible=flexible)
    found = jobs.trace()
    assert dict(found.flexible) == {1: Flexible("cleanest", 38.0), 2: Flexible("cheapest", 48.0)}
    assert dict(found.part(1, 2).flexible) == {0: Flexible("cleanest", 35.0)}
    assert np.isclose(found.part(1, 2).submit_s[0], 0.0)
