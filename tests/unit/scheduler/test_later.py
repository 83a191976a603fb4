"""Who waits for a cheaper hour, until when and where, as pictures of nodes and jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.check import check
from scheduler.engine.inquiry import Inquiry
from scheduler.engine.later import LEAST_SAVING, LONG_S, most
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, job, queue, shown, world
from tests.timed import timed, waiting

HOUR = 3600.0
# Falls until hour 6, stays, and rises from hour 10 on.
NIGHT = {0.0: 10.0, 6 * HOUR: 6.0, 10 * HOUR: 6.0, 12 * HOUR: 9.0}


def told(snapshot: Snapshot) -> tuple[dict[str, str], dict[str, tuple[str, float]]]:
    """A checked plan in words, and where and in how many hours who waits is promised a start."""
    plan = place(snapshot)
    check(snapshot, plan)
    names = snapshot.clusters.names
    return shown(snapshot, plan), {snapshot.jobs.ids[item.job]: (names[item.cluster], item.start_s / HOUR) for item in plan.promises}


def one(nodes: str = "8", prices: dict[float, float] | None = None, latest_h: float = 20.0, **more: object) -> Snapshot:
    """A job of 8 cores and four hours on one member."""
    drawn = world(cluster("sh", nodes), jobs=[job("a", "8")])
    return waiting(timed(drawn, {"a": 4 * HOUR}, **more), "a", {"sh": NIGHT if prices is None else prices}, latest_h * HOUR)  # type: ignore[arg-type]


def test_a_job_waits_for_the_first_of_the_cheapest_hours_and_is_promised_it() -> None:
    assert told(one()) == ({"a": "cheaper_later"}, {"a": ("sh", 6.0)})


@pytest.mark.parametrize(
    ("prices", "latest_h", "expected"),
    [
        ({0.0: 10.0}, 20.0, "now"),  # All hours are alike.
        ({0.0: 10.0, 6 * HOUR: 12.0}, 20.0, "now"),
        ({0.0: 10.0, 6 * HOUR: 9.9}, 20.0, "now"),  # It saves 1 %, less than waiting is worth.
        ({0.0: 10.0, 6 * HOUR: 9.7}, 20.0, 6.0),
        ({0.0: 10.0, 60.0: 9.99}, 20.0, 60 / HOUR),  # The last minute saves little, and is worth it.
        (NIGHT, 0.0, "now"),
        (NIGHT, -5.0, "now"),  # No start is in time; the soonest is best.
        (NIGHT, 0.001, 0.001),
        (NIGHT, 3.0, 3.0),  # Not yet the cheapest hour, but the cheapest that is in time.
        (NIGHT, 6.0, 6.0),
    ],
)
def test_it_starts_at_once_when_waiting_saves_nothing_or_no_time_is_left(
    prices: dict[float, float], latest_h: float, expected: float | str
) -> None:
    plan, promises = told(one(prices=prices, latest_h=latest_h))
    if expected == "now":
        assert (plan, promises) == ({"a": "sh n1"}, {})
    else:
        assert plan == {"a": "cheaper_later"}
        assert promises["a"][1] <= latest_h
        assert promises["a"][1] == pytest.approx(expected)


def test_of_several_members_it_waits_for_the_one_and_the_hour_where_it_costs_least() -> None:
    drawn = timed(world(cluster("sh", "8"), cluster("gz", "8"), jobs=[job("a", "8")]), {"a": 4 * HOUR})
    both = {"sh": {0.0: 8.0, 2 * HOUR: 7.0}, "gz": {0.0: 9.0, 5 * HOUR: 5.0}}
    assert told(waiting(drawn, "a", both, 20 * HOUR)) == ({"a": "cheaper_later"}, {"a": ("gz", 5.0)})
    assert told(waiting(drawn, "a", both, 2.2 * HOUR)) == ({"a": "cheaper_later"}, {"a": ("sh", 2.0)})
    # Where the buyer may not go it is never promised a start.
    assert told(waiting(drawn, "a", {"sh": both["sh"]}, 20 * HOUR))[1] == {"a": ("sh", 2.0)}


def test_without_room_at_the_cheap_hour_it_waits_for_the_next_best_or_starts_now() -> None:
    drawn = world(cluster("sh", "0/8"), cluster("gz", "8"), jobs=[job("a", "8")])
    prices = {"sh": {0.0: 5.0}, "gz": {0.0: 10.0}}
    # The cheap member has room in two hours: in time for one deadline and too late for another.
    busy = timed(drawn, {"a": 4 * HOUR}, running=[("sh n1", "8", 2 * HOUR)])
    assert told(waiting(busy, "a", prices, 3 * HOUR)) == ({"a": "cheaper_later"}, {"a": ("sh", 2.0)})
    assert told(waiting(busy, "a", prices, HOUR)) == ({"a": "gz n1"}, {})


def test_who_finds_no_room_waits_for_an_hour_that_is_cheaper_than_any_member_is_now() -> None:
    drawn = world(cluster("sh", "0/8"), cluster("gz", "0/8"), jobs=[job("a", "8")])
    busy = timed(drawn, {"a": 4 * HOUR}, running=[("sh n1", "8", HOUR), ("gz n1", "8", 9 * HOUR)])
    gz = {0.0: 6.0}
    assert told(waiting(busy, "a", {"sh": {0.0: 10.0, 5 * HOUR: 7.0}, "gz": gz}, 20 * HOUR)) == ({"a": "node_busy"}, {})
    cheaper = {"sh": {0.0: 10.0, 5 * HOUR: 5.0}, "gz": gz}
    assert told(waiting(busy, "a", cheaper, 20 * HOUR)) == ({"a": "cheaper_later"}, {"a": ("sh", 5.0)})


def test_others_go_in_front_only_if_they_are_done_by_then() -> None:
    jobs = [job("a", "8"), job("short", "4"), job("long", "4")]
    drawn = timed(world(cluster("sh", "8"), jobs=jobs), {"a": 4 * HOUR, "short": 5 * HOUR, "long": 7 * HOUR})
    plan, promises = told(waiting(drawn, "a", {"sh": NIGHT}, 20 * HOUR))
    assert plan == {"a": "cheaper_later", "short": "sh n1", "long": "reserved_for_another"}
    assert promises == {"a": ("sh", 6.0)}


@pytest.mark.parametrize(("length_h", "starts"), [(5, True), (7, False)])
def test_a_question_knows_of_who_waits_for_a_cheaper_hour(length_h: float, starts: bool) -> None:
    drawn = timed(world(cluster("sh", "8"), jobs=[job("a", "8"), job("b", "4")]), {"a": 4 * HOUR, "b": length_h * HOUR})
    asked = waiting(drawn, "a", {"sh": NIGHT}, 20 * HOUR)
    found = Inquiry(asked).start(asked, [0])
    assert (found is not None) is starts
    assert starts == (told(asked)[0]["b"] == "sh n1")


@pytest.mark.parametrize(("latest_h", "expected"), [(20, {"a": ("sh", 6.0)}), (3, {"a": ("sh", 3.0)})])
def test_for_a_cleaner_hour_it_waits_in_the_same_way_and_says_so(latest_h: float, expected: dict[str, tuple[str, float]]) -> None:
    drawn = timed(world(cluster("sh", "8"), jobs=[job("a", "8")]), {"a": 4 * HOUR})
    assert told(waiting(drawn, "a", {"sh": NIGHT}, latest_h * HOUR, cleaner=True)) == ({"a": "cleaner_later"}, expected)


def test_where_nobody_knows_what_it_emits_it_does_not_wait_for_and_that_counts_as_the_worst() -> None:
    drawn = timed(world(cluster("sh", "8"), cluster("xx", "8"), jobs=[job("a", "8")]), {"a": 4 * HOUR})
    assert told(waiting(drawn, "a", {"sh": NIGHT}, 20 * HOUR, cleaner=True, unrated=["xx"])) == ({"a": "cleaner_later"}, {"a": ("sh", 6.0)})
    # It starts at the known one where no hour is cleaner, and at the unknown one where nothing is known.
    assert told(waiting(drawn, "a", {"sh": {0.0: 5.0}}, 20 * HOUR, cleaner=True, unrated=["xx"])) == ({"a": "sh n1"}, {})
    assert told(waiting(drawn, "a", {}, 20 * HOUR, cleaner=True, unrated=["xx"])) == ({"a": "xx n1"}, {})


def test_from_an_unknown_member_it_waits_only_for_an_hour_that_is_cleaner_than_the_known_ones_now() -> None:
    drawn = world(cluster("sh", "0/8"), cluster("xx", "8"), jobs=[job("a", "8")])
    busy = timed(drawn, {"a": 4 * HOUR}, running=[("sh n1", "8", 2 * HOUR)])
    assert told(waiting(busy, "a", {"sh": NIGHT}, 20 * HOUR, cleaner=True, unrated=["xx"])) == ({"a": "cleaner_later"}, {"a": ("sh", 6.0)})
    # Room alone, which the known member will have in two hours, is nothing to wait for.
    assert told(waiting(busy, "a", {"sh": {0.0: 5.0}}, 20 * HOUR, cleaner=True, unrated=["xx"])) == ({"a": "xx n1"}, {})


@pytest.mark.parametrize(
    ("within_h", "latest_h", "expected"),
    [
        ([(5.0, 11.0)], 20, ({"a": "affordable_later"}, {"a": ("sh", 6.0)})),  # The cheapest of those that are paid.
        ([(7.0, 8.0)], 20, ({"a": "affordable_later"}, {"a": ("sh", 7.0)})),
        ([(1.0, 2.0), (11.0, 12.0)], 20, ({"a": "affordable_later"}, {"a": ("sh", 11.0)})),
        ([(5.0, 5.5)], 20, ({"a": "affordable_later"}, {"a": ("sh", 5.5)})),  # While it falls the last of them is cheapest.
        ([(5.0, 11.0)], 4, ({"a": "over_budget"}, {})),  # None is in time.
        ([], 20, ({"a": "over_budget"}, {})),
        ([(0.0, 3.0)], 20, ({"a": "cheaper_later"}, {"a": ("sh", 3.0)})),  # It could start now, and waits no longer than is paid.
        ([(0.0, 0.0), (12.0, 20.0)], 20, ({"a": "cheaper_later"}, {"a": ("sh", 12.0)})),
    ],
)
def test_it_waits_for_hours_that_its_budget_pays_for_alone(
    within_h: list[tuple[float, float]], latest_h: float, expected: tuple[dict[str, str], dict[str, tuple[str, float]]]
) -> None:
    drawn = timed(world(cluster("sh", "8"), jobs=[job("a", "8")]), {"a": 4 * HOUR})
    within = {"sh": [(begin * HOUR, end * HOUR) for begin, end in within_h]}
    assert told(waiting(drawn, "a", {"sh": NIGHT}, latest_h * HOUR, within_s=within)) == expected


def test_a_budget_may_pay_at_one_member_now_and_at_another_later() -> None:
    drawn = timed(world(cluster("sh", "8"), cluster("gz", "8"), jobs=[job("a", "8")]), {"a": 4 * HOUR})
    prices = {"sh": {0.0: 9.0}, "gz": {0.0: 20.0, 5 * HOUR: 5.0}}
    night = {"gz": [(4 * HOUR, 20 * HOUR)]}
    assert told(waiting(drawn, "a", prices, 20 * HOUR, within_s=night)) == ({"a": "cheaper_later"}, {"a": ("gz", 5.0)})
    assert told(waiting(drawn, "a", prices, 3 * HOUR, within_s=night)) == ({"a": "sh n1"}, {})


def test_who_cannot_pay_now_waits_for_a_cleaner_hour_only_as_for_one_that_is_paid() -> None:
    drawn = timed(world(cluster("sh", "8"), jobs=[job("a", "8")]), {"a": 4 * HOUR})
    # The only hours that it can pay emit more than now.
    asked = waiting(drawn, "a", {"sh": {0.0: 5.0, HOUR: 7.0}}, 20 * HOUR, cleaner=True, within_s={"sh": [(2 * HOUR, 3 * HOUR)]})
    assert told(asked) == ({"a": "affordable_later"}, {"a": ("sh", 2.0)})


def test_a_job_that_is_blocked_is_not_promised_a_start_that_its_budget_does_not_pay_for() -> None:
    drawn = world(cluster("sh", "0/8"), jobs=[job("a", "8")])
    busy = timed(drawn, {"a": 4 * HOUR}, running=[("sh n1", "8", HOUR)], heads=1)
    paid = {"sh": [(5 * HOUR, 6 * HOUR)]}
    assert told(waiting(busy, "a", {"sh": NIGHT}, 20 * HOUR, 0, within_s=paid)) == ({"a": "over_budget"}, {})


def test_a_promise_to_another_is_kept_and_room_that_is_taken_meanwhile_is_not_promised() -> None:
    jobs = [job("first", "8"), job("a", "8")]
    drawn = timed(world(cluster("sh", "0/8"), jobs=jobs), {"first": 8 * HOUR, "a": 4 * HOUR}, running=[("sh n1", "8", HOUR)], heads=1)
    plan, promises = told(waiting(drawn, "a", {"sh": NIGHT}, 20 * HOUR))
    assert plan == {"first": "node_busy", "a": "cheaper_later"}
    # It would be cheapest at hour 6; the other job runs from hour 1 (and the second that a start takes) to hour 9.
    assert promises["first"] == ("sh", 1.0)
    assert promises["a"] == ("sh", pytest.approx(9.0, abs=0.001))


def test_who_waits_for_a_cheaper_hour_is_none_of_those_that_are_promised_the_soonest_start() -> None:
    drawn = world(cluster("sh", "8 0/9"), jobs=[job("a", "8", rank=1), job("head", "9")])
    busy = timed(drawn, {"a": 4 * HOUR, "head": HOUR}, running=[("sh n2", "9", HOUR)], heads=1)
    plan, promises = told(waiting(busy, "a", {"sh": NIGHT}, 20 * HOUR))
    assert plan == {"a": "cheaper_later", "head": "node_busy"}
    assert promises == {"a": ("sh", 6.0), "head": ("sh", 1.0)}


def test_who_waits_knows_when_what_starts_now_will_have_ended() -> None:
    drawn = timed(world(cluster("sh", "8"), jobs=[job("b", "8", rank=1), job("a", "8")]), {"a": 4 * HOUR, "b": 2 * HOUR})
    assert told(waiting(drawn, "a", {"sh": NIGHT}, 20 * HOUR)) == ({"b": "sh n1", "a": "cheaper_later"}, {"a": ("sh", 6.0)})


def test_only_so_many_wait_and_the_others_take_their_turn() -> None:
    drawn = timed(world(cluster("sh", "8 8"), jobs=[job("a", "8"), job("b", "8")]), {"a": HOUR, "b": HOUR})
    both = waiting(waiting(drawn, "a", {"sh": NIGHT}, 20 * HOUR), "b", {"sh": NIGHT}, 20 * HOUR)
    assert told(replace(both, waits=1)) == ({"a": "cheaper_later", "b": "sh n1"}, {"a": ("sh", 6.0)})
    assert told(replace(both, waits=0))[0] == {"a": "sh n1", "b": "sh n2"}
    assert told(both)[0] == {"a": "cheaper_later", "b": "cheaper_later"}


def test_who_would_hold_others_back_does_not_wait() -> None:
    jobs, prices = [job("a", "8", queue="q"), job("b", "8", queue="q")], {"sh": NIGHT}
    lengths = {"a": HOUR, "b": HOUR}
    strict = timed(world(cluster("sh", "8 8"), queues=[queue("q", strict=True)], jobs=jobs), lengths)
    assert told(waiting(strict, "a", prices, 20 * HOUR))[0] == {"a": "sh n1", "b": "sh n2"}
    limited = timed(world(cluster("sh", "8 8"), jobs=jobs), lengths)
    limited = replace(limited, jobs=replace(limited.jobs, array=np.array([0, -1]), array_left=np.array([1, 0])))
    assert told(waiting(limited, "a", prices, 20 * HOUR))[0] == {"a": "sh n1", "b": "sh n2"}


def test_less_has_to_be_saved_the_less_it_waits() -> None:
    assert most(10.0, np.array([0.0, LONG_S / 2, LONG_S, 9 * LONG_S])).tolist() == pytest.approx(
        [10.0, 10 * (1 - LEAST_SAVING / 2), 10 * (1 - LEAST_SAVING), 10 * (1 - LEAST_SAVING)]
    )


def _moved(plan: Plan, start_s: float) -> Plan:
    [promise] = plan.promises
    return replace(plan, promises=(replace(promise, start_s=start_s, end_s=start_s + promise.end_s - promise.start_s),))


@pytest.mark.parametrize(
    ("corrupt", "words"),
    [
        (lambda plan: _moved(plan, 21 * HOUR), "an hour that is too late"),
        (lambda plan: replace(plan, promises=()), "is promised none"),
        (lambda plan: _moved(plan, -1.0), "at no time to come"),
    ],
)
def test_the_check_rejects_a_job_that_waits_without_a_good_promise(corrupt: Callable[[Plan], Plan], words: str) -> None:
    snapshot = one()
    with pytest.raises(PlanRejectedError, match=words):
        check(snapshot, corrupt(place(snapshot)))


def test_the_check_rejects_a_job_that_may_not_wait_and_hours_that_are_dearer() -> None:
    snapshot = one()
    plan = place(snapshot)
    with pytest.raises(PlanRejectedError, match="may not"):
        check(replace(snapshot, later=()), plan)
    with pytest.raises(PlanRejectedError, match="promised where 0 and 0 may be"):
        check(replace(snapshot, waits=0), plan)
    dearer = replace(snapshot, later=(replace(snapshot.later[0], cost=snapshot.later[0].cost[:, ::-1] * [[0.1, 1, 1, 1]]),))
    with pytest.raises(PlanRejectedError, match="is not cheaper"):
        check(dearer, plan)
    assert plan.unplaced[0].blocker is Reason.CHEAPER_LATER
    with pytest.raises(PlanRejectedError, match="waits as cheaper_later, and may not"):
        check(replace(snapshot, later=(replace(snapshot.later[0], cleaner=True),)), plan)
    unpaid = replace(snapshot.later[0], within_s=np.array([[[0.0, HOUR]]]))
    with pytest.raises(PlanRejectedError, match="its budget does not pay for"):
        check(replace(snapshot, later=(unpaid,)), plan)
