"""Following one pod's log for its records, again from the beginning whenever the line breaks; what was heard before is skipped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cluster.backends.kubernetes.client import AGAIN_S, KubeClient, rest_s
from cluster.backends.kubernetes.objects import CONTAINER
from cluster.backends.kubernetes.pods import PodFacts
from cluster.backends.kubernetes.records import RecordReader
from cluster.errors import ClusterError, NotThereError, PermanentError, WorkerGoneError
from cluster.runs.attempt import cancel
from cluster.runs.outbox import Batch

log = logging.getLogger(__name__)
# So often what the API server refuses is asked for again: somebody may be about to give the right back.
TRIES_AT_REFUSED = 5


class Listener:
    """One worker's line. `silent`: all that its ended pod wrote has been read, and it told no end, or the log cannot be had."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self.reader = RecordReader()
        self.heard_end = False
        self.silent = False
        self._pod: PodFacts | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """It is listening."""
        return self._task is not None and not self._task.done()

    def follow(self, pod: PodFacts, take: Callable[[Batch], None], ended: Callable[[], None]) -> None:
        """Listen to a pod whose container has started, or know it as it is now. `ended` is called when there is no more to hear."""
        self._pod = pod
        if not self.busy and not self.heard_end and not self.silent:
            self._task = asyncio.create_task(self._listen(take), name=f"log of {pod.name}")
            self._task.add_done_callback(lambda _task: ended())

    async def read_files(self, pod: PodFacts) -> None:
        """Take in the files of the result from the log of a pod that has ended, where an earlier agent has heard the rest.

        Raises WorkerGoneError when it cannot be had any more.
        """
        tries = 0
        while True:
            try:
                await self._read(pod.name, lambda _batch: None)
                return
            except PermanentError as error:
                raise WorkerGoneError(f"the log of {pod.name} has the result and cannot be read: {error}") from error
            except ClusterError as error:
                log.warning("the log of %s cannot be read now: %s", pod.name, error)
                await asyncio.sleep(rest_s(error, tries))
            tries += 1

    def hang_up(self) -> None:
        """End this line; `follow` takes another."""
        if self._task is not None:
            self._task.cancel()

    async def wait(self) -> None:
        """Until it does not listen any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            await cancel(self._task)

    async def _listen(self, take: Callable[[Batch], None]) -> None:
        tries = 0
        while not self.heard_end:
            assert self._pod is not None
            pause_s = AGAIN_S[min(tries, len(AGAIN_S) - 1)]
            # What it wrote is all there, if it had ended before it was asked for.
            last = self._pod.over
            try:
                if await self._read(self._pod.name, take):
                    tries = 0
                self.silent = last and not self.heard_end
            except NotThereError:
                return
            except ClusterError as error:
                log.warning("the log of %s cannot be read now: %s", self._pod.name, error)
                pause_s = rest_s(error, tries)
                if last and isinstance(error, PermanentError) and tries >= TRIES_AT_REFUSED:
                    self.reader.strays_of(str(error))
                    self.silent = True
            if self.silent:
                return
            await asyncio.sleep(pause_s)
            tries += 1

    async def _read(self, name: str, take: Callable[[Batch], None]) -> bool:
        """The log once, to its end or to the worker's. Says whether there was news."""
        self.reader.again()
        path, before = f"/api/v1/namespaces/{self._namespace}/pods/{name}/log", self.reader.taken
        pieces = self._client.stream(path, container=CONTAINER, follow="true")
        try:
            async for piece in pieces:
                for batch in self.reader.feed(piece):
                    self.heard_end = self.heard_end or "finished" in batch
                    take(batch)
                if self.heard_end:
                    break
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
        return self.reader.taken > before
