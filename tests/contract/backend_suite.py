"""What every backend promises, as tests that a backend's own test class inherits.

A subclass supplies the fixture `backend` (a backend that is not open yet, on a cluster with at least two
nodes, or one node with room for two workers), `another` (a second connection to the same cluster, as an agent
that was restarted makes it) and `make_run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

import pytest

from cluster.errors import RunRejectedError
from cluster.protocol import ClusterBackend, GangSize, RunEvent, RunFinished, RunLog, RunRequest, RunResized, RunStarted

BehaviourName = Literal["ok", "fail", "slow", "logs"]
LOG_TEXT = "first line\nsecond line: 第二行\nthird line\n"
FAIL_EXIT_CODE = 3
T = TypeVar("T")


class Watch:
    """Collects a backend's events and waits for the one that a test expects."""

    def __init__(self, backend: ClusterBackend, timeout_s: float) -> None:
        self.events: list[RunEvent] = []
        self._timeout_s = timeout_s
        self._arrived = asyncio.Condition()
        self._task = asyncio.create_task(self._collect(backend))

    async def _collect(self, backend: ClusterBackend) -> None:
        async for event in backend.events():
            async with self._arrived:
                self.events.append(event)
                self._arrived.notify_all()

    def of(self, run_id: str) -> list[RunEvent]:
        return [event for event in self.events if event.run_id == run_id]

    def types(self, run_id: str) -> list[str]:
        return [event.type for event in self.of(run_id) if event.type in ("starting", "started", "finished")]

    async def first(self, run_id: str, kind: type[T]) -> T:
        """The first event of a kind of a run; fails the test when it does not come in time."""
        async with asyncio.timeout(self._timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: any(isinstance(event, kind) for event in self.of(run_id)))
        return next(event for event in self.of(run_id) if isinstance(event, kind))

    async def resized(self, run_id: str, generation: int) -> RunResized:
        """The first word of a run that its change of this number is over; fails the test when it does not come in time."""

        def found() -> list[RunResized]:
            return [event for event in self.of(run_id) if isinstance(event, RunResized) and event.generation == generation]

        async with asyncio.timeout(self._timeout_s), self._arrived:
            await self._arrived.wait_for(found)
        return found()[0]

    async def ended(self) -> None:
        """Wait until the stream is over, as it is after close()."""
        async with asyncio.timeout(self._timeout_s):
            await self._task


