"""A run of kind ray as a RayJob: its nodes, what they have, what they may do, and what a status means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.kubernetes.objects import CONTAINER, RANK_LABEL, RUN_LABEL
from cluster.backends.kubernetes.pod_supervisor import ray_environment
from cluster.backends.kubernetes.rayjobs import RayJobFacts, rayjob_of, read_rayjob
from tests.charts import unrestricted
from tests.unit.cluster.kubernetes.test_objects import OWNER, PLACE, SETTINGS, request

WAITING = "KubeRay has not looked at it yet"


def rayjob(*nodes: str, **fields: Any) -> dict[str, Any]:
    run = request(nodes or ("n1",), **{"kind": "ray", "command": ("python", "main.py"), "cpu": 2.0, **fields})
    return rayjob_of(run, SETTINGS, PLACE, OWNER)


def groups(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups of nodes, the head's first."""
    ray = item["spec"]["rayClusterSpec"]
    return [ray["headGroupSpec"], *ray["workerGroupSpecs"]]


def pods(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [template["spec"] for template in (item["spec"]["submitterPodTemplate"], *(group["template"] for group in groups(item)))]


def test_each_node_has_a_group_and_the_first_one_the_head() -> None:
    found = groups(rayjob("n3", "n1", "n2", "n1"))
    assert [group.get("replicas") for group in found] == [None, 2, 1]
    assert [group.get("groupName") for group in found] == [None, "group-0", "group-1"]
    assert all(group["replicas"] == group["minReplicas"] == group["maxReplicas"] for group in found[1:])
    places = [str(group["template"]["spec"]["affinity"]) for group in found]
    assert ["'n3'" in places[0], "'n1'" in places[1], "'n2'" in places[2]] == [True, True, True]


def test_a_node_has_what_a_worker_was_given() -> None:
    (head, worker) = groups(rayjob("n1", "n2", accelerator_model="H200", accelerator_count=2))
    for group in (head, worker):
        assert group["rayStartParams"]["num-cpus"] == "2"
        assert group["rayStartParams"]["memory"] == str(2**30)
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["cpu"] == "2000m"
        assert container["resources"]["limits"][PLACE.accelerator] == "2"
        assert "command" not in container, "KubeRay starts Ray"


def test_the_request_is_at_the_head_alone() -> None:
    submitter, head, worker = pods(rayjob("n1", "n2"))
    assert "run" in {volume["name"] for volume in head["volumes"]}
    for other in (submitter, worker):
        assert "run" not in {volume["name"] for volume in other["volumes"]}
        assert "run" not in {mount["name"] for mount in other["containers"][0]["volumeMounts"]}


def test_the_pod_that_submits_is_the_runs_one_worker_and_nothing_is_tried_again() -> None:
    item = rayjob("n1", "n2")
    submitter = item["spec"]["submitterPodTemplate"]
    assert submitter["metadata"]["labels"][RANK_LABEL] == item["metadata"]["labels"][RANK_LABEL] == "0"
    assert submitter["spec"]["containers"][0]["name"] == CONTAINER
    for group in groups(item):
        labels = group["template"]["metadata"]["labels"]
        assert labels[RUN_LABEL] == item["metadata"]["labels"][RUN_LABEL]
        assert RANK_LABEL not in labels
    assert (item["spec"]["backoffLimit"], item["spec"]["submitterConfig"]["backoffLimit"]) == (0, 0)
    assert item["metadata"]["ownerReferences"][0]["uid"] == "u-1"


def test_all_pods_keep_to_the_restricted_profile_and_to_the_clusters_settings() -> None:
    for pod in pods(rayjob("n1", "n2")):
        assert unrestricted(pod) == []
        assert pod["automountServiceAccountToken"] is False
        assert (pod["priorityClassName"], pod["tolerations"]) == (SETTINGS.priority_class, list(SETTINGS.tolerations))


@pytest.mark.parametrize(
    ("status", "facts"),
    [
        ({}, RayJobFacts(False, False, WAITING)),
        ({"jobDeploymentStatus": "Initializing"}, RayJobFacts(False, False, "Initializing")),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, RayJobFacts(False, False, "Running")),
        ({"jobDeploymentStatus": "Suspended"}, RayJobFacts(False, True, "Suspended")),
        ({"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed"}, RayJobFacts(True, False, "Failed: SubmissionFailed")),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "no head"}, RayJobFacts(True, False, "ValidationFailed: no head")),
        ({"jobDeploymentStatus": "Retrying"}, RayJobFacts(False, False, "Retrying")),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, RayJobFacts(True, False, "Complete")),
    ],
)
def test_a_status_says_whether_it_still_may_start_and_why_it_waits(status: dict[str, str], facts: RayJobFacts) -> None:
    assert read_rayjob({"spec": {}, "status": status}) == facts
    assert read_rayjob({"spec": {"suspend": True}, "status": status}).suspended


def test_a_programs_own_init_finds_its_ray_and_brings_what_tasks_are_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_environment({"runtime_env": None}, Path("/w")) == {"RAY_ADDRESS": "auto", "RAY_USAGE_STATS_ENABLED": "0"}
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    found = ray_environment({"runtime_env": {"env_vars": {"A": "b"}, "py_modules": ["lib"], "pip": []}}, Path("/w"))
    assert found["RAY_ADDRESS"] == "127.0.0.1:6379"
    assert json.loads(found["RAY_JOB_CONFIG_JSON_ENV_VAR"]) == {"runtime_env": {"env_vars": {"A": "b"}, "py_modules": ["/w/lib"]}}
