"""What becomes of a run by what Kubernetes says of its pod."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.kubernetes.objects import INDEX_ANNOTATION, RANK_LABEL
from cluster.backends.kubernetes.pods import end_without_word, read_pod


def pod(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "worker", "state": state}] if state is not None else []
    return {
        "metadata": {"name": "p-1", "uid": "u-1", "creationTimestamp": "2026-12-01T00:00:00Z", "labels": {RANK_LABEL: "0"}},
        "spec": {"nodeName": "node-1"}, "status": {"phase": "Pending", "containerStatuses": containers, **status},
    }  # fmt: skip


def terminated(code: int, reason: str, **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}


@pytest.mark.parametrize(
    ("document", "started", "over", "why"),
    [
        (pod(), False, False, ""),
        (pod(conditions=[UNSCHEDULABLE]), False, False, "Unschedulable: 0/3 nodes are available"),
        (pod({"waiting": {"reason": "ContainerCreating"}}), False, False, ""),
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}), False, False, "ImagePullBackOff: no such image"),
        (pod({"running": {}}, phase="Running"), True, False, ""),
        (pod(terminated(0, "Completed"), phase="Succeeded"), True, True, ""),
        (pod(terminated(137, "OOMKilled"), phase="Failed"), True, True, "OOMKilled"),
        (pod(phase="Failed", reason="Evicted", message="memory was low"), False, True, "Evicted: memory was low"),
    ],
)
def test_facts(document: dict[str, Any], started: bool, over: bool, why: str) -> None:
    facts = read_pod(document)
    assert (facts.rank, facts.node, facts.started, facts.over, facts.why) == (0, "node-1", started, over, why)


def test_a_pod_that_was_told_to_end_says_how_long_it_may_take() -> None:
    leaving = pod({"running": {}}, phase="Running")
    assert read_pod(leaving).leaves_s is None
    leaving["metadata"] |= {"deletionTimestamp": "2026-12-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    assert (read_pod(leaving).leaves_s, read_pod(leaving).over) == (30.0, False)
    leaving["metadata"]["deletionGracePeriodSeconds"] = 0
    assert read_pod(leaving).leaves_s == 0.0


@pytest.mark.parametrize(
    ("document", "told", "outcome", "category", "words"),
    [
        (pod(terminated(137, "OOMKilled"), phase="Failed"), True, "failed", "out_of_memory", "ask for more"),
        (pod(phase="Failed", reason="DeadlineExceeded", message="too long"), True, "failed", "max_runtime", "too long"),
        (
            pod(phase="Failed", reason="Evicted", message="memory was low"),
            True,
            "lost",
            "lost",
            "node-1 was ended: Evicted: memory was low",
        ),
        (pod(phase="Failed", reason="NodeLost"), True, "lost", "lost", "NodeLost"),
        (
            pod(phase="Failed", reason="OutOfcpu", message="no room"),
            False,
            "failed",
            "start_failed",
            "node-1 did not start its pod: OutOfcpu",
        ),
        (pod(phase="Failed", reason="NodeAffinity"), False, "failed", "start_failed", "NodeAffinity"),
        (pod(terminated(128, "StartError", message="no python"), phase="Failed"), False, "failed", "start_failed", "no python"),
        (
            pod(terminated(1, "Error"), phase="Failed"),
            False,
            "failed",
            "start_failed",
            "is cpn of this version in the image?; it wrote: Oh",
        ),
        (pod(terminated(2, "Error"), phase="Failed"), True, "failed", "infrastructure", "exit code 2 before it said how (Error)"),
    ],
)
def test_an_end_without_a_word_has_the_reason_that_kubernetes_gives(
    document: dict[str, Any], told: bool, outcome: str, category: str, words: str
) -> None:
    end = end_without_word(read_pod(document), told, "Oh")
    assert (end["outcome"], end["category"]) == (outcome, category)
    assert words in end["message"]


def test_a_pod_that_a_scheduler_preempts_is_moved_away() -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"}
    end = end_without_word(read_pod(pod(phase="Failed", conditions=[condition])), told=True, strays="")
    assert (end["outcome"], end["category"]) == ("lost", "lost")


def test_ranks_come_from_the_label_or_from_the_index_of_an_indexed_job() -> None:
    document = pod()
    document["metadata"] |= {"labels": {}, "annotations": {INDEX_ANNOTATION: "3"}}
    assert read_pod(document).rank == 3
    document["metadata"]["annotations"] = {}
    assert read_pod(document).rank == -1
