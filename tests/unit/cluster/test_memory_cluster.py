"""The cluster in memory in time: what a script spreads, what a stop cuts off, what a loss of memory leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.backends.memory import Behaviour, MemoryBackend, MemoryCluster, Script, succeed_at_once
from cluster.errors import RunRejectedError
from cluster.model import Node, NodeAccelerator
from cluster.protocol import RunEvent, RunFinished, RunLog, RunProgress
from tests.unit.cluster.control import run_request
from tests.virtual_time import virtual, virtual_clock

NODE = Node(name="n1", cpu=2, memory_bytes=2**30)


def made(script: Script = succeed_at_once, *nodes: Node) -> tuple[MemoryCluster, list[tuple[float, RunEvent]]]:
    """A cluster, and what it says with the seconds since now."""
    clock = virtual_clock()
    began, heard = clock.now(), list[tuple[float, RunEvent]]()
    cluster = MemoryCluster(nodes or (NODE,), script, now=clock.now)
    cluster.listen(lambda event: heard.append((round(clock.now() - began, 1), event)))
    return cluster, heard


def behaving(**fields: Any) -> Script:
    return lambda _run: Behaviour(**fields)


@virtual
async def test_pieces_of_log_and_metrics_are_spread_over_the_time_of_a_run() -> None:
    cluster, heard = made(behaving(duration_s=12.0, log=("a", "第"), progress=({"loss": 2.0}, {"loss": 1.0}, {"loss": 0.5})))
    cluster.start(run_request())
    await asyncio.sleep(20)
    logs = [(at, event.offset, event.text) for at, event in heard if isinstance(event, RunLog)]
    progress = [(at, event.sequence, event.metrics["loss"]) for at, event in heard if isinstance(event, RunProgress)]
    assert logs == [(4.0, 0, "a"), (8.0, 1, "第")]
    assert progress == [(3.0, 1, 2.0), (6.0, 2, 1.0), (9.0, 3, 0.5)]
    end = heard[-1][1]
    assert isinstance(end, RunFinished)
    assert (heard[-1][0], end.outcome, end.usage.wall_s) == (12.0, "succeeded", 12.0)


@virtual
async def test_what_would_come_after_the_longest_permitted_time_does_not_come() -> None:
    cluster, heard = made(behaving(duration_s=100.0, log=("a", "b", "c")))
    cluster.start(run_request(max_runtime_s=60.0))
    await asyncio.sleep(200)
    assert [event.text for _, event in heard if isinstance(event, RunLog)] == ["a", "b"]
    end = heard[-1][1]
    assert isinstance(end, RunFinished)
    assert (heard[-1][0], end.outcome, end.category, end.usage.wall_s) == (60.0, "failed", "max_runtime", 60.0)


@virtual
async def test_a_stopped_run_says_nothing_more_and_holds_nothing_more() -> None:
    cluster, heard = made(behaving(duration_s=100.0, log=("a", "b", "c")))
    cluster.start(run_request("a-1", cpu=2.0))
    await asyncio.sleep(30)
    cluster.stop("a-1", "preempted")
    cluster.start(run_request("b-1", cpu=2.0))
    await asyncio.sleep(10)
    said = [event.type for _, event in heard if event.run_id == "a-1"]
    assert said == ["starting", "started", "log", "finished"]
    assert cluster.violations == []


@virtual
async def test_a_node_that_is_not_ready_takes_nothing_and_that_overbooks_nothing() -> None:
    cluster, heard = made(succeed_at_once, NODE.model_copy(update={"ready": False}))
    with pytest.raises(RunRejectedError, match="not there or not ready"):
        cluster.start(run_request())
    assert (cluster.violations, cluster.known(), heard) == ([], (), [])


@virtual
async def test_devices_of_one_model_count_together_and_a_refused_gang_holds_nothing() -> None:
    devices = (NodeAccelerator(model="H200", count=1), NodeAccelerator(model="H200", count=2))
    cluster, _ = made(
        behaving(duration_s=100.0), NODE.model_copy(update={"accelerators": devices}), Node(name="n2", cpu=1, memory_bytes=2**30)
    )
    with pytest.raises(RunRejectedError, match="node n2 has too little H200"):
        cluster.start(run_request("gang-1", nodes=("n1", "n2"), accelerator_model="H200", accelerator_count=1))
    cluster.start(run_request("a-1", accelerator_model="H200", accelerator_count=3))
    assert len(cluster.violations) == 1


@virtual
async def test_a_cluster_that_lost_its_memory_lost_also_the_ends_that_nobody_heard() -> None:
    cluster, heard = made(behaving(duration_s=10.0))
    cluster.start(run_request("heard-1", cpu=0.5))
    await asyncio.sleep(5)
    cluster.start(run_request("unheard-1", cpu=0.5))
    await asyncio.sleep(6)
    cluster.start(run_request("running-1", cpu=0.5))
    cluster.kill()
    await asyncio.sleep(5)
    cluster.revive(forget=True)
    ends = {event.run_id: event.outcome for _, event in heard if isinstance(event, RunFinished)}
    assert ends == {"heard-1": "succeeded", "unheard-1": "lost", "running-1": "lost"}
    assert cluster.known() == ()
    await asyncio.sleep(20)
    assert len([event for _, event in heard if isinstance(event, RunFinished)]) == 3


@virtual
async def test_a_connection_hears_of_its_own_runs_until_it_is_closed() -> None:
    cluster, _ = made(behaving(duration_s=5.0))
    first, second = MemoryBackend(cluster), MemoryBackend(cluster)
    for backend in (first, second):
        await backend.open()
    await first.start(run_request("a-1", cpu=0.5))
    await second.start(run_request("b-1", cpu=0.5))
    assert [run.run_id for run in await second.adopt()] == ["a-1", "b-1"]
    await first.close()
    await asyncio.sleep(10)
    await second.close()
    assert [event.type async for event in first.events()] == ["starting", "started"]
    heard = [(event.run_id, event.type) async for event in second.events()]
    for run_id in ("a-1", "b-1"):
        assert [kind for found, kind in heard if found == run_id] == ["starting", "started", "finished"]
