"""A run as Kubernetes objects: names that say the same every time, places, resources, rights."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from cluster.backends.kubernetes.objects import (
    MOST_REQUEST_BYTES,
    OWN_MEMORY_BYTES,
    Place,
    RunSettings,
    fits_one_template,
    jobs_of,
    label_of,
    name_of,
    secret_of,
    service_of,
)
from cluster.data_claims import read_claim
from cluster.deposits import Grant, Package
from cluster.errors import RunRejectedError
from cluster.protocol import InputFile, RunRequest
from cluster.runs.packages import packed

SETTINGS = RunSettings(
    cluster="lab", namespace="cpn", image="registry.example/cpn:1", priority_class="batch", service_account="runner", pull_secret="pull",
    tolerations=({"key": "gpu", "operator": "Exists"},),
)  # fmt: skip
PLACE = Place(token="t", start_by=100.0, start_limit_s=300.0, accelerator="nvidia.com/gpu")
OWNER = {"metadata": {"name": "cpn-job-7-1", "uid": "u-1"}}
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def request(nodes: tuple[str, ...] = ("n1",), **fields: Any) -> RunRequest:
    usual: dict[str, Any] = {
        "run_id": "job-7-1", "job_id": "job-7", "attempt": 1, "epoch": 3, "kind": "command", "command": ("true",), "cpu": 0.5,
        "memory_bytes": 2**30, "nodes": nodes, "max_runtime_s": 60.0,
    }  # fmt: skip
    return RunRequest(**{**usual, **fields})


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("run_id", ["job-7-1", "J_7.x-1", "a" * 128, "a" * 127 + "b", "job-", "9", "Job-7-1"])
def test_names_and_labels_are_kubernetes_own_kind_and_differ(run_id: str) -> None:
    name = name_of(run_id)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert len(f"{name}-0000") <= 50
    assert LABEL.fullmatch(label_of(run_id))
    others = {"job-7-1", "J_7.x-1", "a" * 128, "a" * 127 + "b", "job-", "9", "Job-7-1"} - {run_id}
    assert name not in {name_of(other) for other in others}
    assert label_of(run_id) not in {label_of(other) for other in others}


def test_a_single_run_is_one_job_bound_to_its_node() -> None:
    run = request()
    (job,) = jobs_of(run, SETTINGS, PLACE, OWNER, indexed=True)
    assert (job["metadata"]["name"], job["metadata"]["ownerReferences"][0]["uid"]) == ("cpn-job-7-1", "u-1")
    assert job["metadata"]["labels"]["cpn.dev/job"] == "job-7"
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 480)
    pod = pod_of(job)
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
    assert (pod["restartPolicy"], pod["priorityClassName"], pod["serviceAccountName"]) == ("Never", "batch", "runner")
    assert (pod["tolerations"], pod["imagePullSecrets"]) == ([{"key": "gpu", "operator": "Exists"}], [{"name": "pull"}])
    assert "hostname" not in pod


def test_user_code_has_no_rights_in_the_cluster_or_on_the_node() -> None:
    pod = pod_of(jobs_of(request(), SETTINGS, PLACE, OWNER, indexed=False)[0])
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_a_run_asks_for_what_was_booked_and_may_take_a_little_more_memory() -> None:
    run = request(accelerator_model="H200", accelerator_count=2.0)
    (container,) = pod_of(jobs_of(run, SETTINGS, PLACE, OWNER, indexed=False)[0])["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "500m", "nvidia.com/gpu": "2", "memory": str(2**30)},
        "limits": {"cpu": "500m", "nvidia.com/gpu": "2", "memory": str(2**30 + OWN_MEMORY_BYTES)},
    }


def test_defaults_of_the_cluster_are_left_to_it() -> None:
    settings = RunSettings(cluster="lab", namespace="cpn", image="cpn")
    pod = pod_of(jobs_of(request(), settings, PLACE, OWNER, indexed=False)[0])
    assert not {"priorityClassName", "serviceAccountName", "imagePullSecrets", "tolerations"} & pod.keys()


@pytest.mark.parametrize(
    ("nodes", "fits"), [(("a", "a"), True), (("a", "b"), True), (("a", "a", "b"), False), (("a", "a", "b", "b"), False)]
)
def test_one_template_says_where_workers_belong_that_share_a_node_or_have_one_each(nodes: tuple[str, ...], fits: bool) -> None:
    assert fits_one_template(nodes) is fits
    assert len(jobs_of(request(nodes), SETTINGS, PLACE, OWNER, indexed=True)) == (1 if fits else len(nodes))
    assert len(jobs_of(request(nodes), SETTINGS, PLACE, OWNER, indexed=False)) == len(nodes)


def test_an_indexed_job_has_one_worker_on_each_of_its_nodes() -> None:
    (job,) = jobs_of(request(("b", "a")), SETTINGS, PLACE, OWNER, indexed=True)
    assert {name: job["spec"][name] for name in ("completionMode", "completions", "parallelism")} == {
        "completionMode": "Indexed", "completions": 2, "parallelism": 2,
    }  # fmt: skip
    affinity = pod_of(job)["affinity"]
    terms = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchFields"][0]["values"] for term in terms] == [["a"], ["b"]]
    (apart,) = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    # Kubernetes gives its pods their names and their ranks.
    assert pod_of(job)["subdomain"] == "cpn-job-7-1"
    assert [entry["name"] for entry in pod_of(job)["containers"][0]["env"]] == ["CPN_WORK_DIR", "CPN_GANG_HOST"]


def test_workers_with_jobs_of_their_own_find_rank_0_behind_the_service() -> None:
    run = request(("a", "a", "b"))
    jobs = jobs_of(run, SETTINGS, PLACE, OWNER, indexed=True)
    assert [(job["metadata"]["name"], job["metadata"]["labels"]["cpn.dev/rank"], pod_of(job)["hostname"]) for job in jobs] == [
        (f"cpn-job-7-1-{rank}", str(rank), f"cpn-job-7-1-{rank}") for rank in range(3)
    ]
    service = service_of(run, SETTINGS, OWNER)
    assert (service["metadata"]["name"], service["spec"]["clusterIP"]) == ("cpn-job-7-1", "None")
    assert service["spec"]["selector"].items() <= jobs[2]["spec"]["template"]["metadata"]["labels"].items()
    hosts = {entry["value"] for job in jobs for entry in pod_of(job)["containers"][0]["env"] if entry["name"] == "CPN_GANG_HOST"}
    assert hosts == {"cpn-job-7-1-0.cpn-job-7-1.cpn.svc"}
    seating = json.loads(secret_of(run, SETTINGS, PLACE)["stringData"]["seating.json"])
    assert seating == {"port": service["spec"]["ports"][0]["port"], "token": "t", "start_by": 100.0}


def test_a_request_that_no_secret_holds_is_refused_with_what_to_do() -> None:
    with pytest.raises(RunRejectedError, match="bring files in an image or as a product"):
        secret_of(request(files={"data": "x" * MOST_REQUEST_BYTES}), SETTINGS, PLACE)


GRANT = Grant(url="http://store/b", fields={}, prefix="job-7-1/", until=1.0, piece_bytes=1, package_url="http://store/b/p")


def test_files_that_a_secret_cannot_hold_are_left_out_of_it() -> None:
    large = request(files={"a": "x" * MOST_REQUEST_BYTES}, deposit=GRANT)
    kept = RunRequest.model_validate_json(secret_of(large, SETTINGS, PLACE)["stringData"]["request.json"])
    assert (kept.files, kept.deposit) == ({}, GRANT)
    assert kept.package == Package(size_bytes=MOST_REQUEST_BYTES + 8, sha256=hashlib.sha256(packed(large.files)).hexdigest())
    # An agent that knows no more than the Secret makes the same.
    assert secret_of(kept, SETTINGS, PLACE) == secret_of(large, SETTINGS, PLACE)
    small = request(files={"a": "x"}, deposit=GRANT)
    assert RunRequest.model_validate_json(secret_of(small, SETTINGS, PLACE)["stringData"]["request.json"]) == small
    with pytest.raises(RunRejectedError, match="of environment and statement"):
        secret_of(request(env={"A": "x" * MOST_REQUEST_BYTES}, deposit=GRANT), SETTINGS, PLACE)


def replica(uri: str, *, local: bool = True) -> InputFile:
    return InputFile(ref="a/b@1", uri=uri, format="csv", size_bytes=1, sha256="0" * 64, local=local)


def test_pods_see_the_files_of_their_inputs_and_nothing_else_of_a_claim() -> None:
    claims = tuple(map(read_claim, ("lake=/data", "deep=/data/deep", "idle=/idle")))
    inputs = {
        "a": replica("file:///data/x/one.csv"), "b": replica("/data/x/one.csv"), "c": replica("file:///data/deep/two%20.csv"),
        "elsewhere": replica("file:///data/x/three.csv", local=False), "image": replica("file:///opt/four.csv"),
        "store": replica("s3://data/five.csv"), "out": replica("file:///data/../etc/passwd"),
    }  # fmt: skip
    pod = pod_of(jobs_of(request(inputs=inputs), replace(SETTINGS, data_claims=claims), PLACE, OWNER, indexed=False)[0])
    assert [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume] == [
        {"name": "data-0", "persistentVolumeClaim": {"claimName": "deep", "readOnly": True}},
        {"name": "data-1", "persistentVolumeClaim": {"claimName": "lake", "readOnly": True}},
    ]
    mounts = [(item["name"], item["mountPath"], item["subPath"], item["readOnly"]) for item in pod["containers"][0]["volumeMounts"][3:]]
    assert mounts == [("data-0", "/data/deep/two .csv", "two .csv", True), ("data-1", "/data/x/one.csv", "x/one.csv", True)]
