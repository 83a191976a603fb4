"""Large results of pods on a real Kubernetes control plane go into an object store, and are read from there."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.backends.kubernetes.records import RESULT_BYTES
from controlplane.cli.main import app
from controlplane.pushed import PushedAgents
from scheduler.store import placed_results
from tests.kube.control_plane import ADMIN
from tests.kube.kubelet import Kubelet
from tests.kube.member import namespace
from tests.kube.scene import Operator
from tests.network import PATIENT, Network, job, until
from tests.s3 import SECRET_KEY, S3Server

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

SPACE, WAIT_S = "deposits", 240.0
PRICES = ("--jurisdiction", "CN-SH", "--cpu-price", "0.40 CNY", "--memory-price", "0.02 CNY", "--transfer-price", "0.50 CNY")
WRITES = 'yes {word} | head -c {size} > "$CPN_OUTPUT_DIR/deep.bin"; echo small > "$CPN_OUTPUT_DIR/note.txt"; {then}'
_numbers = itertools.count()


def written(word: str, size: int) -> bytes:
    line = f"{word}\n".encode()
    return (line * (size // len(line) + 1))[:size]


class Lab:
    """A network with a Kubernetes member whose pods put large results into a bucket of the cluster's operator."""

    def __init__(self, network: Network, s3: S3Server, kubelet: Kubelet) -> None:
        self.network, self.s3, self.kubelet = network, s3, kubelet
        self.bucket = s3.bucket(f"of-the-lab-{next(_numbers)}")
        self.url = f"s3://{self.bucket}/cpn"

    def cpn(self, *arguments: str) -> Result:
        said = ("--server", self.network.url, "--token", self.network.operator_token())
        return CliRunner().invoke(app, [*said, *arguments], prog_name="cpn")

    def submit(self, word: str, size: int, then: str = "true", **fields: Any) -> str:
        """A job that writes a file of this size: its id."""
        command = ["sh", "-c", WRITES.format(word=word, size=size, then=then)]
        usual = {"retry": {"attempts": 1}, "placement": {"clusters": ["lab"]}, "max_runtime": "5m", **fields}
        return str(self.network.submit(job(kind="command", command=command, **usual))["id"])

    def placed(self) -> list[str]:
        """The runs that have something in stores, or may have."""
        with self.network.plane.store.read() as conn:
            return placed_results.on_the_way(conn)

    def objects(self) -> dict[str, int]:
        return self.s3.objects(self.bucket)


@pytest.fixture
def lab(kubelet: Kubelet, s3: S3Server, tmp_path: Path) -> Iterator[Lab]:
    namespace(kubelet, SPACE)
    with Network(tmp_path / "data", store_retry_s=0.2, max_files_bytes=8 * 2**20, **PATIENT) as network:
        lab = Lab(network, s3, kubelet)
        config = ("--backend", "kubernetes", "--kubeconfig", str(kubelet.servers.kubeconfig(ADMIN)), "--namespace", SPACE)
        network.ok(network.operator.post("/tenants", json={"name": "acme"}))
        said = lab.cpn("cluster", "register", "lab", *config, "--image", "local/cpn", "--result-store", f"{lab.url}/", *PRICES)
        assert said.exit_code == 0, said.output
        with PushedAgents(network.plane, network.url):
            until(lambda: network.cluster("lab")["health"] == "healthy", "its agent has joined", 60)
            yield lab
            here = Operator(kubelet.servers, SPACE)
            until(lambda: here.names() == [], "nothing of the runs is left", 60)
        assert [key for key in lab.objects() if "/.incoming/" in key] == []
        assert s3.uploads(lab.bucket) == []


def test_a_result_of_200_mb_goes_from_the_pod_to_the_store_and_from_there_to_its_buyer(lab: Lab, tmp_path: Path) -> None:
    assert f"pods put them into {lab.url}" in lab.cpn("cluster", "show", "lab").stdout
    size = 200_000_000
    job_id = lab.submit("large", size, then="sleep 2")
    lab.network.wait(job_id, "running", seconds=WAIT_S)
    (secret,) = Operator(lab.kubelet.servers, SPACE).items("secrets", f"cpn.dev/job={job_id}")
    assert SECRET_KEY not in str(secret), "a pod has a signed form, and no credentials"
    ended = lab.network.wait(job_id, seconds=WAIT_S)
    assert ended["state"] == "succeeded", ended
    run_id = ended["run_id"]
    assert lab.objects() == {f"cpn/{run_id}/deep.bin": size, f"cpn/{run_id}/note.txt": 6}
    assert lab.network.plane.files.result_sizes() == {}, "the server's disk has nothing of it"
    assert f"in {lab.url}" in lab.cpn("job", "result", job_id).stdout
    said = lab.cpn("job", "result", job_id, "--download", str(tmp_path / "got"))
    assert said.exit_code == 0, said.output
    with (tmp_path / "got" / "deep.bin").open("rb") as got:
        assert hashlib.file_digest(got, "sha256").hexdigest() == hashlib.sha256(written("large", size)).hexdigest()


