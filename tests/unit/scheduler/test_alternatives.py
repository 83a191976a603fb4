"""Jobs that may use one of several models: model and cluster are chosen together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.engine.check import check
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.engine.verdicts import verdicts
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnJob, cluster, decided, job, or_else, queue, world
from tests.running import beside, claim, ended, run
from tests.timed import timed

HOUR = 3600.0


def training(prefer: str = "balanced", *, dear: float = 9.0, cheap: float = 4.0, slower_s: float = HOUR) -> DrawnJob:
    """A job for an H200, or for the cheaper and slower A100."""
    first = job("t", "1+1H200", cost={"a": dear, "b": dear}, prefer=prefer)
    return or_else(first, "1+1A100", slower_s, cost={"a": cheap, "b": cheap})


def chosen(given: Snapshot) -> dict[str, tuple[str, int]]:
    """Of each placed job its cluster and the number of its way."""
    plan = place(given)
    check(given, plan)
    return {given.jobs.ids[item.job]: (given.clusters.names[item.cluster], item.choice) for item in plan.placements}


@pytest.mark.parametrize(
    ("members", "prefer", "expected"),
    [
        # Both are there: what is preferred decides. What is not there is not chosen.
        ("8+1H200 | 8+1A100", "soonest", ("a", 0)),
        ("8+1H200 | 8+1A100", "cheapest", ("b", 1)),
        ("0/8+1H200 | 8+1A100", "soonest", ("b", 1)),
        ("8+1H200 | 8", "cheapest", ("a", 0)),
        ("8+1H200+1A100 | 8", "cheapest", ("a", 1)),
        ("8+1,.5A100 | 8+0,.5H200", "soonest", ("a", 1)),
    ],
)
def test_model_and_cluster_are_chosen_together(members: str, prefer: str, expected: tuple[str, int]) -> None:
    places = [cluster(name, nodes.strip()) for name, nodes in zip("ab", members.split("|"), strict=True)]
    assert chosen(world(*places, jobs=[training(prefer)])) == {"t": expected}


@pytest.mark.parametrize(
    ("dear", "cheap", "slower_s", "way"),
    # Balanced: time and price count alike, from best to worst, so what is better in one alone decides when the other is equal.
    [(9.0, 4.0, 0.0, 1), (4.0, 4.0, HOUR, 0), (9.0, 9.0, 0.0, 0)],
)
def test_a_balanced_job_weighs_time_against_price(dear: float, cheap: float, slower_s: float, way: int) -> None:
    given = world(cluster("a", "8+1H200+1A100"), jobs=[training(dear=dear, cheap=cheap, slower_s=slower_s)])
    assert chosen(given) == {"t": ("a", way)}


def test_the_other_model_is_taken_when_the_first_is_used_up() -> None:
    jobs = [replace(training("soonest"), name=f"t{place}") for place in range(4)]
    given = world(cluster("a", "8+2H200+1A100"), jobs=jobs)
    assert chosen(given) == {"t0": ("a", 0), "t1": ("a", 0), "t2": ("a", 1)}
    assert decided(given)["t3"] == "node_busy"


def test_a_queues_ceiling_leaves_the_model_that_it_does_not_limit() -> None:
    limited = queue("default", ceiling="8+0H200")
    given = world(cluster("a", "8+1H200+1A100"), jobs=[training("soonest")], queues=[limited])
    assert chosen(given) == {"t": ("a", 1)}
    full = queue("default", ceiling="8+0H200+0A100")
    assert decided(world(cluster("a", "8+1H200+1A100"), jobs=[training()], queues=[full])) == {"t": "queue_quota"}


def test_a_waiting_job_is_told_of_the_way_that_came_closest() -> None:
    # No A100 is anywhere; of the H200 there is one, in use.
    (verdict,) = verdicts(given := world(cluster("a", "8+0/1H200"), jobs=[training()]), 0, place(given))
    assert verdict.reason is Reason.NODE_BUSY


def test_each_clusters_verdict_is_about_one_way_and_one_is_chosen() -> None:
    given = world(cluster("a", "8+1H200"), cluster("b", "8+1A100"), cluster("c", "8"), jobs=[training("soonest")])
    found = verdicts(given, 0, place(given))
    assert [(item.reason, item.chosen, item.choice) for item in found[:2]] == [(Reason.FITS, True, 0), (Reason.FITS, False, 1)]
    assert found[2].reason is Reason.NODE_ACCELERATOR_MODEL
    assert [part.aspect for part in found[1].parts] == ["completion", "price"]
    assert found[1].parts[0].value == 1.0 + HOUR


def test_a_way_that_is_over_the_budget_is_no_way() -> None:
    first = job("t", "1+1H200", refused={"a": Reason.OVER_BUDGET})
    given = world(cluster("a", "8+1H200+1A100"), jobs=[or_else(first, "1+1A100", HOUR, refused={})])
    assert chosen(given) == {"t": ("a", 1)}


def test_of_three_ways_the_one_that_fits_is_taken_and_checked() -> None:
    sizes = {"3": 0, "2": 1, "1": 2}
    for room, way in sizes.items():
        given = world(cluster("a", room), jobs=[or_else(or_else(job("t", "3"), "2", HOUR), "1", 2 * HOUR)])
        assert decided(given) == {"t": "a n1"}
        assert chosen(given) == {"t": ("a", way)}


@pytest.mark.parametrize(
    ("choice", "words"), [(2, "its alternative 2, and has 1"), (-1, "alternative -1"), (1, "lacks the accelerator model")]
)
def test_check_rejects_another_way_than_the_one_that_fits(choice: int, words: str) -> None:
    given = world(cluster("a", "8+1H200"), cluster("b", "8+1A100"), jobs=[training("soonest")])
    plan = place(given)
    wrong = replace(plan, placements=(replace(plan.placements[0], choice=choice),))
    with pytest.raises(PlanRejectedError, match=words):
        check(given, wrong)


def test_others_are_ended_for_the_model_named_first_alone() -> None:
    urgent, queues = replace(training(), rank=100), [queue("default", preemption=PreemptionPolicy.LOWER_PRIORITY)]
    nodes = "8+1H200 8+1A100"
    first, second = run("x", "1+1H200", "a/n1"), run("y", "1+1A100", "a/n2")
    assert ended(beside(world(cluster("a", nodes), jobs=[urgent], queues=queues), first, second)) == {"t": "x by lower-priority: a n1"}
    # With room by another model nobody is, and what it took there is not offered to those behind it.
    free = beside(world(cluster("a", nodes), jobs=[urgent, job("u", "1+1A100", rank=50)], queues=queues), first)
    assert (ended(free), chosen(free)) == ({}, {"t": ("a", 1)})


def test_a_claim_comes_true_by_the_model_named_first() -> None:
    given = world(cluster("a", "8+1H200 8+1A100"), jobs=[training("cheapest")])
    assert chosen(given) == {"t": ("a", 1)}
    assert chosen(beside(given, claims=[claim("t", "1+1H200", "a/n1")])) == {"t": ("a", 0)}


def test_an_elastic_job_has_as_many_workers_as_its_queue_lets_it_in_the_way_that_is_chosen() -> None:
    # Its queue may hold 4 cores: two workers of the way named first, and four of the other.
    asked = or_else(job("a", "2", workers=(1, 4)), "1")
    snapshot = world(cluster("sh", "8"), jobs=[asked], queues=[queue("default", ceiling="4:99")])
    plan = place(snapshot)
    check(snapshot, plan)
    assert [(len(item.nodes), item.choice) for item in plan.placements] == [(4, 1)]


def test_a_model_that_the_queue_may_not_hold_is_promised_to_nobody() -> None:
    limited = queue("default", ceiling="8+0H200")
    given = world(cluster("a", "0/8+1H200 8+0/1A100"), jobs=[training()], queues=[limited])
    given = timed(given, {"t": 50.0}, running=[("a n1", "8", 60.0)], heads=1)
    plan = place(given)
    check(given, plan)
    assert plan.promises == ()


@pytest.mark.parametrize(
    ("nodes", "over", "other", "expected"),
    [
        pytest.param("8+1H200+1A100", {}, {"a": Reason.OVER_BUDGET}, Reason.QUEUE_QUOTA, id="the other is forbidden"),
        pytest.param("8+1H200+0/1A100", {}, {}, Reason.QUEUE_QUOTA, id="the other lacks room"),
        pytest.param("8+0/1H200+0/1A100", {}, {}, Reason.NODE_BUSY, id="both lack room"),
        pytest.param("8+1H200+1A100", {"a": Reason.CURRENCY}, {"a": Reason.OVER_BUDGET}, Reason.OVER_BUDGET, id="both are forbidden"),
    ],
)
def test_a_way_that_the_queue_may_not_hold_is_told_from_one_that_is_forbidden(
    nodes: str, over: dict[str, Reason], other: dict[str, Reason], expected: Reason
) -> None:
    ways = [("1+1H200", over), ("1+1A100", other)]
    for (size, refused), (further, refused_too) in (ways, ways[::-1]):
        drawn = or_else(job("t", size, refused=refused), further, refused=refused_too)
        given = world(cluster("a", nodes), jobs=[drawn], queues=[queue("default", ceiling="64+0H200+1A100")])
        plan = place(given)
        check(given, plan)
        assert plan.unplaced[0].blocker is expected
