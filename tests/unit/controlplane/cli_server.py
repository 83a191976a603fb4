"""A control plane in few words: what it answers by method and path, and what it was asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from controlplane.cli.main import app

SERVER, TOKEN = "http://cpn.test", "cpn_buyer_secret"
Answer = Any
PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.02 CNY", "accelerator_hour": {"H200": "35.00 CNY"}, "transfer_gib": "0.50 CNY"}
T0 = "2026-03-01T08:00:00Z"
T1 = "2026-03-01T08:00:02Z"


@dataclass
class FakeServer:
    """`answers` maps `METHOD /path` (below /v1) to a document, a (status, document) pair, bytes, a list of these to give
    one after the other, or a function of the request."""

    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        key = f"{request.method} {request.url.path.removeprefix('/v1')}"
        answer = self.answers.get(key, problem(404, "not-found", f"there is no {key}"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        status, document = answer if isinstance(answer, tuple) else (200, answer)
        if isinstance(document, bytes):
            return httpx.Response(status, content=document)
        return httpx.Response(status, json=document) if document is not None else httpx.Response(status)

    def sent(self, index: int = -1) -> Any:
        """The document of a request."""
        return json.loads(self.requests[index].content)

    def run(self, *arguments: str, input: str | None = None) -> Result:
        """A command against this server."""
        return CliRunner().invoke(app, ["--server", SERVER, "--token", TOKEN, *arguments], input=input, prog_name="cpn")


def problem(status: int, kind: str, detail: str, *errors: tuple[str, str, str]) -> tuple[int, dict[str, Any]]:
    """A problem document; errors as (path, reason, message)."""
    fields = [{"path": path, "reason": reason, "message": message} for path, reason, message in errors]
    return status, {"type": f"urn:cpn:problem:{kind}", "title": f"Title of {kind}", "status": status, "detail": detail, "errors": fields}


def queue_view(name: str, **fields: Any) -> dict[str, Any]:
    """A queue as the API shows it."""
    return {
        "name": name, "parent": None, "depth": 0, "children": [], "weight": 1.0, "max_running": None, "order": "best-effort",
        "layout": "pack", "layout_inherited": True,
        "quota": {}, "borrow_limit": {},
        "lend_limit": {}, "preemption": "never", "preemption_own": None, "queued": 0,
        "running": 0, "entitled_share": 0.5, "dominant_share": 0.0, "borrowed_share": 0.0,
        "recent_share": 0.0, "resources": [], "warnings": [], "created_at": T0, **fields,
    }  # fmt: skip


def page(*items: Any, next_cursor: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next_cursor": next_cursor}


def quote(cluster: str, cpu_hour: str, total: str) -> dict[str, Any]:
    line = {"item": "cpu", "detail": "1 cores", "quantity": "1", "unit": "core-hour", "unit_price": cpu_hour, "amount": total}
    return {"cluster": cluster, "currency": "CNY", "lines": [line], "total": total}


def transfer(size_bytes: int) -> dict[str, Any]:
    """What a version has to be brought in from bj, or else from sz, in half a second."""
    speed = {"mib_s": 2 * size_bytes / 1024**2, "seconds": 0.5}
    return {"ref": "nyc/flights@1", "size_bytes": size_bytes, "source": "bj", **speed, "others": ["sz"], "price": "0.01 CNY"}


def verdict(cluster: str, standing: str, *obstacles: tuple[str, str, str], total: str = "0.40 CNY", moved: int = 0) -> dict[str, Any]:
    """A verdict; obstacles as (reason, message, remedy)."""
    against = [{"reason": reason, "message": message, "remedy": remedy} for reason, message, remedy in obstacles]
    return {
        "cluster": cluster, "verdict": standing, "obstacles": against, "start_s": 0.2 if standing == "chosen" else None,
        "transfer_s": 0.5 if moved else 0.0, "transfer_bytes": moved, "transfers": [transfer(moved)] if moved else [],
        "quote": quote(cluster, total, total),
        "least_quote": None, "workers": None, "accelerator_model": None, "speed": None, "carbon_g": None, "score": None, "score_parts": [],
    }  # fmt: skip


def job(state: str = "queued", version: int = 1, **fields: Any) -> dict[str, Any]:
    """A job's document."""
    ended = state in ("succeeded", "failed", "cancelled")
    kind = fields.pop("kind", "sql")
    document = {
        "id": "job-a", "version": version, "name": "count", "tenant": "acme", "queue": "default", "kind": kind, "purpose": "research",
        "priority": "normal", "state": state, "cause": "admitted", "message": "", "attempts": int(state != "queued"),
        "attempts_spared": 0,
        "cluster": None if state == "queued" else "sh", "nodes": [], "run_id": None, "exit_code": None,
        "submitted_at": T0, "placed_at": None,
        "started_at": T0 if ended else None, "finished_at": T1 if ended else None, "quote": None,
        "spec": spec(kind), "runs": [], "array": None, "progress": None, "result_removed_at": None,
        "log_removed_at": None,
    }  # fmt: skip
    return {**document, **fields}


def spec(kind: str = "sql") -> dict[str, Any]:
    """A job's spec as the server gives it."""
    from workloads.spec import JobSpec

    what: dict[str, Any] = {"sql": "SELECT 1"} if kind == "sql" else {"command": ["true"]}
    return JobSpec(name="count", tenant="acme", kind=kind, purpose="research", **what).model_dump(mode="json")  # type: ignore[arg-type]


def cluster(name: str = "sh", **fields: Any) -> dict[str, Any]:
    """A cluster's document."""
    document = {
        "name": name, "backend": "ray", "mode": "pull", "jurisdiction": "CN-SH", "labels": {}, "inbound_bandwidth_mib_s": 100.0,
        "prices": PRICES, "security_level": 0,
        "health": "healthy", "cordon": "open", "detail": "", "backend_version": "ray 2", "remote_id": "0c0c",
        "heard_at": T0, "created_at": T0, "nodes": 1,
        "nodes_ready": 1, "runs": 0, "cpu": 8.0, "cpu_used": 0.0, "memory_bytes": 2**34, "memory_used_bytes": 0,
        "accelerators": [{"model": "H200", "total": 8, "used": 2.0}], "flops": [], "unrated": [], "carbon": None,
        "ray_jobs": None, "on_lease_lost": "stop", "windows": [], "cache": None, "driver": {"way": "actors", "why": ""},
        "runs_only": "", "lacks": [], "scaling": None,
    }  # fmt: skip
    return {**document, **fields}
