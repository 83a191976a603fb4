"""What a Kubernetes cluster lacks of what runs may need beside Jobs: KubeRay, Kueue, Jobs that can be suspended.

All of it is read from what the API server says of itself: which kinds it serves, and what it makes of a Job that it is only asked about.
Operators bring such things and take them away while an agent runs, so it is asked again and again, and told with the inventory: what
cannot run there is refused where jobs are planned. Between two looks a run may come that cannot be carried out: it is refused here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cluster.backends.kubernetes.board import Board
from cluster.backends.kubernetes.making import Maker
from cluster.backends.kubernetes.objects import MOST_REQUEST_BYTES
from cluster.drivers import Driver, Lack, is_needed, lack_words
from cluster.errors import ClusterError, ForbiddenError, PermanentError, RunRejectedError

log = logging.getLogger("cpn.agent")
LOOK_S = 15.0
# What a request has beside what the job brings: its inputs with their links, and words of its own.
REST_BYTES = 20_000


class Abilities:
    """The newest look at one cluster. `seconds` is a clock that only goes forward."""

    def __init__(self, maker: Maker, board: Board, seconds: Callable[[], float]) -> None:
        self._maker, self._board, self._seconds = maker, board, seconds
        self._lacks: tuple[Lack, ...] = ()
        self._looked_at: float | None = None

    async def look(self) -> None:
        """Ask the cluster. Raises ClusterError."""
        found = tuple(lack for lack in (await self._of_ray(), await self._of_queues()) if lack is not None)
        if found != self._lacks:
            for lack in found:
                log.info("some runs are refused: %s", "; ".join(lack_words(lack, self._maker.settings.local_queue)))
        self._lacks, self._looked_at = found, self._seconds()

    async def begin(self) -> None:
        """The first look. Raises TransientError; what is refused is looked at again later, and all else can run meanwhile."""
        try:
            await self.look()
        except PermanentError as error:
            log.warning("what the cluster can run is not known yet: %s", error)

    async def told(self, driver: Driver) -> Driver:
        """The driver with what it lacks, which is asked when it is time; while the cluster cannot be asked it is what it was."""
        if self._looked_at is None or self._seconds() >= self._looked_at + LOOK_S:
            try:
                await self.look()
            except ClusterError as error:
                log.warning("what the cluster can run is not known now: %s", error)
        known = {"queue": self._maker.settings.local_queue, "lacks": self._lacks, "most_code_bytes": MOST_REQUEST_BYTES - REST_BYTES}
        return driver.model_copy(update=known)

    async def insist(self, kind: str) -> None:
        """Raises RunRejectedError for runs of a kind for which something is lacking, also after another look, and ClusterError."""
        if self._looked_at is None or self._lack_of(kind) is not None:
            await self.look()
        lack = self._lack_of(kind)
        if lack is not None:
            raise RunRejectedError("; ".join(lack_words(lack, self._maker.settings.local_queue)))

    def _lack_of(self, kind: str) -> Lack | None:
        return next((lack for lack in self._lacks if is_needed(lack, kind)), None)

    async def _of_ray(self) -> Lack | None:
        """Watches RayJobs where the cluster has them and lets us."""
        self._maker.has_rayjobs = await self._maker.serves_rayjobs()
        if not self._maker.has_rayjobs:
            await self._board.drop_rayjobs()
            return Lack.KUBERAY
        try:
            await self._board.add_rayjobs()
        except ForbiddenError:
            self._maker.has_rayjobs = False
            return Lack.RAY_RIGHT
        return Lack.RAY_RIGHT if self._board.may_not_see_rayjobs else None

    async def _of_queues(self) -> Lack | None:
        """Older servers drop a Job's suspension in silence, so they are asked, and what they do not have, each time again."""
        if not self._maker.settings.local_queue:
            return None
        if not await self._maker.serves_queues():
            return Lack.KUEUE
        if not self._maker.suspends:
            await self._maker.look()
        return None if self._maker.suspends else Lack.SUSPENSION
