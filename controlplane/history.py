"""The network's own past as a trace: what was submitted to a server, when, with which request, and how long it ran.

It is read through the API, so a planner needs no access to the database, and a buyer's token gives that tenant's jobs alone.
A job that ran several times counts with its last run, an elastic gang with the workers that it was granted. What never ran, or
has not ended, is left out and counted.
"""

from __future__ import annotations

from controlplane.api.schemas import ClusterView, JobView
from controlplane.client import Client
from scheduler.errors import TraceError
from scheduler.simulator.networks import Network, NodeGroup, Site, same_name
from scheduler.store.records import QueueRecord
from scheduler.traces.trace import WHOLE, Builder, Flexible, Trace
from scheduler.ways import speeds_of
from workloads.resources import MIB, AcceleratorRequest
from workloads.spec import JobSpec

STORE = "the server's store"


def history_of(client: Client, last: int) -> Trace:
    """The newest `last` jobs, arrays with all their tasks; groups are queues. Raises ClientError, and TraceError when none has run."""
    jobs, learned = Builder(), _Learned(client)
    jobs.zero_at = 0.0  # Its times are seconds since the epoch.
    jobs.kind("", None)
    for view in client.jobs(limit=last).items:
        for job in _tasks(client, view):
            _add(jobs, job, learned)
    trace = jobs.trace()
    if not len(trace):
        raise TraceError(f"no job has run and ended yet ({trace.dropped} others are there)", file=STORE)
    return trace


def _tasks(client: Client, view: JobView) -> list[JobView]:
    """The jobs behind one line of the list: an array is as many as it has tasks."""
    array = view.array
    return [view] if array is None or array.index is not None else list(client.jobs(array=array.id, limit=array.size).items)


class _Learned:
    """What the server has learned of speeds on models, asked for when the first job wants it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._speeds: dict[tuple[str, str, str], dict[str, float]] | None = None

    def of(self, spec: JobSpec) -> dict[str, float]:
        """The speed of like jobs on each model that one of them has run on."""
        if self._speeds is None:
            found = self._client.speeds().items
            self._speeds = {(item.tenant, item.kind, item.name): {one.model: one.speed.value for one in item.models} for item in found}
        return self._speeds.get((spec.tenant, spec.kind, spec.name), {})


def _add(jobs: Builder, view: JobView, learned: _Learned) -> None:
    ran_s = (view.finished_at - view.started_at).total_seconds() if view.finished_at and view.started_at else 0.0
    if ran_s <= 0:
        jobs.dropped += 1
        return
    resources = view.spec.resources
    accelerator = resources.accelerator
    speeds = _speeds(view.spec, accelerator, view.runs[-1].accelerator_model if view.runs else None, learned) if accelerator else {}
    kind = jobs.kind(tuple(sorted(speeds.items())), speeds) if accelerator else 0
    jobs.add(
        view.submitted_at.timestamp(), ran_s, limit=max(view.spec.max_runtime, ran_s), workers=len(view.nodes) or resources.most,
        cpu_milli=round(resources.cpu * 1000), memory_mib=-(-resources.memory // MIB), devices=accelerator.count if accelerator else 0,
        gpu_milli=WHOLE if accelerator is None or accelerator.share is None else round(accelerator.share * WHOLE),
        group=view.queue, kind=kind, flexible=_flexible(view.spec),
    )  # fmt: skip


def _flexible(spec: JobSpec) -> Flexible | None:
    deadline_s = spec.deadline_s()
    return None if spec.flexible is None or deadline_s is None else Flexible(spec.flexible, deadline_s)


def _speeds(spec: JobSpec, accelerator: AcceleratorRequest, ran_on: str | None, learned: _Learned) -> dict[str, float]:
    """The models that a job may use, with its speed on each compared with the one that it ran on."""
    models = [choice.model for choice in accelerator.choices]
    found = speeds_of(spec, (), learned.of(spec) if accelerator.learns else None)
    speeds = {model: speed.value for model, speed in zip(models, found, strict=True)} if found else {models[0]: 1.0}
    there = speeds.get(ran_on or "", speeds[models[0]])
    return {same_name(model): speed / there for model, speed in speeds.items()}


def network_of(client: Client) -> Network:
    """The server's members with their ready nodes, prices and queues. Raises ClientError, and TraceError without a node."""
    nodes: dict[str, dict[tuple[float, int, str, int], int]] = {}
    for item in client.nodes().items:
        there = [(one.model, round(one.total)) for one in item.accelerators if one.total > 0]
        if len(there) > 1:
            where = f"node {item.name} of {item.cluster}"
            raise TraceError(f"{where} has accelerators of several models; describe the network with --network", file=STORE)
        model, devices = there[0] if there else ("", 0)
        if item.ready:
            of_cluster = nodes.setdefault(item.cluster, {})
            shape = (item.cpu, item.memory_bytes, model, devices)
            of_cluster[shape] = of_cluster.get(shape, 0) + 1
    sites = tuple(_site(view, nodes[view.name]) for view in client.clusters().items if view.name in nodes)
    if not sites:
        raise TraceError("no member has a ready node", file=STORE)
    if len({site.prices.currency for site in sites}) > 1:
        raise TraceError("members charge in several currencies; describe the network with --network, in one", file=STORE)
    queues = tuple(
        QueueRecord(
            view.name, view.weight, view.max_running, view.created_at.timestamp(), view.parent, view.quota, view.borrow_limit,
            view.lend_limit, view.order, view.layout, view.preemption,
        )
        for view in client.queues().items
    )  # fmt: skip
    return Network(sites, queues)


def _site(view: ClusterView, nodes: dict[tuple[float, int, str, int], int]) -> Site:
    groups = tuple(NodeGroup(count, cpu, memory, model, devices) for (cpu, memory, model, devices), count in sorted(nodes.items()))
    return Site(view.name, view.jurisdiction, view.prices, groups, view.carbon)
