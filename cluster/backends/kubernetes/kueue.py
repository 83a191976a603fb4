"""Kueue between a run and its start: the label and the suspension by which it takes Jobs in, and what it says while they wait.

Where the operator has named a LocalQueue, what makes a run's pods is created suspended, with the queue as its label. Kueue makes a Workload
for it and lets it go when there is quota. Older API servers drop a Job's suspension in silence, which would start it past the queue, so
whoever makes one asks first. Pure: documents in, documents and words out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]
GROUP = "kueue.x-k8s.io"
API, WORKLOADS = f"/apis/{GROUP}/v1beta1", "workloads"
QUEUE_LABEL = f"{GROUP}/queue-name"
_CONDITIONS = ("Evicted", "QuotaReserved", "Admitted")
_MOST_LETTERS = 1000


def queued(item: Document, queue: str) -> Document:
    """A Job or RayJob that waits for Kueue; without a queue the same one."""
    if not queue:
        return item
    metadata = item["metadata"]
    labels = {**metadata["labels"], QUEUE_LABEL: queue}
    return {**item, "metadata": {**metadata, "labels": labels}, "spec": {**item["spec"], "suspend": True}}


def is_suspended(item: Document) -> bool:
    """Whether a Job or RayJob waits to be let go."""
    return bool(item.get("spec", {}).get("suspend"))


def waits_for(queue: str, workloads: Iterable[Document], uid: str) -> str:
    """Why the Job or RayJob with this uid is suspended, in Kueue's words where it has said any."""
    for item in workloads:
        if any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences", ())):
            told = {condition["type"]: condition for condition in item.get("status", {}).get("conditions", ())}
            for kind in _CONDITIONS:
                condition = told.get(kind, {})
                # Each says why it is so; only an eviction says that by being true.
                if condition.get("message") and (condition.get("status") == "True") == (kind == "Evicted"):
                    return f"Kueue has not admitted it to {queue}: {condition['message']}"[:_MOST_LETTERS]
            return f"Kueue has not admitted it to {queue} yet"
    return f"Kueue has not looked at it yet; is there a LocalQueue {queue}?"
