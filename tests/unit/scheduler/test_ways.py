"""Ways to run a job: each model judged and quoted on its own, a slower one expected to take and to cost more hours."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cluster.carbon import Carbon
from scheduler.engine.place import place
from scheduler.engine.snapshot import Snapshot
from scheduler.engine.speeds import Origin, Rate
from scheduler.freeze import freeze, judge_spec, refreeze
from scheduler.notation import noted, read, text_of
from scheduler.settle import held_resources
from scheduler.ways import HEAVY_LETTERS, class_of, prior_of, speeds_of
from tests.records import NO_MARKET, candidate, job_spec, machine, member, run, world_of
from tests.unit.workloads.samples import prices
from workloads.resources import Money, Resources
from workloads.spec import JobSpec

BOTH: list[dict[str, Any]] = [{"model": "H200", "speed": 2.0}, {"model": "A100", "speed": 1.0}]
OPEN: list[dict[str, Any]] = [{"model": "H200"}, {"model": "A100"}]


def asking(**fields: Any) -> JobSpec:
    return job_spec(resources={"cpu": 1, "accelerator": {"any_of": BOTH}}, max_runtime="2h", **fields)


def dear(model: str, hour: str) -> dict[str, Any]:
    """Prices at which an hour of one model costs this much."""
    return {"prices": prices().model_copy(update={"accelerator_hour": {model: Money.parse(hour), "A100": Money.parse("10.00 CNY")}})}


def test_carbon_is_that_of_each_model_for_as_long_as_it_takes() -> None:
    carbon = Carbon(grams_per_kwh=500.0, watts={"core": 10.0, "H200": 690.0, "A100": 390.0})
    world = world_of(member(carbon=carbon), member("gz"), nodes=[machine(models={"H200": 1, "A100": 1})])
    asked = candidate(world, asking())
    # 0.7 kW for 2 h, and 0.4 kW for 4 h on the slower one; of the other cluster nothing is declared.
    assert [[item.carbon_g for item in way.assessments] for way in asked.ways] == [
        [pytest.approx(700.0), None],
        [pytest.approx(800.0), None],
    ]
    snapshot = freeze(world, [asked], {}).snapshot
    assert snapshot.jobs.carbon_g.tolist() == [[pytest.approx(700.0), pytest.approx(math.nan, nan_ok=True)]]
    assert snapshot.further is not None
    assert snapshot.further.jobs.carbon_g[0, 0] == pytest.approx(800.0)


def test_each_model_has_its_quote_and_the_slower_one_is_expected_to_take_longer() -> None:
    world = world_of(member(**dear("H200", "30.00 CNY")), nodes=[machine(models={"H200": 1, "A100": 1})])
    first, second = candidate(world, asking()).ways
    assert ((first.model, first.slowdown), (second.model, second.slowdown)) == (("H200", 1.0), ("A100", 2.0))
    quotes = [way.assessments[0].quote for way in (first, second)]
    amounts = [line.amount.amount for quote in quotes if quote for line in quote.lines if line.item == "accelerator"]
    assert amounts == [Decimal(60), Decimal(20)], "the limit is the same on both"
    assert first.assessments[0].cost == float(quotes[0].total.amount) if quotes[0] else 0
    hours = sum(float(line.amount.amount) for line in quotes[1].lines if line.unit.endswith("-hour")) if quotes[1] else 0.0
    assert second.assessments[0].cost == pytest.approx(float(quotes[1].total.amount) + hours if quotes[1] else 0.0)


def test_the_frozen_world_has_a_row_for_each_further_way() -> None:
    world = world_of(member(), nodes=[machine(models={"H200": 1})])
    snapshot = freeze(world, [candidate(world, job_spec()), candidate(world, asking(), id="job-8", sequence=8)], {}).snapshot
    assert snapshot.resources == ("cpu", "memory", "A100", "H200")
    assert snapshot.jobs.request[:, 2:].tolist() == [[0, 0], [0, 1]]
    assert snapshot.further is not None
    assert (snapshot.further.of.tolist(), snapshot.further.jobs.request[:, 2:].tolist()) == ([1], [[1, 0]])
    assert (snapshot.jobs.longer_s.tolist(), snapshot.further.jobs.longer_s.tolist()) == ([0.0, 0.0], [7200.0])


def test_each_way_of_a_task_counts_against_its_array() -> None:
    world = world_of(member(), nodes=[machine(models={"H200": 1})])
    tasks = [
        replace(candidate(world, spec, id=f"job-{row}", sequence=row), array=("array-2", 3))
        for row, spec in enumerate([job_spec(), asking()])
    ]
    other = replace(candidate(world, job_spec(), id="job-9"), array=("array-1", 1))
    frozen = freeze(world, [other, *tasks], {})
    again = refreeze(frozen, [replace(tasks[1], id="job-10")], [2, 0])
    found = [(item.snapshot.jobs, item.snapshot.further) for item in (frozen, again)]
    arrays = [(jobs.array.tolist(), further.jobs.array.tolist(), further.jobs.array_left.tolist()) for jobs, further in found if further]
    assert arrays == [([0, 1, 1], [1], [3]), ([1, 0, 1], [1, 1], [3, 3])]
    assert [further.of.tolist() for _, further in found if further] == [[2], [0, 2]]


def test_a_budget_counts_for_each_model_alone() -> None:
    world = world_of(member(**dear("H200", "30.00 CNY")), nodes=[machine(models={"H200": 1, "A100": 1})])
    asked = candidate(world, asking(budget="40.00 CNY"))
    assert [way.assessments[0].reason.label for way in asked.ways] == ["over_budget", "fits"]
    (placement,) = place(freeze(world, [asked], {}).snapshot).placements
    assert placement.choice == 1


def test_a_run_is_settled_by_the_model_that_it_ran_on() -> None:
    ran = run("sh", ["n1"], accelerator={"model": "A100"})
    assert held_resources(asking(), ran) == Resources.model_validate({"cpu": 1, "accelerator": {"model": "A100"}})
    assert held_resources(job_spec(), run("sh", ["n1"])) == job_spec().resources


def test_what_is_learned_is_what_a_slower_model_is_reckoned_by() -> None:
    world = world_of(member(**dear("H200", "25.00 CNY")), nodes=[machine(models={"H200": 1, "A100": 1})])
    spec = job_spec(resources={"cpu": 1, "accelerator": {"any_of": OPEN}}, max_runtime="2h", placement={"prefer": "cheapest"})
    assert [(way.speed.origin, way.speed.precision) for way in judge_spec(spec, NO_MARKET, world) if way.speed] == [
        (Origin.RATED, "fp16")
    ] * 2
    # By its rating an H200 is 3.2 times as fast and so the cheaper one; in truth the work is as fast on both.
    for rates, choice in (((), 0), (tuple(Rate(model, 1.0, None, 60.0) for model in ("H200", "A100") for _ in range(20)), 1)):
        ways = judge_spec(spec, NO_MARKET, world, rates)
        frozen = freeze(world, [replace(candidate(world, spec), ways=ways, rates=rates)], {})
        plan = place(frozen.snapshot)
        assert [item.choice for item in plan.placements] == [choice]
        # A capture has what was learned by then, so that it is decided alike whatever is learned later.
        assert place(read(json.loads(text_of(noted(frozen.snapshot))), Snapshot)) == plan
        assert [way.speed.origin for way in ways if way.speed] == [Origin.LEARNED if rates else Origin.RATED] * 2


@pytest.mark.parametrize(
    ("models", "precision", "ratio", "origin"),
    [
        ("H200 A100", None, 989.5 / 312, "rated"), ("H200 A100", "fp64", 34 / 9.7, "rated"), ("A100 V100", "tf32", 19.5 / 14, "rated"),
        ("P4 K80", "fp64", 5.5 / 4.365, "rated"), ("H200 Made-Up", None, 1.0, "assumed_equal"),
    ],
    ids=["the usual one", "the one asked for", "one that both have", "not the one asked for", "no rating"],
)  # fmt: skip
def test_before_there_are_runs_ratings_stand(models: str, precision: str | None, ratio: float, origin: str) -> None:
    one, other = models.split()
    accelerator = {"any_of": [{"model": one}, {"model": other}], "precision": precision}
    first, second = speeds_of(job_spec(resources={"accelerator": accelerator}), ())
    assert (first.value / second.value, first.origin.value, second.value) == (pytest.approx(ratio), origin, 1.0)
    assert prior_of([one, other], precision).values[one] > 0


def test_like_jobs_alone_are_judged_together_where_speeds_are_learned() -> None:
    def key(name: str, choices: list[dict[str, Any]]) -> str:
        spec = job_spec(name=name, resources={"accelerator": {"any_of": choices}})
        return class_of(spec.model_dump(mode="json"), spec)

    assert key("a", BOTH) == key("b", BOTH)
    assert key("a", OPEN) != key("b", OPEN)


def test_jobs_of_another_kind_are_judged_apart_for_some_members_run_some_kinds_only() -> None:
    def key(**fields: Any) -> str:
        spec = job_spec(**fields)
        return class_of(spec.model_dump(mode="json"), spec)

    assert key(name="a") == key(name="b")
    assert key() != key(kind="sql", command=[], sql="SELECT 1")
    program = {"kind": "ray", "command": ["python", "main.py"]}
    packed = {**program, "runtime_env": {"env_vars": {"A": "1"}}}
    assert len({key(), key(**program), key(**packed)}) == 3
    statement = {"kind": "sql", "command": [], "sql": "SELECT 1"}
    assert key(**statement) != key(**statement, engine="daft")


def test_jobs_are_judged_apart_by_what_they_bring_only_where_that_may_be_too_much() -> None:
    def key(text: str) -> str:
        spec = job_spec(files={"main.sh": text})
        return class_of(spec.model_dump(mode="json"), spec)

    assert key("a") == key("bb")
    assert len({key("a"), key("a" * HEAVY_LETTERS), key("a" * (HEAVY_LETTERS + 1))}) == 3
