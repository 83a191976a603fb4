"""Scenes on a Kubernetes member: its backend, what it tells, and what an operator sees and does there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from cluster.backends.kubernetes.backend import KubernetesBackend
from cluster.protocol import RunFinished, RunLog, RunRequest, RunStarted
from tests.contract.backend_suite import Watch
from tests.kube.control_plane import Kubernetes
from tests.kube.kubelet import Kubelet
from tests.kube.member import member, namespace

WAIT_S = 60.0
LOOK_S = 0.05
KINDS = {"jobs": "/apis/batch/v1", "pods": "/api/v1", "secrets": "/api/v1", "services": "/api/v1"}


class Operator:
    """Somebody with kubectl, so to speak."""

    def __init__(self, servers: Kubernetes, space: str) -> None:
        self._servers, self._space = servers, space

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """What there is of a kind."""
        with self._servers.client() as client:
            answer = client.get(f"{KINDS[kind]}/namespaces/{self._space}/{kind}", params={"labelSelector": selector})
            found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
            return found

    def names(self, *kinds: str) -> list[str]:
        """The names of all that there is of these kinds, or of all that runs are made of."""
        return sorted(f"{kind}/{item['metadata']['name']}" for kind in kinds or KINDS for item in self.items(kind))

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and what belongs to it."""
        with self._servers.client() as client:
            path = f"{KINDS[kind]}/namespaces/{self._space}/{kind}/{name}"
            client.delete(path, params={"propagationPolicy": "Background"}).raise_for_status()

    def send(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        """Any call."""
        with self._servers.client() as client:
            return client.request(method, path, json=body)


class Scene:
    """One connection of an agent to the cluster."""

    def __init__(self, backend: KubernetesBackend, watch: Watch, operator: Operator) -> None:
        self.backend, self.watch, self.operator = backend, watch, operator

    async def started(self, run: RunRequest) -> None:
        """Start a run and wait until its work has begun."""
        await self.backend.start(run)
        await self.watch.first(run.run_id, RunStarted)

    async def ended(self, run: RunRequest) -> RunFinished:
        """The end of a run that was started before."""
        return await self.watch.first(run.run_id, RunFinished)

    async def run(self, run: RunRequest) -> RunFinished:
        """Start a run and wait for its end."""
        await self.backend.start(run)
        return await self.ended(run)

    def log(self, run: RunRequest) -> str:
        """Its log as it has come."""
        text = bytearray()
        for event in self.watch.of(run.run_id):
            if isinstance(event, RunLog):
                text[event.offset :] = event.text.encode()
        return text.decode()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something is so in the cluster."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not await asyncio.to_thread(holds):
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(f"waited {WAIT_S:g} s in vain: {what}") from None


@asynccontextmanager
async def scene(
    kubelet: Kubelet, space: str, directory: Path, backend: KubernetesBackend | None = None, *, wait_s: float = WAIT_S, **limits: Any
) -> AsyncIterator[Scene]:
    """An open backend that has adopted what was there. At the end it disconnects, and what runs goes on."""
    namespace(kubelet, space)
    backend = backend or member(kubelet, space, directory, **limits)
    await backend.open()
    watch = Watch(backend, wait_s)
    try:
        await backend.adopt()
        yield Scene(backend, watch, Operator(kubelet.servers, space))
    finally:
        await backend.close()
        await watch.ended()
