"""Results of a tenant in its own store on S3, as operators and buyers meet them: shown, read, waited for and removed."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import Observation, Preview, ResultFile, RunFinished, SmallFile, SyncRequest
from scheduler.store import fleet, jobs
from tests.network import PATIENT, Network, job, until
from tests.s3 import HIDDEN, S3Server
from tests.served import Cpn

LARGE = bytes(range(256)) * 4096
NAMES = iter(f"tenant-results-{number}" for number in range(100))


def table(*numbers: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"n": list(numbers)}), buffer)
    return buffer.getvalue()


@pytest.fixture
def network(tmp_path: Path, s3: S3Server) -> Iterator[Network]:
    """A network whose runs go on until somebody says that they have ended."""
    with Network(tmp_path / "data", store_retry_s=0.05, keep_interval_s=0.05, **PATIENT) as made:
        assert s3.url, "it runs, and this process has what reaches it"
        made.add_cluster("sh", script=lambda _run: Behaviour(duration_s=600))
        yield made


@pytest.fixture
def cpn(network: Network, tmp_path: Path) -> Cpn:
    return Cpn(tmp_path / "operator", network.url, network.operator_token())


@pytest.fixture
def url(cpn: Cpn, s3: S3Server) -> str:
    """The store of the tenant acme."""
    store = f"s3://{s3.bucket(next(NAMES))}/cpn"
    assert cpn("tenant", "create", "acme", "--result-store", f"{store}/").out == "created tenant acme\n"
    return store


def delivered(network: Network) -> str:
    """A job that has delivered a table, which came with its end, and a large file, which came before: its id."""
    job_id = str(network.wait(network.submit(job(retry={"attempts": 1}))["id"], "running")["id"])
    with network.plane.store.read() as conn:
        agent_id, run = fleet.get_cluster(conn, "sh").agent_id, jobs.get_run(conn, jobs.get_job(conn, job_id).run_id or "")
    assert agent_id is not None
    assert run is not None
    preview = Preview(columns=("n",), types=("BIGINT",), rows=((1,), (2,)), total_rows=2)
    small = SmallFile.of("result.parquet", table(1, 2))
    large = SmallFile(**{**SmallFile.of("deep/model.bin", LARGE[:1]).model_dump(), "content": ""})
    with network.client("agent", cluster="sh") as agent:
        network.ok(agent.put(f"/agents/sh/runs/{run.id}/files/deep/model.bin", params={"epoch": run.epoch}, content=LARGE))
        brought = ResultFile(name=large.name, size_bytes=len(LARGE), sha256=sha256(LARGE))
        at = network.plane.clock.now()
        event = RunFinished(run_id=run.id, outcome="succeeded", at=at, preview=preview, files=(small, brought))
        told = SyncRequest(agent_id=agent_id, reachable=True, observations=(Observation(epoch=run.epoch, event=event),))
        network.ok(agent.post("/agents/sh/sync", content=told.model_dump_json(), headers={"Content-Type": "application/json"}))
    assert network.wait(job_id)["state"] == "succeeded"
    return job_id


def sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def place(network: Network, job_id: str) -> tuple[str, str | None]:
    found = network.ok(network.operator.get(f"/jobs/{job_id}/result"))["place"]
    return found["state"], found["url"]


def test_a_result_is_read_from_its_store_as_from_the_directory(
    network: Network, cpn: Cpn, url: str, s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "cpn")
    job_id = delivered(network)
    until(lambda: place(network, job_id) == ("stored", url), "it is in its store")
    run_id = network.job(job_id)["run_id"]
    bucket = url.removeprefix("s3://").removesuffix("/cpn")
    assert s3.objects(bucket) == {f"cpn/{run_id}/deep/model.bin": len(LARGE), f"cpn/{run_id}/result.parquet": len(table(1, 2))}
    # The server's own are not needed.
    network.plane.files.drop_results(run_id)
    assert f"in {url}" in cpn("job", "result", job_id).out
    assert cpn("job", "result", job_id, "--format", "csv").out.splitlines() == ['"n"', "1", "2"]
    assert json.loads(cpn("job", "result", job_id, "--format", "json").out) == [{"n": 1}, {"n": 2}]
    cpn("job", "result", job_id, "--download", str(tmp_path / "got"))
    assert (tmp_path / "got/deep/model.bin").read_bytes() == LARGE
    assert pq.read_table(tmp_path / "got/result.parquet")["n"].to_pylist() == [1, 2]
    answer = network.operator.get(f"/jobs/{job_id}/result/files/deep/model.bin")
    assert answer.headers["content-length"] == str(len(LARGE))
    assert answer.headers["content-disposition"] == 'attachment; filename="model.bin"'
    shown = cpn("tenant", "show", "acme").out + cpn("tenant", "list", "-o", "json").out + cpn("job", "result", job_id, "-o", "json").out
    assert url in shown
    assert [secret for secret in HIDDEN if secret in shown + caplog.text] == []


def test_a_result_waits_with_the_server_for_a_store_that_does_not_take_it(network: Network, cpn: Cpn, url: str, s3: S3Server) -> None:
    with s3.refusing():
        job_id = delivered(network)
        until(lambda: place(network, job_id) == ("waiting", url), "it waits")
        assert f"with the server until {url} can be used: the S3 credentials here may not write" in cpn("job", "result", job_id).out
        assert network.operator.get(f"/jobs/{job_id}/result/files/deep/model.bin").content == LARGE
        assert cpn("tenant", "show", "acme").err.startswith("1 result waits with the server: the S3 credentials here")
        assert cpn("tenant", "list").table()[0]["WAITING"] == "1"
    until(lambda: place(network, job_id) == ("stored", url), "it is in its store")
    assert cpn("tenant", "show", "acme").err == ""
    network.plane.files.drop_results(network.job(job_id)["run_id"])
    with s3.refusing():
        refused = network.operator.get(f"/jobs/{job_id}/result/files/deep/model.bin")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:cpn:problem:unavailable")
        assert "may not read" in refused.json()["detail"]
    for key in s3.objects(url.removeprefix("s3://").removesuffix("/cpn")):
        s3.client.delete_object(Bucket=url.removeprefix("s3://").removesuffix("/cpn"), Key=key)
    gone = network.operator.get(f"/jobs/{job_id}/result/files/deep/model.bin")
    assert (gone.status_code, gone.json()["type"]) == (410, "urn:cpn:problem:gone")
    assert "is not where it was put: there is no object at" in gone.json()["detail"]


def test_a_tenants_results_are_kept_as_long_as_is_set_for_it(network: Network, cpn: Cpn, url: str, s3: S3Server) -> None:
    job_id = delivered(network)
    until(lambda: place(network, job_id) == ("stored", url), "it is in its store")
    changed = cpn("tenant", "change", "acme", "--keep-results-days", "0.0000001", "--keep-results-bytes", "500GiB").out
    assert "1e-07 days, 500 GiB" in changed
    until(lambda: network.operator.get(f"/jobs/{job_id}/result").status_code == 410, "it is removed")
    for what in ("result", "result/files/deep/model.bin"):
        gone = network.operator.get(f"/jobs/{job_id}/{what}")
        assert (gone.status_code, gone.json()["type"]) == (410, "urn:cpn:problem:gone")
        assert "as is set for the tenant acme (`cpn tenant show acme`); submit the job again" in gone.json()["detail"]
    until(lambda: s3.objects(url.removeprefix("s3://").removesuffix("/cpn")) == {}, "it has left its store")
    assert network.ok(network.operator.get(f"/jobs/{job_id}/receipt"))["job_id"] == job_id
    cpn("tenant", "change", "acme", "--keep-results-days", "default", "--keep-results-bytes", "default", "--result-store", "directory")
    assert cpn("tenant", "show", "acme", "-o", "json").document["result_store"] is None
    later = delivered(network)
    assert place(network, later) == ("stored", None)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("s3://no-such-bucket/x", "there is no bucket 'no-such-bucket'"),
        ("s3://key:secret@bucket/x", "holds no credentials"),
        ("file:///srv/results", "a store of results is s3://bucket or s3://bucket/prefix"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_a_store_that_cannot_be_used_is_refused(bare: Network, tmp_path: Path, store: str, words: str) -> None:
    operator = Cpn(tmp_path, bare.url, bare.operator_token())
    assert words in operator("tenant", "create", "globex", "--result-store", store, status=2).err
    assert words in operator("tenant", "change", "acme", "--result-store", store, status=2).err
    refused = bare.operator.post("/tenants", json={"name": "globex", "result_store": store})
    (fault,) = refused.json()["errors"]
    assert (refused.status_code, fault["path"]) == (422, "result_store")
    assert words in fault["message"]
    assert [(item["name"], item["result_store"]) for item in bare.ok(bare.operator.get("/tenants"))["items"]] == [("acme", None)]


def test_what_is_no_term_of_a_tenant_is_refused(bare: Network, tmp_path: Path) -> None:
    operator = Cpn(tmp_path, bare.url, bare.operator_token())
    for arguments, words in (
        ((), "nothing is to be changed"), (("--keep-results-days", "week"), "is no number"), (("--keep-results-days", "-1"), "must be"),
        (("--keep-results-bytes", "5"), "500GiB"),
    ):  # fmt: skip
        assert words in operator("tenant", "change", "acme", *arguments, status=2).err
    assert "there is no tenant 'nobody'" in operator("tenant", "change", "nobody", "--keep-results-days", "1", status=1).err
    assert bare.operator.get("/tenants/nobody").status_code == 404
