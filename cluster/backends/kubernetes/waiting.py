"""Why a run has not begun yet, in Kubernetes' own words, told whenever that changes: it is the run's message until its work begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from cluster.backends.kubernetes.kueue import is_suspended
from cluster.backends.kubernetes.making import Maker
from cluster.backends.kubernetes.pods import PodFacts
from cluster.backends.kubernetes.rayjobs import KIND, read_rayjob
from cluster.errors import ClusterError
from cluster.protocol import RunStarting
from cluster.runs.attempt import Emit

log = logging.getLogger(__name__)
Document = dict[str, Any]
# How often Kueue's word is asked for while a run is suspended.
ASK_S = 2.0


class Waiting:
    """One run's wait. `words` are those that were told last."""

    def __init__(self, run_id: str, emit: Emit, maker: Maker) -> None:
        self._run_id, self._emit, self._maker = run_id, emit, maker
        self.words = ""
        self._ask_again = 0.0

    async def look(self, jobs: Sequence[Document], pods: Sequence[PodFacts]) -> None:
        """Tell of it, if it is another one than before. `jobs` are what makes the run's pods."""
        words = await self._reason(jobs, pods)
        if words and words != self.words:
            self.words = words
            self._emit(RunStarting(run_id=self._run_id, message=words))

    async def _reason(self, jobs: Sequence[Document], pods: Sequence[PodFacts]) -> str:
        suspended = [job for job in jobs if is_suspended(job)]
        if suspended:
            return await self._admission(suspended[0])
        waits = [pod.why for pod in pods if not pod.started and not pod.over and pod.why]
        if waits:
            return waits[0]
        return next((read_rayjob(job).waits for job in jobs if job.get("kind") == KIND and not pods), "")

    async def _admission(self, job: Document) -> str:
        now = asyncio.get_running_loop().time()
        if now < self._ask_again:
            return self.words
        self._ask_again = now + ASK_S
        try:
            return await self._maker.admission(job["metadata"]["uid"])
        except ClusterError as error:
            log.warning("what Kueue says of run %s is not known: %s", self._run_id, error)
            return self.words
