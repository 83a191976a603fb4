"""Results and logs at their limits, through the HTTP API: too large, too much, and no room on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import Preview
from controlplane import run_logs
from scheduler.store import jobs
from tests.network import PATIENT, Network, job, until

SAID = "from zero\n[rank 1] from one\nfrom zero again\n"
GANG = job(kind="command", resources={"cpu": 1, "memory": "1GiB", "workers": 2})


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Network]:
    """A network with low limits and the tenant acme."""
    with Network(tmp_path / "data", max_result_bytes=100, max_log_bytes=4096, **PATIENT) as network:
        network.add_tenant()
        yield network


def log_of(network: Network, job_id: str, **params: int | str) -> str:
    answer = network.operator.get(f"/jobs/{job_id}/logs", params=params)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_log_of_one_worker(small: Network) -> None:
    small.add_cluster("sh", script=lambda _run: Behaviour(log=(SAID[:20], SAID[20:])))
    done = small.wait(small.submit(GANG)["id"])
    assert log_of(small, done["id"]) == SAID
    assert log_of(small, done["id"], worker=0) == "from zero\nfrom zero again\n"
    assert log_of(small, done["id"], worker=1, follow="true") == "from one\n"
    assert log_of(small, done["id"], worker=1, offset=5) == "one\n"
    refused = small.operator.get(f"/jobs/{done['id']}/logs", params={"worker": 2})
    assert (refused.status_code, refused.json()["detail"]) == (404, "the job has no worker 2; it has workers 0 to 1")


def test_of_a_long_log_the_beginning_and_the_end_are_kept_with_what_is_missing(small: Network) -> None:
    lines = tuple(f"line {number:05}\n" for number in range(1000))
    small.add_cluster("sh", script=lambda _run: Behaviour(log=("".join(lines),)))
    done = small.wait(small.submit(job())["id"])
    text = log_of(small, done["id"])
    assert text.startswith("".join(lines[:100]))
    assert text.endswith("".join(lines[-20:]))
    assert "bytes of this log were dropped here; of a run's log 4096 bytes are kept (CPN_MAX_LOG_BYTES)" in text
    assert len(text) < 4096 + 500


def test_a_full_disk_of_the_server_costs_the_log_and_not_the_run(small: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_logs, "_write", lambda *_arguments: 0)
    small.add_cluster("sh", script=lambda _run: Behaviour(log=("lost\n",)))
    done = small.wait(small.submit(job())["id"])
    assert done["state"] == "succeeded"
    assert log_of(small, done["id"]) == "\n[cpn] 5 bytes of this log could not be stored: the server's disk was full\n"


def test_a_result_that_is_not_taken_says_why_and_leaves_nothing(small: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    small.add_cluster("sh", script=lambda _run: Behaviour(duration_s=60))
    running = small.wait(small.submit(job())["id"], "running")
    run, agent = f"/agents/sh/runs/{running['run_id']}", small.client("agent", cluster="sh")
    with small.plane.store.read() as conn:
        found = jobs.get_run(conn, running["run_id"])
    assert found is not None
    current = {"epoch": found.epoch}
    with agent:
        large = agent.put(f"{run}/files/rows.parquet", params=current, content=b"x" * 101)
        asked = agent.get(f"{run}/room", params={**current, "name": "rows.parquet", "size_bytes": 101})
        for refused in (large, asked):
            assert (refused.status_code, refused.json()["type"]) == (413, "urn:cpn:problem:too-large")
            assert "CPN_MAX_RESULT_BYTES" in refused.json()["detail"]
        assert agent.get(f"{run}/room", params={**current, "name": "rows.parquet", "size_bytes": 100}).status_code == 204
        monkeypatch.setattr("controlplane.files.shutil.disk_usage", lambda _path: SimpleNamespace(free=10))
        full = agent.get(f"{run}/room", params={**current, "name": "rows.parquet", "size_bytes": 11})
        assert (full.status_code, full.json()["type"]) == (507, "urn:cpn:problem:no-room")
        stale = agent.get(f"{run}/room", params={"epoch": found.epoch + 1, "name": "rows.parquet", "size_bytes": 1})
        assert stale.status_code == 409
    data = small.settings.data_dir
    until(lambda: not [*(data / "incoming").iterdir()], "nothing half is left")
    assert not [path for path in (data / "results").rglob("*") if path.is_file()]
    small.operator.post(f"/jobs/{running['id']}:cancel")
    assert small.wait(running["id"])["state"] == "cancelled"


def test_what_was_kept_long_enough_is_removed_and_everybody_is_told(tmp_path: Path) -> None:
    settings = {"keep_results_bytes": 3, "keep_logs_days": 1e-9, "keep_interval_s": 0.05}
    preview = Preview(columns=("one",), types=("INTEGER",), rows=((1,),), total_rows=1)
    with Network(tmp_path / "data", **settings, **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", script=lambda _run: Behaviour(log=("said\n",), preview=preview))
        done = network.wait(network.submit(job())["id"])
        assert network.ok(network.operator.get(f"/jobs/{done['id']}/result"))["preview"]["rows"] == [[1]]
        path = network.plane.files.result_path(done["run_id"], "rows.parquet")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"rows")
        until(lambda: None not in [network.job(done["id"])[f"{what}_removed_at"] for what in ("result", "log")], "both are removed")
        for what in ("result", "logs", "result/files/rows.parquet"):
            gone = network.operator.get(f"/jobs/{done['id']}/{what}")
            assert (gone.status_code, gone.json()["type"]) == (410, "urn:cpn:problem:gone")
            assert f"CPN_KEEP_{'LOGS' if what == 'logs' else 'RESULTS'}_DAYS" in gone.json()["detail"]
        until(lambda: not path.exists() and not [*(tmp_path / "data/logs").iterdir()], "the files are gone")
        assert network.ok(network.operator.get(f"/jobs/{done['id']}/receipt"))["run_id"] == done["run_id"]
