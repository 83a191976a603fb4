"""Orders are carried out once, in order for each run, and acknowledged only when all before them are done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.backends.memory import Behaviour, MemoryBackend, MemoryCluster
from cluster.errors import AuthenticationError, ClusterError
from cluster.model import Node
from cluster.orders import Orders
from cluster.protocol import Instruction, RunFinished, RunRequest
from cluster.shipping import Shipping, TrackedRun
from tests.unit.cluster.control import Control, forget, run_request, start, stop
from tests.virtual_time import in_virtual_time, until_so, virtual, virtual_clock

OF_ITSELF_S = 600.0


class BrittleBackend(MemoryBackend):
    """A backend whose calls fail as a test asks, before they do anything; `calls` names them in order."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(cluster)
        self.calls: list[str] = []
        self.failures: list[Exception] = []

    async def start(self, run: RunRequest) -> None:
        self._call(f"start {run.run_id}")
        await super().start(run)

    async def stop(self, run_id: str, **how: object) -> None:
        self._call(f"stop {run_id}")
        await super().stop(run_id, **how)  # type: ignore[arg-type]

    async def forget(self, run_id: str) -> None:
        self._call(f"forget {run_id}")
        await super().forget(run_id)

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.failures:
            raise self.failures.pop(0)


@dataclass
class Desk:
    """Orders with all that they act upon; `reply` hands them the instructions of one answered call."""

    cluster: MemoryCluster
    backend: BrittleBackend
    orders: Orders
    shipping: Shipping
    runs: dict[str, TrackedRun]
    lease: list[bool] = field(default_factory=lambda: [True])
    calls: int = 0

    def reply(self, *instructions: Instruction, call: int | None = None) -> bool:
        self.calls += 1
        return self.orders.take(instructions, call=call or self.calls, calls_made=self.calls)

    def ends(self) -> list[tuple[str, str, str | None]]:
        """(run, outcome, category) of the ends that would be reported."""
        events = [item.event for item in self.shipping.batch(1000)]
        return [(event.run_id, event.outcome, event.category) for event in events if isinstance(event, RunFinished)]


def until_stopped(_run: RunRequest) -> Behaviour:
    return Behaviour(duration_s=OF_ITSELF_S)


@asynccontextmanager
async def desk(*, at_once: bool = False) -> AsyncIterator[Desk]:
    """Orders on a cluster of 8 cores, whose runs end at once or go on until they are stopped."""
    node = Node(name="n1", cpu=8, memory_bytes=2**34)
    cluster = MemoryCluster([node], now=virtual_clock().now) if at_once else MemoryCluster([node], until_stopped, now=virtual_clock().now)
    backend, runs, lease = BrittleBackend(cluster), dict[str, TrackedRun](), [True]
    await backend.open()
    async with asyncio.TaskGroup() as group:
        over: list[Orders] = []
        shipping = Shipping(
            Control(), runs, group.create_task, on_pending=lambda: None, on_over=lambda run_id: over[0].run_over(run_id)
        )  # fmt: skip
        orders = Orders(backend, shipping, runs, group.create_task, virtual_clock(), lambda: lease[0])
        over.append(orders)

        async def drain() -> None:
            async for event in backend.events():
                shipping.accept(event)

        group.create_task(drain())
        yield Desk(cluster, backend, orders, shipping, runs, lease)
        cluster.revive()
        lease[0] = True
        await orders.settled.wait()
        await backend.close()


@virtual
async def test_repeated_instructions_are_carried_out_once_and_are_nothing_new() -> None:
    async with desk() as found:
        news = [found.reply(start(1)), found.reply(start(1))]
        await found.orders.settled.wait()
        news += [found.reply(start(1)), found.reply(start(1), start(2, "b-1"))]
        await found.orders.settled.wait()
        news.append(found.reply())
        assert news == [True, False, False, True, False]
        assert found.cluster.started == {"a-1": 1, "b-1": 1}
        assert found.orders.acknowledged == 2


@virtual
async def test_the_acknowledged_number_stays_below_what_is_not_done() -> None:
    async with desk() as found:
        assert found.orders.acknowledged == 0
        found.reply(start(3, "a-1"))
        await found.orders.settled.wait()
        assert found.orders.acknowledged == 3
        found.cluster.kill()
        found.reply(start(5, "b-1"), stop(6, "a-1"))
        await asyncio.sleep(1)
        assert found.orders.acknowledged == 4
        assert not found.orders.settled.is_set()
        found.cluster.revive()
        await until_so(found.orders.settled.is_set, "both orders are carried out")
        assert found.orders.acknowledged == 6


