"""Lifecycle: the rows of the table are the only legal moves, and an illegal one tells the story."""

from __future__ import annotations

import itertools

import pytest

from scheduler.errors import IllegalTransitionError
from scheduler.lifecycle import ENDS, FINAL, HOLDS_CAPACITY, MOVES, RUN_MOVES, Cause, State, move

ROWS = [(start, finish, cause) for (start, finish), causes in MOVES.items() for cause in sorted(causes)]
EVERYTHING = list(itertools.product(State, State, Cause))


def refused(start: State, finish: State, cause: Cause, *, of_a_run: bool = False) -> bool:
    """Whether a move raises."""
    try:
        move("job-1", start, finish, cause, (), RUN_MOVES if of_a_run else MOVES)
    except IllegalTransitionError:
        return True
    return False


@pytest.mark.parametrize(("start", "finish", "cause"), ROWS, ids=str)
def test_every_row_is_legal(start: State, finish: State, cause: Cause) -> None:
    assert move("job-1", start, finish, cause) is finish


def test_everything_else_is_illegal() -> None:
    assert {triple for triple in EVERYTHING if not refused(*triple)} == set(ROWS)


def test_an_illegal_move_tells_the_story() -> None:
    with pytest.raises(IllegalTransitionError) as caught:
        move("job-1", State.SUCCEEDED, State.RUNNING, Cause.STARTED, ["submitted (submitted)", "queued (admitted)"])
    assert str(caught.value) == (
        "job-1: succeeded → running because of started is not a legal move (submitted (submitted) → queued (admitted))"
    )
    with pytest.raises(IllegalTransitionError, match=r"\(no history\)"):
        move("job-1", State.SUBMITTED, State.RUNNING, Cause.STARTED)


def test_history_is_read_only_when_it_is_told() -> None:
    story = iter(["submitted (submitted)"])
    move("job-1", State.SUBMITTED, State.QUEUED, Cause.ADMITTED, story)
    assert next(story) == "submitted (submitted)"


def test_a_run_begins_placed_and_stays_ended() -> None:
    legal = {triple for triple in EVERYTHING if not refused(*triple, of_a_run=True)}
    assert legal == {row for row in ROWS if row[0] in HOLDS_CAPACITY}
    assert {finish for _, finish, _ in legal} == {State.STARTING, State.RUNNING, *ENDS}


def test_what_holds_capacity_can_end_in_every_way_but_success_before_it_runs() -> None:
    ways = {start: {finish for begin, finish, _ in ROWS if begin is start and finish in ENDS} for start in HOLDS_CAPACITY}
    assert ways[State.RUNNING] == set(ENDS)
    assert ways[State.PLACED] == ways[State.STARTING] == ENDS - {State.SUCCEEDED}


def test_final_states_are_left_by_a_retry_alone() -> None:
    assert {(start, finish, cause) for start, finish, cause in ROWS if start in FINAL} == {(State.FAILED, State.QUEUED, Cause.RETRY)}


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    reached, ahead = {State.SUBMITTED}, [State.SUBMITTED]
    while ahead:
        start = ahead.pop()
        following = {finish for begin, finish, _ in ROWS if begin is start} - reached
        reached |= following
        ahead += following
    assert reached == set(State)
    assert all(any(begin is start for begin, _, _ in ROWS) for start in set(State) - FINAL)


def test_every_cause_moves_something() -> None:
    assert {cause for _, _, cause in ROWS} == set(Cause)
