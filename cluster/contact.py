"""The contact with the control plane: calls counted, the lease watched.

The lease runs from the moment an answered call was made, not from its answer: the control plane heard the
agent no earlier than that, so the agent gives up first. Times are monotonic.
"""

from __future__ import annotations

import asyncio
import logging

from cluster.errors import ClusterError
from cluster.timing import wait_at_most

log = logging.getLogger("cpn.agent")


class Contact:
    """When the control plane last answered, and what that allows. Must be made inside the event loop."""

    def __init__(self, first_lease_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._answered = self._loop.time()
        self._lease_until = self._answered + first_lease_s
        self._shorter = asyncio.Event()
        self._renewed = asyncio.Event()
        self._away = False
        self.calls = 0
        self.lease_lost = False

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return self._loop.time()

    def begin(self) -> tuple[int, float]:
        """The number of the call that is made now, counted from 1, and its time."""
        self.calls += 1
        return self.calls, self.monotonic()

    def succeeded(self, began: float, lease_s: float) -> None:
        """The call made at `began` was answered."""
        if self._away:
            log.info("the control plane answers again")
            self._away = False
        if began >= self._answered:
            # The newest word counts, also where it allows less than an older one or than what an agent begins with.
            self._answered, before = began, self._lease_until
            self._lease_until = began + lease_s
            if self._lease_until < before:
                self._shorter.set()
        if self.lease_lost and self._lease_until > self.monotonic():
            self.lease_lost = False
            self._renewed.set()

    def failed(self, error: ClusterError) -> None:
        """A call was not answered, or not as it should be; said once until it is."""
        log.log(logging.DEBUG if self._away else logging.WARNING, "the call to the control plane failed: %s", error)
        self._away = True

    async def lease_end(self) -> None:
        """Return when the lease has run out."""
        while (left_s := self._lease_until - self.monotonic()) > 0:
            self._shorter.clear()
            await wait_at_most(self._shorter, left_s)
        self.lease_lost = True
        self._renewed.clear()

    async def lease_return(self) -> None:
        """Return when there is a lease again."""
        await self._renewed.wait()