@virtual
async def test_a_later_order_that_is_done_waits_with_its_acknowledgement_for_an_earlier_one() -> None:
    async with desk() as found:
        found.lease[0] = False
        found.reply(start(1), stop(2, "b-1"))
        await asyncio.sleep(1)
        assert found.backend.calls == ["stop b-1"]
        assert found.orders.acknowledged == 0
        found.lease[0] = True
        await until_so(found.orders.settled.is_set, "the start is carried out")
        assert found.orders.acknowledged == 2


@virtual
async def test_orders_for_one_run_keep_their_order_and_other_runs_do_not_wait_for_it() -> None:
    async with desk() as found:
        found.lease[0] = False
        found.reply(start(1, "a-1"), stop(2, "a-1"), stop(3, "b-1"))
        await asyncio.sleep(0.01)
        assert found.backend.calls == ["stop b-1"]
        found.lease[0] = True
        await until_so(found.orders.settled.is_set, "the start and the stop are carried out")
        assert found.backend.calls == ["stop b-1", "start a-1", "stop a-1"]
        await until_so(found.ends, "the run ends")
        assert found.ends() == [("a-1", "cancelled", "cancelled")]


@virtual
async def test_nothing_is_started_without_a_lease() -> None:
    async with desk() as found:
        found.lease[0] = False
        found.reply(start(1))
        await asyncio.sleep(30)
        assert found.backend.calls == []
        assert found.runs == {}
        found.lease[0] = True
        await until_so(found.orders.settled.is_set, "the start is carried out")
        assert found.cluster.started == {"a-1": 1}


@pytest.mark.parametrize(
    ("later", "call", "started"),
    [
        ((), None, False),
        ((start(2, "b-1"),), None, False),
        ((start(1), start(2, "b-1")), None, True),
        # An answer to a call that was made before the order came cannot know of it.
        ((), 1, True),
    ],
    ids=["gone", "replaced", "still there", "answer of long ago"],
)
@virtual
async def test_an_order_that_cannot_be_carried_out_is_tried_until_it_is_withdrawn(
    later: Sequence[Instruction], call: int | None, started: bool
) -> None:
    async with desk() as found:
        found.cluster.kill()
        found.reply(start(1))
        await asyncio.sleep(1)
        found.reply(*later, call=call)
        await asyncio.sleep(1)
        found.cluster.revive()
        await until_so(found.orders.settled.is_set, "nothing is left to do")
        assert found.cluster.started["a-1"] == started


@virtual
async def test_a_cluster_that_answers_again_gets_what_it_did_not_take_before_anything_new() -> None:
    async with desk() as found:
        found.reply(start(1, "a-1", cpu=8.0))
        await found.orders.settled.wait()
        found.cluster.kill()
        found.reply(stop(2, "a-1", "lost"))
        # After so many failures the next try is seconds away.
        await asyncio.sleep(60)
        found.cluster.revive()
        found.orders.retry_now()
        await asyncio.sleep(0.001)
        found.reply(start(3, "b-1", cpu=8.0))
        await found.orders.settled.wait()
        assert found.cluster.started == {"a-1": 1, "b-1": 1}
        assert found.cluster.violations == []


@virtual
async def test_a_list_that_was_cut_says_nothing_of_what_comes_after_its_end() -> None:
    async with desk() as found:
        found.cluster.kill()
        found.reply(start(1, "a-1"), start(2, "b-1"), start(3, "c-1"))
        found.reply(start(2, "b-1"))
        found.cluster.revive()
        await until_so(found.orders.settled.is_set, "nothing is left to do")
        assert found.cluster.started == {"b-1": 1, "c-1": 1}


@virtual
async def test_a_run_that_is_to_be_forgotten_is_not_started_again() -> None:
    async with desk() as found:
        found.reply(start(1, "a-1"), start(2, "b-1"), forget(3, "a-1"))
        await found.orders.settled.wait()
        assert found.cluster.started == {"b-1": 1}
        assert found.orders.acknowledged == 3


@virtual
async def test_a_running_run_is_forgotten_when_it_is_over() -> None:
    async with desk() as found:
        found.reply(start(1), forget(2))
        found.reply(start(3, "b-1"))
        await found.orders.settled.wait()
        found.reply(forget(4, "b-1"))
        await found.orders.settled.wait()
        assert [run.run_id for run in found.cluster.known()] == ["b-1"]
        found.reply(stop(5, "b-1", "lost"))
        await until_so(lambda: not found.cluster.known(), "the run is forgotten")
        assert found.runs == {}
        assert found.ends() == [("b-1", "lost", "lost")]


