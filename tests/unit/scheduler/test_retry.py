"""Retry: what is tried again, how often, and after how long."""

from __future__ import annotations

import pytest

from scheduler.lifecycle import ENDS, MOVES, Cause, State
from scheduler.retry import COVERED_BY, LONGEST_DELAY_S, GiveUp, Retry, decide

NETWORK, BOTH, CODE, NOTHING = {"infrastructure"}, {"infrastructure", "exit"}, {"exit"}, frozenset[str]()


@pytest.mark.parametrize(
    ("finish", "cause", "on", "expected"),
    [
        (State.FAILED, Cause.START_FAILED, NETWORK, Retry(1.0)),
        (State.FAILED, Cause.INFRASTRUCTURE, NETWORK, Retry(1.0)),
        (State.FAILED, Cause.DATA, NETWORK, Retry(1.0)),
        (State.FAILED, Cause.CACHE, NETWORK, Retry(1.0)),
        (State.FAILED, Cause.DATA_CHANGED, BOTH, GiveUp(exhausted=False)),
        (State.FAILED, Cause.STORAGE, NETWORK, Retry(1.0)),
        (State.FAILED, Cause.RESULT, NETWORK, GiveUp(exhausted=False)),
        (State.LOST, Cause.CLUSTER_LOST, NETWORK, Retry(0.0)),
        (State.LOST, Cause.RUN_LOST, NETWORK, Retry(0.0)),
        (State.PREEMPTED, Cause.PREEMPTED, NETWORK, Retry(0.0)),
        (State.PREEMPTED, Cause.DRAINED, NETWORK, Retry(0.0)),
        (State.FAILED, Cause.EXIT, NETWORK, GiveUp(exhausted=False)),
        (State.FAILED, Cause.EXIT, CODE, Retry(1.0)),
        (State.FAILED, Cause.EXIT, BOTH, Retry(1.0)),
        (State.LOST, Cause.RUN_LOST, CODE, GiveUp(exhausted=False)),
        (State.LOST, Cause.RUN_LOST, NOTHING, GiveUp(exhausted=False)),
        (State.FAILED, Cause.STATEMENT, BOTH, GiveUp(exhausted=False)),
        (State.FAILED, Cause.MAX_RUNTIME, BOTH, GiveUp(exhausted=False)),
        (State.CANCELLED, Cause.CANCELLED_BY_USER, BOTH, GiveUp(exhausted=False)),
        (State.SUCCEEDED, Cause.FINISHED, BOTH, GiveUp(exhausted=False)),
    ],
)
def test_what_is_tried_again(finish: State, cause: Cause, on: set[str], expected: Retry | GiveUp) -> None:
    assert decide(finish, cause, 1, 3, on) == expected


@pytest.mark.parametrize(("attempts", "limit"), [(1, 1), (3, 3), (4, 3), (100, 100)])
def test_the_last_attempt_is_the_last(attempts: int, limit: int) -> None:
    assert decide(State.LOST, Cause.CLUSTER_LOST, attempts, limit, NETWORK) == GiveUp(exhausted=True)
    assert decide(State.FAILED, Cause.EXIT, attempts, limit, NETWORK) == GiveUp(exhausted=False)


def test_the_delay_doubles_up_to_a_minute() -> None:
    verdicts = [decide(State.FAILED, Cause.INFRASTRUCTURE, attempt, 100, NETWORK) for attempt in range(1, 100)]
    delays = [verdict.delay_s for verdict in verdicts if isinstance(verdict, Retry)]
    assert delays[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert (len(delays), delays[-1]) == (99, LONGEST_DELAY_S)


def test_only_causes_of_an_end_are_covered() -> None:
    ending = {cause for (_, finish), causes in MOVES.items() if finish in ENDS for cause in causes}
    assert set(COVERED_BY) <= ending
    assert set(COVERED_BY.values()) == {"infrastructure", "exit"}
