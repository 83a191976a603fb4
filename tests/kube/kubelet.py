"""A stand-in for the kubelets of some nodes: it runs each bound pod's command as a process of this machine.

It registers the nodes, watches the pods that the real scheduler binds to them, reports phases and conditions, serves logs to the API
server as a kubelet does, and lets go of pods that are deleted. There are no containers: images are names, volumes are folders, and
nothing is held to its limits. Its own thread and event loop; what it runs ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from aiohttp import web

from tests.kube.control_plane import ADMIN, Kubernetes, token_of
from tests.kube.local_pod import LocalPod
from tests.network import free_port

GIB = 1024**3
LOG_POLL_S = 0.01
READY_S = 30.0
NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion",
    "operatingSystem", "architecture",
)  # fmt: skip
MERGE = {"Content-Type": "application/merge-patch+json"}


def node_object(name: str, port: int, *, cpu: int = 8, gib: int = 16, labels: dict[str, str] | None = None, **more: str) -> dict[str, Any]:
    """A node as a kubelet would register it. `more` are other resources, with dots and slashes written by the caller."""
    amounts = {"cpu": str(cpu), "memory": f"{gib}Gi", "pods": "250", **more}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "status": {
            "capacity": amounts, "allocatable": amounts, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": dict.fromkeys(NODE_INFO, ""),
        },
    }  # fmt: skip


class Kubelet:
    """All nodes of a test's cluster. `start` returns when their pods are looked for. `beat_s`: how often they report themselves, if so."""

    def __init__(self, servers: Kubernetes, folder: Path, nodes: list[dict[str, Any]] | None = None, *, beat_s: float = 0.0) -> None:
        self.servers, self._folder = servers, folder
        self.port = free_port()
        self.nodes = nodes or [node_object(name, self.port) for name in ("node-1", "node-2")]
        self.pods: dict[str, LocalPod] = {}
        self._beat_s = beat_s
        self._lost: set[str] = set()
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._watching = threading.Event()
        self._stop: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="kubelet", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Register the nodes and begin to run pods."""
        with self.servers.client() as client:
            for node in self.nodes:
                client.post("/api/v1/nodes", json=node).raise_for_status()
        self._thread.start()
        assert self._watching.wait(READY_S), "the stand-in for kubelets did not begin to watch"

    def lose(self, node: str) -> None:
        """The machine is gone: nothing of it runs, reports itself or answers any more."""

        def fall() -> None:
            self._lost.add(node)
            for local in self.pods.values():
                if local.pod["spec"]["nodeName"] == node:
                    local.kill()

        self._loop.call_soon_threadsafe(fall)

    def stop(self) -> None:
        """End all pods' processes and leave. Raises what broke it, if something did."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(READY_S)
        assert not self._thread.is_alive(), "the stand-in for kubelets did not end"
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._loop.close()

    async def _live(self) -> None:
        headers = {"Authorization": f"Bearer {token_of(ADMIN)}"}
        connector = aiohttp.TCPConnector(ssl=self.servers.tls())
        async with aiohttp.ClientSession(self.servers.url, connector=connector, headers=headers, read_bufsize=2**21) as self._session:
            runner = await self._listen()
            watches = [asyncio.create_task(self._follow(path, take)) for path, take in (
                ("/api/v1/pods", self._take), ("/api/v1/secrets", self._refresh),
            )]  # fmt: skip
            if self._beat_s:
                watches.append(asyncio.create_task(self._beat()))
            stop = asyncio.create_task(self._stop.wait())
            await asyncio.wait([*watches, stop], return_when=asyncio.FIRST_COMPLETED)
            ended = [watch for watch in watches if watch.done()]
            for task in (*watches, *self._lives.values()):
                task.cancel()
            await asyncio.gather(*watches, stop, *self._lives.values(), return_exceptions=True)
            await runner.cleanup()
        while self._is_connected():
            await asyncio.sleep(LOG_POLL_S)
        for watch in ended:
            watch.result()

    def _is_connected(self) -> bool:
        """Whether a TLS connection still takes its leave, for which asyncio lets nobody wait."""
        transports = list(self._loop._transports.values())  # type: ignore[attr-defined]
        return any(transport.get_extra_info("socket").fileno() >= 0 for transport in transports)

    async def _follow(self, path: str, take: Callable[[str, dict[str, Any]], None]) -> None:
        """List, then watch; again from the list whenever the watch ends."""
        while True:
            try:
                async with self._session.get(path) as answer:
                    listed = await answer.json()
                for item in listed.get("items", []):
                    take("ADDED", item)
                if take == self._take:
                    self._watching.set()
                query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
                async with self._session.get(path, params=query, timeout=aiohttp.ClientTimeout(total=None)) as stream:
                    async for line in stream.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        take(event["type"], event["object"])
            except (aiohttp.ClientError, KeyError):
                # The API server is away for a moment: a test has ended it.
                await asyncio.sleep(0.1)

    def _take(self, kind: str, pod: dict[str, Any]) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        if node not in {known["metadata"]["name"] for known in self.nodes} or node in self._lost:
            return
        if kind == "DELETED":
            if uid in self.pods:
                self._spawn(f"end {uid}", self.pods[uid].end(0.0))
            return
        if uid not in self.pods and pod.get("status", {}).get("phase") in (None, "Pending"):
            local = LocalPod(pod, self._folder / uid, lambda status: self._report(pod, status))
            local.log.parent.mkdir(parents=True)
            local.log.touch()
            self.pods[uid] = local
            self._spawn(uid, local.run(partial(self._fetch, pod["metadata"]["namespace"])))
        if "deletionTimestamp" in pod["metadata"]:
            self._spawn(f"end {uid}", self._let_go(pod))

    def _refresh(self, _kind: str, item: dict[str, Any]) -> None:
        """What lies in a pod's folders has changed."""
        name = item["metadata"]["name"]
        for local in self.pods.values():
            same = local.pod["metadata"]["namespace"] == item["metadata"]["namespace"]
            if same and name in local.volumes.names("secrets") and not local.over.is_set():
                local.volumes.fill(lambda _plural, _name: {**item, "kind": "Secret"})

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._lives:
            work.close()
            return
        self._lives[name] = asyncio.get_running_loop().create_task(work)

    def _fetch(self, namespace: str, plural: str, name: str) -> dict[str, Any] | None:
        with self.servers.client() as client:
            place = "" if plural == "persistentvolumes" else f"/namespaces/{namespace}"
            answer = client.get(f"/api/v1{place}/{plural}/{name}")
        return answer.json() if answer.status_code == httpx.codes.OK else None

    async def _beat(self) -> None:
        """Report the nodes that are there, as a kubelet does."""
        while True:
            heard_at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": heard_at}
            for node in self.nodes:
                if node["metadata"]["name"] not in self._lost:
                    path = f"/api/v1/nodes/{node['metadata']['name']}/status"
                    await self._insist("PATCH", path, {"status": {"conditions": [ready]}}, MERGE)
            await asyncio.sleep(self._beat_s)

    async def _report(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        if pod["spec"]["nodeName"] in self._lost:
            return
        await self._insist("PATCH", f"{_path(pod)}/status", {"status": status}, MERGE)

    async def _let_go(self, pod: dict[str, Any]) -> None:
        uid, grace_s = pod["metadata"]["uid"], pod["metadata"].get("deletionGracePeriodSeconds", 0)
        if uid in self.pods:
            await self.pods[uid].end(grace_s)
            await asyncio.wait([self._lives[uid]])
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self._insist("DELETE", _path(pod), options, {})
        if uid in self.pods:
            await asyncio.to_thread(self.pods[uid].volumes.remove)

    async def _insist(self, method: str, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        """Until the API server answers, whatever it says: a pod may be gone already."""
        while True:
            try:
                async with self._session.request(method, path, json=body, headers=headers) as answer:
                    await answer.read()
                    if answer.status < 500:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)

    async def _listen(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.servers.directory / "server.crt", self.servers.directory / "server.key")
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls).start()
        return runner

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """A container's log, to its end and beyond while it runs and the reader asks to follow."""
        where = request.match_info
        local = self._called(where["namespace"], where["pod"])
        if local is None:
            raise web.HTTPNotFound(text=f"pod {where['pod']} is not here")
        if local.pod["spec"]["nodeName"] in self._lost:
            raise web.HTTPBadGateway(text="nobody is at home")
        follow = request.query.get("follow", "false") in ("true", "1")
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        with local.log.open("rb") as log:
            while True:
                if local.pod["spec"]["nodeName"] in self._lost:
                    return _hung_up(request, answer)
                last = local.over.is_set() or not follow
                with contextlib.suppress(ConnectionError):
                    while data := log.read(65536):
                        await answer.write(data)
                    if last:
                        await answer.write_eof()
                if last or request.transport is None:
                    # It has all, or reads no more.
                    return answer
                await asyncio.sleep(LOG_POLL_S)

    def _called(self, namespace: str, name: str) -> LocalPod | None:
        found = [
            local for local in self.pods.values()
            if local.pod["metadata"]["name"] == name and local.pod["metadata"]["namespace"] == namespace
        ]  # fmt: skip
        return found[-1] if found else None


def _hung_up(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return answer


def _path(pod: dict[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


@contextmanager
def running_kubelet(servers: Kubernetes, folder: Path, *, beat_s: float = 0.0) -> Iterator[Kubelet]:
    """Two nodes of 8 cores and 16 GiB; at the end none of their pods' processes is left."""
    kubelet = Kubelet(servers, folder, beat_s=beat_s)
    kubelet.start()
    try:
        yield kubelet
    finally:
        kubelet.stop()
