"""A collection of a Kubernetes API, kept up to date: listed in pages once, then watched.

A watch ends every few minutes, or breaks; it goes on from where it was, by the resource version of the last change or bookmark. Where the
server does not keep what happened since then (410), everything is listed anew. That is done every hour as well, so that an error in what
is kept does not stay for ever. While the server cannot be asked, what is kept stays as it was, and `trouble` says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from cluster.backends.kubernetes.client import Document, KubeClient
from cluster.errors import BusyError, ClusterError, ExpiredError
from cluster.timing import Backoff

log = logging.getLogger("cpn.agent")
RESYNC_S = 3600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


class Kept(Protocol):
    """Where an informer puts what it reads."""

    def begin(self) -> None:
        """All objects follow by `put`; those that do not until `end` are gone."""

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
        backoff: Backoff | None = None, fields: str = "", labels: str = "",
    ) -> None:  # fmt: skip
        self._client, self._path, self._kept, self._fields, self._labels = client, path, kept, fields, labels
        self._seconds, self._resync_s = seconds, resync_s
        self._backoff = backoff or Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._listed_at = 0.0
        self.listed = asyncio.Event()
        self.trouble: ClusterError | None = None
        self.lists = 0

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                version = await self._list()
            except ClusterError as error:
                await self._complain(error)
            else:
                await self._follow(version)

    async def _list(self) -> str:
        """Read everything; its resource version."""
        version, begun = "", self._seconds()
        self._kept.begin()
        async for page in self._client.pages(self._path, fieldSelector=self._fields, labelSelector=self._labels):
            for item in page.get("items") or ():
                self._kept.put(item)
            version = page["metadata"]["resourceVersion"]
            # Thousands of objects take a while; everything else of the agent has its turn between two pages.
            await asyncio.sleep(0)
        self._kept.end()
        self._listed_at = begun
        self.lists += 1
        self._recover()
        self.listed.set()
        return version

    async def _follow(self, version: str) -> None:
        """Watch until everything has to be listed anew."""
        while self._seconds() < self._listed_at + self._resync_s:
            try:
                async for event in self._client.watch(
                    self._path, version, opened=self._recover, fieldSelector=self._fields, labelSelector=self._labels
                ):  # fmt: skip
                    if event.type == "DELETED":
                        self._kept.drop(event.item)
                    elif event.type != "BOOKMARK":
                        self._kept.put(event.item)
                    version = event.item["metadata"]["resourceVersion"]
                # The usual end; a server that ends every watch at once is not asked without a rest.
                await asyncio.sleep(FIRST_PAUSE_S)
            except ExpiredError:
                log.info("what happened at %s since the last look is not kept any more; listing all anew", self._path)
                return
            except ClusterError as error:
                await self._complain(error)

    def _recover(self) -> None:
        if self.trouble is not None:
            log.info("%s can be watched again", self._path)
        self.trouble = None
        self._backoff.reset()

    async def _complain(self, error: ClusterError) -> None:
        if self.trouble is None:
            log.warning("%s cannot be watched: %s", self._path, error)
        self.trouble = error
        if isinstance(error, BusyError):
            await asyncio.sleep(min(error.retry_after_s, LONGEST_PAUSE_S))
        await self._backoff.pause()
