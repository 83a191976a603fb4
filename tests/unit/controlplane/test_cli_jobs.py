"""`cpn job`: planning, submitting, following, results, against a server of a few documents."""

from __future__ import annotations

import hashlib
import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as parquet  # type: ignore[import-untyped]
import pytest
import yaml

from controlplane.api.schemas import PlanView
from controlplane.cli import follow, session
from tests.unit.controlplane.cli_server import T0, T1, FakeServer, job, page, problem, quote, verdict

HERE = {"state": "stored", "url": None, "message": ""}
MANIFEST = "name: count\ntenant: acme\nkind: {kind}\npurpose: research\n{what}\n"
LATE = httpx.ConnectError("the server is being restarted")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    monkeypatch.setattr(follow, "PAUSE_S", 0.0)
    return fake


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(MANIFEST.format(kind="sql", what="sql: SELECT 1"))
    return str(path)


def _plan(*verdicts: dict[str, Any]) -> dict[str, Any]:
    chosen = next((item["cluster"] for item in verdicts if item["verdict"] == "chosen"), None)
    found = PlanView.model_validate({"name": "count", "chosen": chosen, "verdicts": list(verdicts), "engine": None})
    return found.model_dump(mode="json")


def test_a_plan_shows_every_cluster_and_the_quote_of_the_chosen(server: FakeServer, manifest: str) -> None:
    forbidden = ("product_jurisdiction", "f may not be processed in CN-GZ", "run at a cluster in CN-SH")
    server.answers["POST /jobs:plan"] = _plan(
        verdict("sh", "chosen", moved=5 * 1024**2), verdict("gz", "refused", forbidden, total="0.20 CNY")
    )
    result = server.run("job", "plan", "-f", manifest)
    assert result.exit_code == 0, result.output
    for words in ("would run on sh", "5.0 MiB in 500ms from bj", "Quote of sh: at most 0.40 CNY", "core-hour", *forbidden[1:]):
        assert words in result.stdout


def test_a_plan_shows_what_the_choice_went_by(server: FakeServer, manifest: str) -> None:
    def scored(where: str, standing: str, seconds: float, points: float) -> dict[str, Any]:
        parts = [
            {"aspect": "completion", "value": seconds, "weight": 1.0, "points": points},
            {"aspect": "price", "value": 0.4, "weight": 0.001, "points": 0.0},
        ]
        return {**verdict(where, standing), "score": points, "score_parts": parts}

    server.answers["POST /jobs:plan"] = _plan(scored("far", "possible", 63.0, 1.0), scored("near", "chosen", 3.0, 0.0))
    lines = server.run("job", "plan", "-f", manifest).stdout.splitlines()
    (header,) = (place for place, line in enumerate(lines) if "COMPLETION" in line)
    assert lines[header].split()[:6] == ["CLUSTER", "COMPLETION", "x1", "PRICE", "x0.001", "SCORE"]
    assert [line.split() for line in lines[header + 2 : header + 4]] == [
        ["near", "0.000", "(3.0s)", "0.000", "(0.4)", "0.000"], ["far", "1.000", "(1m3s)", "0.000", "(0.4)", "1.000"],
    ]  # fmt: skip


def test_scores_are_shown_with_their_units(server: FakeServer, manifest: str) -> None:
    shown = {"price": "(0.4)", "fragmentation": "(0.400 devices)", "topology": "(1 node)", "spread": "(25%)", "run": "(1m)"}
    values = {"price": 0.4, "fragmentation": 0.4, "topology": 1.0, "spread": 0.25, "run": 60.0}
    parts = [{"aspect": aspect, "value": value, "weight": 1.0, "points": 0.0} for aspect, value in values.items()]
    both = [{**verdict(where, "possible"), "score": 0.0, "score_parts": parts} for where in ("a", "b")]
    server.answers["POST /jobs:plan"] = _plan(*both)
    output = server.run("job", "plan", "-f", manifest).stdout
    assert all(output.count(f"0.000 {words}") == 2 for words in shown.values())


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([verdict("sh", "refused", ("licence_purpose", "m", "r")), verdict("gz", "refused", ("over_budget", "m", "r"))], 4),
        ([verdict("sh", "refused", ("licence_purpose", "m", "r")), verdict("gz", "busy", ("node_busy", "m", "r"))], 0),
        ([verdict("sh", "refused", ("node_too_small", "m", "r"))], 0),
        ([], 0),
    ],
)
def test_a_plan_ends_with_4_when_policy_refuses_it_everywhere(server: FakeServer, manifest: str, verdicts: list[Any], status: int) -> None:
    server.answers["POST /jobs:plan"] = _plan(*verdicts)
    assert server.run("job", "plan", "-f", manifest).exit_code == status


