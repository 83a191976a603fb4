"""What pods are brought on a real Kubernetes control plane: a job's files from a store, and data from volumes of the cluster."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from pathlib import Path

import pytest

from cluster.backends.kubernetes.objects import MOST_REQUEST_BYTES
from cluster.deposits import Grant
from cluster.errors import RunRejectedError
from cluster.protocol import InputFile, RunFinished, RunRequest
from controlplane.deposit_store import DepositStore
from tests.kube.kubelet import Kubelet
from tests.kube.member import namespace
from tests.kube.scene import Scene, scene
from tests.ray_runs import delivered, request, script
from tests.s3 import S3Server

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

SPACE = "carried"
ROWS = b"carrier,delay\nF9,20\nEV,19\n"
MORE = {"data": "x" * MOST_REQUEST_BYTES}
_numbers = itertools.count()


def granted(s3: S3Server, run: RunRequest) -> tuple[Grant, str]:
    """Leave for a run, and the bucket that it is for."""
    bucket = s3.bucket(f"carried-{next(_numbers)}")
    return DepositStore(f"s3://{bucket}").grant(run.run_id, run.epoch, 600.0, time.time()), bucket


async def forget(here: Scene, *runs: RunRequest) -> None:
    for run in runs:
        assert any(isinstance(event, RunFinished) for event in here.watch.of(run.run_id))
        await here.backend.forget(run.run_id)
    await here.until(lambda: here.operator.names("jobs", "pods", "secrets") == [], "nothing of the runs is left")


def package(rows: int) -> dict[str, str]:
    """A program with a module that is large."""
    table = "".join(f"    'row {number:07}': '{'x' * 84}',\n" for number in range(rows))
    program = "from lib.table import ROWS; print(len(ROWS))"
    return {"main.py": program, "lib/table.py": f"ROWS = {{\n{table}}}\n", "lib/__init__.py": "# é\n"}


def test_a_package_of_5_mb_comes_from_a_store_to_every_worker(kubelet: Kubelet, s3: S3Server, tmp_path: Path) -> None:
    files = package(50_000)
    assert sum(map(len, files.values())) > 5_000_000
    gang = request(("node-1", "node-2"), command=("python3", "main.py"), files=files, memory_bytes=2**29)
    grant, bucket = granted(s3, gang)
    gang = gang.model_copy(update={"deposit": grant})

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.started(gang)
            (secret,) = here.operator.items("secrets", f"cpn.dev/job={gang.job_id}")
            assert len(str(secret["data"])) < 20_000
            assert s3.objects(bucket).keys() == {f"{gang.run_id}/.incoming/{gang.epoch}/package"}
            finished = await here.ended(gang)
            assert finished.outcome == "succeeded", finished
            assert sorted(here.log(gang).replace("[rank 1] ", "").split()) == ["50000", "50000"]
            await forget(here, gang)

    asyncio.run(scenario())


def test_a_package_that_is_not_there_as_it_was_sent_runs_nothing(kubelet: Kubelet, s3: S3Server, tmp_path: Path) -> None:
    run = script("node-1", f"touch {tmp_path}/begun", files=MORE)
    grant, bucket = granted(s3, run)
    s3.put(bucket, f"{grant.prefix}other", b"{}")
    # The pod is shown what somebody else has put there.
    url = grant.package_url.replace("/package?", "/other?")
    run = run.model_copy(update={"deposit": grant.model_copy(update={"package_url": url})})

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert "their checksum differs; nothing was run" in finished.message
            await forget(here, run)

    asyncio.run(scenario())
    assert not (tmp_path / "begun").exists()


def test_files_that_no_store_takes_are_refused_with_what_to_do(kubelet: Kubelet, s3: S3Server, tmp_path: Path) -> None:
    run = script("node-1", "true", files=MORE)
    grant, bucket = granted(s3, run)
    s3.client.delete_bucket(Bucket=bucket)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            with pytest.raises(RunRejectedError, match="cpn cluster change CLUSTER --result-store"):
                await here.backend.start(run)
            finished = await here.run(run.model_copy(update={"deposit": grant}))
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert "refuses the result (404 NoSuchBucket)" in finished.message
            await forget(here, run)

    asyncio.run(scenario())


def claim(kubelet: Kubelet, folder: Path) -> str:
    """A claim in the namespace, bound to a volume that is a folder of this machine: its name."""
    name, size, modes = f"lake-{next(_numbers)}", {"storage": "1Gi"}, ["ReadOnlyMany"]
    namespace(kubelet, SPACE)
    kubelet.servers.apply({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": size, "accessModes": modes, "hostPath": {"path": str(folder)}, "storageClassName": "",
                 "claimRef": {"namespace": SPACE, "name": name}},
    })  # fmt: skip
    kubelet.servers.apply({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        # As the controller says that binds them, which is not among those that run here.
        "metadata": {"name": name, "namespace": SPACE, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": modes, "resources": {"requests": size}, "volumeName": name, "storageClassName": ""},
    })  # fmt: skip
    with kubelet.servers.client() as client:
        for path in (f"/api/v1/persistentvolumes/{name}", f"/api/v1/namespaces/{SPACE}/persistentvolumeclaims/{name}"):
            bound = client.patch(
                f"{path}/status", json={"status": {"phase": "Bound"}}, headers={"Content-Type": "application/merge-patch+json"}
            )
            bound.raise_for_status()
    return name


def replica(path: Path) -> InputFile:
    digest = hashlib.sha256(ROWS).hexdigest()
    return InputFile(ref="nyc/flights@1", uri=path.as_uri(), format="csv", size_bytes=len(ROWS), sha256=digest, local=True)


def test_a_replica_on_a_claim_is_local_to_pods(kubelet: Kubelet, tmp_path: Path) -> None:
    volume, mounted = tmp_path / "volume", tmp_path / "mounted"
    (volume / "nyc").mkdir(parents=True)
    (volume / "nyc" / "flights.csv").write_bytes(ROWS)
    (volume / "nyc" / "of-others.csv").write_bytes(b"secret")
    name, flights = claim(kubelet, volume), {"flights": replica(mounted / "nyc" / "flights.csv")}
    counts = request(("node-1",), kind="sql", sql="SELECT count(*) AS n, sum(delay) AS d FROM flights", inputs=flights, memory_bytes=2**28)
    lists = script("node-2", f"ls {mounted}/nyc > $CPN_OUTPUT_DIR/seen", inputs=flights)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, data_claims=(f"{name}={mounted}",)) as here:
            finished = await here.run(counts)
            assert finished.outcome == "succeeded", finished
            assert finished.preview is not None
            assert [int(str(value)) for value in finished.preview.rows[0]] == [2, 39]
            assert (finished.usage.transferred_bytes, finished.usage.cache.misses) == (0, 0)
            (pod,) = here.operator.items("pods", f"cpn.dev/job={counts.job_id}")
            assert {"name": "data-0", "persistentVolumeClaim": {"claimName": name, "readOnly": True}} in pod["spec"]["volumes"]
            assert delivered(await here.run(lists)) == b"flights.csv\n", "a run sees its own inputs alone"
            await forget(here, counts, lists)

    asyncio.run(scenario())


def test_a_replica_that_is_not_on_its_volume_fails_its_run_with_the_reason(kubelet: Kubelet, tmp_path: Path) -> None:
    volume, mounted = tmp_path / "volume", tmp_path / "mounted"
    volume.mkdir()
    name = claim(kubelet, volume)
    missing = script("node-1", "true", inputs={"flights": replica(mounted / "flights.csv")})
    elsewhere = script("node-1", "true", inputs={"flights": replica(tmp_path / "beside" / "flights.csv")})

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, data_claims=(f"{name}={mounted}",), start_limit_s=5.0) as here:
            finished = await here.run(missing)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert "failed to prepare subPath" in finished.message
            finished = await here.run(elsewhere)
            assert (finished.outcome, finished.category) == ("failed", "data")
            assert "there is no file at" in finished.message
            await forget(here, missing, elsewhere)

    asyncio.run(scenario())
