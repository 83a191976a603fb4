"""The backend in memory keeps the promises of every backend, and is as strict as a real cluster."""

from __future__ import annotations

import asyncio

import pytest

from cluster.backends.memory import Behaviour, MemoryBackend, MemoryCluster
from cluster.errors import RunRejectedError, UnreachableError
from cluster.model import Node, NodeAccelerator
from cluster.protocol import ClusterBackend, RunEvent, RunFinished, RunProgress, RunRequest, RunStarted
from tests.contract.backend_suite import FAIL_EXIT_CODE, LOG_TEXT, BehaviourName, ElasticSuite, Watch

BEHAVIOURS: dict[str, Behaviour] = {
    "ok": Behaviour(),
    "fail": Behaviour(outcome="failed", exit_code=FAIL_EXIT_CODE),
    "slow": Behaviour(duration_s=600.0),
    "logs": Behaviour(log=tuple(LOG_TEXT.splitlines(keepends=True)), duration_s=0.01),
    "progress": Behaviour(progress=({"loss": 0.5}, {"loss": 0.25})),
    "long": Behaviour(duration_s=0.05),
}


def script(run: RunRequest) -> Behaviour:
    return BEHAVIOURS[run.command[0]]


def make_run(run_id: str, behaviour: str, nodes: tuple[str, ...] = ("n1",), **changes: object) -> RunRequest:
    run = RunRequest(
        run_id=run_id, job_id=run_id, attempt=1, epoch=7, kind="command", command=(behaviour,), cpu=1.0, memory_bytes=2**20,
        nodes=nodes, max_runtime_s=3600.0,
    )  # fmt: skip
    return run.model_copy(update=changes)


@pytest.fixture
def cluster() -> MemoryCluster:
    accelerators = (NodeAccelerator(model="H200", count=2),)
    return MemoryCluster(
        [Node(name="n1", cpu=2, memory_bytes=2**30), Node(name="n2", cpu=2, memory_bytes=2**30, accelerators=accelerators)], script
    )