def test_documents_are_the_apis_own(server: FakeServer, manifest: str) -> None:
    document = server.answers["POST /jobs:plan"] = _plan(verdict("sh", "chosen"))
    assert json.loads(server.run("job", "plan", "-f", manifest, "-o", "json").stdout) == document
    assert yaml.safe_load(server.run("job", "plan", "-f", manifest, "-o", "yaml").stdout) == document
    jobs = server.answers["GET /jobs"] = page(job(), job("succeeded", quote=quote("sh", "0.40 CNY", "0.40 CNY")))
    assert json.loads(server.run("job", "list", "-o", "json").stdout) == jobs


def test_tables_cut_nothing_off(server: FakeServer) -> None:
    message = "waiting: " + "a very long reason " * 30 + "[with brackets] and an end"
    server.answers["GET /jobs"] = page(job(message=message))
    result = server.run("job", "list")
    assert message in result.stdout
    assert "…" not in result.stdout


def test_an_empty_list_says_what_to_do(server: FakeServer) -> None:
    server.answers["GET /jobs"] = page()
    assert "cpn job submit" in server.run("job", "list").stdout


def test_a_list_is_narrowed_by_the_server(server: FakeServer) -> None:
    server.answers["GET /jobs"] = page(job(), next_cursor="more")
    result = server.run("job", "list", "--state", "queued", "--queue", "q", "--limit", "1")
    assert dict(server.requests[0].url.params) == {"limit": "1", "state": "queued", "queue": "q"}
    assert "there are more" in result.stderr


def test_submitting_sends_the_spec_and_the_key(server: FakeServer, manifest: str) -> None:
    server.answers["POST /jobs"] = (201, job())
    result = server.run("job", "submit", "-f", manifest, "--set", "purpose=operations", "--idempotency-key", "monday")
    assert (result.exit_code, result.stdout) == (0, "submitted job-a (count)\n")
    assert server.sent()["purpose"] == "operations"
    assert server.requests[-1].headers["idempotency-key"] == "monday"


def test_waiting_shows_every_change_and_the_result(server: FakeServer, manifest: str) -> None:
    server.answers |= {
        "POST /jobs": (201, job()), "GET /jobs/job-a": [job("placed", 2), LATE, job("running", 3), job("succeeded", 4)],
        "GET /jobs/job-a/result": _table_result(b""),
    }  # fmt: skip
    result = server.run("job", "submit", "-f", manifest, "--wait")
    assert result.exit_code == 0, result.output
    assert [line.split()[1] for line in result.stderr.splitlines()[1:]] == ["placed", "the", "running", "succeeded"]
    assert "the job is safe" in result.stderr
    assert "count (job-a) succeeded on sh after 2.0s" in result.stdout
    assert "2 rows" in result.stdout
    polled = [request.url.params.get("after_version") for request in server.requests if request.url.path == "/v1/jobs/job-a"]
    assert polled == ["0", "2", "2", "3"]


def test_a_failed_job_ends_with_1_and_its_message(server: FakeServer, manifest: str) -> None:
    message = "exit code 3; last log lines:\nTraceback\nboom"
    server.answers |= {"POST /jobs": (201, job()), "GET /jobs/job-a": job("failed", 5, message=message, exit_code=3)}
    result = server.run("job", "submit", "-f", manifest, "--wait")
    assert result.exit_code == 1
    assert "boom" in result.stderr
    assert "cpn job logs job-a" in result.stderr
    assert result.stdout == ""
    document = server.run("job", "wait", "job-a", "-o", "json")
    assert (document.exit_code, json.loads(document.stdout)["exit_code"]) == (1, 3)


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(server: FakeServer, manifest: str) -> None:
    def interrupt(_request: httpx.Request) -> Any:
        raise KeyboardInterrupt

    server.answers |= {"POST /jobs": (201, job()), "GET /jobs/job-a": interrupt}
    result = server.run("job", "submit", "-f", manifest, "--wait")
    assert result.exit_code == 130
    assert "job job-a goes on" in result.stderr
    assert "cpn job wait job-a" in result.stderr
    assert not [request for request in server.requests if request.url.path.endswith(":cancel")]


