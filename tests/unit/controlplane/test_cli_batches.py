"""`cpn job submit` with several manifests: how they are read and sent, and what is said of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.cli import batches, session
from controlplane.cli.failures import CommandError
from controlplane.cli.manifest import read_jobs
from tests.unit.controlplane.cli_server import FakeServer, job, problem

MANIFEST = "name: {}\ntenant: acme\nkind: command\ncommand: ['true']\npurpose: research\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(session, "transport", httpx.MockTransport(fake.handle))
    fake.answers["POST /jobs:batch"] = judged
    return fake


@pytest.fixture
def three(tmp_path: Path) -> str:
    path = tmp_path / "jobs.yaml"
    path.write_text("---\n" + "---\n".join(MANIFEST.format(name) for name in ("one", "two", "three")) + "---\n")
    return str(path)


def judged(request: httpx.Request) -> dict[str, Any]:
    """Accepts what is not called two."""
    items = json.loads(request.content)["items"]
    verdicts = [_verdict(at, item["job"]["name"]) for at, item in enumerate(items)]
    accepted = sum(verdict["verdict"] == "accepted" for verdict in verdicts)
    return {"accepted": accepted, "refused": len(items) - accepted, "items": verdicts}


def _verdict(at: int, name: str) -> dict[str, Any]:
    if name != "two":
        return {"index": at, "verdict": "accepted", "id": f"job-{name}", "new": True, "problem": None}
    status, document = problem(403, "refused", "no", (f"items.{at}.job.inputs.f", "licence_purpose", "not for this purpose"))
    return {"index": at, "verdict": "refused", "id": None, "new": False, "problem": {**document, "status": status}}


def test_the_verdicts_of_several(server: FakeServer, three: str) -> None:
    result = server.run("job", "submit", "-f", three, "--set", "queue=web")
    assert result.exit_code == 4, result.output
    assert [line.split()[:4] for line in result.stdout.splitlines()[2:]] == [
        ["1", "one", "accepted", "job-one"], ["2", "two", "refused", "-"], ["3", "three", "accepted", "job-three"],
    ]  # fmt: skip
    assert "inputs.f: not for this purpose" in result.stdout
    assert [item["job"]["queue"] for item in server.sent()["items"]] == ["web"] * 3


def test_more_than_a_batch_takes_are_sent_in_parts(server: FakeServer, three: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_ITEMS", 2)
    result = server.run("job", "submit", "-f", three, "-f", three, "--idempotency-key", "k", "-o", "json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["accepted"], told["refused"]) == (4, 4, 2)
    assert [verdict["index"] for verdict in told["items"]] == list(range(6))
    assert [verdict["problem"]["errors"][0]["path"] for verdict in told["items"] if verdict["problem"]] == [
        "items.1.job.inputs.f", "items.4.job.inputs.f",
    ]  # fmt: skip
    keys = [[item["idempotency_key"] for item in json.loads(request.content)["items"]] for request in server.requests]
    assert keys == [["k/1", "k/2"], ["k/3", "k/4"], ["k/5", "k/6"]]


def test_a_part_that_fails_does_not_hide_the_verdicts_before_it(server: FakeServer, three: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_BYTES", 1)
    server.answers["POST /jobs:batch"] = [judged, problem(503, "unavailable", "the database does not answer")]
    result = server.run("job", "submit", "-f", three)
    assert result.exit_code == 1
    assert "job-one" in result.stdout
    assert "the first 1 of 3 jobs" in result.stderr


def test_waiting_for_several_ends_with_1_when_one_fails(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(MANIFEST.format("good") + "---\n" + MANIFEST.format("bad"))
    server.answers["GET /jobs/job-good"] = job("succeeded", name="good", id="job-good")
    server.answers["GET /jobs/job-bad"] = job("failed", name="bad", id="job-bad", message="exit code 3")
    result = server.run("job", "submit", "-f", str(path), "--wait")
    assert result.exit_code == 1, result.output
    assert "job bad (job-bad) failed: exit code 3" in result.stderr


def test_faults_name_the_document(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    for text, fault in (
        (MANIFEST.format("one") + "---\n[1]\n", "document 2 holds no mapping"),
        (MANIFEST.format("one") + "---\n" + MANIFEST.format("two") + "colour: red\n", "document 2 is not acceptable"),
        (MANIFEST.format("one") + "---\na: b: c\n", "line 7"), ("---\n", "holds nothing"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(CommandError, match=fault):
            read_jobs([path])
