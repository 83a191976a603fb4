"""Whether an ended attempt is tried again, and after how long. Pure: what ended, how, and how often is all it knows.

What the network broke (`infrastructure`) is tried again unless the job says otherwise; what the user's own code did
(`exit`, running out of memory too) only when the job asks for it. A statement that fails, data that is not what was
published, a result that is too large, a time limit that is hit and a cancelled job would end the same way again, so
they are final. A run that was lost or moved away waits for nothing, because what broke is not where the next attempt
goes; all else waits longer each time, so that a fault is not hammered. An attempt that the network ended for its own
reasons, to take a member out or to make room, is spared: it does not count.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from scheduler.lifecycle import Cause, State

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0

# The word of `retry.on` in the manifest that covers a cause. Causes without one are never tried again.
COVERED_BY: dict[Cause, str] = {
    Cause.START_FAILED: "infrastructure", Cause.INFRASTRUCTURE: "infrastructure", Cause.DATA: "infrastructure",
    Cause.CACHE: "infrastructure", Cause.STORAGE: "infrastructure",
    Cause.CLUSTER_LOST: "infrastructure", Cause.RUN_LOST: "infrastructure", Cause.PREEMPTED: "infrastructure",
    Cause.DRAINED: "infrastructure", Cause.LICENCE_ENDED: "infrastructure", Cause.EXIT: "exit", Cause.OUT_OF_MEMORY: "exit",
}  # fmt: skip


@dataclass(frozen=True)
class Retry:
    """Back to the queue, to be placed after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """The end is final; `exhausted` when it would have been tried again with an attempt left."""

    exhausted: bool


def decide(finish: State, cause: Cause, attempts: int, limit: int, on: Set[str]) -> Retry | GiveUp:
    """What becomes of a job whose last attempt ended as `finish` because of `cause`, when `attempts` of at most `limit` count.

    An attempt that was spared does not count, so a job whose first one was has 0.
    """
    if COVERED_BY.get(cause) not in on:
        return GiveUp(exhausted=False)
    if attempts >= limit:
        return GiveUp(exhausted=True)
    if finish in (State.LOST, State.PREEMPTED):
        return Retry(0.0)
    return Retry(min(FIRST_DELAY_S * 2.0 ** (attempts - 1), LONGEST_DELAY_S))
