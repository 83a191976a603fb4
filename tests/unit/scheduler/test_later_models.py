"""Who waits for a cheaper hour waits for it by whichever of its models is cheapest then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from scheduler.flexible import with_later
from scheduler.freeze import freeze
from tests.builders import cluster, job, or_else, queue, shown, world
from tests.records import NOW, candidate, job_spec, machine, member, world_of
from tests.timed import timed, waiting
from tests.unit.workloads.samples import prices

HOUR = 3600.0
FLAT, DEAR = {0.0: 10.0}, {0.0: 12.0}
# Half the price from hour 6 on, and at the other a third.
NIGHT, DEEP_NIGHT = {0.0: 10.0, 6 * HOUR: 5.0}, {0.0: 12.0, 8 * HOUR: 4.0}


def choosing(
    nodes: str, first: Mapping[float, float], other: Mapping[float, float], *, slower_s: float = 0.0, latest_h: float = 20.0,
    ceiling: str = "",
) -> Snapshot:  # fmt: skip
    """A job of four hours on an H200, or on an A100, whose prices are given by the hour."""
    drawn = world(
        cluster("sh", nodes), jobs=[or_else(job("a", "1+1H200"), "1+1A100", slower_s)], queues=[queue("default", ceiling=ceiling)]
    )
    given = waiting(timed(drawn, {"a": 4 * HOUR}), "a", {"sh": first}, latest_h * HOUR)
    return waiting(given, "a", {"sh": other}, latest_h * HOUR, choice=1)


def told(snapshot: Snapshot) -> tuple[str, tuple[float, int] | None]:
    """Where the job goes or why it waits, and the hour and the way that it is promised."""
    plan = place(snapshot)
    check(snapshot, plan)
    return shown(snapshot, plan)["a"], next(((item.start_s / HOUR, item.choice) for item in plan.promises), None)


BOTH = "8+1H200+1A100"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # The cheapest hour of all, by whichever model.
        pytest.param(choosing(BOTH, FLAT, DEEP_NIGHT), ("cheaper_later", (8.0, 1)), id="only the second is ever cheaper"),
        pytest.param(choosing(BOTH, NIGHT, DEAR), ("cheaper_later", (6.0, 0)), id="only the first is ever cheaper"),
        pytest.param(choosing(BOTH, NIGHT, DEEP_NIGHT), ("cheaper_later", (8.0, 1)), id="the second is cheaper still"),
        pytest.param(choosing(BOTH, NIGHT, DEEP_NIGHT, latest_h=7), ("cheaper_later", (6.0, 0)), id="that hour is too late"),
        # What the first costs at night the second costs now: nothing is saved by waiting.
        pytest.param(choosing(BOTH, NIGHT, {0.0: 5.0}), ("sh n1", None), id="the second costs as little now"),
        # Of equal costs at one time the model named first.
        pytest.param(choosing(BOTH, NIGHT, NIGHT), ("cheaper_later", (6.0, 0)), id="equal"),
        # A model that is nowhere, or that the queue may not hold, is not waited for.
        pytest.param(choosing("8+1H200", NIGHT, DEEP_NIGHT), ("cheaper_later", (6.0, 0)), id="no A100"),
        pytest.param(choosing("8+1A100", NIGHT, DEEP_NIGHT), ("cheaper_later", (8.0, 1)), id="no H200"),
        pytest.param(choosing(BOTH, NIGHT, DEEP_NIGHT, ceiling="8+1H200+0A100"), ("cheaper_later", (6.0, 0)), id="over its ceiling"),
    ],
)  # fmt: skip
def test_it_waits_for_the_cheapest_hour_of_all_models(given: Snapshot, expected: tuple[str, tuple[float, int] | None]) -> None:
    assert told(given) == expected


def test_room_is_kept_for_as_long_as_the_work_takes_on_the_promised_model() -> None:
    given = choosing(BOTH, FLAT, DEEP_NIGHT, slower_s=2 * HOUR)
    [promise] = place(given).promises
    assert promise.end_s - promise.start_s == pytest.approx(6 * HOUR + 1)


def _as(plan: Plan, choice: int) -> Plan:
    return replace(plan, promises=tuple(replace(item, choice=choice) for item in plan.promises))


def test_the_check_rejects_an_hour_that_is_not_cheap_by_the_promised_model() -> None:
    given = choosing(BOTH, NIGHT, {0.0: 12.0, 3 * HOUR: 15.0})
    plan = place(given)
    with pytest.raises(PlanRejectedError, match="waits for an hour that is not cheaper"):
        check(given, _as(plan, 1))
    with pytest.raises(PlanRejectedError, match="may not by the model it is promised"):
        check(replace(given, later=given.later[:1]), _as(plan, 1))
    with pytest.raises(PlanRejectedError, match="its alternative 2, and has 1"):
        check(given, _as(plan, 2))


def test_each_model_has_its_own_hours_at_its_own_price() -> None:
    night = {"time_zone": "Asia/Shanghai", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.5}]}
    hourly = {"H200": "20.00 CNY", "A100": "10.00 CNY"}
    network = world_of(member("sh", prices=prices(tariffs=night, accelerator_hour=hourly)), nodes=[machine("sh")])
    both = {"cpu": 1, "accelerator": {"any_of": [{"model": "H200", "speed": 4.0}, {"model": "A100", "speed": 1.0}]}}
    deadline = datetime.fromtimestamp(NOW + 100 * HOUR, UTC).isoformat()
    asked = candidate(network, job_spec(flexible="cheapest", deadline=deadline, max_runtime="1h", resources=both))
    first, second = with_later(freeze(network, [asked], {}), 8).snapshot.later
    assert (first.job, second.job, first.choice, second.choice) == (asked.id, asked.id, 0, 1)
    # Half the price by the hour, and four times the hours.
    assert second.cost.min() == pytest.approx(2 * first.cost.min(), rel=0.02)
    assert first.latest_s.tolist() == second.latest_s.tolist()
