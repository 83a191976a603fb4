"""Which gangs give workers up when several could, by rights that change on the way, and that check sees when they may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from scheduler.engine.check import check
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.parts import shrunk
from scheduler.engine.place import place
from scheduler.engine.plan import Growth, Shrink
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnCluster, DrawnJob, cluster, job, queue, world
from tests.running import DrawnRun, beside, ended, gang, resized, run

LOWER, RECLAIM = PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.RECLAIM_QUOTA
HIGH, LOW = 100, -50


def inside(*runs: DrawnRun, size: str, nodes: str, limit: int | None = None, **fields: object) -> Snapshot:
    """An urgent job in a queue in which gangs run."""
    urgent = job("job", size, rank=HIGH, **fields)  # type: ignore[arg-type]
    return beside(world(cluster("sh", nodes), jobs=[urgent], queues=[queue("default", preemption=LOWER, limit=limit)]), *runs)


def lent(*runs: DrawnRun, nodes: str | Sequence[DrawnCluster], jobs: Sequence[DrawnJob], quota: str, theirs: str = "0") -> Snapshot:
    """Jobs of a team that has lent of its quota to guests, who may have a quota of their own."""
    queues = [queue("team", quota=quota, preemption=RECLAIM), queue("guest", quota=theirs)]
    return beside(world(*([cluster("sh", nodes)] if isinstance(nodes, str) else nodes), jobs=jobs, queues=queues), *runs)


def of(queue: str, name: str, size: str, workers: int, least: int = 1, own: int | None = None, rank: int = 0) -> DrawnRun:
    """A gang of so many workers on one node, all of which are its own if nothing is said."""
    return gang(run(name, size, *["sh/n1"] * workers, queue=queue, rank=rank), least, workers if own is None else own)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # All that was grown into goes before anything of one's own.
        (inside(of("default", "a", "1", 3, own=2), of("default", "b", "1", 3, own=2), size="2", nodes="6"),
         {"job": "a to 2 by grown-room, b to 2 by grown-room: sh n1"}),
        # Who has grown most comes first, not who is largest, or could give most.
        (inside(of("default", "a", "1", 4, own=3), of("default", "b", "1", 3, own=1), size="1", nodes="7"),
         {"job": "b to 2 by grown-room: sh n1"}),
        (inside(of("default", "a", "1", 2), of("default", "b", "1", 3, own=2), size="2", nodes="5"),
         {"job": "b to 1 by lower-priority: sh n1"}),
        # Of three the first turns out not to be needed, though the others are.
        (inside(of("default", "a", "1", 2, own=1), of("default", "b", "2", 2, own=1), of("default", "c", "2", 2, own=1),
                size="4", nodes="10"),
         {"job": "b to 1 by grown-room, c to 1 by grown-room: sh n1"}),
        # In words the gangs come by name where no right is used.
        (inside(of("default", "a", "1", 2, own=1), of("default", "b", "1", 3, own=1), size="3", nodes="5"),
         {"job": "a to 1 by grown-room, b to 1 by grown-room: sh n1"}),
        # It helps though one of its workers is where the job may not go.
        (inside(gang(run("g", "1", "sh/n1", "sh/n2", "sh/n1"), 1, 1), size="1", nodes="2@gold 1", labels="gold"),
         {"job": "g to 2 by grown-room: sh n1"}),
        # A worker that leaves is no job that ends, nor one more.
        (inside(of("default", "g", "1", 4, own=2), size="1", nodes="4", limit=2), {"job": "g to 3 by grown-room: sh n1"}),
    ],
)  # fmt: skip
def test_gangs_give_up_what_they_grew_into(given: Snapshot, expected: dict[str, str]) -> None:
    assert resized(given) == expected


def grows(size: str, nodes: str, most: int, jobs: Sequence[DrawnJob] = ()) -> Snapshot:
    """A gang of one worker that may grow."""
    return beside(world(cluster("sh", nodes), jobs=jobs, queues=[queue("default")]), gang(run("g", size, "sh/n1"), 1, 1, most))


MINE = [job("job", "2", queue="team")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # What was only grown into is given up first, and the guests are above their quota still, or not.
        (lent(of("guest", "g", "1", 4, own=3), nodes="4", jobs=MINE, quota="4", theirs="2"), {"job": "g to 2 by reclaim-quota: sh n1"}),
        (lent(of("guest", "g", "1", 4, own=3), nodes="4", jobs=[job("job", "3", queue="team")], quota="4", theirs="1"),
         {"job": "g to 1 by reclaim-quota: sh n1"}),
        (lent(of("guest", "g", "1", 4, own=3), nodes="4", jobs=[job("job", "3", queue="team")], quota="4", theirs="2"), {}),
        # By three rights at once.
        (lent(of("team", "z", "2", 2, rank=LOW), of("guest", "a", "2", 2), of("guest", "b", "1", 2, own=1), nodes="10",
              jobs=[job("job", "5", queue="team")], quota="7"),
         {"job": "z to 1 by lower-priority, a to 1 by reclaim-quota, b to 1 by grown-room: sh n1"}),
        # A gang elsewhere is not asked first, and so takes no right to the one that helps.
        (lent(gang(run("a", "1", "gz/n1", "gz/n1", queue="guest"), 1, 2), of("guest", "b", "1", 2), quota="4", theirs="3",
              nodes=[cluster("gz", "2"), cluster("sh", "2")], jobs=[job("job", "1", queue="team", refused={"gz": Reason.LICENCE_MISSING})]),
         {"job": "b to 1 by reclaim-quota: sh n1"}),
    ],
)  # fmt: skip
def test_gangs_give_back_what_they_were_lent(given: Snapshot, expected: dict[str, str]) -> None:
    assert resized(given) == expected


def test_a_gang_that_holds_nothing_of_what_was_lent_gives_nothing_back() -> None:
    """Of the accelerators that the team has lent the one guest gives none up, and the other has none."""
    fixed = run("fixed", "1+1H200", "sh/n1", queue="guest", fixed=True)
    jobs = [job("job", "1+1H200", queue="team")]
    assert resized(lent(of("guest", "g", "1", 2), fixed, nodes="3+2H200", jobs=jobs, quota="0+2H200")) == {}
    assert resized(lent(of("guest", "g", "1", 2), fixed, nodes="3+2H200", jobs=jobs, quota="1+2H200")) == {
        "job": "g to 1 by reclaim-quota: sh n1"
    }


def test_nobody_gives_back_what_is_owed_only_if_another_leaves_who_is_not_needed() -> None:
    """The team holds 2 of its 5 cores and asks for 4: with one worker less of its own the guest's would be owed to it.

    But once the guest's has left there is room enough without that, and then it is not owed.
    """
    runs = [of("team", "z", "1", 2, rank=LOW), of("guest", "a", "2", 2)]
    given = lent(*runs, nodes="8", jobs=[job("job", "4", queue="team")], quota="5")
    assert (resized(given), ended(given)) == ({}, {"job": "z by lower-priority: sh n1"})


def test_guests_give_back_no_more_than_they_are_above_their_quota_for_all_jobs_together() -> None:
    jobs = [job(name, "1", queue="team") for name in ("a", "b", "c")]
    given = lent(of("guest", "g", "1", 4), nodes="4", jobs=jobs, quota="4", theirs="2")
    assert resized(given) == {"a": "g to 3 by reclaim-quota: sh n1", "b": "g to 2 by reclaim-quota: sh n1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (grows("1", nodes="4 1+1H200", most=4), {"g": "with n1 n1 n1"}),
        # Workers that share devices: two of them on one.
        (grows("1+.5H200", nodes="8+1,1H200", most=4), {"g": "with n1 n1 n1"}),
        (grows("1+2H200", nodes="8+1,1,1,1,1H200", most=4), {"g": "with n1"}),
    ],
)  # fmt: skip
def test_gangs_grow_on_devices_and_beside_them(given: Snapshot, expected: dict[str, str]) -> None:
    assert resized(given) == expected


def test_check_refuses_growth_into_room_that_the_plan_gives_away() -> None:
    given = grows("1", nodes="3", most=4, jobs=[job("job", "1")])
    plan = place(given)
    assert ([item.job for item in plan.placements], plan.growths) == ([0], (Growth(0, (0,)),))
    with pytest.raises(PlanRejectedError, match="with what joins"):
        check(given, replace(plan, growths=(Growth(0, (0, 0)),)))


def test_who_gangs_shrink_for_claims_a_node_each_with_what_leaves_there() -> None:
    runs = [gang(run("a", "1", "sh/n1", "sh/n2", "sh/n1"), 1, 1), gang(run("b", "2", "sh/n2", "sh/n1"), 1, 1), run("c", "1", "sh/n1")]
    given = beside(world(cluster("sh", "5 5"), jobs=[job("job", "1", workers=2)], queues=[queue("default")]), *runs)
    after = shrunk(given, [Shrink(0, 0, (0, 1), ((0, 1), (1, 1)), ("grown-room", "grown-room"))])
    claims, found = after.claims, after.evictable
    assert (claims.ids, claims.node.tolist(), claims.workers.tolist()) == (("job",), [0, 1], [1, 1])
    assert claims.pending[:, 0].tolist() == [3.0, 1.0]
    leaving = [name for name, ending in zip(found.ids, found.ending.tolist(), strict=True) if ending]
    assert (leaving, found.workers().tolist()) == (["a-1#000001", "b-1#000001"], [1, 1, 1, 2, 1])


def refused(given: Snapshot, *shrinks: Shrink) -> str:
    """Why a plan with these shrinks, and no run ended, is not accepted."""
    with pytest.raises(PlanRejectedError) as error:
        check(given, replace(place(given), shrinks=shrinks, evictions=()))
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "shrink", "words"),
    [
        # With what was grown into given up, the guests are one above their quota, and not two.
        (lent(of("guest", "g", "1", 4, own=3), nodes="4", jobs=[job("job", "3", queue="team")], quota="4", theirs="2"),
         Shrink(0, 0, (0,), ((0, 1),), ("reclaim-quota",)), "g-1#000001 may not be taken for job"),
        # All workers of a gang count towards the quota.
        (lent(of("guest", "g", "1", 5), nodes="5", jobs=[job("job", "2", workers=2, queue="team")], quota="3"),
         Shrink(0, 0, (0, 0), ((0, 1),), ("reclaim-quota",)), "may not be taken for job"),
        # Of the same priority.
        (inside(of("default", "g", "1", 4, rank=HIGH), size="1", nodes="4"),
         Shrink(0, 0, (0,), ((0, 3),), ("lower-priority",)), "g-1#000003 may not be taken for job"),
    ],
)  # fmt: skip
def test_check_refuses_what_no_right_covers(given: Snapshot, shrink: Shrink, words: str) -> None:
    assert place(given).shrinks == ()
    assert words in refused(given, shrink)


def test_check_carries_out_what_comes_before() -> None:
    first, second = (Shrink(row, 0, (0,), ((row, 1),), ("grown-room",)) for row in (0, 1))
    runs = [of("default", "a", "2", 2, own=1), of("default", "b", "2", 2, own=1)]
    given = beside(world(cluster("sh", "8"), jobs=[job("first", "1"), job("second", "1")], queues=[queue("default")]), *runs)
    assert place(given).shrinks == (first,)
    assert "gangs shrink for second though it needs none of it" in refused(given, first, second)
    # What the first holds counts towards the quota of its queue.
    jobs = [job("first", "2", queue="team"), job("second", "2", queue="team")]
    owed = lent(of("guest", "g", "2", 4), nodes="8", jobs=jobs, quota="3")
    taken = [Shrink(row, 0, (0,), ((0, 3 - row),), ("reclaim-quota",)) for row in (0, 1)]
    assert place(owed).shrinks == (taken[0],)
    assert "g-1#000002 may not be taken for second" in refused(owed, *taken)


@pytest.mark.parametrize("nodes", [(1, 2), (2, 3), (3, 3)], ids=["two zones", "a zone and none", "no zone"])
def test_check_refuses_room_outside_one_zone(nodes: tuple[int, ...]) -> None:
    runs = [gang(run("g", "2", "sh/n2", "sh/n1"), 1, 1)]
    given = inside(*runs, size="2", nodes="2#a 4#a 2#b 2", workers=2, same="zone")
    plan = place(given)
    assert plan.shrinks == (Shrink(0, 0, (0, 1), ((0, 1),), ("grown-room",)),)
    assert "job may not use a node that it claims" in refused(given, replace(plan.shrinks[0], nodes=nodes))


def test_check_refuses_seats_of_which_only_some_are_right() -> None:
    given = inside(of("default", "g", "1", 4, own=2), size="1", nodes="4@gold 1 1@gold+1H200", workers=2, labels="gold")
    full = replace(given, nodes=replace(given.nodes, free=given.nodes.free * [[1.0], [1.0], [0.0]]))
    plan = place(full)
    assert plan.shrinks == (Shrink(0, 0, (0, 0), ((0, 2),), ("grown-room",)),)
    check(full, plan)
    assert "job may not use a node that it claims" in refused(full, replace(plan.shrinks[0], nodes=(0, 1)))
    assert "job claims more than is freed on its nodes" in refused(full, replace(plan.shrinks[0], nodes=(0, 2)))


@pytest.mark.parametrize(("labels", "expected"), [("", {"job": "g to 2 by grown-room: sh n2"}), ("gold", {})])
def test_a_full_queue_is_helped_beside_what_another_waits_for(labels: str, expected: dict[str, str]) -> None:
    """The second's queue may hold 4 cores and its gang has 4. The first waits for the first node, of which 3 cores are ending."""
    jobs = [job("first", "3", queue="first"), job("job", "2", queue="second", labels=labels)]
    drawn = world(cluster("sh", "3@gold 4"), jobs=jobs, queues=[queue("first"), queue("second", ceiling="4")])
    theirs = gang(run("g", "1", *["sh/n2"] * 4, queue="second"), 1, 1)
    given = beside(drawn, run("e", "3", "sh/n1", queue="first", ending=True), theirs)
    assert resized(given) == expected
