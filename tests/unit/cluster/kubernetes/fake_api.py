"""The lists and watches of a Kubernetes API in memory, for virtual time: a stand-in for the client, and small nodes and pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.client import Document, Event, EventType
from cluster.errors import ClusterError, ExpiredError, NotThereError

PAGE = 3
Fault = Literal["list", "page", "watch", "event"]


def node(name: str = "n1", cpu: str = "8", memory: str = "16Gi", labels: dict[str, str] | None = None, **more: Any) -> Document:
    """A node that takes runs. `more`: amounts by resource, with __ for a slash and _ for a dot, or taints, unschedulable, conditions."""
    spec = {key: more.pop(key) for key in ("taints", "unschedulable") if key in more}
    conditions = [{"type": "Ready", "status": "True"}, *more.pop("conditions", ())]
    given = {key.replace("__", "/").replace("_", "."): str(value) for key, value in more.items()}
    return {
        "metadata": {"name": name, "uid": f"node-{name}", "labels": labels or {}}, "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "110", **given}, "conditions": conditions},
    }  # fmt: skip


def pod(
    name: str,
    on: str = "n1",
    cpu: str = "1",
    memory: str = "1Gi",
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    **more: str,
) -> Document:
    """A pod with one container that asks for this much; `more` are further resources, written as for `node`."""
    asked = {"cpu": cpu, "memory": memory, **{key.replace("__", "/").replace("_", "."): value for key, value in more.items()}}
    return {
        "metadata": {"name": name, "namespace": "others", "uid": f"pod-{name}", "labels": labels or {}},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"requests": asked}}]}, "status": {"phase": phase},
    }  # fmt: skip


class FakeApi:
    """Has the calls of KubeClient that informers and inventories make. `refuse` raises for what it returns an error for.

    `faults` are what the next calls of a kind raise: a list at its first page, a list at a later page, a watch as it is begun, or one that
    has begun. None: that call is well.
    """

    def __init__(self) -> None:
        self.access = Access(namespace="cpn")
        self.objects: dict[str, dict[str, Document]] = {"/api/v1/nodes": {}, "/api/v1/pods": {}}
        self.single: dict[str, Document] = {
            "/version": {"gitVersion": "v1.33.1"},
            "/api/v1/namespaces/kube-system": {"metadata": {"uid": "cluster-1"}},
            "/api/v1/namespaces/cpn": {"metadata": {"uid": "ns-1"}, "status": {"phase": "Active"}},
        }
        self.refuse: Callable[[str], ClusterError | None] = lambda _path: None
        self.faults: dict[Fault, list[ClusterError | None]] = {"list": [], "page": [], "watch": [], "event": []}
        self.version = 100
        self.oldest = 0
        self.lists: list[str] = []
        self.watched_from: list[str] = []
        self.queries: list[dict[str, str]] = []
        self._history: list[tuple[int, str, Event]] = []
        self._changed = asyncio.Event()
        self._cut: ClusterError | None = None
        self._ends = 0

    async def get(self, path: str, **_query: str) -> Document:
        self._check(path)
        if path not in self.single:
            raise NotThereError(f"GET {path}: 404")
        return self.single[path]

    async def pages(self, path: str, **query: str) -> AsyncIterator[Document]:
        self.lists.append(path)
        self.queries.append(query)
        items, version = list(self.objects[path].values()), str(self.version)
        for begin in range(0, max(len(items), 1), PAGE):
            self._check(path)
            self._fail("page" if begin else "list")
            yield {"metadata": {"resourceVersion": version}, "items": items[begin : begin + PAGE]}
            await asyncio.sleep(0)

    async def watch(self, path: str, version: str, *, opened: Callable[[], None] | None = None, **query: str) -> AsyncIterator[Event]:
        self._check(path)
        self.watched_from.append(version)
        self.queries.append(query)
        self._fail("watch")
        at, ends = int(version), self._ends
        self._check_age(path, at)
        if opened is not None:
            opened()
        self._fail("event")
        while True:
            self._check_age(path, at)
            for number, place, event in self._history:
                if number > at and place in (path, ""):
                    at = number
                    yield event
            if self._cut is not None:
                raise self._cut
            if ends != self._ends:
                return
            self._changed.clear()
            await self._changed.wait()

    def put(self, path: str, item: Document) -> None:
        """Make or change an object."""
        key = item["metadata"]["uid"]
        self._tell("MODIFIED" if key in self.objects[path] else "ADDED", path, item)
        self.objects[path][key] = item

    def drop(self, path: str, item: Document) -> None:
        """Delete an object."""
        del self.objects[path][item["metadata"]["uid"]]
        self._tell("DELETED", path, item)

    def bookmark(self) -> None:
        """Tell all watches how far it is."""
        self._tell("BOOKMARK", "", {"metadata": {}})

    def silently(self, path: str, item: Document | None, uid: str = "") -> None:
        """A change that no watch is told of: what a watch misses while it is away and the server forgets."""
        self.version += 1
        if item is None:
            self.objects[path].pop(uid)
        else:
            self.objects[path][item["metadata"]["uid"]] = item

    def forget(self) -> None:
        """Keep nothing of what happened any more."""
        self._history.clear()
        self.oldest = self.version

    def end_watches(self) -> None:
        """End all watches in good order, as a server does every few minutes."""
        self._ends += 1
        self._changed.set()

    def cut(self, error: ClusterError | None) -> None:
        """Break all watches, and each that is begun, with this error; None: no more."""
        self._cut = error
        self._changed.set()

    def _tell(self, kind: EventType, path: str, item: Document) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._history.append((self.version, path, Event(kind, item)))
        self._changed.set()

    def _check_age(self, path: str, version: int) -> None:
        if version < self.oldest:
            raise ExpiredError(f"GET {path}: 410 too old")

    def _fail(self, kind: Fault) -> None:
        error = self.faults[kind].pop(0) if self.faults[kind] else None
        if error is not None:
            raise error

    def _check(self, path: str) -> None:
        error = self.refuse(path)
        if error is not None:
            raise error
