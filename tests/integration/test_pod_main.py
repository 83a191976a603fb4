"""The process in a pod, run here: what it tells, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.kubernetes.objects import Place, RunSettings, secret_of
from cluster.backends.kubernetes.pod_main import CLOCKS_APART_S
from cluster.backends.kubernetes.pod_supervisor import memory_kills
from cluster.backends.kubernetes.records import RESULT_BYTES, RecordReader
from cluster.deposits import Grant
from cluster.protocol import RunRequest
from tests.form_server import FormServer, serving_forms
from tests.ray import ROOT
from tests.unit.cluster.control import run_request

SETTINGS = RunSettings(cluster="lab", namespace="cpn", image="cpn")
LIMIT_S = 60.0


def pod(folder: Path, run: RunRequest, *, start_by: float | None = None) -> subprocess.Popen[bytes]:
    """The worker of a run, as a container starts it."""
    (folder / "run").mkdir(parents=True)
    place = Place("token", time.time() if start_by is None else start_by, 60.0)
    for name, text in secret_of(run, SETTINGS, place)["stringData"].items():
        (folder / "run" / name).write_text(text)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CPN_WORK_DIR": str(folder / "work"), "CPN_POD_RANK": "0"}
    command = [sys.executable, "-P", "-m", "cluster.backends.kubernetes.pod_main", str(folder / "run")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def told(process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], str, int]:
    """The end that it told, the log, and its exit code."""
    data, _ = process.communicate(timeout=LIMIT_S)
    batches = list(RecordReader().feed(data))
    (end,) = [batch["finished"] for batch in batches if "finished" in batch]
    return end, "".join(batch.get("log", "") for batch in batches), process.returncode


def test_a_statement_ends_with_its_first_rows(tmp_path: Path) -> None:
    run = run_request(kind="sql", sql="SELECT 40 + 2 AS answer", command=(), memory_bytes=2**28)
    end, log, code = told(pod(tmp_path, run))
    assert (end["outcome"], log, code) == ("succeeded", "", 0)
    assert end["preview"] == {"columns": ["answer"], "types": ["INTEGER"], "rows": [[42]], "total_rows": 1}
    assert [file["name"] for file in end["files"]] == ["result.parquet"]
    assert list((tmp_path / "work" / "runs").iterdir()) == []


def test_a_pod_that_starts_too_late_runs_nothing(tmp_path: Path) -> None:
    run = run_request(command=("touch", str(tmp_path / "begun")))
    end, _, code = told(pod(tmp_path, run, start_by=time.time() - CLOCKS_APART_S - 5))
    assert (end["outcome"], end["category"], code) == ("failed", "start_failed", 1)
    assert "too late" in end["message"]
    assert not (tmp_path / "begun").exists()


def test_a_pod_that_is_told_to_end_ends_its_command_and_says_so(tmp_path: Path) -> None:
    process = pod(tmp_path, run_request(command=("sh", "-c", "echo begun; sleep 600")))
    assert process.stdout is not None
    first = process.stdout.readline()
    while "started" not in json.loads(first.splitlines()[-1])["news"]:
        first += process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    data, _ = process.communicate(timeout=LIMIT_S)
    (end,) = [batch["finished"] for batch in RecordReader().feed(first + data) if "finished" in batch]
    assert (end["outcome"], end["category"]) == ("cancelled", "cancelled")
    assert process.returncode != 0


@pytest.mark.parametrize(
    ("text", "kills"), [("low 0\noom 2\noom_kill 3\n", 3), ("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1), ("low 0\n", 0), (None, 0)]
)
def test_kills_for_memory_are_read_where_the_kernel_counts_them(tmp_path: Path, text: str | None, kills: int) -> None:
    if text is not None:
        (tmp_path / "events").write_text(text)
    assert memory_kills((tmp_path / "none", tmp_path / "events")) == kills


LARGE = f"head -c {RESULT_BYTES + 1} /dev/zero > $CPN_OUTPUT_DIR/large; echo x > $CPN_OUTPUT_DIR/small; echo said"


def large(**fields: Any) -> RunRequest:
    """A run that delivers more than a log carries."""
    return run_request(command=("sh", "-c", LARGE), **fields)


def granted(forms: FormServer) -> dict[str, Any]:
    return Grant(url=forms.url, fields={}, prefix="a-1/", until=time.time() + 600, piece_bytes=2**22).model_dump()


def test_a_large_result_goes_where_there_is_leave_and_the_log_has_none_of_it(tmp_path: Path) -> None:
    with serving_forms() as forms:
        end, log, code = told(pod(tmp_path, large(deposit=granted(forms))))
    assert (end["outcome"], log, code, len(end["deposit"])) == ("succeeded", "said\n", 0, 16)
    assert [(file["name"], file["size_bytes"]) for file in end["files"]] == [("large", RESULT_BYTES + 1), ("small", 2)]
    assert end["files"][1]["sha256"] == hashlib.sha256(b"x\n").hexdigest()
    assert [body.count(b"\0") for body in forms.bodies] == [2**22, 1, 0]


def test_a_small_result_is_written_into_the_log_all_the_same(tmp_path: Path) -> None:
    with serving_forms() as forms:
        run = run_request(command=("sh", "-c", "echo x > $CPN_OUTPUT_DIR/small"), deposit=granted(forms))
        end, _, _ = told(pod(tmp_path, run))
    assert (end["outcome"], end["files"], "deposit" in end, forms.bodies) == ("succeeded", [{"name": "small", "size_bytes": 2}], False, [])


def test_what_no_one_wants_is_not_sent(tmp_path: Path) -> None:
    with serving_forms() as forms:
        end, _, _ = told(pod(tmp_path, large(deposit=granted(forms), max_result_bytes=2**20)))
    assert (end["outcome"], "deposit" in end, forms.bodies) == ("succeeded", False, [])


def test_a_large_result_without_leave_or_with_a_refusal_fails_and_says_what_to_do(tmp_path: Path) -> None:
    end, _, code = told(pod(tmp_path / "none", large()))
    assert (end["outcome"], end["category"], code) == ("failed", "result", 1)
    assert "cpn cluster change CLUSTER --result-store s3://" in end["message"]
    with serving_forms(403) as forms:
        end, _, code = told(pod(tmp_path / "denied", large(deposit=granted(forms))))
    assert (end["outcome"], end["category"], end["files"], code) == ("failed", "infrastructure", [], 1)
    assert "refuses the result (403 AccessDenied)" in end["message"]


def test_a_pod_that_is_told_to_end_while_it_sends_its_result_ends(tmp_path: Path) -> None:
    with serving_forms(503) as forms:
        process = pod(tmp_path, large(deposit=granted(forms)))
        assert forms.came.wait(LIMIT_S)
        process.send_signal(signal.SIGTERM)
        end, log, code = told(process)
    assert (end["outcome"], end["category"], end["files"], log) == ("cancelled", "cancelled", [], "said\n")
    assert code != 0