def test_a_refused_submission_ends_with_4(server: FakeServer, manifest: str) -> None:
    server.answers["POST /jobs"] = problem(
        403, "refused", "x", ("", "licence_purpose", "licence for f lacks purpose 'marketing'; ask owner o")
    )
    result = server.run("job", "submit", "-f", manifest, "--wait")
    assert result.exit_code == 4
    assert "lacks purpose 'marketing'; ask owner o" in result.stderr


def test_metrics_of_a_training_are_shown_while_it_runs(server: FakeServer, tmp_path: Path) -> None:
    reports = [{"step": step, "metrics": {"loss": 1 / step}, "at": T0} for step in (1, 2)]
    path = tmp_path / "job.yaml"
    path.write_text(MANIFEST.format(kind="training", what="command: [python, t.py]"))
    server.answers |= {
        "POST /jobs": (201, job(kind="training")),
        "GET /jobs/job-a": [job("running", 2, kind="training"), job("succeeded", 3, kind="training")],
        "GET /jobs/job-a/metrics": [page(reports[0], next_cursor="1"), page(reports[1], next_cursor="2"), page()],
        "GET /jobs/job-a/result": {"job_id": "job-a", "run_id": "job-a-1", "preview": None, "files": [], "place": HERE},
    }
    result = server.run("job", "submit", "-f", str(path), "--wait")
    assert result.exit_code == 0, result.output
    assert "step 1  loss 1" in result.stderr
    assert "step 2  loss 0.5" in result.stderr


def test_logs_are_passed_on_byte_for_byte(server: FakeServer) -> None:
    server.answers["GET /jobs/job-a/logs"] = (200, "eins\nzwölf\n".encode())
    assert server.run("job", "logs", "job-a", "--offset", "3").stdout_bytes == "eins\nzwölf\n".encode()
    assert dict(server.requests[-1].url.params) == {"follow": "false", "offset": "3"}
    server.run("job", "logs", "job-a", "--worker", "3")
    assert dict(server.requests[-1].url.params) == {"follow": "false", "offset": "0", "worker": "3"}


def test_a_followed_log_goes_on_where_it_broke(server: FakeServer) -> None:
    server.answers |= {
        "GET /jobs/job-a": [job("running"), job("running"), job("succeeded", 2)],
        "GET /jobs/job-a/logs": [(200, b"one\n"), LATE, (200, b"two\n")],
    }
    result = server.run("job", "logs", "-f", "job-a")
    assert (result.exit_code, result.stdout) == (0, "one\ntwo\n")
    offsets = [request.url.params["offset"] for request in server.requests if request.url.path.endswith("/logs")]
    assert offsets == ["0", "4", "4"]


def test_a_followed_log_begins_anew_with_a_new_attempt(server: FakeServer) -> None:
    server.answers |= {
        "GET /jobs/job-a": [job("running"), job("running", attempts=2), job("succeeded", 2, attempts=2)],
        "GET /jobs/job-a/logs": [(200, b"one\n"), (200, b"again\n")],
    }
    result = server.run("job", "logs", "-f", "job-a")
    assert result.stdout == "one\nagain\n"
    assert "attempt 2" in result.stderr


def test_jobs_are_cancelled_one_by_one(server: FakeServer) -> None:
    server.answers |= {"POST /jobs/job-a:cancel": job("cancelled", 2), "POST /jobs/job-b:cancel": job("succeeded", 2, id="job-b")}
    result = server.run("job", "cancel", "job-a", "job-b")
    assert result.stdout == "job-a (count) is cancelled\njob-b (count) is succeeded\n"


