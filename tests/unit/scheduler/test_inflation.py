"""The inflation protocol on a small made cluster: what arrives, what is counted, and which policies come out ahead."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from scheduler.simulator.inflation import POLICIES, Measured, World, arrivals_of, measure, run_inflation, world_of
from scheduler.traces.openb_lists import NodeList, PodList, Request
from tests.benchmarks.live_placement import KNOWING
from tests.benchmarks.live_placement import measure as measure_live

# 20 nodes of 8 devices with few cores, 20 of 2 with many; shares that leave rests, whole devices, some without any.
MIX: dict[Request, int] = {
    (3000, 1, 1, 810, ()): 26, (8000, 1, 1, 470, ()): 30, (6000, 1, 1, 320, ()): 18, (4000, 1, 1, 160, ()): 6,
    (12000, 1, 1, 1000, ()): 60, (3000, 1, 1, 1000, ()): 60, (30000, 1, 4, 1000, ()): 2, (12000, 1, 0, 0, ()): 25,
}  # fmt: skip
SMALL = NodeList(*(np.array([*[eight] * 20, *[two] * 20]) for eight, two in ((96000, 104000), (9999, 9999), (8, 2), (0, 1))), ("G2", "T4"))
SEEDS = range(6)


def pods(mix: dict[Request, int]) -> PodList:
    """A list of so many pods of each request."""
    requests = tuple(sorted(mix))
    return PodList(requests, np.repeat(np.arange(len(requests)), [mix[request] for request in requests]))


@cache
def world() -> World:
    return world_of(SMALL, pods(MIX))


@cache
def measured(policy: str, window: int = 1) -> Measured:
    return measure(world(), [arrivals_of(world(), 1.3, seed) for seed in SEEDS], policy, window)


@pytest.mark.parametrize("tune", [0.5, 1.0, 1.3, 3.0])
def test_as_much_is_asked_for_as_was_wanted(tune: float) -> None:
    arrivals = arrivals_of(world(), tune, 42)
    size, wanted = world().size_milli[arrivals.queue], tune * world().capacity_milli
    assert wanted <= size.sum() < wanted + 8000
    assert len(arrivals.draws) == len(arrivals.queue)


def test_every_pod_of_the_list_arrives_and_copies_are_of_its_pods() -> None:
    arrivals = arrivals_of(world(), 1.3, 42)
    count = np.bincount(arrivals.queue, minlength=len(MIX))
    assert (count >= np.bincount(world().kind)).all()


def test_marks_are_where_as_much_has_been_asked_for_as_there_is() -> None:
    arrivals = arrivals_of(world(), 1.5, 42)
    asked, capacity = np.cumsum(world().size_milli[arrivals.queue]), world().capacity_milli
    for mark, times in zip(arrivals.marks, (1.0, 1.3), strict=True):
        assert asked[mark - 2] < times * capacity <= asked[mark - 1]


def test_what_is_never_reached_is_counted_at_the_end() -> None:
    arrivals = arrivals_of(world(), 0.5, 42)
    assert arrivals.marks == (len(arrivals.queue), len(arrivals.queue))
    assert measure(world(), [arrivals], "bestfit").allocation_at_100 == pytest.approx(50.0, abs=1.0)


def test_a_seed_is_one_order_and_another_seed_another() -> None:
    first, again, other = (arrivals_of(world(), 1.3, seed) for seed in (42, 42, 43))
    assert first.queue.tolist() == again.queue.tolist()
    assert first.draws.tolist() == again.draws.tolist()
    assert first.queue.tolist() != other.queue.tolist()


def test_more_is_given_away_than_at_random_by_every_policy() -> None:
    assert all(measured(policy).allocation_at_100 > measured("random").allocation_at_100 for policy in POLICIES if policy != "random")


def test_our_policy_gives_away_most() -> None:
    others = max(measured(policy).allocation_at_100 for policy in POLICIES if policy != "cpn")
    assert measured("cpn").allocation_at_100 > others + 0.5


def test_a_window_gives_away_no_less() -> None:
    assert measured("cpn", 32).allocation_at_100 >= measured("cpn").allocation_at_100


@pytest.mark.parametrize("policy", POLICIES)
def test_figures_are_in_their_bounds(policy: str) -> None:
    found = measured(policy)
    assert 50.0 < found.allocation_at_100 <= found.allocation_at_130 <= 100.0
    assert 0.0 < found.allocation_at_100_sd < 5.0
    assert found.placements_per_s > 0
    assert found.p99_decision_us > 0


def test_one_seed_deviates_from_nothing() -> None:
    assert measure(world(), [arrivals_of(world(), 1.3, 42)], "bestfit").allocation_at_100_sd == 0.0


def test_the_document_has_the_published_form() -> None:
    said: list[str] = []
    document = run_inflation(SMALL, pods(MIX), ["bestfit", "cpn"], [1, 2], tune=1.3, window=1, say=said.append)
    assert list(document) == ["protocol", "nodes", "gpus", "policies"]
    assert (document["protocol"], document["nodes"], document["gpus"]) == ("openb-inflation", 40, 200)
    assert list(document["policies"]) == ["bestfit", "cpn"]
    keys = ["allocation_at_100", "allocation_at_100_sd", "allocation_at_130", "placements_per_s", "p99_decision_us"]
    assert all(list(figures) == keys for figures in document["policies"].values())
    assert [line.partition(":")[0] for line in said] == ["bestfit", "cpn"]


def test_two_runs_give_the_same_allocations() -> None:
    first, second = (run_inflation(SMALL, pods(MIX), POLICIES, [1, 2], tune=1.3, window=8, say=lambda _: None) for _ in range(2))
    for policy in POLICIES:
        found = [{key: value for key, value in run["policies"][policy].items() if key.startswith("alloc")} for run in (first, second)]
        assert found[0] == found[1]


def test_bound_pods_go_to_their_models_alone() -> None:
    bound: dict[Request, int] = {(3000, 1, 1, 1000, ("T4",)): 300}
    figures = measure(world_of(SMALL, pods(bound)), [arrivals_of(world_of(SMALL, pods(bound)), 1.3, 1)], "cpn")
    assert figures.allocation_at_130 == pytest.approx(20.0)


def test_pods_of_a_model_that_is_nowhere_are_never_placed() -> None:
    nowhere: dict[Request, int] = {(3000, 1, 1, 1000, ("H200",)): 30, (3000, 1, 1, 1000, ()): 30}
    there = world_of(SMALL, pods(nowhere))
    assert measure(there, [arrivals_of(there, 1.3, 1)], "cpn").allocation_at_130 < 75.0


def test_the_servers_decision_gives_away_more_by_what_was_asked_for_lately() -> None:
    found = {knowing: measure_live(SMALL, pods(MIX), world(), knowing, [1, 2], 16)["allocation_at_100"] for knowing in KNOWING}
    assert found["mix, nodes and models"] > found["what waits"] > 90.0
