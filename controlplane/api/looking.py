"""Small looks at the store for whoever waits for news."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from controlplane.wiring import ControlPlane

P = ParamSpec("P")
T = TypeVar("T")


async def look(plane: ControlPlane, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """What `work` finds. It must be a small read: where a read needs no other process it is done here, on the event loop.

    To another thread and back it goes through Python's lock twice, which a decision that is made meanwhile holds: with news of an end
    that took several times as long as the read.
    """
    if plane.store.reads_at_once:
        return work(*arguments, **more)
    return await run_in_threadpool(work, *arguments, **more)
