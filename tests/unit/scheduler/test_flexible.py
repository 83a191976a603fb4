"""What flexible jobs cost at other times, compared with what they would be quoted then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cluster.carbon import Carbon
from scheduler.engine.later import cost_at, pays, turning_points
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Later, Prefer
from scheduler.flexible import HORIZON_S, LEAST_MARGIN_S, margin_s, unrated, with_later
from scheduler.freeze import Frozen, World, freeze, judge_spec
from tests.records import NO_MARKET, NOW, candidate, job_spec, machine, member, world_of
from tests.unit.workloads.samples import prices
from workloads.spec import JobSpec

HOUR = 3600.0
NIGHT = {"time_zone": "Asia/Shanghai", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.6}]}
NOON = {"time_zone": "Europe/Berlin", "hours": [{"from": "11:00", "to": "14:00", "days": ["sat", "sun"], "factor": 0.3}]}


def flexible(hours: float, **fields: Any) -> JobSpec:
    """A job that has to have ended so many hours from now."""
    return job_spec(flexible="cheapest", deadline=datetime.fromtimestamp(NOW + hours * HOUR, UTC).isoformat(), **fields)


def network() -> World:
    members = [member("flat"), member("noon", prices=prices(tariffs=NOON, cpu_hour="0.20 CNY")), member("sh", prices=prices(tariffs=NIGHT))]
    return world_of(*members, nodes=[machine(item.spec.name) for item in members])


def frozen_for(world: World, *specs: JobSpec) -> Frozen:
    jobs = [candidate(world, spec, id=f"job-{number}", sequence=number) for number, spec in enumerate(specs)]
    return with_later(freeze(world, jobs, dict.fromkeys(("flat", "noon", "sh"), 0.0)), 8)


def later_of(spec: JobSpec) -> Later:
    [found] = frozen_for(network(), spec).snapshot.later
    return found


@pytest.mark.parametrize("max_runtime", ["30m", "5h", "20h"])
def test_the_cost_at_every_hour_is_what_would_be_quoted_then(max_runtime: str) -> None:
    world, spec = network(), flexible(120, max_runtime=max_runtime)
    later = later_of(spec)
    for row in range(3):
        points = turning_points(later, row)
        for at in [0.0, *points.tolist(), *((points[:-1] + points[1:]) / 2).round().tolist()]:
            [way] = judge_spec(spec, NO_MARKET, World(**{**vars(world), "now": NOW + at}))
            quote = way.assessments[row].quote
            assert quote is not None
            assert cost_at(later, row, np.array([at]))[0] == pytest.approx(float(quote.total.amount), abs=2e-4)


@pytest.mark.parametrize("now", [NOW + 0.3, NOW + 59.9, NOW + 1234.567, NOW + 3599.999])
def test_a_cheaper_hour_costs_the_same_whenever_it_is_asked_about(now: float) -> None:
    world, spec = World(**{**vars(network()), "now": now}), flexible(30, max_runtime="2h")
    [later] = frozen_for(world, spec).snapshot.later
    [whole] = judge_spec(spec, NO_MARKET, World(**{**vars(world), "now": NOW}))
    quote = whole.assessments[0].quote
    assert quote is not None
    times = turning_points(later, 2)
    assert cost_at(later, 2, times).min() == pytest.approx(0.6 * sum(float(line.quantity * line.unit_price.amount) for line in quote.lines))


def test_it_has_to_be_placed_in_time_for_all_of_its_limit_and_a_margin() -> None:
    assert later_of(flexible(5, max_runtime="2h")).latest_s.tolist() == pytest.approx([3 * HOUR - 360.0] * 3)
    assert later_of(flexible(5, max_runtime="1m")).latest_s.tolist() == pytest.approx([5 * HOUR - 60.0 - LEAST_MARGIN_S] * 3)
    assert later_of(flexible(1, max_runtime="2h")).latest_s.max() < 0
    assert later_of(flexible(24 * 300, max_runtime="2h")).latest_s.tolist() == [HORIZON_S] * 3
    assert margin_s(flexible(1, max_runtime="10h")) == 1800


@pytest.mark.parametrize(("budget", "max_runtime"), [("5.00 CNY", "5h"), ("6.20 CNY", "5h"), ("9.00 CNY", "10h"), ("12.00 CNY", "10h")])
def test_its_budget_pays_for_a_start_exactly_when_the_quote_then_is_within_it(budget: str, max_runtime: str) -> None:
    world, spec = network(), flexible(60, max_runtime=max_runtime, budget=budget, resources={"cpu": 4, "memory": "1GiB"})
    later = later_of(spec)
    seen = set()
    for row in range(3):
        edges = [edge for edge in later.within_s[row].ravel().tolist() if np.isfinite(edge)]
        # A second beside each edge is left out.
        beside = [edge + aside for edge in edges for aside in (-4.0, 0.0, 4.0) if edge + aside > 0]
        for at in [0.0, *beside, *np.arange(1, 40) * 3600.0]:
            [way] = judge_spec(spec, NO_MARKET, World(**{**vars(world), "now": NOW + at}))
            said = bool(pays(later, row, np.array([at]))[0])
            # Dear hours of a start that would come too late are not looked at.
            if at <= later.latest_s[row]:
                assert said == (way.assessments[row].reason is Reason.FITS), (row, at)
                seen.add((row, said))
    assert {said for _, said in seen} == {True, False}


def test_where_a_budget_never_pays_it_does_not_wait_and_where_prices_are_even_it_pays_always_or_never() -> None:
    cheap, dear = later_of(flexible(60, budget="50.00 CNY")), later_of(flexible(60, budget="0.01 CNY"))
    assert all(pays(cheap, row, np.array([0.0, 1e5])).all() for row in range(3))
    assert not any(pays(dear, row, np.array([0.0, *turning_points(dear, row)])).any() for row in range(3))


def test_where_it_may_not_go_it_never_waits_for() -> None:
    later = later_of(flexible(50, placement={"clusters": ["sh"]}))
    assert later.latest_s.tolist() == [-np.inf, -np.inf, pytest.approx(49 * HOUR - 300)]


def test_jobs_that_are_not_flexible_have_no_other_hours_and_like_ones_are_reckoned_once() -> None:
    world, specs = network(), [job_spec(), flexible(50), flexible(50), flexible(60)]
    ways = judge_spec(specs[1], NO_MARKET, world)
    jobs = [replace(candidate(world, spec, id=f"job-{number}", sequence=number), ways=ways) for number, spec in enumerate(specs)]
    found = with_later(freeze(world, jobs, {}), 8).snapshot
    assert [item.job for item in found.later] == ["job-1", "job-2", "job-3"]
    assert found.later[0].cost is found.later[1].cost
    assert found.later[0].cost is not found.later[2].cost
    assert found.jobs.prefer.tolist() == [Prefer.BALANCED, *[Prefer.CHEAPEST] * 3]
    assert frozen_for(network(), job_spec()).snapshot.later == ()


def clean_network(**machines_of: Any) -> World:
    """Members with even, changing and unknown electricity."""
    sun = {"from": "10:00", "to": "16:00", "grams_per_kwh": 120}
    watts = {"core": 6.5, "H200": 700.0, "L20": 275.0}
    members = [
        member("even", carbon=Carbon(grams_per_kwh=300, watts=watts)), member("silent"), member("nocore", carbon=Carbon(grams_per_kwh=10)),
        member("sun", carbon=Carbon.model_validate({
            "grams_per_kwh": 550, "time_zone": "Asia/Shanghai", "hours": [sun], "watts": watts, "overhead": 1.3,
        })),
    ]  # fmt: skip
    return world_of(*members, nodes=[machine(item.spec.name, **machines_of) for item in members])


def cleanest(hours: float, **fields: Any) -> JobSpec:
    return flexible(hours, **fields).model_copy(update={"flexible": "cleanest"})


@pytest.mark.parametrize(
    ("fields", "models"),
    [
        ({"max_runtime": "30m"}, [(None, 1.0)]), ({"max_runtime": "5h"}, [(None, 1.0)]), ({"max_runtime": "900h"}, [(None, 1.0)]),
        ({"resources": {"cpu": 4, "accelerator": {"model": "H200", "count": 2}, "workers": {"min": 2, "max": 4}}}, [("H200", 1.0)]),
        (
            {"resources": {"accelerator": {"any_of": [{"model": "L20", "speed": 1.0}, {"model": "H200", "speed": 4.0}]}}},
            [("L20", 4.0), ("H200", 1.0)],
        ),
    ],
)  # fmt: skip
def test_what_it_emits_at_every_hour_is_what_would_be_estimated_then(
    fields: dict[str, Any], models: list[tuple[str | None, float]]
) -> None:
    world, spec = clean_network(models={"H200": 8, "L20": 8}), cleanest(1100, **fields)
    asked = candidate(world, spec)
    frozen = freeze(world, [asked], {})
    assert frozen.snapshot.jobs.prefer.tolist() == [Prefer.CLEANEST]
    tables, sun = with_later(frozen, 8).snapshot.later, world.clusters[3].spec.carbon
    assert [(item.choice, item.cleaner) for item in tables] == [(choice, True) for choice in range(len(models))]
    for later, (model, slower) in zip(tables, models, strict=True):
        assert later.latest_s[1:3].tolist() == [-np.inf, -np.inf]
        for row in (0, 3):
            points = turning_points(later, row)
            for at in [0.0, *points.tolist(), *((points[:-1] + points[1:]) / 2).tolist()]:
                then = judge_spec(spec, NO_MARKET, World(**{**vars(world), "now": NOW + at}))[later.choice].assessments[row]
                assert then.carbon_g is not None
                assert cost_at(later, row, np.array([at]))[0] == pytest.approx(then.carbon_g, rel=1e-9)
        assert sun is not None
        own = sun.grams(asked.ways[later.choice].resources, model, NOW, spec.max_runtime)
        assert own is not None
        assert later.cost[3, 0] == pytest.approx(own * slower)


def test_clusters_without_an_estimate_are_told_and_none_is_left_where_there_is_no_other() -> None:
    world = clean_network()
    asked = candidate(world, cleanest(50))
    assert unrated(asked) == ("silent", "nocore")
    only = candidate(world, cleanest(50, placement={"clusters": ["silent", "nocore"]}))
    assert unrated(only) == ("silent", "nocore")
    [later] = with_later(freeze(world, [only], {}), 8).snapshot.later
    assert later.latest_s.max() == -np.inf


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"flexible": "cheapest"}, ("flexible",), "give a deadline, or leave flexible out"),
        ({"flexible": "cleanest"}, ("flexible",), "give a deadline, or leave flexible out"),
        ({"flexible": "soonest", "deadline": "2030-01-01T00:00:00Z"}, ("flexible",), "'cheapest' or 'cleanest'"),
        ({"flexible": True, "deadline": "2030-01-01T00:00:00Z"}, ("flexible",), "cheapest"),
        (
            {"flexible": "cheapest", "deadline": "2030-01-01T00:00:00Z", "placement": {"prefer": "soonest"}},
            ("placement", "prefer"), "leave one of them out",
        ),
        (
            {"flexible": "cheapest", "deadline": "2030-01-01T00:00:00Z", "placement": {"prefer": "cleanest"}},
            ("placement", "prefer"), "leave it out, or give flexible: cleanest",
        ),
        (
            {"flexible": "cleanest", "deadline": "2030-01-01T00:00:00Z", "placement": {"prefer": "cheapest"}},
            ("placement", "prefer"), "leave it out, or give flexible: cheapest",
        ),
        (
            {"flexible": "cleanest", "deadline": "2030-01-01T00:00:00Z", "placement": {"prefer": "soonest"}},
            ("placement", "prefer"), "leave one of them out",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_it_is_refused_with_path_and_remedy(fields: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        job_spec(**fields)
    [error] = caught.value.errors()
    assert error["loc"] == path
    assert words in error["msg"]
