"""What makes Kueue take a Job in, and what its words become."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.kubernetes.kueue import QUEUE_LABEL, is_suspended, queued, waits_for
from cluster.backends.kubernetes.objects import jobs_of
from tests.unit.cluster.kubernetes.test_objects import OWNER, PLACE, SETTINGS, request


def workload(uid: str, *conditions: tuple[str, str, str]) -> dict[str, Any]:
    told = [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
    return {"metadata": {"ownerReferences": [{"uid": uid}]}, "status": {"conditions": told}}


def test_a_job_with_a_queue_is_suspended_and_bears_its_name_and_is_else_the_same() -> None:
    (job,) = jobs_of(request(), SETTINGS, PLACE, OWNER, indexed=True)
    assert queued(job, "") is job
    made = queued(job, "team-a")
    assert is_suspended(made)
    assert not is_suspended(job)
    assert made["metadata"]["labels"] == {**job["metadata"]["labels"], QUEUE_LABEL: "team-a"}
    assert {**made["spec"], "suspend": None} == {**job["spec"], "suspend": None}
    assert QUEUE_LABEL not in made["spec"]["template"]["metadata"]["labels"], "pods are the Job's, and not taken in by themselves"


@pytest.mark.parametrize(
    ("workloads", "words"),
    [
        ([], "Kueue has not looked at it yet; is there a LocalQueue q?"),
        ([workload("other", ("QuotaReserved", "False", "no"))], "Kueue has not looked at it yet; is there a LocalQueue q?"),
        ([workload("u")], "Kueue has not admitted it to q yet"),
        ([workload("u", ("QuotaReserved", "False", "no quota"))], "Kueue has not admitted it to q: no quota"),
        (
            [workload("u", ("QuotaReserved", "True", "reserved"), ("Admitted", "False", "checks are pending"))],
            "Kueue has not admitted it to q: checks are pending",
        ),
        (
            [workload("u", ("QuotaReserved", "False", "no quota"), ("Evicted", "True", "preempted by another"))],
            "Kueue has not admitted it to q: preempted by another",
        ),
        ([workload("u", ("Evicted", "False", "was before"), ("QuotaReserved", "True", "reserved"))], "Kueue has not admitted it to q yet"),
    ],
)
def test_the_reason_is_the_one_that_holds_now(workloads: list[dict[str, Any]], words: str) -> None:
    assert waits_for("q", workloads, "u") == words
