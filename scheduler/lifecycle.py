"""The life of a job and of its runs, as one table.

A job is the request, a run one attempt at it. Both move through the same states; a job follows its current
run, and only a job goes back from an ended attempt to `queued`, which begins a new run later. Nothing moves
except by a row of this table, and every move is stored as an event with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from scheduler.errors import IllegalTransitionError


class State(StrEnum):
    """Where a job or a run stands."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    PLACED = "placed"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    LOST = "lost"


class Cause(StrEnum):
    """Why a move was made; safe as a metric label."""

    ADMITTED = "admitted"
    DECIDED = "decided"
    ACCEPTED = "accepted"
    STARTED = "started"
    FINISHED = "finished"
    EXIT = "exit"
    MAX_RUNTIME = "max_runtime"
    STATEMENT = "statement"
    RUNTIME_ENV = "runtime_env"
    BEYOND_GRANT = "beyond_grant"
    OUT_OF_MEMORY = "out_of_memory"
    SCHEMA = "schema"
    MAX_ROWS = "max_rows"
    BUDGET = "budget"
    DATA = "data"
    DATA_CHANGED = "data_changed"
    CACHE = "cache"
    START_FAILED = "start_failed"
    INFRASTRUCTURE = "infrastructure"
    RESULT = "result"
    STORAGE = "storage"
    CLUSTER_LOST = "cluster_lost"
    RUN_LOST = "run_lost"
    PREEMPTED = "preempted"
    CANCELLED_BY_USER = "cancelled_by_user"
    DRAINED = "drained"
    RETRY = "retry"
    LICENCE_ENDED = "licence_ended"
    DEPENDENCY = "dependency"
    CLAIMED = "claimed"
    RESIZING = "resizing"
    RESIZED = "resized"


ENDS = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.PREEMPTED, State.LOST})
HOLDS_CAPACITY = frozenset({State.PLACED, State.STARTING, State.RUNNING})
FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

_S, _C = State, Cause
BROKE = frozenset({_C.START_FAILED, _C.INFRASTRUCTURE, _C.DATA, _C.DATA_CHANGED, _C.CACHE, _C.STORAGE})
# The work had begun, and ended because of what the user asked for.
WORKED = frozenset(
    {
        _C.EXIT,
        _C.STATEMENT,
        _C.MAX_RUNTIME,
        _C.RESULT,
        _C.RUNTIME_ENV,
        _C.BEYOND_GRANT,
        _C.OUT_OF_MEMORY,
        _C.SCHEMA,
        _C.MAX_ROWS,
        _C.BUDGET,
    }
)
_GONE = frozenset({_C.CLUSTER_LOST, _C.RUN_LOST})
_MADE_TO_LEAVE = frozenset({_C.PREEMPTED, _C.DRAINED, _C.LICENCE_ENDED})

MOVES: dict[tuple[State, State], frozenset[Cause]] = {
    (_S.SUBMITTED, _S.QUEUED): frozenset({_C.ADMITTED}),
    (_S.QUEUED, _S.PLACED): frozenset({_C.DECIDED}),
    # It waits on, and others are ended to make room for it.
    (_S.QUEUED, _S.QUEUED): frozenset({_C.CLAIMED}),
    (_S.QUEUED, _S.CANCELLED): frozenset({_C.CANCELLED_BY_USER, _C.DEPENDENCY}),
    (_S.QUEUED, _S.FAILED): frozenset({_C.LICENCE_ENDED, _C.DEPENDENCY}),
    (_S.PLACED, _S.STARTING): frozenset({_C.ACCEPTED}),
    (_S.PLACED, _S.FAILED): BROKE,
    (_S.PLACED, _S.CANCELLED): frozenset({_C.CANCELLED_BY_USER}),
    (_S.PLACED, _S.PREEMPTED): _MADE_TO_LEAVE,
    (_S.PLACED, _S.LOST): _GONE,
    (_S.STARTING, _S.RUNNING): frozenset({_C.STARTED}),
    (_S.STARTING, _S.FAILED): BROKE | {_C.STATEMENT, _C.MAX_RUNTIME, _C.BUDGET},
    (_S.STARTING, _S.CANCELLED): frozenset({_C.CANCELLED_BY_USER}),
    (_S.STARTING, _S.PREEMPTED): _MADE_TO_LEAVE,
    (_S.STARTING, _S.LOST): _GONE,
    # It runs on with other workers: they were ordered, or are there.
    (_S.RUNNING, _S.RUNNING): frozenset({_C.RESIZING, _C.RESIZED}),
    (_S.RUNNING, _S.SUCCEEDED): frozenset({_C.FINISHED}),
    (_S.RUNNING, _S.FAILED): BROKE | WORKED,
    (_S.RUNNING, _S.CANCELLED): frozenset({_C.CANCELLED_BY_USER}),
    (_S.RUNNING, _S.PREEMPTED): _MADE_TO_LEAVE,
    (_S.RUNNING, _S.LOST): _GONE,
    # Only a job takes these: the ended attempt stays ended, the job waits for its next one.
    (_S.FAILED, _S.QUEUED): frozenset({_C.RETRY}),
    (_S.PREEMPTED, _S.QUEUED): frozenset({_C.RETRY}),
    (_S.LOST, _S.QUEUED): frozenset({_C.RETRY}),
    (_S.LOST, _S.FAILED): _GONE,
    (_S.PREEMPTED, _S.FAILED): _MADE_TO_LEAVE,
}

# How a job ends whose own program may have read its data; of a statement that failed nothing was handed over.
_READ = frozenset({_C.FINISHED, _C.EXIT, _C.MAX_RUNTIME, _C.BEYOND_GRANT, _C.OUT_OF_MEMORY, _C.SCHEMA, _C.RESULT, _C.CANCELLED_BY_USER})


def has_read(state: State, cause: Cause, *, started: bool) -> bool:
    """Whether a job that ended so has used what it reads: it succeeded, or its buyer's own doing ended it after its work had begun."""
    return state is State.SUCCEEDED or (started and cause in _READ)


# A run begins placed, and never leaves its end.
RUN_MOVES = {(start, finish): causes for (start, finish), causes in MOVES.items() if start in HOLDS_CAPACITY}


def move(
    subject: str, start: State, finish: State, cause: Cause, history: Iterable[str] = (),
    moves: Mapping[tuple[State, State], frozenset[Cause]] = MOVES,
) -> State:  # fmt: skip
    """The new state, or IllegalTransitionError with the subject's history when the table has no such row."""
    if cause not in moves.get((start, finish), frozenset()):
        story = " → ".join(history) or "no history"
        raise IllegalTransitionError(f"{subject}: {start} → {finish} because of {cause} is not a legal move ({story})")
    return finish
