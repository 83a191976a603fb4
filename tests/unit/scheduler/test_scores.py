"""Scores: price, transfer and start, each from best to worst over the candidates, weighed and added."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scheduler.engine.scores import completion, normalised, price, score_parts, start, totals, transfer
from scheduler.engine.snapshot import Weights
from tests.builders import cluster, job, world

INF, NAN = math.inf, math.nan
MEMBERS = (cluster("a", wait_s=1.0), cluster("b", wait_s=3.0), cluster("c", wait_s=5.0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], [0.0]),
        ([2.0, 4.0, 3.0], [0.0, 1.0, 0.5]),
        ([7.0, 7.0], [0.0, 0.0]),
        ([-1.0, 1.0], [0.0, 1.0]),
        ([NAN, NAN], [0.0, 0.0]),
        ([NAN, 7.0], [1.0, 0.0]),
        ([3.0, NAN, 1.0, 2.0], [1.0, 1.0, 0.0, 0.5]),
        ([0.0, 1e300], [0.0, 1.0]),
    ],
)
def test_values_are_stretched_between_best_and_worst(values: list[float], expected: list[float]) -> None:
    assert normalised(values) == expected


def test_each_aspect_reads_its_own_numbers() -> None:
    given = world(*MEMBERS, jobs=[job("j", cost={"a": 5.0, "c": 2.0}, transfer_s={"b": 60.0})])
    assert price(given, 0).tolist() == [5.0, 1.0, 2.0]
    assert transfer(given, 0).tolist() == [0.0, 60.0, 0.0]
    assert start(given, 0).tolist() == [1.0, 3.0, 5.0]
    assert completion(given, 0).tolist() == [1.0, 63.0, 5.0]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (Weights(price=1, transfer=0, start=0), [1.0, 0.0, 0.5]),
        (Weights(price=0, transfer=1, start=0), [0.0, 1.0, 0.25]),
        (Weights(price=0, transfer=0, start=1), [0.0, 0.5, 1.0]),
        (Weights(price=2, transfer=3, start=0.5), [2.0, 3.25, 2.25]),
        (Weights(), [1.0, 1.25, 1.25]),
    ],
)
def test_weights_say_what_counts(weights: Weights, expected: list[float]) -> None:
    asked = job("j", cost={"a": 9.0, "b": 1.0, "c": 5.0}, transfer_s={"a": 0.0, "b": 40.0, "c": 10.0})
    given = world(*MEMBERS, jobs=[asked], weights=weights)
    assert totals(given, 0, np.array([True, True, True])).tolist() == pytest.approx(expected)


def test_others_than_candidates_neither_score_nor_count() -> None:
    given = world(*MEMBERS, jobs=[job("j", cost={"a": 1000.0, "b": 1.0, "c": 2.0})], weights=Weights(transfer=0, start=0))
    assert totals(given, 0, np.array([False, True, True])).tolist() == [INF, 0.0, 1.0]
    assert totals(given, 0, np.array([True, False, True])).tolist() == [1.0, INF, 0.0]


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [([True, False, False], [0.0, INF, INF]), ([False, False, False], [INF, INF, INF])],
    ids=["one is the best there is", "none"],
)
def test_one_candidate_or_none(candidates: list[bool], expected: list[float]) -> None:
    given = world(*MEMBERS, jobs=[job("j")])
    assert totals(given, 0, np.array(candidates)).tolist() == expected


def test_prices_of_jobs_do_not_mix() -> None:
    given = world(*MEMBERS, jobs=[job("j"), job("k", cost={"a": 3.0, "b": 2.0, "c": 1.0})], weights=Weights(transfer=0, start=0))
    everywhere = np.array([True, True, True])
    assert totals(given, 0, everywhere).tolist() == [0.0, 0.0, 0.0]
    assert totals(given, 1, everywhere).tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("prefer", "best", "parts"),
    [
        # Near and dear, far and cheap, and between: by both, by time, by price.
        ("balanced", "c", {"price": 0.125, "transfer": 0.25, "start": 0.5}),
        ("soonest", "a", {"completion": 0.0, "price": 0.001}),
        ("cheapest", "b", {"price": 0.0, "completion": 0.001}),
    ],
)
def test_a_preference_says_what_the_choice_goes_by(prefer: str, best: str, parts: dict[str, float]) -> None:
    asked = job("j", cost={"a": 9.0, "b": 1.0, "c": 2.0}, transfer_s={"a": 0.0, "b": 40.0, "c": 10.0}, prefer=prefer)
    given = world(*MEMBERS, jobs=[asked])
    everywhere = np.array([True, True, True])
    row = int(totals(given, 0, everywhere).argmin())
    assert given.clusters.names[row] == best
    assert {part.aspect: part.points for part in score_parts(given, (0,), everywhere[None])[0, row]} == pytest.approx(parts)


@pytest.mark.parametrize(("prefer", "best"), [("soonest", "b"), ("cheapest", "b")])
def test_equals_in_what_is_preferred_are_told_apart_by_the_other(prefer: str, best: str) -> None:
    asked = job("j", cost={"a": 2.0, "b": 1.0, "c": 1.0}, transfer_s={"a": 2.0, "b": 0.0, "c": 9.0}, prefer=prefer)
    given = world(*MEMBERS, jobs=[asked])
    assert given.clusters.names[int(totals(given, 0, np.array([True, True, True])).argmin())] == best


@pytest.mark.parametrize(
    ("carbon", "best", "values"),
    [
        ({"a": 900.0, "b": 200.0, "c": 500.0}, "b", [900.0, 200.0, 500.0]),
        ({"a": 900.0}, "a", [900.0, None, None]),
        # As clean: where the work can begin sooner. Nobody knows: likewise.
        ({"b": 5.0, "c": 5.0}, "b", [None, 5.0, 5.0]),
        ({}, "a", [None, None, None]),
    ],
)
def test_the_cleanest_is_one_of_which_it_is_known(carbon: dict[str, float], best: str, values: list[float | None]) -> None:
    given = world(*MEMBERS, jobs=[job("j", carbon=carbon, prefer="cleanest")])
    everywhere = np.array([True, True, True])
    assert given.clusters.names[int(totals(given, 0, everywhere).argmin())] == best
    parts = score_parts(given, (0,), everywhere[None])
    assert [{part.aspect: part for part in parts[0, row]}["carbon"].value for row in range(3)] == values


def test_carbon_counts_in_the_balance_by_its_weight_alone() -> None:
    asked = job("j", cost={"a": 3.0, "b": 1.0, "c": 2.0}, carbon={"a": 1.0, "b": 3.0})
    everywhere = np.array([True, True, True])
    for weight, expected in ((0.0, [1.0, 0.0, 0.5]), (2.0, [1.0, 2.0, 2.5])):
        given = world(*MEMBERS, jobs=[asked], weights=Weights(transfer=0, start=0, carbon=weight))
        assert totals(given, 0, everywhere).tolist() == expected
    parts = score_parts(world(*MEMBERS, jobs=[asked]), (0,), everywhere[None])[0, 0]
    assert "carbon" not in {part.aspect for part in parts}


def test_parts_say_values_and_weights_and_add_up() -> None:
    given = world(*MEMBERS, jobs=[job("j", cost={"a": 9.0}, transfer_s={"c": 10.0})])
    candidates = np.array([True, False, True])
    found, sums = score_parts(given, (0,), candidates[None]), totals(given, 0, candidates)
    assert sorted(found) == [(0, 0), (0, 2)]
    assert [(part.aspect, part.value, part.weight) for part in found[0, 2]] == [
        ("price", 1.0, 1.0),
        ("transfer", 10.0, 1.0),
        ("start", 5.0, 0.5),
    ]
    assert {row: sum(part.points for part in parts) for (_, row), parts in found.items()} == {row: sums[row] for row in (0, 2)}
    assert score_parts(given, (0,), np.array([[False, False, False]])) == {}
