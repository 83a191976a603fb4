"""The documents of `cpn bench latency`, `throughput` and `overhead`, and the clients that submit."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any

import pytest

from controlplane.bench import latency, overhead, submitters, throughput
from controlplane.bench.figures import cpu_s, machine, quantiles_ms, tree_cpu_s
from controlplane.bench.latency import DONE, START
from controlplane.bench.overhead import Timed
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


def test_the_document_of_overhead() -> None:
    ours = [Timed(whole, whole - 0.5, 10.0, 0.02, 0.01) for whole in (10.5, 10.6, 30.0)]
    peer = [Timed(whole, whole - 0.25, 10.0, 0.01, 0.0) for whole in (10.0, 10.1, 10.0)]
    assert overhead.document_of(10.0, ours, peer) == {
        "seconds": 10.0,
        "rounds": 3,
        "cpn": {"whole_s": 10.6, "work_s": 10.1, "cpu_s": 10.0, "beyond_work_s": 0.5},
        "direct": {"whole_s": 10.0, "work_s": 9.75, "cpu_s": 10.0, "beyond_work_s": 0.25},
        "ratio": 1.06,
        "ratio_work_cpu": 1.0,
        "added_s": 0.25,
        "added_part": 0.025,
        "control_cpu_s_per_s": {"running": {"server": 0.02, "agent": 0.01}, "idle": {"server": 0.01, "agent": 0.0}},
    }


BUSY_FAMILY = """
import json, resource, subprocess, sys
burn = [sys.executable, "-c", "sum(range(4_000_000)); print(flush=True); input()"]
subprocess.run(burn, input=b"\\n", stdout=subprocess.DEVNULL, check=True)
living = subprocess.Popen(burn, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
living.stdout.readline()
print(json.dumps([living.pid, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime]), flush=True)
input()
living.communicate(b"\\n")
"""


def test_processor_time_counts_a_process_with_its_children_that_live_and_that_have_ended() -> None:
    with Popen([sys.executable, "-c", BUSY_FAMILY], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        living, ended_s = json.loads(process.stdout.readline())
        parts = cpu_s(process.pid), cpu_s(living), ended_s
        assert min(parts) > 0
        assert tree_cpu_s(process.pid) > sum(parts) - 0.05, "all of them, by the kernel's hundredths of a second"
        process.communicate(b"\n")