class BackendSuite:
    """The contract of ClusterBackend."""

    timeout_s: float = 5.0

    @pytest.fixture
    def backend(self) -> ClusterBackend:
        raise NotImplementedError("supply the fixture `backend`")

    def another(self, backend: ClusterBackend) -> ClusterBackend:
        """A second connection to the cluster of `backend`, not open yet."""
        raise NotImplementedError

    def make_run(self, run_id: str, behaviour: BehaviourName, *, workers: int = 1, node: str | None = None) -> RunRequest:
        """A run that succeeds soon, exits with FAIL_EXIT_CODE, goes on until it is stopped, or writes LOG_TEXT and succeeds.

        `node`: place it there instead of on nodes that the cluster has.
        """
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, backend: ClusterBackend) -> AsyncIterator[Watch]:
        await backend.open()
        watch = Watch(backend, self.timeout_s)
        try:
            yield watch
        finally:
            await backend.close()
            await watch.ended()

    def check(self, backend: ClusterBackend, scenario: Callable[[Watch], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario with an open backend that has adopted what was there."""

        async def run() -> None:
            async with self.opened(backend) as watch:
                await backend.adopt()
                await scenario(watch)

        asyncio.run(run())

    async def release(self, backend: ClusterBackend, watch: Watch, *run_ids: str) -> None:
        for run_id in run_ids:
            await backend.stop(run_id, outcome="cancelled", grace_s=0.5)
            await watch.first(run_id, RunFinished)
            await backend.forget(run_id)

    def test_inventory_lists_the_nodes(self, backend: ClusterBackend) -> None:
        async def scenario(_watch: Watch) -> None:
            inventory = await backend.inventory()
            names = [node.name for node in inventory.nodes]
            assert names
            assert len(set(names)) == len(names)
            assert all(node.ready and node.cpu > 0 and node.memory_bytes > 0 for node in inventory.nodes)

        self.check(backend, scenario)

    def test_a_run_starts_and_succeeds_in_order(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(self.make_run("suite-ok-1", "ok"))
            finished = await watch.first("suite-ok-1", RunFinished)
            assert watch.types("suite-ok-1") == ["starting", "started", "finished"]
            assert (finished.outcome, finished.category, finished.exit_code) == ("succeeded", None, 0)
            await backend.forget("suite-ok-1")

        self.check(backend, scenario)

    def test_starting_a_known_run_changes_nothing(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            run = self.make_run("suite-twice-1", "slow")
            await asyncio.gather(backend.start(run), backend.start(run))
            await watch.first(run.run_id, RunStarted)
            await backend.start(run)
            await self.release(backend, watch, run.run_id)
            assert watch.types(run.run_id) == ["starting", "started", "finished"]

        self.check(backend, scenario)

    def test_starting_an_ended_run_does_not_run_it_again(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            run, later = self.make_run("suite-again-1", "ok"), self.make_run("suite-again-2", "ok")
            await backend.start(run)
            await watch.first(run.run_id, RunFinished)
            await backend.start(run)
            await backend.start(later)
            await watch.first(later.run_id, RunFinished)
            assert watch.types(run.run_id) == ["starting", "started", "finished"]
            await self.release(backend, watch, run.run_id, later.run_id)

        self.check(backend, scenario)

    @pytest.mark.parametrize("outcome", ["cancelled", "preempted", "lost"])
    def test_stopping_a_running_run_ends_it_with_the_outcome(
        self, backend: ClusterBackend, outcome: Literal["cancelled", "preempted", "lost"]
    ) -> None:
        async def scenario(watch: Watch) -> None:
            run_id = f"suite-{outcome}-1"
            await backend.start(self.make_run(run_id, "slow"))
            await watch.first(run_id, RunStarted)
            await backend.stop(run_id, outcome=outcome, grace_s=0.5)
            finished = await watch.first(run_id, RunFinished)
            assert (finished.outcome, finished.category) == (outcome, outcome)
            await backend.stop(run_id, outcome="cancelled", grace_s=0.5)
            await backend.forget(run_id)
            assert watch.types(run_id) == ["starting", "started", "finished"]

        self.check(backend, scenario)

    def test_orders_about_unknown_runs_do_nothing(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.stop("suite-unknown-1", outcome="cancelled", grace_s=0.1)
            await backend.forget("suite-unknown-1")
            assert watch.of("suite-unknown-1") == []

        self.check(backend, scenario)

    def test_a_failing_run_reports_its_exit_code(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(self.make_run("suite-fail-1", "fail"))
            finished = await watch.first("suite-fail-1", RunFinished)
            assert (finished.outcome, finished.category, finished.exit_code) == ("failed", "exit", FAIL_EXIT_CODE)
            await backend.forget("suite-fail-1")

        self.check(backend, scenario)

    def test_a_run_on_an_unknown_node_is_rejected(self, backend: ClusterBackend) -> None:
        async def scenario(_watch: Watch) -> None:
            with pytest.raises(RunRejectedError):
                await backend.start(self.make_run("suite-nowhere-1", "ok", node="no-such-node"))

        self.check(backend, scenario)

    def test_logs_come_whole_with_byte_offsets_before_the_end(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(self.make_run("suite-logs-1", "logs"))
            await watch.first("suite-logs-1", RunFinished)
            events = watch.of("suite-logs-1")
            text = bytearray()
            for event in events:
                if isinstance(event, RunLog):
                    assert event.offset <= len(text), "a piece of the log is missing"
                    text[event.offset :] = event.text.encode()
            assert text.decode() == LOG_TEXT
            assert isinstance(events[-1], RunFinished)
            await backend.forget("suite-logs-1")

        self.check(backend, scenario)

    def test_a_later_agent_adopts_a_running_run_and_hears_its_end(self, backend: ClusterBackend) -> None:
        async def scenario() -> None:
            run = self.make_run("suite-adopt-1", "slow")
            async with self.opened(backend) as watch:
                await backend.adopt()
                await backend.start(run)
                await watch.first(run.run_id, RunStarted)
            successor = self.another(backend)
            async with self.opened(successor) as watch:
                adopted = await successor.adopt()
                assert (run.run_id, run.epoch) in [(item.run_id, item.epoch) for item in adopted]
                assert [item.run_id for item in adopted] == sorted(item.run_id for item in adopted)
                await successor.start(run)
                await self.release(successor, watch, run.run_id)
                assert watch.types(run.run_id) == ["starting", "started", "finished"]

        asyncio.run(scenario())

    def test_a_later_agent_hears_of_an_end_until_it_is_forgotten(self, backend: ClusterBackend) -> None:
        async def scenario() -> None:
            run = self.make_run("suite-adopt-2", "fail")
            async with self.opened(backend) as watch:
                await backend.adopt()
                await backend.start(run)
                await watch.first(run.run_id, RunFinished)
            successor, last = self.another(backend), self.another(backend)
            async with self.opened(successor) as watch:
                assert run.run_id in {item.run_id for item in await successor.adopt()}
                finished = await watch.first(run.run_id, RunFinished)
                assert (finished.outcome, finished.exit_code) == ("failed", FAIL_EXIT_CODE)
                await successor.forget(run.run_id)
            async with self.opened(last) as watch:
                assert run.run_id not in {item.run_id for item in await last.adopt()}
                assert watch.of(run.run_id) == []

        asyncio.run(scenario())


class GangSuite(BackendSuite):
    """The contract of a backend that runs gangs too."""

    def test_a_gang_runs_as_one(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            run = self.make_run("suite-gang-1", "ok", workers=2)
            assert len(run.nodes) == 2
            await backend.start(run)
            finished = await watch.first(run.run_id, RunFinished)
            assert finished.outcome == "succeeded"
            assert watch.types(run.run_id) == ["starting", "started", "finished"]
            await backend.forget(run.run_id)

        self.check(backend, scenario)

    def test_a_gang_stops_as_one(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            run = self.make_run("suite-gang-2", "slow", workers=2)
            await backend.start(run)
            await watch.first(run.run_id, RunStarted)
            await self.release(backend, watch, run.run_id)
            assert watch.types(run.run_id) == ["starting", "started", "finished"]

        self.check(backend, scenario)


class ElasticSuite(GangSuite):
    """The contract of a backend that changes the size of gangs too."""

    def elastic(self, run_id: str, workers: int = 1) -> tuple[RunRequest, Callable[[int, int], GangSize]]:
        """A run that may be resized and goes on until it is stopped, and its sizes by generation and number of workers."""
        nodes = self.make_run(run_id, "slow", workers=2).nodes
        run = self.make_run(run_id, "slow", workers=workers).model_copy(update={"elastic": True})
        return run, lambda generation, workers: GangSize(generation=generation, nodes=nodes[:workers])

    def test_a_gang_grows_and_shrinks_while_it_runs(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            assert (await backend.inventory()).resizes
            run, size = self.elastic("suite-size-1")
            await backend.start(run)
            await watch.first(run.run_id, RunStarted)
            # The rank that comes back last is another worker than the one that was ended before it.
            for generation, workers in ((1, 2), (2, 1), (3, 2)):
                await backend.resize(run.run_id, size(generation, workers), grace_s=0.5)
                reached = await watch.resized(run.run_id, generation)
                assert (reached.workers, reached.message) == (workers, "")
            await self.release(backend, watch, run.run_id)
            assert watch.types(run.run_id) == ["starting", "started", "finished"]

        self.check(backend, scenario)

    def test_late_and_repeated_orders_of_size_change_nothing(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            run, size = self.elastic("suite-size-2")
            await backend.start(run)
            await watch.first(run.run_id, RunStarted)
            await backend.resize(run.run_id, size(2, 2), grace_s=0.5)
            await watch.resized(run.run_id, 2)
            await backend.resize(run.run_id, size(1, 1), grace_s=0.5)
            await backend.resize(run.run_id, size(2, 2), grace_s=0.5)
            await backend.resize("suite-unknown-1", size(9, 2), grace_s=0.5)
            await backend.resize(run.run_id, size(3, 1), grace_s=0.5)
            await watch.resized(run.run_id, 3)
            told = [(event.generation, event.workers) for event in watch.of(run.run_id) if isinstance(event, RunResized)]
            assert told == [(2, 2), (2, 2), (3, 1)], "the same order again is answered again, an older one is not"
            await self.release(backend, watch, run.run_id)
            await backend.start(rigid := self.make_run("suite-size-3", "slow"))
            await watch.first(rigid.run_id, RunStarted)
            await backend.resize(rigid.run_id, size(1, 2), grace_s=0.5)
            await self.release(backend, watch, rigid.run_id)
            await backend.resize(rigid.run_id, size(2, 2), grace_s=0.5)
            assert not any(isinstance(event, RunResized) for event in watch.of(rigid.run_id))

        self.check(backend, scenario)

    def test_a_gang_that_cannot_grow_goes_on_as_it_is(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            run, size = self.elastic("suite-size-4")
            await backend.start(run)
            await watch.first(run.run_id, RunStarted)
            await backend.resize(run.run_id, GangSize(generation=1, nodes=(*run.nodes, "no-such-node")), grace_s=0.5)
            reached = await watch.resized(run.run_id, 1)
            assert reached.workers == 1
            assert "no-such-node" in reached.message
            await backend.resize(run.run_id, size(2, 2), grace_s=0.5)
            assert (await watch.resized(run.run_id, 2)).workers == 2
            await self.release(backend, watch, run.run_id)

        self.check(backend, scenario)

    def test_a_later_agent_knows_the_size_and_changes_it(self, backend: ClusterBackend) -> None:
        async def scenario() -> None:
            run, size = self.elastic("suite-size-5")
            async with self.opened(backend) as watch:
                await backend.adopt()
                await backend.start(run)
                await watch.first(run.run_id, RunStarted)
                await backend.resize(run.run_id, size(1, 2), grace_s=0.5)
                await watch.resized(run.run_id, 1)
            successor = self.another(backend)
            async with self.opened(successor) as watch:
                await successor.adopt()
                assert (await watch.resized(run.run_id, 1)).workers == 2
                await successor.resize(run.run_id, size(1, 2), grace_s=0.5)
                await successor.resize(run.run_id, size(2, 1), grace_s=0.5)
                assert (await watch.resized(run.run_id, 2)).workers == 1
                await self.release(successor, watch, run.run_id)
                assert watch.types(run.run_id) == ["starting", "started", "finished"]

        asyncio.run(scenario())
