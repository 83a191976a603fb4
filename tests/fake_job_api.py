"""Ray's Job API as far as an agent asks it, without Ray: a dashboard in the test's process, whose jobs are real processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cluster.backends.ray.job_api import JobApi

TOKEN = "secret"
GIB = 1024**3


def entry(name: str, address: str, cpu: float = 4, gpu: float = 0) -> dict[str, Any]:
    """A node as the state API tells it."""
    resources = {"CPU": cpu, "memory": 8.0 * GIB, f"node:{address}": 1.0, **({"GPU": gpu} if gpu else {})}
    return {
        "node_id": name.encode().hex().ljust(56, "0"), "node_name": name, "node_ip": address, "state": "ALIVE",
        "resources_total": resources, "labels": {"tier": "gold"},
    }  # fmt: skip


@dataclass
class FakeJob:
    """A submission; `process` is None while it waits for room."""

    document: dict[str, Any]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False
    trouble: str = ""

    def status(self) -> str:
        if self.trouble:
            return "FAILED"
        if self.process is None:
            return "PENDING"
        code = self.process.poll()
        if code is None:
            return "RUNNING"
        return "STOPPED" if self.stopped else ("SUCCEEDED" if code == 0 else "FAILED")

    def view(self) -> dict[str, Any]:
        code = self.process.poll() if self.process else None
        return {
            "submission_id": self.document["submission_id"], "type": "SUBMISSION", "status": self.status(), "message": "so says Ray",
            "driver_exit_code": code, "error_type": self.trouble or None, "metadata": self.document["metadata"], "end_time": None,
        }  # fmt: skip


@dataclass
class FakeJobApi:
    """The dashboard. `hold`: what is submitted waits for room. `away`: it does not answer. `asked` are all questions."""

    folder: Path
    nodes: list[dict[str, Any]] = field(default_factory=lambda: [entry("n1", "10.0.0.1")])
    used: dict[str, dict[str, Any]] | None = None
    hold: bool = False
    away: bool = False
    ray_version: str = "2.9.3"
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def api(self, token: str = TOKEN) -> JobApi:
        """A client of it."""
        path = self.folder / f"token-{token}"
        path.write_text(f"{token}\n")
        return JobApi("http://dashboard.test", path, transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if self.away:
            raise httpx.ConnectError("connection refused")
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return httpx.Response(403, text="Unauthorized")
        match request.url.path.split("/")[2:]:
            case ["version"]:
                return _json({"version": "4", "ray_version": self.ray_version, "session_name": "session_1"})
            case ["v0", "nodes"]:
                return _json({"data": {"result": {"result": self.nodes}}})
            case ["cluster_status"]:
                status = None if self.used is None else {"loadMetricsReport": {"usageByNode": self.used}}
                return _json({"data": {"clusterStatus": status}})
            case ["packages", "gcs", name]:
                self.packages[name] = request.content
                return httpx.Response(200)
            case ["jobs", ""]:
                return self._submit(json.loads(request.content)) if request.method == "POST" else self._list()
            case ["jobs", name, *rest]:
                return self._about(request.method, name, rest)
        return httpx.Response(404)

    def start(self, name: str) -> None:
        """Give a job that waits its room."""
        job = self.jobs[name]
        with zipfile.ZipFile(io.BytesIO(self.packages[job.document["runtime_env"]["working_dir"].removeprefix("gcs://")])) as package:
            package.extractall(job.folder)
        with (job.folder / "log").open("wb") as log:
            log.write(b"INFO -- Runtime env is setting up.\n")
            log.flush()
            job.process = subprocess.Popen(
                job.document["entrypoint"], shell=True, cwd=job.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "RAY_AUTH_TOKEN": "raysecret", "TMPDIR": str(job.folder)},
            )  # fmt: skip

    def close(self) -> None:
        """End everything that is left; nothing should be."""
        for job in self.jobs.values():
            if job.process is not None and job.process.poll() is None:
                _signal(job.process, signal.SIGKILL)
                job.process.wait()

    def _submit(self, document: dict[str, Any]) -> httpx.Response:
        name = document["submission_id"]
        if name in self.jobs:
            return httpx.Response(500, text=f"Traceback\nValueError: Job with submission_id {name} already exists.")
        folder = self.folder / f"job-{len(self.jobs)}-{name}"
        folder.mkdir()
        self.jobs[name] = FakeJob(document, folder)
        if not self.hold:
            self.start(name)
        return _json({"submission_id": name})

    def _list(self) -> httpx.Response:
        return _json([job.view() for job in self.jobs.values()] + [{"submission_id": None, "type": "DRIVER", "status": "RUNNING"}])

    def _about(self, method: str, name: str, rest: list[str]) -> httpx.Response:
        job = self.jobs.get(name)
        if job is None:
            return httpx.Response(404, text=f"Job {name} does not exist")
        if rest == ["logs"]:
            log = job.folder / "log"
            return _json({"logs": log.read_text(errors="replace") if log.exists() else ""})
        if rest == ["stop"]:
            # As Ray does: what waits for room does not hear it.
            if job.process is not None and job.process.poll() is None:
                job.stopped = True
                _signal(job.process, signal.SIGTERM)
            return _json({"stopped": job.process is not None})
        if method == "DELETE":
            if job.status() in ("PENDING", "RUNNING"):
                return httpx.Response(500, text="it is not in a terminal state")
            del self.jobs[name]
            return _json({"deleted": True})
        return _json(job.view())


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _json(value: dict[str, Any] | Iterable[Any]) -> httpx.Response:
    return httpx.Response(200, json=value)
