"""Running gangs that shrink for others and grow into what nobody wants, as pictures of nodes, runs and jobs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.check import check
from scheduler.engine.evictable import Budget, PreemptionPolicy
from scheduler.engine.parts import by_worker, shrunk
from scheduler.engine.place import place
from scheduler.engine.plan import Growth, Shrink
from scheduler.engine.snapshot import Running, Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnQueue, cluster, job, queue, world
from tests.running import DrawnRun, beside, claim, ended, gang, resized, run

NEVER, LOWER, RECLAIM = PreemptionPolicy
HIGH = 100


def waits(
    *runs: DrawnRun, nodes: str = "4", size: str = "1", policy: PreemptionPolicy = NEVER, workers: int = 1, rank: int = 0,
    same: str = "", more: tuple[DrawnQueue, ...] = (), at: str = "default",
) -> Snapshot:  # fmt: skip
    """A job beside what runs, in a queue of a policy."""
    asking = job("job", size, workers=workers, rank=rank, same=same, queue=at)
    queues = [queue("default", preemption=policy), *more]
    return beside(world(cluster("sh", nodes), jobs=[asking], queues=queues), *runs)


def four(own: int = 2, least: int = 1, **fields: object) -> DrawnRun:
    """A gang of four workers with one core each, on one node."""
    return gang(run("g", "1", *["sh/n1"] * 4, **fields), least, own)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Room that it grew into is as good as free, by whatever policy; no more of it is taken than is needed.
        (waits(four()), {"job": "g to 3 by grown-room: sh n1"}),
        (waits(four(), size="2"), {"job": "g to 2 by grown-room: sh n1"}),
        (waits(four(), workers=2), {"job": "g to 2 by grown-room: sh n1 n1"}),
        (waits(four(), nodes="5", size="2"), {"job": "g to 3 by grown-room: sh n1"}),
        # What it was granted is its own,
        (waits(four(), size="3"), {}),
        (waits(four(own=4)), {}),
        # but for a right to it, and never below its least.
        (waits(four(), size="3", policy=LOWER, rank=HIGH), {"job": "g to 1 by lower-priority: sh n1"}),
        (waits(four(), size="3", policy=LOWER), {}),
        (waits(four(own=4, least=3), policy=LOWER, rank=HIGH), {"job": "g to 3 by lower-priority: sh n1"}),
        (waits(four(own=4, least=3), size="2", policy=NEVER, rank=HIGH), {}),
        # Grown room goes first, wherever it is, then the gang of lower priority.
        (waits(gang(run("a", "1", "sh/n1", "sh/n1"), 1, 2), gang(run("b", "1", "sh/n1", "sh/n1", rank=50), 1, 1), policy=LOWER, rank=HIGH),
         {"job": "b to 1 by grown-room: sh n1"}),
        (waits(gang(run("a", "1", "sh/n1", "sh/n1", rank=50), 1, 2), gang(run("b", "1", "sh/n1", "sh/n1"), 1, 2), policy=LOWER, rank=HIGH),
         {"job": "b to 1 by lower-priority: sh n1"}),
        # Of equal priority, whoever has grown most.
        (waits(gang(run("a", "1", "sh/n1", "sh/n1"), 1, 1), gang(run("b", "1", *["sh/n1"] * 3), 1, 1), nodes="5"),
         {"job": "b to 2 by grown-room: sh n1"}),
        # Several gangs give some each; what turns out not to be needed is given back.
        (waits(gang(run("a", "1", "sh/n1", "sh/n1"), 1, 1), gang(run("b", "1", "sh/n1", "sh/n1"), 1, 1), size="2"),
         {"job": "a to 1 by grown-room, b to 1 by grown-room: sh n1"}),
        (waits(gang(run("a", "1", *["sh/n1"] * 3), 1, 1), gang(run("b", "3", "sh/n1", "sh/n1"), 1, 1), nodes="9", size="3"),
         {"job": "b to 1 by grown-room: sh n1"}),
        # The highest ranks leave: those elsewhere too, when they stand above one that helps.
        (waits(gang(run("g", "1", "sh/n1", "sh/n1", "sh/n2"), 1, 1), nodes="2 1", size="2"), {}),
        (waits(gang(run("g", "2", "sh/n1", "sh/n2", "sh/n1"), 1, 1), nodes="4 2", size="2"), {"job": "g to 2 by grown-room: sh n1"}),
        (waits(gang(run("g", "2", "sh/n1", "sh/n1", "sh/n2"), 1, 1), nodes="4#r.1 3#r.2", size="2", workers=2),
         {"job": "g to 1 by grown-room: sh n1 n2"}),
        # What is ending anyway suffices.
        (waits(four(), run("e", "1", "sh/n1", ending=True), nodes="5"), {}),
        (waits(four(ending=True)), {}),
        # Devices count one by one.
        (waits(gang(run("g", "1+1H200", "sh/n1", "sh/n1"), 1, 1), nodes="8+1,1H200", size="1+1H200"),
         {"job": "g to 1 by grown-room: sh n1"}),
        (waits(gang(run("g", "1+.5H200", "sh/n1", "sh/n1"), 1, 1), nodes="8+1H200", size="1+1H200"), {}),
    ],
)  # fmt: skip
def test_gangs_shrink_for_whoever_waits(given: Snapshot, expected: dict[str, str]) -> None:
    assert resized(given) == expected


def test_a_gang_gives_back_lent_quota_worker_by_worker_and_nobody_is_ended() -> None:
    team, guest = queue("team", quota="4", preemption=RECLAIM), queue("guest")
    given = waits(gang(run("g", "1", *["sh/n1"] * 4, queue="guest"), 1, 4), size="2", more=(team, guest), at="team")
    assert resized(given) == {"job": "g to 2 by reclaim-quota: sh n1"}
    assert ended(given) == {}
    assert resized(replace(given, queues=replace(given.queues, quota=given.queues.quota * 0))) == {}


def test_who_leaves_first_may_make_room_in_the_quota_for_taking_back_what_was_lent() -> None:
    # The team holds 4 of its 6 cores and wants 4 more: only when a worker of its own has left, the guest's are owed to it.
    team, guest = queue("team", quota="6", preemption=RECLAIM), queue("guest")
    own, theirs = (
        gang(run("z", "2", "sh/n1", "sh/n1", queue="team", rank=-50), 1, 2),
        gang(run("a", "2", "sh/n1", "sh/n1", queue="guest"), 1, 2),
    )
    given = waits(own, theirs, nodes="8", size="4", more=(team, guest), at="team")
    assert resized(given) == {"job": "z to 1 by lower-priority, a to 1 by reclaim-quota: sh n1"}


def test_what_is_tried_for_one_job_takes_no_right_from_the_next() -> None:
    jobs = [job(name, "1", queue="team") for name in ("a", "b", "c", "d")]
    queues = [queue("default"), queue("team", quota="4", preemption=RECLAIM), queue("guest")]
    given = beside(world(cluster("sh", "4"), jobs=jobs, queues=queues), gang(run("g", "1", *["sh/n1"] * 4, queue="guest"), 1, 4))
    assert resized(given) == {f"{name}": f"g to {left} by reclaim-quota: sh n1" for name, left in (("a", 3), ("b", 2), ("c", 1))}


def test_more_of_what_was_grown_into_is_taken_rather_than_less_of_what_is_owned() -> None:
    queues = [queue("default", preemption=LOWER)]
    given = beside(
        world(cluster("gz", "4"), cluster("sh", "3"), jobs=[job("job", "2", rank=HIGH)], queues=queues),
        gang(run("own", "2", "gz/n1", "gz/n1"), 1, 2), gang(run("grown", "1", *["sh/n1"] * 3), 1, 1),
    )  # fmt: skip
    assert resized(given) == {"job": "grown to 1 by grown-room: sh n1"}


def test_shrinking_comes_before_ending_and_what_it_cannot_do_is_left_to_that() -> None:
    given = waits(four(own=4), run("b", "1", "sh/n1", rank=-50), nodes="5", policy=LOWER, rank=HIGH)
    assert (resized(given), ended(given)) == ({"job": "g to 3 by lower-priority: sh n1"}, {})
    large = waits(four(own=4, least=3), nodes="4", size="4", policy=LOWER, rank=HIGH)
    assert (resized(large), ended(large)) == ({}, {"job": "g by lower-priority: sh n1"})


def test_a_job_may_pass_its_queues_ceiling_by_what_a_gang_of_it_gives_up() -> None:
    given = beside(
        world(cluster("sh", "8"), jobs=[job("job", "1", queue="q")], queues=[queue("q", ceiling="4")]),
        gang(run("g", "1", *["sh/n1"] * 4, queue="q"), 1, 1),
    )
    assert resized(given) == {"job": "g to 3 by grown-room: sh n1"}


def test_two_jobs_share_what_a_gang_gives_up_and_a_third_waits_for_an_end() -> None:
    jobs = [job(name, "1") for name in ("a", "b", "c")]
    given = beside(world(cluster("sh", "4"), jobs=jobs), four())
    assert resized(given) == {"a": "g to 3 by grown-room: sh n1", "b": "g to 2 by grown-room: sh n1"}
    # At the next cycle the two workers are leaving, and both jobs have claimed their room.
    leaving = run("leaving", "1", "sh/n1", ending_for="a"), run("gone", "1", "sh/n1", ending_for="b")
    later = beside(
        world(cluster("sh", "4"), jobs=jobs), gang(run("g", "1", "sh/n1", "sh/n1"), 1, 2), *leaving,
        claims=[claim("a", "1", "sh/n1"), claim("b", "1", "sh/n1")],
    )  # fmt: skip
    assert resized(later) == {}


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        (0, {}),
        (1, {}),
        # Who is like one that found nothing is not looked at.
        (2, {"small": "g to 3 by grown-room: sh n1"}),
        (3, {"small": "g to 3 by grown-room: sh n1", "more": "g to 2 by grown-room: sh n1"}),
    ],
)
def test_room_is_looked_for_as_often_as_the_budget_says(looks: int, expected: dict[str, str]) -> None:
    jobs = [job("large", "9"), job("as large", "9"), job("small", "1"), job("more", "1")]
    given = beside(world(cluster("sh", "4"), jobs=jobs), four(), budget=Budget(looks=looks))
    assert resized(given) == expected


def grows(*runs: DrawnRun, nodes: str = "8", jobs: tuple[object, ...] = (), queues: tuple[DrawnQueue, ...] = ()) -> Snapshot:
    return beside(world(cluster("sh", nodes), jobs=jobs, queues=[queue("default"), *queues]), *runs)  # type: ignore[arg-type]


def two(name: str = "g", most: int = 8, at: str = "default", **fields: object) -> DrawnRun:
    return gang(run(name, "1", "sh/n1", "sh/n1", queue=at), 1, 2, most, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (grows(two()), {"g": "with n1 n1 n1 n1 n1 n1"}),
        (grows(two(most=4)), {"g": "with n1 n1"}),
        (grows(two(), nodes="2"), {}),
        (grows(two(), nodes="3 2"), {"g": "with n1 n2 n2"}),
        # Whoever waits goes first; a job that does not fit anyway stands in nobody's way.
        (grows(two(), nodes="4", jobs=(job("a", "1"),)), {"g": "with n1"}),
        (grows(two(), nodes="4", jobs=(job("a", "9"),)), {"g": "with n1 n1"}),
        # Queues: no more than it may hold, and of two gangs the one whose queue holds less has the next worker.
        (grows(two(at="q"), queues=(queue("q", ceiling="3"),)), {"g": "with n1"}),
        (grows(two(at="q"), queues=(queue("q"), queue("r", quota="4", kept="4"))), {"g": "with n1 n1"}),
        (grows(two("a", at="q"), two("b", at="r"), queues=(queue("q", 3), queue("r"))), {"a": "with n1 n1 n1 n1"}),
        (grows(two("a", at="q"), two("b", at="r"), queues=(queue("q"), queue("r"))), {"a": "with n1 n1", "b": "with n1 n1"}),
        # A queue that runs as many jobs as it may has gangs that grow still.
        (grows(two(at="q", most=3), queues=(queue("q", limit=1),)), {"g": "with n1"}),
        # Its own zone, or rack, alone.
        (grows(two(same="zone"), nodes="3#y.1 8#z.2 2#y.3"), {"g": "with n1 n3 n3"}),
        (grows(two(same="rack"), nodes="3#z.1 8#z.2 2#z.1"), {"g": "with n1 n3 n3"}),
        # Devices that are whole.
        (grows(gang(run("g", "1+1H200", "sh/n1"), 1, 1, 4), nodes="8+1,.5,1H200"), {"g": "with n1"}),
        # Members that take nothing new.
        (beside(world(cluster("sh", "8", cordoned=True), queues=[queue("default")]), two()), {}),
        (beside(world(cluster("sh", "8", healthy=False), queues=[queue("default")]), two()), {}),
        (beside(world(cluster("sh", "2"), cluster("gz", "8"), queues=[queue("default")]), two()), {}),
    ],
)  # fmt: skip
def test_gangs_grow_into_what_is_left(given: Snapshot, expected: dict[str, str]) -> None:
    assert resized(given) == expected


def test_a_gang_that_shrinks_or_stands_beside_a_claim_does_not_grow() -> None:
    jobs = [job("job", "2")]
    given = beside(world(cluster("sh", "4 1"), jobs=jobs), gang(run("g", "1", *["sh/n1"] * 4), 1, 2, 8))
    assert resized(given) == {"job": "g to 2 by grown-room: sh n1"}
    beside_claim = beside(
        world(cluster("sh", "6 1"), jobs=jobs, queues=[queue("default", limit=1)]), two(), claims=[claim("job", "2", "sh/n1")]
    )
    assert resized(beside_claim) == {"g": "with n2"}


@pytest.mark.parametrize(("left_s", "expected"), [(60.0, {"g": "with n1 n1"}), (600.0, {})])
def test_a_gang_grows_where_it_delays_no_promised_start(left_s: float, expected: dict[str, str]) -> None:
    """Two of four cores are free; in 100 s the other two will be, and a job of four is promised them."""
    given = beside(
        world(cluster("sh", "4 1"), jobs=[job("large", "4")]), run("r", "2", "sh/n1"), gang(run("g", "1", "sh/n2"), 1, 1, 4, left_s=left_s)
    )
    seats = given.evictable
    running = Running(seats.ids, seats.request, np.array([100.0, 50.0]), seats.owner, seats.node)
    jobs = replace(given.jobs, length_s=np.array([100.0]), limit_s=np.array([100.0]))
    given = replace(given, heads=1, running=running, jobs=jobs)
    assert resized(given) == expected


@pytest.mark.parametrize(("left_s", "expected"), [(60.0, {"g": "with n1"}), (600.0, {})])
def test_a_gang_takes_no_device_that_another_is_promised(left_s: float, expected: dict[str, str]) -> None:
    """One of two devices is free; in 100 s the other will be, and a job of both is promised them. Of all else there is plenty."""
    given = beside(
        world(cluster("sh", "64+1,1H200 8+1H200"), jobs=[job("large", "1+2H200")]), run("r", "1+1H200", "sh/n1"),
        gang(run("g", "1+1H200", "sh/n2"), 1, 1, 4, left_s=left_s),
    )  # fmt: skip
    seats = given.evictable
    running = Running(seats.ids, seats.request, np.array([100.0, 50.0]), seats.owner, seats.node, seats.device)
    jobs = replace(given.jobs, length_s=np.array([100.0]), limit_s=np.array([100.0]))
    given = replace(given, heads=1, running=running, jobs=jobs)
    assert [item.start_s for item in place(given).promises] == [100.0]
    assert resized(given) == expected


def test_parts_keep_runs_in_their_rows_and_ranks_with_their_devices() -> None:
    given = beside(
        world(cluster("sh", "8+1,1,1,1H200 8"), queues=[queue("default")]),
        run("a", "1", "sh/n2", "sh/n2"), gang(run("g", "1+1H200", "sh/n1", "sh/n1", "sh/n1"), 1, 2), run("z", "1", "sh/n2"),
    )  # fmt: skip
    parts = by_worker(given.evictable, given.evictable.least)
    found = parts.evictable
    assert found.ids == ("a-1", "g-1", "z-1", "g-1#000001", "g-1#000002")
    assert found.workers().tolist() == [2, 1, 1, 1, 1]
    assert sorted(found.device[:, [0, 3]].tolist()) == [[1, 0], [3, 1], [4, 2]]
    assert (found.part.tolist(), parts.rows(1, 1)) == ([False, False, False, True, True], [4, 3])
    after = shrunk(
        replace(given, jobs=world(cluster("sh", "1"), jobs=[job("j", "1")]).jobs), [Shrink(0, 0, (0,), ((1, 2),), ("grown-room",))]
    )
    assert (after.evictable.ids[3:], after.evictable.workers().tolist()) == (("g-1#000002",), [2, 2, 1, 1])
    assert after.evictable.ending.tolist() == [False, False, False, True]


def test_each_worker_keeps_all_its_devices() -> None:
    given = beside(world(cluster("sh", "8+1,1,1,1H200"), queues=[queue("default")]), gang(run("g", "1+2H200", "sh/n1", "sh/n1"), 1, 1))
    found = by_worker(given.evictable, given.evictable.least).evictable
    assert found.ids == ("g-1", "g-1#000001")
    assert sorted(found.device[:, [0, 3]].tolist()) == [[0, 0], [0, 1], [1, 2], [1, 3]]


GIVEN = waits(gang(run("g", "1", *["sh/n1"] * 4), 1, 2, 9), run("b", "1", "sh/n2"), nodes="4 1", policy=LOWER, rank=HIGH)
GOOD = Shrink(0, 0, (0,), ((0, 3),), ("grown-room",))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (replace(GOOD, gangs=((0, 2),)), "further for job than is needed"),
        (replace(GOOD, gangs=((0, 1),), rights=("lower-priority",)), "further for job than is needed"),
        (replace(GOOD, gangs=((0, 4),)), "from 4 to 4"),
        (replace(GOOD, gangs=((0, 0),)), "from 4 to 0"),
        (replace(GOOD, rights=("lower-priority",)), "not by what it gives up"),
        (replace(GOOD, rights=("because we can",)), "rights that are not there"),
        (replace(GOOD, gangs=((1, 0),)), "from 1 to 0"),
        (replace(GOOD, gangs=((7, 1),)), "rows or rights"),
        (replace(GOOD, nodes=(1,)), "claims more than is freed"),
        (replace(GOOD, nodes=()), "does not seat"),
    ],
)
def test_check_rejects_shrinks_that_were_spoiled(bad: Shrink, words: str) -> None:
    plan = place(GIVEN)
    assert plan.shrinks == (GOOD,)
    with pytest.raises(PlanRejectedError, match=words):
        check(GIVEN, replace(plan, shrinks=(bad,)))
    with pytest.raises(PlanRejectedError, match="in another way"):
        check(GIVEN, replace(plan, shrinks=(GOOD, GOOD)))


def test_check_rejects_rights_that_the_world_does_not_give() -> None:
    owned = waits(four(own=4), policy=LOWER, rank=HIGH)
    plan = place(owned)
    check(owned, plan)
    for other in (
        replace(owned, queues=replace(owned.queues, preemption=owned.queues.preemption * 0)),
        replace(owned, evictable=replace(owned.evictable, rank=owned.evictable.rank + 999)),
        replace(owned, evictable=replace(owned.evictable, least=owned.evictable.least + 3)),
        replace(owned, nodes=replace(owned.nodes, free=owned.nodes.free + 9e9)),
    ):
        with pytest.raises(PlanRejectedError):
            check(other, plan)


@pytest.mark.parametrize(
    ("growth", "words"),
    [
        (Growth(0, (0,) * 7), "grows from 2 by 7"),
        (Growth(0, ()), "grows from 2 by 0"),
        (Growth(3, (0,)), "which is not there"),
        (Growth(0, (9,)), "on a node that is not there"),
        (Growth(0, (1,)), "a node lacks labels"),
        (Growth(0, (0, 0, 0)), "with what joins"),
    ],
)
def test_check_rejects_growths_that_were_spoiled(growth: Growth, words: str) -> None:
    given = beside(world(cluster("sh", "4"), cluster("gz", "8"), queues=[queue("default")]), two())
    plan = place(given)
    assert plan.growths == (Growth(0, (0, 0)),)
    with pytest.raises(PlanRejectedError, match=words):
        check(given, replace(plan, growths=(growth,)))
    with pytest.raises(PlanRejectedError, match="grows 2 times"):
        check(given, replace(plan, growths=(*plan.growths, *plan.growths)))


def test_check_rejects_a_node_without_a_group_for_who_must_be_in_one() -> None:
    given = waits(gang(run("g", "1", *["sh/n1"] * 4), 1, 2), nodes="4#r.1 1", same="rack")
    plan = place(given)
    assert plan.shrinks == (Shrink(0, 0, (0,), ((0, 3),), ("grown-room",)),)
    with pytest.raises(PlanRejectedError, match="may not use a node that it claims"):
        check(given, replace(plan, shrinks=(replace(plan.shrinks[0], nodes=(1,)),)))


def test_check_rejects_growth_where_nothing_may_grow_and_on_devices_in_use() -> None:
    alone = world(cluster("sh", "4"), queues=[queue("default")])
    with pytest.raises(PlanRejectedError, match="gang row 0 grows, which is not there"):
        check(alone, replace(place(alone), growths=(Growth(0, (0,)),)))
    given = grows(gang(run("g", "1+1H200", "sh/n1"), 1, 1, 4), nodes="8+1,.5,1H200")
    plan = place(given)
    assert [item.devices for item in plan.growths] == [(((2, 2),),)]
    for devices in ((((2, 1),),), (((2, 0),),)):
        with pytest.raises(PlanRejectedError, match="what joins holds devices that are not free"):
            check(given, replace(plan, growths=(Growth(0, (0,), devices),)))


def test_check_rejects_a_gang_for_which_others_shrink_at_two_clusters() -> None:
    drawn = world(cluster("gz", "1"), cluster("sh", "4"), jobs=[job("job", "1", workers=2)], queues=[queue("default")])
    given = beside(drawn, four())
    plan = place(given)
    assert plan.shrinks == (Shrink(0, 1, (1, 1), ((0, 2),), ("grown-room",)),)
    for nodes in ((0, 1), (1, 0)):
        with pytest.raises(PlanRejectedError, match="does not seat all its workers at one cluster"):
            check(given, replace(plan, shrinks=(replace(plan.shrinks[0], nodes=nodes),)))