def test_a_job_is_shown_with_its_runs(server: FakeServer) -> None:
    run = {
        "id": "job-a-1", "attempt": 1, "state": "failed", "cause": "exit", "cluster": "sh", "nodes": ["n1"], "exit_code": 3,
        "message": "boom",
        "placed_at": T0, "started_at": T0, "finished_at": T1,
    }  # fmt: skip
    server.answers["GET /jobs/job-a"] = job("failed", 3, runs=[run])
    result = server.run("job", "show", "job-a")
    assert "1 cores, 1GiB" in result.stdout
    assert "boom" in result.stdout
    assert "removed" not in result.stdout
    server.answers["GET /jobs/job-a"] = job("failed", 3, runs=[run], result_removed_at=T1, log_removed_at=T1)
    shown = server.run("job", "show", "job-a").stdout
    assert len(re.findall(r"^(?:result|log) +removed \d{4}", shown, re.MULTILINE)) == 2, shown


def test_what_runs_are_called_on_kubernetes_is_shown(server: FakeServer) -> None:
    run = {
        "id": "job-a-1", "attempt": 1, "state": "running", "cause": "running", "cluster": "lab", "nodes": ["n1"], "exit_code": None,
        "message": "", "placed_at": T0, "started_at": T0, "finished_at": None, "remote": "cpn/cpn-job-a-1",
    }  # fmt: skip
    server.answers["GET /jobs/job-a"] = job("running", 3, runs=[run, {**run, "id": "job-a-2", "remote": ""}])
    shown = server.run("job", "show", "job-a").stdout
    assert "the objects of namespace cpn that begin with cpn-job-a-1" in shown
    assert "kubectl get jobs,pods --namespace cpn --selector cpn.dev/job=job-a" in shown
    assert server.run("job", "show", "job-a", "-o", "json").stdout.count('"remote"') == 1
    server.answers["GET /jobs/job-a"] = job("running", 3, runs=[{**run, "remote": ""}])
    assert "kubectl" not in server.run("job", "show", "job-a").stdout


def test_an_explanation_is_in_words(server: FakeServer) -> None:
    busy = ("node_busy", "there is room on the nodes, but it is in use now", "wait, or ask for less")
    event = {"at": T0, "run_id": None, "start": "submitted", "finish": "queued", "cause": "admitted", "message": ""}
    server.answers["GET /jobs/job-a/explanation"] = {
        "job_id": "job-a", "state": "queued", "summary": "the job waits", "ahead_in_queue": 2, "verdicts": [verdict("sh", "busy", busy)],
        "events": [event],
    }  # fmt: skip
    result = server.run("job", "explain", "job-a")
    for words in ("the job waits", *busy[1:], "submitted → queued", "admitted"):
        assert words in result.stdout


def test_a_receipt_adds_up_before_ones_eyes(server: FakeServer) -> None:
    receipt = {
        **{key: value for key, value in quote("sh", "0.40 CNY", "0.40 CNY").items() if key != "currency"}, "job_id": "job-a",
        "run_id": "job-a-1",
        "tenant": "acme", "purpose": "research", "quote_total": "0.80 CNY", "wall_s": 3600.0, "issued_at": T1, "engine": None,
        "carbon_g": 1234.5,
    }  # fmt: skip
    server.answers["GET /jobs/job-a/receipt"] = receipt
    server.answers["GET /jobs/job-a"] = job("succeeded", quote=quote("sh", "0.50 CNY", "0.50 CNY"))
    result = server.run("job", "receipt", "job-a")
    assert re.search(r"cpu .* 0\.50 CNY +0\.40 CNY\n", result.stdout)
    for words in ("0.80 CNY", "1 core-hour", "total", "0.40 CNY", "1h", "CO2, an estimate", "about 1.23 kg"):
        assert words in result.stdout
    assert json.loads(server.run("job", "receipt", "job-a", "-o", "json").stdout) == receipt


