"""A collection of a Kubernetes API, kept up to date: listed in pages once, then watched.

A watch ends every few minutes, or breaks; it goes on from where it was, by the resource version of the last change or bookmark. Where the
server does not keep what happened since then (410), everything is listed anew. That is done every hour as well, so that an error in what
is kept does not stay for ever. While the server cannot be asked, what is kept stays as it was, and `trouble` says so. Pauses grow as
long as nothing comes of what is asked, so that a server that refuses everything is not asked all the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from cluster.backends.kubernetes.client import Document, Event, KubeClient
from cluster.errors import BusyError, ClusterError, ExpiredError, UnreachableError
from cluster.timing import Backoff

log = logging.getLogger("cpn.agent")
RESYNC_S = 3600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


class Kept(Protocol):
    """Where an informer puts what it reads."""

    def begin(self) -> None:
        """All objects follow by `put`; those that do not until `end` are gone. A list that breaks off is begun again."""

    def end(self) -> None:
        """The list is whole."""

    def put(self, item: Document) -> None:
        """An object, new or changed."""

    def drop(self, item: Document) -> None:
        """An object that is gone."""


class Informer:
    """Keeps `kept` up to date while `run` runs: with what `fields` and `labels` select. `seconds` is a clock that only goes forward."""

    def __init__(
        self, client: KubeClient, path: str, kept: Kept, *, seconds: Callable[[], float], resync_s: float = RESYNC_S,
        fields: str = "", labels: str = "",
    ) -> None:  # fmt: skip
        self.path = path
        self._client, self._kept, self._fields, self._labels = client, kept, fields, labels
        self._seconds, self._resync_s = seconds, resync_s
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._version = ""
        self._listed_at = 0.0
        self.listed = asyncio.Event()
        self.trouble: ClusterError | None = None

    async def read(self) -> None:
        """List everything; `run` watches from there. Raises what the list raises."""
        version, begun = "", self._seconds()
        self._kept.begin()
        async for page in self._client.pages(self.path, fieldSelector=self._fields, labelSelector=self._labels):
            for item in page.get("items") or ():
                self._kept.put(item)
            version = page["metadata"]["resourceVersion"]
            # Thousands of objects take a while; everything else of the agent has its turn between two pages.
            await asyncio.sleep(0)
        self._kept.end()
        self._version, self._listed_at = version, begun
        self._see()
        self.listed.set()

    async def run(self) -> None:
        """Watch, and list where that is due, until cancelled."""
        while True:
            began = self._seconds()
            try:
                if not self._version or began >= self._listed_at + self._resync_s:
                    await self.read()
                await self._watch()
                # The usual end; a server that ends every watch at once is not asked without a rest.
                await asyncio.sleep(FIRST_PAUSE_S)
            except ClusterError as error:
                if self._seconds() >= began + LONGEST_PAUSE_S:
                    self._backoff.reset()
                await self._after(error)

    async def _watch(self) -> None:
        """Take in changes until the server ends the watch in good order."""
        changes = self._client.watch(
            self.path, self._version, opened=self._see, fieldSelector=self._fields, labelSelector=self._labels
        )  # fmt: skip
        async for event in changes:
            self._take(event)
            self._backoff.reset()
        self._backoff.reset()

    def _take(self, event: Event) -> None:
        if event.type == "DELETED":
            self._kept.drop(event.item)
        elif event.type != "BOOKMARK":
            self._kept.put(event.item)
        self._version = event.item["metadata"]["resourceVersion"]

    def _see(self) -> None:
        """The server answers."""
        if self.trouble is not None:
            log.info("%s can be watched again", self.path)
        self.trouble = None

    async def _after(self, error: ClusterError) -> None:
        """Say what is wrong, and rest."""
        if isinstance(error, ExpiredError):
            log.info("what happened at %s since the last look is not kept any more; listing all anew", self.path)
            self._version = ""
        else:
            if self.trouble is None:
                log.warning("%s cannot be watched: %s", self.path, error)
            self.trouble = error
        if isinstance(error, BusyError):
            await asyncio.sleep(min(error.retry_after_s, LONGEST_PAUSE_S))
        await self._backoff.pause()


class Watches:
    """Informers that run until they are closed, and whether they see. They are called `what` where they do not."""

    def __init__(self, what: str, seconds: Callable[[], float], informers: Iterable[Informer] = ()) -> None:
        self._what, self._seconds = what, seconds
        self._given = tuple(informers)
        self._added: list[Informer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._well_at = seconds()

    def open(self) -> None:
        """Run all of them. A second call does no harm."""
        if not self._tasks:
            self._tasks = [_running(informer) for informer in self._given]
            self._well_at = self._seconds()

    async def add(self, informer: Informer) -> None:
        """List what this one keeps, and run it. Raises what its list raises, and has nothing to do with it then.

        Of a collection that is watched already nothing more is asked.
        """
        if any(known.path == informer.path for known in self._added):
            return
        await informer.read()
        self._added.append(informer)
        self._tasks.append(_running(informer))
        self._well_at = self._seconds()

    async def close(self) -> None:
        """Watch no more; what was added is to be added again. Twice does no harm."""
        tasks, self._tasks, self._added = self._tasks, [], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listed(self, limit_s: float) -> None:
        """Until everything has been listed once. Raises UnreachableError as soon as something cannot be."""
        try:
            async with asyncio.timeout(limit_s):
                for informer in self._given:
                    while not informer.listed.is_set():
                        if informer.trouble is not None:
                            raise UnreachableError(f"{self._what} cannot be listed: {informer.trouble}") from informer.trouble
                        self._check_tasks()
                        await asyncio.sleep(FIRST_PAUSE_S / 2)
        except TimeoutError as error:
            raise UnreachableError(f"{self._what} were not listed within {limit_s:.0f} s") from error

    def check(self, patience_s: float) -> None:
        """Raises UnreachableError when something could not be watched for so long."""
        self._check_tasks()
        trouble, now = self.trouble, self._seconds()
        if trouble is None:
            self._well_at = now
        elif now > self._well_at + patience_s:
            raise UnreachableError(f"{self._what} cannot be watched: {trouble}") from trouble

    @property
    def trouble(self) -> ClusterError | None:
        """Why something cannot be watched now; None: all is well."""
        return next((informer.trouble for informer in (*self._given, *self._added) if informer.trouble is not None), None)

    def _check_tasks(self) -> None:
        """A watch that an error of ours ended must not look like a cluster in which nothing changes."""
        for task in self._tasks:
            if task.done():
                task.result()


def _running(informer: Informer) -> asyncio.Task[None]:
    return asyncio.create_task(informer.run(), name=f"watch {informer.path}")
