"""The network's own past as a trace: which jobs count, with what, and on which network they are replayed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest

from controlplane.client import Client
from controlplane.history import history_of, network_of
from scheduler.errors import TraceError
from scheduler.simulator.networks import Network, NodeGroup
from scheduler.traces.trace import Trace
from tests.unit.controlplane.cli_server import PRICES, SERVER, T0, T1, FakeServer, cluster, job, page, queue_view, spec


def _client(server: FakeServer) -> Client:
    return Client(SERVER, "cpn_token", transport=httpx.MockTransport(server.handle))


def _history(*views: dict[str, Any]) -> Trace:
    with _client(FakeServer({"GET /jobs": page(*views)})) as client:
        return history_of(client, 100)


def _ran(resources: dict[str, Any], **fields: Any) -> dict[str, Any]:
    document = spec("command")
    return job("succeeded", kind="command", spec={**document, "resources": {**document["resources"], **resources}}, **fields)


def test_a_job_counts_with_its_request_and_its_real_run_time() -> None:
    trace = _history(_ran({"cpu": 1.5, "memory": "3MiB"}, queue="lab"), job("queued"), job("running", started_at=T0))
    assert (trace.work.tolist(), trace.limit.tolist(), trace.dropped) == ([2.0], [3600.0], 2)
    assert (trace.cpu_milli.tolist(), trace.memory_mib.tolist(), trace.workers.tolist()) == ([1500], [3], [1])
    assert (trace.groups, trace.devices.tolist()) == (("lab",), [0])


def test_devices_shares_and_granted_workers_are_what_ran() -> None:
    gang = _ran({"workers": {"min": 2, "max": 8}, "accelerator": {"model": "NVIDIA H200", "count": 4}}, nodes=["n1", "n1", "n2"])
    share = _ran({"accelerator": {"model": "H200", "share": 0.25}}, nodes=["n1"])
    trace = _history(gang, share)
    assert (trace.workers.tolist(), trace.devices.tolist(), trace.gpu_milli.tolist()) == ([3, 1], [4, 1], [1000, 250])
    assert [list(trace.kinds[row].speeds or ()) for row in trace.kind] == [["H200 SXM"], ["H200 SXM"]]


def test_a_flexible_job_comes_with_its_deadline_and_the_trace_with_its_calendar() -> None:
    document = {**spec("command"), "flexible": "cleanest", "deadline": "2026-03-02T08:00:00+00:00"}
    trace = _history(job("succeeded", kind="command", spec=document), _ran({"cpu": 1.0}))
    submitted = datetime.fromisoformat(T0).timestamp()
    deadline = datetime.fromisoformat("2026-03-02T08:00:00+00:00").timestamp()
    assert trace.begins_at == submitted
    assert [(item.by, item.deadline_s) for item in trace.flexible.values()] == [("cleanest", pytest.approx(deadline - submitted))]


def test_an_array_counts_with_each_of_its_tasks() -> None:
    def part(index: int | None) -> dict[str, Any]:
        return {"id": "job-a", "size": 2, "at_most": None, "index": index, "first": "job-a-0", "counts": {"succeeded": 2}}

    tasks = page(*(_ran({"cpu": 2.0}, id=f"job-a-{index}", array=part(index)) for index in (0, 1)))
    whole = page(job("succeeded", kind="command", spec=spec("command"), array=part(None), started_at=None))
    server = FakeServer({"GET /jobs": lambda request: tasks if request.url.params.get("array") == "job-a" else whole})
    with _client(server) as client:
        trace = history_of(client, 100)
    assert (trace.cpu_milli.tolist(), trace.work.tolist()) == ([2000, 2000], [2.0, 2.0])


def test_a_network_that_ran_nothing_has_no_history() -> None:
    with pytest.raises(TraceError, match=r"no job has run and ended yet \(1 others are there\)"):
        _history(job("queued"))


def _node(cluster: str, name: str, ready: bool = True, **devices: float) -> dict[str, Any]:
    there = [{"model": model, "total": total, "used": 0.0} for model, total in devices.items()]
    return {
        "cluster": cluster, "name": name, "ready": ready, "cpu": 8.0, "cpu_used": 1.0, "memory_bytes": 2**34, "memory_used_bytes": 0,
        "accelerators": there, "labels": {}, "seen_at": T1,
    }  # fmt: skip


def _network(nodes: list[dict[str, Any]], *clusters: dict[str, Any]) -> Network:
    lab = queue_view("lab", quota={"H200": 4.0}, weight=2.0, layout="spread", preemption="lower-priority")
    answers = {"GET /nodes": page(*nodes), "GET /clusters": page(*clusters), "GET /queues": page(lab)}
    with _client(FakeServer(answers)) as client:
        return network_of(client)


def test_equal_ready_nodes_are_one_group_of_their_cluster() -> None:
    nodes = [_node("sh", "a", H200=8), _node("sh", "b", H200=8), _node("sh", "c"), _node("sh", "d", ready=False), _node("gone", "e")]
    network = _network(nodes, cluster("sh"), cluster("empty"))
    assert [site.name for site in network.sites] == ["sh"]
    assert network.sites[0].groups == (NodeGroup(1, 8.0, 2**34), NodeGroup(2, 8.0, 2**34, "H200", 8))
    assert [(queue.name, queue.weight, queue.quota) for queue in network.queues] == [("lab", 2.0, {"H200": 4.0})]
    assert network.warnings()[-2:] == (
        "queue lab: preemption (lower-priority) is not simulated; nobody is ended",
        "queue lab: spread is not simulated; its jobs are packed",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        ([], "no member has a ready node"),
        ([_node("sh", "a", H200=8, A100=1)], "node a of sh has accelerators of several models"),
        ([_node("sh", "a"), _node("us", "b")], "several currencies"),
    ],
)
def test_a_network_that_cannot_be_replayed_on_is_refused(nodes: list[dict[str, Any]], fault: str) -> None:
    dollars = {name: price.replace("CNY", "USD") for name, price in PRICES.items() if isinstance(price, str)}
    with pytest.raises(TraceError, match=fault):
        _network(nodes, cluster("sh"), cluster("us", prices=dollars))