def test_a_job_with_files_of_5_mb_runs_where_the_server_takes_them(lab: Lab) -> None:
    table = "".join(f"    {number}: '{'x' * 90}',\n" for number in range(50_000))
    files = {"main.py": "import table; print(len(table.ROWS))", "table.py": f"ROWS = {{\n{table}}}\n"}
    assert sum(map(len, files.values())) > 5_000_000
    document = job(kind="command", command=["python3", "main.py"], files=files, placement={"clusters": ["lab"]}, retry={"attempts": 1})
    job_id = lab.network.submit(document)["id"]
    ended = lab.network.wait(job_id, seconds=WAIT_S)
    assert ended["state"] == "succeeded", ended
    assert lab.network.operator.get(f"/jobs/{job_id}/logs").text == "50000\n"
    until(lambda: lab.placed() == [] and lab.objects() == {}, "the files leave the store with their run")
    refused = lab.network.operator.post("/jobs", json={**document, "files": {**files, "more.txt": "x" * 4 * 2**20}})
    (fault,) = refused.json()["errors"]
    assert (refused.status_code, fault["path"], fault["reason"]) == (422, "files", "too-large")
    assert "CPN_MAX_FILES_BYTES" in fault["message"]


def test_a_tenants_own_store_goes_before_the_clusters(lab: Lab) -> None:
    own = lab.s3.bucket(f"of-acme-{next(_numbers)}")
    lab.network.ok(lab.network.operator.patch("/tenants/acme", json={"result_store": f"s3://{own}"}))
    job_id = lab.submit("own", RESULT_BYTES + 1)
    ended = lab.network.wait(job_id, seconds=WAIT_S)
    assert ended["state"] == "succeeded", ended
    run_id = ended["run_id"]
    assert (lab.s3.objects(own), lab.objects()) == ({f"{run_id}/deep.bin": RESULT_BYTES + 1, f"{run_id}/note.txt": 6}, {})
    assert lab.network.operator.get(f"/jobs/{job_id}/result/files/note.txt").content == b"small\n"


def test_small_results_and_failures_leave_nothing_in_the_clusters_store(lab: Lab) -> None:
    small, failed = lab.submit("small", 100), lab.submit("failed", RESULT_BYTES + 1, then="exit 3")
    assert lab.network.wait(small, seconds=WAIT_S)["state"] == "succeeded"
    assert lab.network.wait(failed, seconds=WAIT_S)["state"] == "failed"
    assert lab.network.operator.get(f"/jobs/{small}/result/files/note.txt").content == b"small\n"
    until(lambda: lab.placed() == [], "no row tells of a store")
    assert lab.objects() == {}


def test_a_store_that_refuses_the_result_fails_the_run_with_its_reason(lab: Lab) -> None:
    job_id = lab.submit("late", RESULT_BYTES + 1, then="sleep 3")
    lab.network.wait(job_id, "running", seconds=WAIT_S)
    lab.s3.client.delete_bucket(Bucket=lab.bucket)
    try:
        ended = lab.network.wait(job_id, seconds=WAIT_S)
        assert (ended["state"], "the store of results at http://127.0.0.1" in ended["message"]) == ("failed", True), ended
        assert "refuses the result (404 NoSuchBucket)" in ended["message"]
    finally:
        lab.s3.bucket(lab.bucket)


def test_a_cluster_is_given_a_store_that_works_or_none(lab: Lab) -> None:
    said = lab.cpn("cluster", "change", "lab", "--result-store", "s3://no-such-bucket/x")
    assert said.exit_code != 0
    assert "result_store" in said.stderr
    assert "no-such-bucket" in said.stderr
    assert lab.network.cluster("lab")["result_store"] == lab.url
    assert lab.cpn("cluster", "change", "lab", "--result-store", "none").exit_code == 0
    ended = lab.network.wait(lab.submit("large", RESULT_BYTES + 1), seconds=WAIT_S)
    assert (ended["state"], "cpn cluster change CLUSTER --result-store" in ended["message"]) == ("failed", True), ended
