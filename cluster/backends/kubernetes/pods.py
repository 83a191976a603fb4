"""What a pod's status says about its worker: not yet, at work, or over, and why, in the network's words. Pure: documents in, facts out.

| what Kubernetes says | what becomes of the run |
|---|---|
| Unschedulable, ImagePullBackOff and other waits | starting; `start_failed` with Kubernetes' message when its time is over |
| InvalidImageName, ErrImageNeverPull | failed as `start_failed` at once, for no waiting helps |
| OutOfcpu, NodeAffinity, StartError and the like | failed as `start_failed` |
| OOMKilled | failed as `out_of_memory` |
| DeadlineExceeded | failed as `max_runtime` |
| Evicted, Preempting, Shutdown, NodeLost; a pod or Job that is gone | lost |
| a pod that was told to end and is still there when its time for that is long over | lost: its node does not answer |
| any other end of which the worker told nothing | failed as `infrastructure` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.backends.kubernetes.objects import rank_of

Document = dict[str, Any]
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
MOVED_AWAY = frozenset({"Evicted", "Preempting", "PreemptionByScheduler", "Shutdown", "NodeShutdown", "Terminated", "NodeLost", "Killing"})
NOT_ADMITTED = frozenset({"NodeAffinity", "NodePorts", "UnexpectedAdmissionError", "TaintToleration", "AdmissionError", "InvalidNodeInfo"})
NOT_STARTED = frozenset({"StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError", "CreateContainerConfigError"})
MOST_LETTERS = 1000


@dataclass(frozen=True)
class PodFacts:
    """One pod; a rank of -1 is none of ours.

    `started`: its container has run; `over`: it will not run any more; `why`: the words of its wait or its end; `leaves_s`: it was told
    to end within so many seconds.
    """

    name: str
    uid: str
    rank: int
    node: str
    created: str
    started: bool
    over: bool
    reason: str
    why: str
    exit_code: int | None
    leaves_s: float | None = None


def read_pod(pod: Document) -> PodFacts:
    """The facts of a pod of ours."""
    metadata, status = pod["metadata"], pod.get("status", {})
    state: Document = next((one.get("state", {}) for one in status.get("containerStatuses", [])), {})
    waiting, terminated = state.get("waiting", {}), state.get("terminated", {})
    phase = status.get("phase", "")
    reason, message = _words(status, waiting, terminated)
    rank = rank_of(pod)
    return PodFacts(
        name=metadata["name"], uid=metadata["uid"], rank=-1 if rank is None else rank, node=pod.get("spec", {}).get("nodeName", ""),
        created=metadata.get("creationTimestamp", ""), started="running" in state or bool(terminated),
        over=phase in ("Succeeded", "Failed"), reason=reason, why=f"{reason}: {message}"[:MOST_LETTERS] if message else reason,
        exit_code=terminated.get("exitCode"),
        leaves_s=float(metadata.get("deletionGracePeriodSeconds") or 0) if metadata.get("deletionTimestamp") else None,
    )  # fmt: skip


def end_without_word(pod: PodFacts, told: bool, strays: str) -> dict[str, Any]:
    """How a worker ended whose pod is over and that did not say so itself. `told`: it had told something; `strays`: what else it wrote."""
    last = f"; it wrote: {strays}" if strays else ""
    code = f"with exit code {pod.exit_code}" if pod.exit_code is not None else "without an exit code"
    if pod.reason == "OOMKilled":
        message = "OOMKilled: it used more memory than the job asked for; ask for more"
        return _end("failed", "out_of_memory", message, pod.exit_code)
    if pod.reason == "DeadlineExceeded":
        return _end("failed", "max_runtime", f"Kubernetes ended its pod, whose time is over ({pod.why})", pod.exit_code)
    if pod.reason in MOVED_AWAY:
        return _end("lost", "lost", f"its pod on {pod.node} was ended: {pod.why}")
    if pod.reason in NOT_ADMITTED | NOT_STARTED or pod.reason.startswith("OutOf"):
        return _end("failed", "start_failed", f"{pod.node} did not start its pod: {pod.why}")
    if not told:
        message = f"its pod ended {code} and told nothing; is cpn of this version in the image?{last}"
        return _end("failed", "start_failed", message, pod.exit_code)
    return _end("failed", "infrastructure", f"its pod ended {code} before it said how ({pod.why or 'no reason is given'}){last}")


def _end(outcome: str, category: str, message: str, exit_code: int | None = None) -> dict[str, Any]:
    return {"outcome": outcome, "category": category, "message": message, "exit_code": exit_code}


def _words(status: Document, waiting: Document, terminated: Document) -> tuple[str, str]:
    """Reason and message: the pod's own, its container's, or why it has no node."""
    if status.get("reason"):
        return status["reason"], status.get("message", "")
    for found in (terminated, waiting):
        if found.get("reason") not in (None, "Completed", "ContainerCreating", "PodInitializing"):
            return found["reason"], found.get("message", "")
    for condition in status.get("conditions", []):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return condition.get("reason", ""), condition.get("message", "")
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return condition.get("reason", ""), condition.get("message", "")
    return "", ""
