"""The documents of `cpn bench latency` and `cpn bench throughput`, and the clients that submit."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from controlplane.bench import latency, submitters, throughput
from controlplane.bench.figures import machine, quantiles_ms
from controlplane.bench.latency import DONE, START
from controlplane.settings import load
from scheduler.store.account import Account


def test_quantiles_are_of_milliseconds() -> None:
    assert quantiles_ms([0.001 * value for value in range(1, 101)]) == {"p50": 50.5, "p95": 95.0}
    assert quantiles_ms([0.25]) == {"p50": 250.0, "p95": 250.0}


def test_the_machine_is_told(tmp_path: Path) -> None:
    assert "cores, load" in machine(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_document_of_latency() -> None:
    times: latency.Times = {
        "sql": {START: [0.01, 0.02, 0.03], DONE: [0.02, 0.025, 0.1], "other": [1.0]},
        "command": {START: [0.05], DONE: [0.1]}, "ray job": {DONE: [1.0, 1.0, 1.5]},
    }  # fmt: skip
    assert latency.document_of(3, times) == {
        "n": 3,
        "cpn_sql": {"submit_to_start_ms": {"p50": 20.0, "p95": 30.0}, "submit_to_done_ms": {"p50": 25.0, "p95": 100.0}},
        "cpn_command": {"submit_to_start_ms": {"p50": 50.0, "p95": 50.0}, "submit_to_done_ms": {"p50": 100.0, "p95": 100.0}},
        "ray_job": {"submit_to_done_ms": {"p50": 1000.0, "p95": 1500.0}},
        "ratio_sql": 40.0,
        "ratio_command": 10.0,
    }


def test_the_document_of_throughput(tmp_path: Path) -> None:
    told = {"began": 100.0, "ended": 102.0, "ids": ["a"] * 10}
    found = Account(whole=9, doubled=1, last_end=105.0)
    document = throughput.document_of(10, "memory", 5, told, found, {"a-1": 2, "b-1": 1}, 120.04, load({}, data_dir=tmp_path))
    assert document == {
        "jobs": 10, "backend": "memory", "batch": 5, "submitted_per_s": 5.0, "completed_per_s": 2.0, "wall_s": 5.0, "lost": 1,
        "doubled": 2, "peak_rss_mib": 120.0, "store": "sqlite",
    }  # fmt: skip


class _Desk(BaseHTTPRequestHandler):
    """Accepts what it is sent, but for the names in `refused`."""

    protocol_version = "HTTP/1.1"
    paths: list[str]
    sizes: list[int]
    refused = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        items = body.get("items")
        type(self).paths.append(self.path)
        type(self).sizes.append(len(items or [body]))
        verdict = {"verdict": "refused" if self.refused else "accepted", "id": "job"}
        answer = json.dumps({"id": "job"} if items is None else {"items": [verdict] * len(items)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(("batch", "path", "sizes"), [(1, "/v1/jobs", [1] * 7), (3, "/v1/jobs:batch", [1, 3, 3])])
def test_clients_submit_all(batch: int, path: str, sizes: list[int]) -> None:
    desk = type("Desk", (_Desk,), {"paths": [], "sizes": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), desk) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        ids = submitters.submit_all("127.0.0.1", server.server_port, "t", '{"name": "n"}', 7, 2, batch)
        if batch > 1:
            desk.refused = True  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="were refused"):
                submitters.submit_all("127.0.0.1", server.server_port, "t", '{"name": "n"}', 2, 1, batch)
        server.shutdown()
    assert ids == ["job"] * 7
    assert (set(desk.paths), sorted(desk.sizes[: len(sizes)])) == ({path}, sizes)  # type: ignore[attr-defined]