class TestMemoryBackend(ElasticSuite):
    @pytest.fixture(autouse=True)
    def _keep(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster

    @pytest.fixture
    def backend(self, cluster: MemoryCluster) -> ClusterBackend:
        return MemoryBackend(cluster)

    def another(self, backend: ClusterBackend) -> ClusterBackend:  # noqa: ARG002
        return MemoryBackend(self.cluster)

    def make_run(self, run_id: str, behaviour: BehaviourName, *, workers: int = 1, node: str | None = None) -> RunRequest:
        return make_run(run_id, behaviour, (node,) if node else ("n1", "n2")[:workers])

    def test_every_start_is_counted_once(self, backend: ClusterBackend, cluster: MemoryCluster) -> None:
        async def scenario(watch: Watch) -> None:
            run = make_run("a-1", "ok")
            await backend.start(run)
            await backend.start(run)
            await watch.first("a-1", RunFinished)
            assert cluster.started == {"a-1": 1}

        self.check(backend, scenario)

    def test_a_node_is_never_filled_beyond_its_size(self, backend: ClusterBackend, cluster: MemoryCluster) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(make_run("a-1", "slow", cpu=1.5))
            with pytest.raises(RunRejectedError, match="too little cpu"):
                await backend.start(make_run("b-1", "slow"))
            assert len(cluster.violations) == 1
            assert cluster.started == {"a-1": 1}
            await self.release(backend, watch, "a-1")
            await backend.start(make_run("c-1", "slow", cpu=2.0))
            assert len(cluster.violations) == 1

        self.check(backend, scenario)

    @pytest.mark.parametrize(
        "changes",
        [
            {"memory_bytes": 2**31},
            {"accelerator_model": "H200", "accelerator_count": 3, "nodes": ("n2",)},
            {"accelerator_model": "A100", "accelerator_count": 1, "nodes": ("n2",)},
            {"accelerator_model": "H200", "accelerator_count": 1, "accelerator_devices": ((2,),), "nodes": ("n2",)},
            {"accelerator_model": "H200", "accelerator_count": 0.6, "accelerator_devices": ((1,), (1,)), "cpu": 1, "nodes": ("n2", "n2")},
            {"cpu": 1.5, "nodes": ("n1", "n1")},
        ],
    )
    def test_memory_accelerators_and_gangs_count(self, backend: ClusterBackend, cluster: MemoryCluster, changes: dict[str, object]) -> None:
        async def scenario(_watch: Watch) -> None:
            with pytest.raises(RunRejectedError, match="too little"):
                await backend.start(make_run("a-1", "slow", **changes))
            await backend.start(make_run("b-1", "slow", ("n1", "n2"), cpu=2.0))
            assert cluster.started == {"b-1": 1}

        self.check(backend, scenario)

    def test_shares_fill_one_device_and_leave_the_other_whole(self, backend: ClusterBackend, cluster: MemoryCluster) -> None:
        def shared(run_id: str, amount: float, device: int) -> RunRequest:
            devices = {"accelerator_model": "H200", "accelerator_count": amount, "accelerator_devices": ((device,),)}
            return make_run(run_id, "slow", ("n2",), cpu=0.25, memory_bytes=2**20, **devices)

        async def scenario(_watch: Watch) -> None:
            await backend.start(shared("a-1", 0.5, 0))
            await backend.start(shared("b-1", 0.5, 0))
            with pytest.raises(RunRejectedError, match="too little H200 0"):
                await backend.start(shared("c-1", 0.25, 0))
            await backend.start(shared("d-1", 1, 1))
            assert sorted(cluster.started) == ["a-1", "b-1", "d-1"]

        self.check(backend, scenario)

    def test_the_longest_permitted_time_ends_a_run(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(make_run("a-1", "slow", max_runtime_s=0.01))
            finished = await watch.first("a-1", RunFinished)
            assert (finished.outcome, finished.category) == ("failed", "max_runtime")

        self.check(backend, scenario)

    def test_metrics_come_in_sequence(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(make_run("a-1", "progress"))
            await watch.first("a-1", RunFinished)
            found = [(event.sequence, event.metrics) for event in watch.of("a-1") if isinstance(event, RunProgress)]
            assert found == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]

        self.check(backend, scenario)

    def test_a_dead_cluster_answers_nothing_and_tells_later(self, backend: ClusterBackend, cluster: MemoryCluster) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(make_run("a-1", "long"))
            await watch.first("a-1", RunStarted)
            ended = _end_of(cluster, "a-1")
            cluster.kill()
            for call in (backend.inventory(), backend.start(make_run("b-1", "ok")), backend.adopt(), backend.forget("a-1"), backend.open()):
                with pytest.raises(UnreachableError):
                    await call
            with pytest.raises(UnreachableError):
                await backend.stop("a-1", outcome="cancelled", grace_s=0)
            await asyncio.wait_for(ended.wait(), 5)
            await asyncio.sleep(0)
            assert watch.types("a-1") == ["starting", "started"]
            cluster.revive()
            finished = await watch.first("a-1", RunFinished)
            assert finished.outcome == "succeeded"
            assert "b-1" not in cluster.started

        self.check(backend, scenario)

    def test_a_cluster_without_memory_loses_its_runs_and_their_places(self, backend: ClusterBackend, cluster: MemoryCluster) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(make_run("a-1", "slow", cpu=2.0))
            cluster.kill()
            cluster.revive(forget=True)
            finished = await watch.first("a-1", RunFinished)
            assert (finished.outcome, finished.category) == ("lost", "lost")
            assert await backend.adopt() == ()
            await backend.start(make_run("b-1", "ok", cpu=2.0))
            assert (await watch.first("b-1", RunFinished)).outcome == "succeeded"

        self.check(backend, scenario)


def _end_of(cluster: MemoryCluster, run_id: str) -> asyncio.Event:
    """Set when the cluster records the end of a run, whether or not it can say so."""
    ended = asyncio.Event()
    record = cluster._record

    def recording(run: object, event: RunEvent) -> None:
        record(run, event)  # type: ignore[arg-type]
        if event.run_id == run_id and isinstance(event, RunFinished):
            ended.set()

    cluster._record = recording  # type: ignore[method-assign,assignment]
    return ended