@virtual
async def test_an_ended_run_is_forgotten_and_not_stopped() -> None:
    async with desk(at_once=True) as found:
        found.reply(start(1))
        await until_so(found.ends, "the run ends")
        found.reply(stop(2), forget(3))
        await found.orders.settled.wait()
        assert found.backend.calls == ["start a-1", "forget a-1"]
        assert found.cluster.known() == ()
        assert found.runs == {}


@pytest.mark.parametrize(
    ("failure", "category", "words"),
    [
        (None, "start_failed", "node n1 has too little cpu"),
        (AuthenticationError("the cluster wants another token"), "infrastructure", "another token"),
        (ClusterError("neither this nor that"), "infrastructure", "ClusterError: neither this nor that"),
        (ZeroDivisionError("a bug"), "infrastructure", "ZeroDivisionError: a bug"),
    ],
    ids=["rejected", "permanent", "cluster error", "bug"],
)
@virtual
async def test_a_start_that_fails_for_good_is_reported_as_the_end_of_the_run(failure: Exception | None, category: str, words: str) -> None:
    async with desk() as found:
        found.backend.failures = [failure] if failure else []
        found.reply(start(1, cpu=99.0))
        await found.orders.settled.wait()
        assert found.ends() == [("a-1", "failed", category)]
        end = found.shipping.batch(1)[0]
        assert isinstance(end.event, RunFinished)
        assert words in end.event.message
        assert end.epoch == 1
        assert found.orders.acknowledged == 1


@virtual
async def test_a_backend_that_breaks_on_stop_or_forget_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as found:
        found.reply(start(1))
        await found.orders.settled.wait()
        found.backend.failures = [ZeroDivisionError("stop"), ZeroDivisionError("forget")]
        found.reply(stop(2), forget(3, "b-1"))
        await found.orders.settled.wait()
        assert found.orders.acknowledged == 3
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
            "the backend broke on the stop of a-1", "the backend broke on forgetting b-1",
        ]  # fmt: skip
        found.reply(stop(4))
        await until_so(found.ends, "a second stop works")


@virtual
async def test_an_order_to_start_nothing_is_ignored_and_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as found:
        found.reply(Instruction(sequence=1, action="start", run_id="a-1"))
        await found.orders.settled.wait()
        assert found.orders.acknowledged == 1
        assert found.backend.calls == []
        assert "came without its run" in caplog.text


@virtual
async def test_stop_all_stops_what_runs_and_names_it_in_order() -> None:
    async with desk() as found:
        found.reply(start(1, "b-1"), start(2, "a-1"), start(3, "c-1"))
        await found.orders.settled.wait()
        found.reply(stop(4, "c-1"))
        await until_so(found.ends, "one run ends")
        assert found.orders.stop_all("lost") == ("a-1", "b-1")
        await until_so(lambda: len(found.ends()) == 3, "the others end")
        assert sorted(found.ends()) == [("a-1", "lost", "lost"), ("b-1", "lost", "lost"), ("c-1", "cancelled", "cancelled")]
        assert found.orders.acknowledged == 4


RUNS = ("a-1", "b-1", "c-1")
KINDS = st.sampled_from(["start", "stop", "forget"])


def numbered(kinds: Sequence[tuple[str, str]]) -> list[Instruction]:
    """Orders for runs, numbered from 1."""
    return [
        Instruction(sequence=number, action=kind, run_id=run_id, run=run_request(run_id) if kind == "start" else None)  # type: ignore[arg-type]
        for number, (kind, run_id) in enumerate(kinds, start=1)
    ]


@given(kinds=st.lists(st.tuples(KINDS, st.sampled_from(RUNS)), min_size=1, max_size=12), data=st.data())
def test_however_replies_repeat_and_grow_each_order_is_done_once_and_numbers_only_grow(
    kinds: list[tuple[str, str]], data: st.DataObject
) -> None:
    instructions = numbered(kinds)

    async def scenario() -> None:
        async with desk() as found:
            seen, numbers = 0, []
            while found.orders.acknowledged < len(instructions):
                seen = data.draw(st.integers(min(seen + 1, len(instructions)), len(instructions)))
                found.reply(*instructions[found.orders.acknowledged : seen])
                await asyncio.sleep(data.draw(st.sampled_from([0, 0, 0.5])))
                numbers.append(found.orders.acknowledged)
            assert numbers == sorted(numbers)
            assert found.orders.settled.is_set()
            starts = [call for call in found.backend.calls if call.startswith("start")]
            assert len(starts) <= sum(item.action == "start" for item in instructions)
            assert all(count == 1 for count in found.cluster.started.values()) or ("forget" in {item.action for item in instructions})

    in_virtual_time(scenario)
