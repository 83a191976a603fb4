"""Stored rows in few words: members, machines, queues and runs as the store would hand them out, and jobs that ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.health import Health
from cluster.model import ClusterSpec, Node, NodeAccelerator
from scheduler.freeze import Candidate, World, held_by, judge_spec
from scheduler.market import Market
from scheduler.store.records import ClusterRecord, NodeRecord, QueueRecord, RunRecord
from tests.unit.workloads.samples import prices
from workloads.spec import JobSpec

GIB = 1024**3
NOW = 1_800_000_000.0
NO_MARKET = Market({}, {}, {})


def job_spec(**fields: Any) -> JobSpec:
    """A job of one's own code, which may be a gang; `resources` and `placement` as in a manifest."""
    return JobSpec.model_validate({
        "name": "j", "tenant": "acme", "kind": "command", "command": ["true"], "purpose": "research", "max_runtime": "1h", **fields,
    })  # fmt: skip


def cluster_spec(name: str = "sh", *, jurisdiction: str = "CN-SH", currency: str = "CNY", **fields: Any) -> ClusterSpec:
    """A member as its operator registers it, at the sample prices."""
    return ClusterSpec(name=name, backend="memory", jurisdiction=jurisdiction, **{"prices": prices(currency), **fields})


def member(name: str = "sh", *, cordon: str = "open", health: Health = Health.HEALTHY, **fields: Any) -> ClusterRecord:
    """A stored member; fields are those of its spec."""
    return ClusterRecord(cluster_spec(name, **fields), cordon, health, "", "agent", "", NOW, NOW, NOW)


def machine(
    cluster: str = "sh", name: str = "n1", cpu: float = 8, gib: float = 16, *, ready: bool = True, models: dict[str, int] | None = None,
    **labels: str,
) -> NodeRecord:  # fmt: skip
    """A stored node; `models` are its accelerators."""
    devices = tuple(NodeAccelerator(model=model, count=count) for model, count in (models or {}).items())
    return NodeRecord(cluster, Node(name=name, cpu=cpu, memory_bytes=int(gib * GIB), accelerators=devices, labels=labels, ready=ready), NOW)


def queue(name: str = "default", weight: float = 1.0, max_running: int | None = None) -> QueueRecord:
    """A stored queue."""
    return QueueRecord(name, weight, max_running, NOW)


def run(cluster: str, nodes: Sequence[str], *, queue: str = "default", job_id: str = "job-1", attempt: int = 1, **asked: Any) -> RunRecord:
    """An active run that holds the resources of a spec on each of its nodes."""
    return RunRecord(
        id=f"{job_id}-{attempt}", job_id=job_id, attempt=attempt, epoch=attempt, state="running", cause="started", cluster=cluster,
        nodes=list(nodes), queue=queue, held=held_by(job_spec(resources=asked)), quote={}, score=0.0, exit_code=None, message="",
        preview=None, files=None, usage=None, placed_at=NOW, starting_at=None, started_at=None, finished_at=None,
    )  # fmt: skip


def world_of(
    *members: ClusterRecord, nodes: Sequence[NodeRecord] = (), queues: Sequence[QueueRecord] = (queue(),), runs: Sequence[RunRecord] = ()
) -> World:
    """The world as it would be read."""
    return World(now=NOW, generation=1, clusters=members, nodes=tuple(nodes), queues=tuple(queues), runs=tuple(runs))


def candidate(world: World, spec: JobSpec, *, id: str = "job-9", sequence: int = 9, market: Market = NO_MARKET) -> Candidate:
    """A job that waits in a world."""
    return Candidate(id, sequence, spec, judge_spec(spec, market, world))