def _parquet() -> bytes:
    table = pa.table({"carrier": ["AA", None], "delay": [1.5, 2.0]})
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def _table_result(content: bytes, name: str = "result.parquet") -> dict[str, Any]:
    file = {"name": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    preview = {"columns": ["carrier", "delay"], "types": ["VARCHAR", "DOUBLE"], "rows": [["AA", 1.5], [None, 2.0]], "total_rows": 2}
    return {"job_id": "job-a", "run_id": "job-a-1", "preview": preview, "files": [file], "place": HERE}


def _serve_result(server: FakeServer, content: bytes, name: str = "result.parquet", served: bytes | None = None) -> None:
    server.answers["GET /jobs/job-a/result"] = _table_result(content, name)
    server.answers[f"GET /jobs/job-a/result/files/{name}"] = (200, content if served is None else served)


def test_a_result_is_shown_as_a_table(server: FakeServer) -> None:
    _serve_result(server, b"x")
    result = server.run("job", "result", "job-a")
    for words in ("carrier", "AA", "NULL", "2 rows", "result.parquet"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("csv", b'"carrier","delay"\n"AA",1.5\n,2\n'),
        ("json", b'[\n{"carrier": "AA", "delay": 1.5},\n{"carrier": null, "delay": 2.0}\n]\n'),
        ("parquet", _parquet()),
    ],
)
def test_a_result_table_is_converted(server: FakeServer, form: str, expected: bytes) -> None:
    _serve_result(server, _parquet())
    assert server.run("job", "result", "job-a", "--format", form).stdout_bytes == expected


def test_values_without_a_csv_form_become_text(server: FakeServer) -> None:
    sink = io.BytesIO()
    columns = {"l": [[1, 2], None], "s": [{"a": "ü"}, None], "d": [Decimal("1.50"), None], "t": [datetime(2026, 3, 1, tzinfo=UTC), None]}
    parquet.write_table(pa.table(columns), sink)
    _serve_result(server, sink.getvalue())
    lines = server.run("job", "result", "job-a", "--format", "csv").stdout.splitlines()
    assert lines[0] == '"l","s","d","t"'
    assert lines[1].startswith('"[1, 2]","{""a"": ""ü""}","1.50",2026-03-01 00:00:00')
    assert lines[2] == ",,,"


def test_files_are_downloaded(server: FakeServer, tmp_path: Path) -> None:
    _serve_result(server, b"a,b\n", "out/table.csv")
    assert server.run("job", "result", "job-a", "--download", str(tmp_path / "new")).exit_code == 0
    assert (tmp_path / "new" / "out" / "table.csv").read_bytes() == b"a,b\n"


def test_a_changed_file_is_not_kept(server: FakeServer, tmp_path: Path) -> None:
    _serve_result(server, b"a,b\n", "table.csv", served=b"a,c\n")
    result = server.run("job", "result", "job-a", "--download", str(tmp_path))
    assert result.exit_code == 1
    assert "checksum" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_no_file_leaves_the_folder(server: FakeServer, tmp_path: Path, name: str) -> None:
    server.answers["GET /jobs/job-a/result"] = _table_result(b"x", name)
    assert server.run("job", "result", "job-a", "--download", str(tmp_path / "in")).exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_table_is_not_converted(server: FakeServer) -> None:
    server.answers["GET /jobs/job-a/result"] = {**_table_result(b"x", "model.bin"), "preview": None}
    result = server.run("job", "result", "job-a", "--format", "csv")
    assert result.exit_code == 2
    assert "model.bin" in result.stderr
    assert "--download" in result.stderr


def test_reported_metrics_are_a_table(server: FakeServer) -> None:
    item = {"step": 1, "metrics": {"loss": 0.25}, "at": T0}
    server.answers["GET /jobs/job-a/metrics"] = [page(item, next_cursor="1"), page()]
    result = server.run("job", "metrics", "job-a")
    assert "loss" in result.stdout
    assert "0.25" in result.stdout


def test_a_plan_says_how_fast_the_job_is_on_each_model(server: FakeServer, manifest: str) -> None:
    speed = {"value": 3.17, "origin": "rated", "runs": 0, "precision": "fp16", "words": "rated FLOPS (fp16)"}
    server.answers["POST /jobs:plan"] = _plan({**verdict("sh", "chosen"), "accelerator_model": "H200", "speed": speed})
    assert "H200    3.17 (rated FLOPS (fp16))   chosen" in server.run("job", "plan", "-f", manifest).stdout
