"""The agent: it introduces itself, does what it is told once, and tells everything in order.

Everything here is the real agent on a cluster in memory; only the control plane is a stand-in, and time is virtual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.backends.memory import MemoryBackend
from cluster.errors import ReportRefusedError, UnreachableError
from cluster.model import Node
from cluster.protocol import AdoptedRun, RunRequest, SyncReply, SyncRequest
from cluster.replicas import Pretended
from cluster.scaling import Wanted
from tests.unit.cluster.agents import NODE, agent, memory_cluster
from tests.unit.cluster.control import Control, forget, run_request, start, stop
from tests.virtual_time import until_so, virtual

# --- the beginning ---


@virtual
async def test_the_first_call_takes_over_and_the_second_names_nodes_and_runs() -> None:
    async with agent(Control(start(5))) as found:
        await found.introduced()
        first, second = found.control.calls[:2]
        assert (first.agent_id, first.takes_over, first.known_runs, first.acknowledged, first.wait_s) == ("agent-1", True, None, 0, 0)
        assert (second.agent_id, second.takes_over, second.reachable, second.detail, second.wait_s) == ("agent-1", False, True, "", 0)
        assert second.inventory is not None
        assert second.inventory.nodes == (NODE,)
        assert second.known_runs is not None


@virtual
async def test_what_another_agent_starts_until_it_is_superseded_is_named_too_and_its_whole_story_told() -> None:
    class LateStart(Control):
        async def sync(self, request: SyncRequest) -> SyncReply:
            reply = await super().sync(request)
            if request.takes_over:
                cluster.start(run_request("late-1", epoch=2))
            return reply

    class SlowToAdopt(MemoryBackend):
        async def adopt(self) -> tuple[AdoptedRun, ...]:
            adopted = await super().adopt()
            await asyncio.sleep(1.0)
            return adopted

    cluster, control = memory_cluster(), LateStart()
    async with agent(control, cluster, SlowToAdopt) as found:
        await found.told("late-1")
    assert control.censuses == [("late-1",)]
    assert [(item.epoch, item.event.type) for item in control.observations] == [(2, "starting"), (2, "started"), (2, "finished")]


@virtual
async def test_an_adopted_run_that_has_not_begun_begins_when_the_control_plane_still_wants_it() -> None:
    begun: list[str] = []

    class Hesitant(MemoryBackend):
        async def adopt(self) -> tuple[AdoptedRun, ...]:
            return tuple(run.model_copy(update={"waiting": run_request(run.run_id)}) for run in await super().adopt())

        async def start(self, run: RunRequest) -> None:
            begun.append(run.run_id)
            await super().start(run)

    cluster, control = memory_cluster(), Control()
    for run_id in ("wanted-1", "given-up-1", "forgotten-1", "ordered-again-1"):
        cluster.start(run_request(run_id, command=("sleep", "600")))
    control.order(start(1, "ordered-again-1"), stop(2, "given-up-1", "lost"), stop(3, "forgotten-1", "lost"), forget(4, "forgotten-1"))
    control.away = True
    async with agent(control, cluster, Hesitant) as found:
        await asyncio.sleep(10)
        assert begun == [], "nothing begins before somebody says that it is wanted"
        control.away = False
        await found.introduced()
        await until_so(lambda: control.acknowledged == 4, "all orders are carried out")
        await asyncio.sleep(10)
    assert sorted(begun) == ["ordered-again-1", "wanted-1"]


@virtual
async def test_a_run_that_another_agent_has_started_is_told_from_its_beginning() -> None:
    control = Control()
    async with agent(control) as found:
        await found.introduced()
        found.cluster.start(run_request())
        control.order(start(1))
        await found.told()
        assert [event.type for event in control.events] == ["starting", "started", "finished"]
        assert found.cluster.started == {"a-1": 1}


@virtual
async def test_later_calls_repeat_neither_nodes_nor_runs() -> None:
    async with agent(Control()) as found:
        await found.introduced()
        await asyncio.sleep(60)
        assert len(found.control.calls) > 5
        assert all(call.known_runs is None and call.inventory is None for call in found.control.calls[2:])
        assert not any(call.takes_over for call in found.control.calls[1:])


@virtual
async def test_instructions_of_the_first_reply_are_carried_out_and_acknowledged() -> None:
    async with agent(Control(start(5))) as found:
        await until_so(lambda: found.control.acknowledged == 5, "the start is acknowledged")
        assert found.cluster.started == {"a-1": 1}
        assert (await found.told()).outcome == "succeeded"


@virtual
async def test_runs_of_an_earlier_agent_are_named_and_their_story_is_told_again() -> None:
    cluster, control = memory_cluster(), Control()
    cluster.start(run_request("old-1", epoch=4))
    cluster.start(run_request("old-2", epoch=2, command=("sleep", "60")))
    async with agent(control, cluster) as found:
        await found.told("old-2")
    assert control.censuses == [("old-1", "old-2")]
    story = [(item.epoch, item.event.type) for item in control.observations if item.event.run_id == "old-1"]
    assert story == [(4, "starting"), (4, "started"), (4, "finished")]


@virtual
async def test_a_cluster_that_does_not_answer_at_first_is_told_without_a_census() -> None:
    cluster = memory_cluster()
    cluster.kill()
    async with agent(Control(start(1)), cluster) as found:
        await until_so(lambda: len(found.control.accepted) > 2, "the silence is told")
        assert {(call.reachable, call.known_runs, call.wait_s) for call in found.control.accepted} == {(False, None, 0)}
        assert "switched off" in found.control.accepted[0].detail
        assert cluster.started == {}
        cluster.revive()
        assert (await found.told()).outcome == "succeeded"
        assert found.control.accepted[-1].reachable


@virtual
async def test_the_control_plane_may_come_later_than_the_agent() -> None:
    control = Control(start(1))
    control.away = True
    async with agent(control) as found:
        await asyncio.sleep(30)
        control.away = False
        assert (await found.told()).outcome == "succeeded"
        assert control.censuses == [()]


# --- instructions ---


@virtual
async def test_instructions_that_come_again_are_not_carried_out_again() -> None:
    control = Control(start(1, command=("sleep", "60")), start(2, "b-1", command=("sleep", "60")))
    async with agent(control) as found:
        await until_so(lambda: control.acknowledged == 2, "both are acknowledged")
        control.order(start(1), start(2, "b-1"), start(3, "c-1"))
        await until_so(lambda: control.acknowledged == 3, "the third is acknowledged")
        assert found.cluster.started == {"a-1": 1, "b-1": 1, "c-1": 1}
        assert found.cluster.violations == []


@virtual
async def test_a_parked_call_brings_an_order_without_waiting_for_a_timer() -> None:
    control = Control()
    async with agent(control, long_poll_s=5.0) as found:
        await found.introduced()
        await asyncio.sleep(2.0)
        control.order(start(1))
        assert await until_so(lambda: found.cluster.started, "the run is started") < 0.1
        assert await until_so(lambda: control.observations, "the start is told") < 0.1


@virtual
async def test_the_report_of_a_small_run_acknowledges_its_order_and_no_call_is_parked_before_it() -> None:
    control = Control()
    async with agent(control) as found:
        await found.introduced()
        await asyncio.sleep(1.0)
        calls = len(control.calls)
        control.order(start(1))
        await found.told()
        first = control.calls[calls]
        assert (first.wait_s, first.acknowledged) == (0.0, 1)
        assert [item.event.type for item in first.observations] == ["starting", "started", "finished"]
        control.order(start(1), forget(2))
        await until_so(lambda: control.acknowledged == 2, "the call is parked again, and brings what is ordered")


@virtual
async def test_while_a_longer_run_goes_on_a_call_is_parked_soon() -> None:
    control = Control()
    async with agent(control) as found:
        await found.introduced()
        control.order(start(1, command=("sleep", "600")))
        await until_so(lambda: found.cluster.started, "the run is started")
        control.order(stop(2, outcome="cancelled"))
        assert await until_so(lambda: control.acknowledged == 2, "the stop is carried out") < 0.2


@virtual
async def test_an_order_that_takes_long_does_not_make_the_agent_call_without_pause() -> None:
    control = Control(start(1))
    cluster = memory_cluster()
    async with agent(control, cluster, inventory_interval_s=1000.0) as found:
        await until_so(lambda: control.acknowledged == 1, "the first is acknowledged")
        cluster.kill()
        control.order(start(2, "b-1"))
        calls = len(control.calls)
        await asyncio.sleep(60)
        assert len(control.calls) - calls < 80
        cluster.revive()
        await found.told("b-1")


@virtual
async def test_a_run_is_stopped_and_forgotten_as_ordered() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control) as found:
        await until_so(lambda: found.cluster.started, "the run is started")
        control.order(stop(2, outcome="preempted"), forget(3))
        end = await found.told()
        assert (end.outcome, end.category) == ("preempted", "preempted")
        await until_so(lambda: control.acknowledged == 3, "all is acknowledged")
        await until_so(lambda: not found.cluster.known(), "the run is forgotten")


# --- what is told ---


@virtual
async def test_observations_come_in_order_and_logs_before_the_end() -> None:
    control = Control(start(1, epoch=7, command=("train", "3")))
    async with agent(control) as found:
        await found.told()
    assert [event.type for event in control.events] == ["starting", "started", "progress", "progress", "progress", "finished"]
    assert {item.epoch for item in control.observations} == {7}
    assert bytes(control.logs["a-1"]) == b"begun\ndone\n"


@virtual
async def test_nothing_is_forgotten_while_the_control_plane_is_away_and_nothing_is_told_twice() -> None:
    control = Control(start(1, command=("train", "3")))
    control.on_lease_lost = "continue"
    async with agent(control) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.away = True
        await asyncio.sleep(300)
        control.away = False
        await found.told()
        await asyncio.sleep(30)
    assert [event.type for event in control.events] == ["starting", "started", "progress", "progress", "progress", "finished"]


@virtual
async def test_a_changed_inventory_is_told_once() -> None:
    control = Control()
    async with agent(control, inventory_interval_s=5.0) as found:
        await found.introduced()
        found.cluster.nodes["n2"] = Node(name="n2", cpu=2, memory_bytes=2**30)
        await asyncio.sleep(60)
        told = [call.inventory for call in control.accepted if call.inventory is not None]
        assert [len(inventory.nodes) for inventory in told] == [1, 2]


@virtual
async def test_a_cache_that_changed_is_told_without_the_nodes() -> None:
    control, cluster = Control(), memory_cluster()
    cluster.copies = Pretended(2**20)
    async with agent(control, cluster, inventory_interval_s=5.0) as found:
        await found.introduced()
        for letter in "ab":
            cluster.copies.take(letter, [(letter * 64, 1000, "gz")])
            await asyncio.sleep(20)
        cluster.copies = None
        await asyncio.sleep(20)
        cluster.nodes["n2"] = Node(name="n2", cpu=2, memory_bytes=2**30)
        cluster.copies = Pretended(2**20)
        await asyncio.sleep(20)
    told = [
        (request.inventory and len(request.inventory.nodes), request.cache and request.cache.state and request.cache.state.copies)
        for request in control.accepted if request.inventory is not None or request.cache is not None
    ]  # fmt: skip
    assert told == [(1, None), (None, 1), (None, 2), (None, None), (2, None)]
    assert control.accepted[-1].inventory is None, "what was told once is not told again"


@virtual
async def test_a_cache_that_is_refused_holds_up_no_observation_and_is_told_later() -> None:
    control, cluster = Control(start(1, command=("sleep", "600"))), memory_cluster()
    cluster.copies = Pretended(2**20)
    async with agent(control, cluster, inventory_interval_s=1.0) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.refuse = lambda request: ReportRefusedError("422") if request.cache is not None else None
        cluster.copies.take("x", [("c" * 64, 1000, "gz")])
        await asyncio.sleep(5)
        control.order(start(2, "b-1"))
        await found.told("b-1")
        control.refuse = lambda _request: None
        await until_so(lambda: any(request.cache for request in control.accepted), "the cache is told when it can be accepted")


@virtual
async def test_which_nodes_there_shall_be_is_passed_on_when_it_changes_and_until_it_was_taken() -> None:
    control, taken = Control(), list[tuple[Wanted, ...]]()
    refusals = [UnreachableError("the head is away")]

    class Scaled(MemoryBackend):
        async def scale(self, wanted: Sequence[Wanted]) -> None:
            if refusals:
                raise refusals.pop()
            taken.append(tuple(wanted))

    async with agent(control, backend=Scaled, inventory_interval_s=5.0) as found:
        await found.introduced()
        await asyncio.sleep(30)
        assert taken == [()], "an earlier agent may have asked for some; what was not taken is passed on again"
        control.wanted = (Wanted(node_type="big", count=2),)
        await until_so(lambda: len(taken) == 2, "it is passed on")
        await asyncio.sleep(60)
        control.wanted = ()
        await until_so(lambda: len(taken) == 3, "nothing is asked for any more")
    assert taken == [(), (Wanted(node_type="big", count=2),), ()]


@virtual
async def test_a_cluster_that_falls_silent_is_told_and_so_is_its_return() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control, inventory_interval_s=5.0) as found:
        await until_so(lambda: found.cluster.started, "the run is started")
        found.cluster.kill()
        assert await until_so(lambda: not control.accepted[-1].reachable, "the silence is told") < 6
        assert "switched off" in control.accepted[-1].detail
        await asyncio.sleep(30)
        found.cluster.revive()
        assert await until_so(lambda: control.accepted[-1].reachable, "the return is told") < 6
        assert control.accepted[-1].detail == ""


@virtual
async def test_runs_are_named_when_the_control_plane_wants_it_and_when_the_cluster_answers() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control, inventory_interval_s=5.0) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.want_census()
        assert await until_so(lambda: len(control.censuses) == 2, "the runs are named anew") < 3
        found.cluster.kill()
        await until_so(lambda: not control.accepted[-1].reachable, "the silence is told")
        control.want_census()
        await asyncio.sleep(30)
        assert len(control.censuses) == 2
        found.cluster.revive()
        await until_so(lambda: len(control.censuses) == 3, "the runs are named when the cluster is back")
        assert control.censuses[1:] == [("a-1",), ("a-1",)]


@virtual
async def test_runs_that_a_cluster_lost_while_it_was_away_are_told_as_lost() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control) as found:
        await until_so(lambda: found.cluster.started, "the run is started")
        found.cluster.kill()
        await asyncio.sleep(20)
        found.cluster.revive(forget=True)
        end = await found.told()
        assert (end.outcome, end.category) == ("lost", "lost")
