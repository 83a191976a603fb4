"""The attempts that an agent drives, by run id: what all backends do with them alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from cluster.errors import UnreachableError
from cluster.protocol import AdoptedRun
from cluster.runs.attempt import Attempt
from cluster.runs.journal import Journals

A = TypeVar("A", bound=Attempt)


def adopted(attempts: Mapping[str, Attempt]) -> tuple[AdoptedRun, ...]:
    """All of them as an agent reports them, by run id."""
    return tuple(
        AdoptedRun(run_id=run_id, epoch=attempt.run.epoch, waiting=attempt.run if attempt.waits else None)
        for run_id, attempt in sorted(attempts.items())
    )


async def forget(attempts: dict[str, A], run_id: str, journals: Journals, *, limit_s: float, grace_s: float) -> None:
    """Remove all that is kept of a run. One that is not over is ended first, with `grace_s` for its processes.

    Raises UnreachableError after `limit_s`; try again then.
    """
    attempt = attempts.get(run_id)
    if attempt is None:
        return
    attempt.stop("lost", grace_s)
    try:
        async with asyncio.timeout(limit_s):
            await attempt.wait()
            await attempt.discard()
    except TimeoutError:
        raise UnreachableError(f"run {run_id} cannot be removed from the cluster now") from None
    await attempt.detach()
    attempts.pop(run_id, None)
    journals.remove(run_id)
