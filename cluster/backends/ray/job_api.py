"""Ray's Job API over HTTP: the questions and orders that a member without a driver is run by. Nothing of Ray is imported.

A Ray of any version 2 answers them. Two traps are met here: a submission of a known name answers with a traceback (so it is looked up
first), and a package that a submission names is kept for minutes only, so both go out together.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cluster.errors import AuthenticationError, PermanentError, UnreachableError

CALL_S = 10.0
MOST_NODES = 10_000
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass(frozen=True)
class JobFacts:
    """What the head says of a job. `code` is its exit status, `trouble` Ray's word for what went wrong, both where it knows them."""

    name: str
    status: str
    message: str = ""
    code: int | None = None
    trouble: str = ""
    ended_at: float | None = None
    metadata: Mapping[str, str] | None = None

    @property
    def over(self) -> bool:
        return self.status in ENDED


class JobApi:
    """One head's dashboard. All calls raise UnreachableError, AuthenticationError, or PermanentError for what it refuses."""

    def __init__(self, url: str, token_file: Path | None, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url, self._token_file = url.rstrip("/"), token_file
        self._client = httpx.AsyncClient(base_url=self.url, timeout=CALL_S, trust_env=False, transport=transport)

    async def version(self) -> dict[str, Any]:
        """`ray_version` and `session_name`, which names one start of the head."""
        found: dict[str, Any] = (await self._ask("GET", "/api/version")).json()
        return found

    async def nodes(self) -> list[dict[str, Any]]:
        """All nodes in the form of `ray.nodes()`."""
        answer = await self._ask("GET", "/api/v0/nodes", params={"detail": "1", "limit": MOST_NODES})
        return [
            {
                "NodeID": item["node_id"], "NodeName": item["node_name"], "Alive": item["state"] == "ALIVE",
                "NodeManagerAddress": item["node_ip"], "Resources": item["resources_total"] or {}, "Labels": item.get("labels") or {},
            }
            for item in answer.json()["data"]["result"]["result"]
        ]  # fmt: skip

    async def used(self) -> dict[str, dict[str, float]]:
        """What was in use on each node by its id some seconds ago; a node that is left out, and an empty answer: it is not known."""
        status = (await self._ask("GET", "/api/cluster_status")).json().get("data", {}).get("clusterStatus") or {}
        by_node = (status.get("loadMetricsReport") or {}).get("usageByNode") or {}
        return {node: {name: float(amounts[0]) for name, amounts in found.items()} for node, found in by_node.items()}

    async def submit(self, name: str, files: Mapping[str, str], entrypoint: str, **more: Any) -> None:
        """Have a job of this name run `entrypoint` in a directory with these files. A known name: nothing happens."""
        if await self.job(name) is not None:
            return
        package = _package(files)
        uri = f"_ray_pkg_{hashlib.sha256(package).hexdigest()[:32]}.zip"
        await self._ask("PUT", f"/api/packages/gcs/{uri}", content=package)
        document = {"submission_id": name, "entrypoint": entrypoint, "runtime_env": {"working_dir": f"gcs://{uri}"}, **more}
        await self._ask("POST", "/api/jobs/", json=document)

    async def job(self, name: str) -> JobFacts | None:
        """A job by its name; None where the head knows none."""
        answer = await self._ask("GET", f"/api/jobs/{name}", missing=True)
        return None if answer.status_code == 404 else _facts(answer.json())

    async def jobs(self, prefix: str) -> list[JobFacts]:
        """All jobs whose names begin so, by name."""
        answer = await self._ask("GET", "/api/jobs/")
        return sorted(
            (_facts(item) for item in answer.json() if (item.get("submission_id") or "").startswith(prefix)), key=lambda job: job.name
        )

    async def log(self, name: str) -> str:
        """All of a job's log until now; empty where there is none yet."""
        answer = await self._ask("GET", f"/api/jobs/{name}/logs", missing=True)
        return "" if answer.status_code == 404 else str(answer.json().get("logs") or "")

    async def stop(self, name: str) -> None:
        """Ask for a job's end; one that is over or unknown: nothing happens. One that waits for room ends only when it got some."""
        await self._ask("POST", f"/api/jobs/{name}/stop", missing=True)

    async def delete(self, name: str) -> None:
        """Have the head forget a job that is over. Unknown: nothing happens."""
        await self._ask("DELETE", f"/api/jobs/{name}", missing=True)

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _ask(self, method: str, place: str, *, missing: bool = False, **more: Any) -> httpx.Response:
        try:
            answer = await self._client.request(method, place, headers=self._headers(), **more)
        except httpx.TransportError as error:
            raise UnreachableError(f"no Ray dashboard answers at {self.url}: {error or type(error).__name__}") from error
        if answer.is_success or (missing and answer.status_code == 404):
            return answer
        said = (answer.text.strip().splitlines() or [answer.reason_phrase])[-1][:500]
        if answer.status_code in (401, 403):
            raise AuthenticationError(f"the Ray dashboard at {self.url} refuses the token ({answer.status_code})")
        if answer.status_code in (400, 404):
            raise PermanentError(f"the Ray dashboard at {self.url} refuses {method} {place}: {said}")
        raise UnreachableError(f"the Ray dashboard at {self.url} answers {method} {place} with {answer.status_code}: {said}")

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text(encoding='utf-8').strip()}"}
        except OSError as error:
            raise AuthenticationError(f"the token file {self._token_file} cannot be read: {error.strerror}") from error


def _facts(item: Mapping[str, Any]) -> JobFacts:
    ended = item.get("end_time")
    return JobFacts(
        name=item["submission_id"], status=item["status"], message=item.get("message") or "", code=item.get("driver_exit_code"),
        trouble=item.get("error_type") or "", ended_at=ended / 1000 if ended else None, metadata=item.get("metadata") or {},
    )  # fmt: skip


def _package(files: Mapping[str, str]) -> bytes:
    """A zip of these files, the same bytes for the same files."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), text)
    return found.getvalue()


def document(value: object) -> str:
    """JSON, the same text for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
