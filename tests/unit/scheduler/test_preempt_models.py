"""Who is ended for a job that may use one of several models: the cheapest victims of all its models, and room that is claimed by one.

Every case is a picture of nodes and of what runs on them: `x` and `y` hold an H200, `p` and `q` an A100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.aftermath import carried_out
from scheduler.engine.alternatives import chosen_rows, with_alternatives
from scheduler.engine.check import check
from scheduler.engine.evictable import Budget, PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.plan import Eviction, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnJob, DrawnQueue, cluster, job, or_else, queue, shown, world
from tests.running import DrawnRun, beside, claim, gang, run, sizes_told
from tests.running import told as told_of
from tests.timed import timed

LOWER, RECLAIM = PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.RECLAIM_QUOTA
HIGH, LOW = 100, -100
LOWERS = queue("default", preemption=LOWER)
# Two nodes of each model, which are all the network has: an accelerator is half of its model.
NODES = "8+1H200 8+1H200 8+1A100 8+1A100"


def either(
    name: str = "urgent", *, prefer: str = "soonest", rank: int = HIGH, workers: int = 1, dear: float = 9.0, **more: str
) -> DrawnJob:
    """A job for an H200, or for a cheaper A100 that takes an hour longer."""
    first = job(name, "1+1H200", rank=rank, prefer=prefer, workers=workers, cost={"a": dear, "b": dear}, **more)  # type: ignore[arg-type]
    return or_else(first, "1+1A100", 3600.0, cost={"a": 4.0, "b": 4.0})


def x(place_: str = "a/n1", **more: object) -> DrawnRun:
    return run("x", "1+1H200", place_, **more)  # type: ignore[arg-type]


def y(place_: str = "a/n2", **more: object) -> DrawnRun:
    return run("y", "1+1H200", place_, **more)  # type: ignore[arg-type]


def p(place_: str = "a/n3", **more: object) -> DrawnRun:
    return run("p", "1+1A100", place_, **more)  # type: ignore[arg-type]


def q(place_: str = "a/n4", **more: object) -> DrawnRun:
    return run("q", "1+1A100", place_, **more)  # type: ignore[arg-type]


def network(
    *runs: DrawnRun, nodes: str = NODES, jobs: Sequence[DrawnJob] = (), queues: Sequence[DrawnQueue] = (LOWERS,), **more: object
) -> Snapshot:  # fmt: skip
    drawn = world(cluster("a", nodes), jobs=jobs or [either()], queues=queues)
    return beside(drawn, *runs, **more)  # type: ignore[arg-type]


def told(snapshot: Snapshot) -> dict[str, str]:
    """Of each job that a checked plan makes room for whom it ends, where it will sit, and by which model: `x: a n1 (H200)`."""
    plan = place(snapshot)
    check(snapshot, plan)
    whom = {name: words.replace(" by lower-priority", "") for name, words in told_of(snapshot, plan).items()}
    requests, found = with_alternatives(snapshot).jobs.request, {}
    for item, row in zip(plan.evictions, chosen_rows(snapshot, plan.evictions), strict=True):
        name, model = snapshot.jobs.ids[item.job], snapshot.resources[FIRST_ACCELERATOR + int(requests[row, FIRST_ACCELERATOR:].argmax())]
        found[name] = f"{whom[name]} ({model})"
    return found


FULL = (x(), y(), p(), q())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # The model named first has nobody who may be ended: of the other one somebody is.
        pytest.param(network(x(rank=HIGH), y(rank=HIGH), p(), q()), "p: a n3 (A100)", id="first too urgent"),
        pytest.param(network(x(fixed=True), y(fixed=True), p(), q(rank=HIGH)), "p: a n3 (A100)", id="first may not be begun again"),
        pytest.param(network(x(restarts=3), y(restarts=3), p(), q()), "p: a n3 (A100)", id="first begun again often enough"),
        pytest.param(network(p(), q(), nodes="8 8 8+1A100 8+1A100"), "p: a n3 (A100)", id="first is nowhere"),
        pytest.param(network(x(), y(), p(fixed=True), q(fixed=True)), "x: a n1 (H200)", id="second may not be begun again"),
        # The cheapest victim of all: the lowest priority, then what is lost.
        pytest.param(network(x(), y(), p(rank=LOW, lost_s=9e9), q()), "p: a n3 (A100)", id="lower priority on the second"),
        pytest.param(network(x(lost_s=9), y(lost_s=8), p(lost_s=7), q(lost_s=9)), "p: a n3 (A100)", id="less lost on the second"),
        pytest.param(network(x(lost_s=9), y(lost_s=6), p(lost_s=7), q(lost_s=9)), "y: a n2 (H200)", id="less lost on the first"),
        pytest.param(network(x(), y(), p(restarts=1), q(restarts=1)), "x: a n1 (H200)", id="begun again on the second"),
        # Where they cost the same: what the job prefers, then the order in which it names its models.
        pytest.param(network(*FULL), "x: a n1 (H200)", id="as dear, and soonest is preferred"),
        pytest.param(network(*FULL, jobs=[either(prefer="cheapest")]), "p: a n3 (A100)", id="as dear, and cheapest is preferred"),
        pytest.param(network(*FULL, jobs=[or_else(job("urgent", "1+1A100", rank=HIGH), "1+1H200")]), "p: a n3 (A100)", id="all the same"),
        # A gang is ended as a whole; what it costs is what all of it has done.
        pytest.param(network(run("x", "1+1H200", "a/n1", "a/n2", lost_s=9), p(lost_s=20), q(lost_s=30)), "p: a n3 (A100)", id="a gang"),
        pytest.param(network(run("x", "1+1H200", "a/n1", "a/n2"), p(lost_s=40), q(lost_s=40)), "x: a n1 (H200)", id="a cheap gang"),
        # A gang as the one that gains gets one model for all its workers.
        pytest.param(network(x(rank=HIGH), y(), p(), q(), jobs=[either(workers=2)]), "p, q: a n3 n4 (A100)", id="for a gang"),
        pytest.param(network(x(rank=HIGH), y(), p(rank=HIGH), q(), jobs=[either(workers=2)]), None, id="for a gang of one model"),
        # A budget that does for the one and not for the other.
        pytest.param(network(*FULL, run("z", "7", "a/n1"), run("w", "7", "a/n2"), jobs=[either()], budget=Budget(runs=1)),
                     "x: a n1 (H200)", id="budget suffices"),
        pytest.param(network(run("x", "8+1H200", "a/n1", "a/n2"), run("p", "8", "a/n3"), run("q", "8+1A100", "a/n4", rank=HIGH),
                             run("r", "0+1A100", "a/n3", lost_s=900), budget=Budget(runs=1)), "x: a n1 (H200)", id="two would be too many"),
        # What is ending of either model suffices: nobody else is ended.
        pytest.param(network(x(), y(), p(ending=True), q()), None, id="the second ends anyway"),
        pytest.param(network(x(ending=True), y(), p(), q()), None, id="the first ends anyway"),
        # A victim that would close a circle is none.
        pytest.param(network(x(), y(), p(), q(), past=[("x", "urgent"), ("y", "urgent")]), "p: a n3 (A100)", id="a circle by the first"),
        # Where the queue may not hold the one, it holds the other.
        pytest.param(network(*FULL, queues=[queue("default", ceiling="99+0H200", preemption=LOWER)]), "p: a n3 (A100)", id="a ceiling"),
        pytest.param(network(*FULL, queues=[queue("default")]), None, id="never"),
    ],
)  # fmt: skip
def test_the_cheapest_victims_of_all_models_are_ended(given: Snapshot, expected: str | None) -> None:
    assert told(given) == ({"urgent": expected} if expected else {})


def test_never_more_than_needed_on_the_model_that_is_chosen() -> None:
    # The A100s are held by two runs of one node each with all its cores; one of them suffices, and which is the cheaper one.
    runs = [
        x(rank=HIGH),
        y(rank=HIGH),
        run("p", "4", "a/n3"),
        run("q", "4+1A100", "a/n3", lost_s=9),
        run("r", "8+1A100", "a/n4", lost_s=99),
    ]
    assert told(network(*runs)) == {"urgent": "q: a n3 (A100)"}


def test_places_are_compared_over_clusters_and_models() -> None:
    members = [cluster("a", "8+1H200"), cluster("b", "8+1A100")]
    drawn = world(*members, jobs=[either()], queues=[LOWERS])
    assert told(beside(drawn, x(lost_s=50), p("b/n1", lost_s=40))) == {"urgent": "p: b n1 (A100)"}
    assert told(beside(drawn, x(lost_s=30), p("b/n1", lost_s=40))) == {"urgent": "x: a n1 (H200)"}
    refused = or_else(job("urgent", "1+1H200", rank=HIGH), "1+1A100", refused={"b": Reason.OVER_BUDGET})
    assert told(beside(world(*members, jobs=[refused], queues=[LOWERS]), x(lost_s=50), p("b/n1"))) == {"urgent": "x: a n1 (H200)"}


def test_lent_quota_is_taken_back_on_any_model_before_a_lower_priority_is_ended() -> None:
    queues = [queue("team", quota="8+0H200+1A100", preemption=RECLAIM), queue("guest")]
    drawn = world(cluster("a", "8+1H200 8+1A100"), jobs=[either(queue="team")], queues=queues)
    given = beside(drawn, run("x", "1+1H200", "a/n1", queue="team", rank=LOW), run("p", "1+1A100", "a/n2", queue="guest", lost_s=999))
    assert told(given) == {"urgent": "p by reclaim-quota: a n2 (A100)"}


def test_two_jobs_are_helped_by_different_models_and_a_third_by_none() -> None:
    jobs = [either(name, rank=HIGH - place_) for place_, name in enumerate(("one", "two", "three"))]
    given = network(x(), y(fixed=True), p(lost_s=50), q(fixed=True), jobs=jobs)
    assert told(given) == {"one": "x: a n1 (H200)", "two": "p: a n3 (A100)"}


def test_who_waits_for_a_model_that_ends_anyway_is_not_overtaken_there() -> None:
    # `pair` needs both A100s, of which one is ending: that one is for `first`, which may use either and waits for it.
    runs, pair = [x(fixed=True), y(fixed=True), p(ending=True), q()], job("pair", "1+1A100", rank=50, workers=2)
    assert told(network(*runs, jobs=[pair])) == {"pair": "q: a n3 n4 (A100)"}
    assert told(network(*runs, jobs=[either("first", rank=HIGH), pair])) == {}
    # Where it may as well wait for an H200, it waits for what it prefers, and the A100 is for the pair.
    both = [x(ending=True), *runs[1:]]
    assert told(network(*both, jobs=[either("first", rank=HIGH), pair])) == {"pair": "q: a n3 n4 (A100)"}
    assert told(network(*both, jobs=[either("first", rank=HIGH, prefer="cheapest"), pair])) == {}


def test_shares_of_devices_are_told_apart_by_model() -> None:
    whole = or_else(job("urgent", "1+1H200", rank=HIGH), "1+1A100")
    # Half of each of two H200s cannot be ended; of the A100 both halves can.
    runs = [
        run("x", "1+0.6H200", "a/n1", rank=HIGH), run("y", "1+0.6H200", "a/n1", rank=HIGH), run("z", "1+0.4H200", "a/n1"),
        run("p", "1+0.5A100", "a/n2"), run("q", "1+0.5A100", "a/n2"),
    ]  # fmt: skip
    given = beside(world(cluster("a", "8+1,1H200 8+1A100"), jobs=[whole], queues=[LOWERS]), *runs)
    assert told(given) == {"urgent": "p, q: a n2 (A100)"}


def test_workers_that_a_gang_grew_by_leave_for_the_model_that_they_hold() -> None:
    given = network(x(rank=HIGH), y(rank=HIGH), gang(run("g", "1+1A100", "a/n3", "a/n4", rank=HIGH), least=1, own=1))
    plan = place(given)
    check(given, plan)
    assert (sizes_told(given, plan), [item.choice for item in plan.shrinks]) == ({"urgent": "g to 1 by grown-room: a n4"}, [1])
    with pytest.raises(PlanRejectedError, match="does not fit though gangs shrink for it"):
        check(given, replace(plan, shrinks=tuple(replace(item, choice=0) for item in plan.shrinks)))


def claimed(*runs: DrawnRun, jobs: Sequence[DrawnJob] = (), nodes: str = "8+1H200 8+1A100", choice: int = 1) -> Snapshot:
    """`urgent` has claimed the one A100; others may wait beside it."""
    drawn = world(cluster("a", nodes), jobs=[replace(either(), sequence=9), *jobs], queues=[LOWERS])
    size, seat = ("1+1A100", "a/n2") if choice else ("1+1H200", "a/n1")
    return beside(drawn, *runs, claims=[claim("urgent", size, seat, choice=choice)])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Its victim is ending still: nobody else gets the device, though its cores are free for others.
        pytest.param(claimed(x(), p("a/n2", ending_for="urgent"), jobs=[job("small", "1+1A100"), job("cores", "7")]),
                     {"urgent": "node_busy", "small": "node_busy", "cores": "a n1"}, id="ending"),
        # It has ended: the claim comes true by the model that it is for, before anybody's turn.
        pytest.param(claimed(x(), jobs=[job("small", "1+1A100", rank=500)]), {"urgent": "a n2", "small": "node_busy"}, id="ended"),
        pytest.param(claimed(jobs=[job("small", "1+1A100", rank=500)]), {"urgent": "a n2", "small": "node_busy"}, id="first free"),
        # The other model comes free sooner: the claim is not waited for.
        pytest.param(claimed(p("a/n2", ending_for="urgent")), {"urgent": "a n1"}, id="first comes free"),
        # A claim on a node that may not be used any more waits and keeps its room; the job goes where it may.
        pytest.param(claimed(jobs=[job("small", "1+1A100")], nodes="8+1H200 8+1A100!"),
                     {"urgent": "a n1", "small": "node_accelerator_model"}, id="gone"),
    ],
)  # fmt: skip
def test_a_claim_is_for_one_model(given: Snapshot, expected: dict[str, str]) -> None:
    plan = place(given)
    check(given, plan)
    assert shown(given, plan) == expected


def test_a_claim_that_comes_true_takes_the_devices_and_the_time_of_its_model() -> None:
    given = claimed(jobs=[job("small", "1+1A100")], nodes="8+1,1H200 8+1A100")
    [placement] = place(given).placements
    assert (placement.choice, placement.devices) == (1, (((given.resources.index("A100"), 0),),))
    # What `small` is promised begins when the urgent job has ended on its A100, not on the H200, where it would be faster.
    later = replace(timed(given, {"urgent": 100.0, "small": 50.0}, heads=1), evictable=given.evictable, claims=given.claims)
    plan = place(later)
    check(later, plan)
    [promise] = plan.promises
    assert promise.start_s == pytest.approx(3701.0)


def test_what_others_are_ended_for_holds_room_of_its_model_in_questions_after_the_decision() -> None:
    given = network(x(rank=HIGH), y(rank=HIGH), p(), q(rank=HIGH), jobs=[either(), job("small", "1+1A100")])
    after = carried_out(given, place(given))
    model = given.resources.index("A100")
    assert after.nodes.free[2, model] == 0.0
    assert place(after).placements == ()


def _changed(**fields: object) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, evictions=(replace(plan.evictions[0], **fields),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corrupt", "words"),
    [
        # The plan ends p, of an A100, for the job to be there by its second way.
        pytest.param(_changed(choice=0), "urgent does not fit though runs are ended for it", id="claimed by the other model"),
        pytest.param(_changed(choice=0), "urgent may not use a node that it claims", id="a seat without the model"),
        pytest.param(_changed(choice=2), "its alternative 2, and has 1", id="a way that it has not"),
        pytest.param(_changed(choice=-1), "its alternative -1", id="no way"),
        pytest.param(_changed(runs=(1,)), "urgent does not fit though runs are ended for it", id="a victim of the other model"),
        pytest.param(_changed(runs=(2, 1), rights=("lower-priority",) * 2), "y-1 is ended for urgent without need", id="one too many"),
        pytest.param(_changed(runs=(2, 3), rights=("lower-priority",) * 2), "is ended for urgent without need", id="one more"),
        pytest.param(_changed(nodes=(1,)), "urgent may not use a node that it claims", id="a seat of the other model"),
        pytest.param(_changed(runs=(0,), choice=0, nodes=(0,)), "may not have x-1 ended by lower-priority", id="one whom it may not end"),
    ],
)  # fmt: skip
def test_check_rejects_victims_and_claims_that_are_not_of_one_model(corrupt: Callable[[Plan], Plan], words: str) -> None:
    given = network(x(rank=HIGH), y(), p(), q(lost_s=9), jobs=[either(prefer="cheapest")])
    plan = place(given)
    check(given, plan)
    assert told(given) == {"urgent": "p: a n3 (A100)"}
    with pytest.raises(PlanRejectedError, match=words):
        check(given, corrupt(plan))


def test_check_rejects_that_others_are_ended_though_another_model_is_free_or_becomes_so() -> None:
    given = network(x(), y(), p(ending=True), q())
    eager = replace(place(given), evictions=(Eviction(0, 0, (0,), (0,), ("lower-priority",)),))
    with pytest.raises(PlanRejectedError, match="runs are ended for urgent though it needs none of it"):
        check(given, eager)


def test_check_rejects_room_that_was_claimed_by_one_model_and_is_taken_by_another() -> None:
    given = claimed(nodes="8+1H200 8+1A100+1H200")
    plan = place(given)
    check(given, plan)
    wrong = replace(plan, placements=tuple(replace(item, choice=0) for item in plan.placements))
    check(given, wrong)  # There is an H200 beside it, and what is claimed stays so.
    taken = replace(given, nodes=replace(given.nodes, free=np.minimum(given.nodes.free, [[8, np.inf, 1, 1], [1, np.inf, 1, 1]])))
    check(taken, place(taken))
    with pytest.raises(PlanRejectedError, match="are placed where only"):
        check(taken, wrong)
