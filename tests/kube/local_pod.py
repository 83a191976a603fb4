"""One bound pod as processes of this machine, and the status that a kubelet would report of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.kube.volumes import Fetch, Volumes

Report = Callable[[dict[str, Any]], Awaitable[None]]
MISSING_IMAGE = "registry.invalid/missing"
# What an image runs where its container names no command: that of deploy/Containerfile.
ENTRYPOINTS = {"cpn": (sys.executable, "-m", "controlplane.cli.main")}


class LocalPod:
    """Runs the pod's one container. `report` is called with every new status."""

    def __init__(self, pod: dict[str, Any], folder: Path, report: Report) -> None:
        self.pod, self.log = pod, folder / "log"
        self._report, self._folder = report, folder
        self.volumes = Volumes(pod, folder / "volumes")
        self.process: asyncio.subprocess.Process | None = None
        self.over = asyncio.Event()
        self._ending = asyncio.Event()
        (self._container,) = pod["spec"]["containers"]
        self._secrets: dict[str, str] = {}

    async def run(self, fetch: Fetch) -> None:
        """From the volumes to the end of the process, or until `end` where it cannot start."""
        try:
            if not await self._prepared(fetch):
                return
            begun = _now()
            argv = self._argv()
            with self.log.open("wb") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *argv, env=self._environment(), cwd=self._folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
            await self._report(self._status("Running", {"running": {"startedAt": begun}}))
            await self._watched()
            code = await self.process.wait()
            self._sweep()
            code = 128 - code if code < 0 else code  # as a shell says that a signal ended it
            ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": begun, "finishedAt": _now()}
            self.over.set()
            await self._report(self._status("Failed" if code else "Succeeded", {"terminated": ended}))
        finally:
            self._sweep()
            self.over.set()

    def kill(self) -> None:
        """End it at once, without a word."""
        self._ending.set()
        self._sweep()

    async def end(self, grace_s: float) -> None:
        """SIGTERM, SIGKILL after the grace; returns when nothing of the pod runs."""
        self._ending.set()
        if self.process is not None and self.process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), grace_s)
            self._signal(signal.SIGKILL)
        await self.over.wait()

    async def _prepared(self, fetch: Fetch) -> bool:
        if MISSING_IMAGE in self._container["image"]:
            message = f'Back-off pulling image "{self._container["image"]}"'
            await self._report(self._status("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": message}}))
            await self._ending.wait()
            return False
        if missing := await asyncio.to_thread(self._fill, fetch):
            waiting = {"reason": "CreateContainerConfigError", "message": missing}
            await self._report(self._status("Pending", {"waiting": waiting}))
            await self._ending.wait()
            return False
        return not self._ending.is_set()

    async def _watched(self) -> None:
        """End the process when the pod's own time is up."""
        assert self.process is not None
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), limit)
            return
        self._signal(signal.SIGKILL)

    def _fill(self, fetch: Fetch) -> str | None:
        """Bring what volumes and variables take from other objects; what is missing, or None."""
        for entry in self._container.get("env", []):
            if wanted := entry.get("valueFrom", {}).get("secretKeyRef"):
                found = fetch("secrets", wanted["name"])
                if found is None:
                    return f'secret "{wanted["name"]}" not found'
                self._secrets[entry["name"]] = base64.b64decode(found["data"][wanted["key"]]).decode()
        return self.volumes.fill(fetch)

    def _argv(self) -> list[str]:
        image = self._container["image"].rpartition("/")[2].partition(":")[0]
        given = [self._word(word) for word in (*self._container.get("command", ()), *self._container.get("args", ()))]
        return given if self._container.get("command") else [*ENTRYPOINTS.get(image, ()), *given]

    def _environment(self) -> dict[str, str]:
        # The image's own: where programs are, and this very package.
        image = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
        named = {entry["name"]: entry for entry in self._container.get("env", [])}
        given = {name: self._word(self._secrets.get(name) or entry.get("value") or self._field(entry)) for name, entry in named.items()}
        return {**image, "HOSTNAME": self.pod["metadata"]["name"], **given}

    def _field(self, entry: dict[str, Any]) -> str:
        path: str = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        known: dict[str, str] = {"metadata.name": self.pod["metadata"]["name"], "spec.nodeName": self.pod["spec"]["nodeName"]}
        return known.get(path, "")

    def _word(self, text: str) -> str:
        if text.endswith(".svc"):
            # Where a Service's pods are found: all of them are this machine.
            return "127.0.0.1"
        return self.volumes.placed(self._container, text)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def _sweep(self) -> None:
        self._signal(signal.SIGKILL)

    def _status(self, phase: str, state: dict[str, Any]) -> dict[str, Any]:
        ready = "running" in state
        return {
            "phase": phase, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "startTime": _now(),
            "conditions": [_condition("Initialized", True), _condition("Ready", ready), _condition("ContainersReady", ready)],
            "containerStatuses": [{
                "name": self._container["name"], "image": self._container["image"], "imageID": "", "restartCount": 0,
                "ready": ready, "started": ready, "state": state,
            }],
        }  # fmt: skip


def _condition(kind: str, holds: bool) -> dict[str, Any]:
    return {"type": kind, "status": str(holds), "lastTransitionTime": _now()}


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
