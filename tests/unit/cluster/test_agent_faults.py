"""The agent when things go wrong: reports that are refused, a lease that runs out, a successor, a token that is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cluster.agent import Agent
from cluster.backends.memory import MemoryBackend
from cluster.errors import (
    AgentSupersededError,
    AuthenticationError,
    ClusterError,
    ClusterReplacedError,
    PermanentError,
    ReportRefusedError,
    TransientError,
    UnreachableError,
)
from cluster.model import Inventory, Node
from cluster.protocol import RunFinished, RunProgress, SyncRequest
from tests.unit.cluster.agents import agent, memory_cluster
from tests.unit.cluster.control import LEASE_S, Control, run_request, start
from tests.virtual_time import until_so, virtual, virtual_clock

Refusal = Callable[[SyncRequest], ClusterError | None]


def unwanted(condition: Callable[[SyncRequest], object], error: ClusterError | None = None) -> Refusal:
    """Refuse the reports for which a condition holds."""
    return lambda request: (error or ReportRefusedError("422 no")) if condition(request) else None


def names(request: SyncRequest, step: int) -> bool:
    """Whether a report holds a certain progress record."""
    return any(isinstance(item.event, RunProgress) and item.event.step == step for item in request.observations)


# --- reports that are refused ---


@virtual
async def test_of_a_refused_report_only_what_cannot_be_accepted_is_left_out() -> None:
    control = Control(start(1, command=("train", "20")), start(2, "b-1"))
    control.refuse = unwanted(lambda request: names(request, 13))
    async with agent(control) as found:
        control.away = True
        await until_so(lambda: len(control.calls) > 3, "the control plane is missed")
        control.away = False
        await found.told("a-1")
        await found.told("b-1")
    told = [event.step for event in control.events if isinstance(event, RunProgress)]
    assert told == [step for step in range(20) if step != 13]


@virtual
async def test_a_report_that_is_too_large_goes_in_parts_and_in_order() -> None:
    control = Control(start(1, command=("train", "50")))
    control.refuse = unwanted(lambda request: len(request.observations) > 3, ReportRefusedError("413 too large"))
    async with agent(control) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.away = True
        await asyncio.sleep(5)
        control.away = False
        await found.told()
    assert [event.step for event in control.events if isinstance(event, RunProgress)] == list(range(50))


@virtual
async def test_an_end_that_is_refused_is_told_in_few_words() -> None:
    control = Control(start(1, command=("train", "1")))
    control.refuse = unwanted(
        lambda request: any(isinstance(item.event, RunFinished) and item.event.outcome == "succeeded" for item in request.observations)
    )
    async with agent(control) as found:
        end = await found.told()
    assert (end.outcome, end.category) == ("failed", "infrastructure")
    assert end.message == "the report of the end (succeeded) was refused: 422 no"


@virtual
async def test_an_end_that_is_refused_in_any_words_does_not_hold_up_the_others() -> None:
    control = Control(start(1, "a-1"), start(2, "b-1"))
    control.refuse = unwanted(
        lambda request: any(isinstance(item.event, RunFinished) and item.event.run_id == "a-1" for item in request.observations)
    )
    async with agent(control) as found:
        await found.told("b-1")
        await asyncio.sleep(60)
        assert {event.run_id for event in control.events if isinstance(event, RunFinished)} == {"b-1"}


@virtual
async def test_an_inventory_that_is_refused_holds_up_no_observation() -> None:
    control = Control(start(1))
    async with agent(control, inventory_interval_s=1.0) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.refuse = unwanted(lambda request: request.inventory is not None)
        found.cluster.nodes["n2"] = Node(name="n2", cpu=1, memory_bytes=1)
        await asyncio.sleep(5)
        control.order(start(2, "b-1"))
        await found.told("b-1")
        control.refuse = unwanted(lambda _request: False)
        await until_so(lambda: control.accepted[-1].inventory, "the inventory is told when it can be accepted")


@pytest.mark.parametrize("error", [PermanentError("404 no such cluster"), AuthenticationError("401 who are you")], ids=["unknown", "token"])
@pytest.mark.parametrize("step", ["takes_over", "known_runs"])
@virtual
async def test_an_introduction_that_can_never_be_accepted_ends_the_agent(step: str, error: ClusterError) -> None:
    control = Control()
    control.refuse = unwanted(lambda request: getattr(request, step) not in (False, None), error)
    async with agent(control) as found:
        assert await found.failure() is error


@pytest.mark.parametrize(
    "error", [UnreachableError("502"), TransientError("500"), PermanentError("404, for a moment")], ids=["away", "broken", "strange"]
)
@virtual
async def test_an_agent_that_was_introduced_outlasts_a_broken_control_plane(error: ClusterError) -> None:
    control = Control()
    async with agent(control) as found:
        await found.introduced()
        control.refuse = unwanted(lambda _request: True, error)
        await asyncio.sleep(200)
        control.refuse = unwanted(lambda _request: False)
        control.order(start(1))
        assert (await found.told()).outcome == "succeeded"


# --- the lease ---


@virtual
async def test_runs_are_stopped_when_the_lease_runs_out_and_not_before() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.away = True
        began = virtual_clock().now()
        await until_so(lambda: found.cluster.history("a-1")[-1].type == "finished", "the run is stopped")
        assert LEASE_S - 6 < virtual_clock().now() - began <= LEASE_S
        control.away = False
        end = await found.told()
        assert (end.outcome, end.category) == ("lost", "lost")


@virtual
async def test_runs_go_on_without_a_lease_where_that_is_wanted() -> None:
    control = Control(start(1, command=("sleep", "200")))
    control.on_lease_lost, told = "continue", list[str]()
    async with agent(control, on_policy=told.append) as found:
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        control.away = True
        await asyncio.sleep(300)
        control.away = False
        assert (await found.told()).outcome == "succeeded"
        control.on_lease_lost = "stop"
        control.order(start(2, "b-1", command=("sleep", "200")))
        await until_so(lambda: control.acknowledged == 2, "the start is acknowledged")
        control.away = True
        await asyncio.sleep(100)
        control.away = False
        assert (await found.told("b-1")).outcome == "lost"
    assert told == ["continue", "stop"], "once for each change, for the agent that comes after this one"


@virtual
async def test_an_agent_that_never_reached_the_control_plane_stops_what_it_adopted_after_its_first_lease() -> None:
    cluster, control = memory_cluster(), Control()
    run = start(1, command=("sleep", "600")).run
    assert run is not None
    cluster.start(run)
    control.away = True
    async with agent(control, cluster, first_lease_s=45.0):
        began = virtual_clock().now()
        await until_so(lambda: cluster.history("a-1")[-1].type == "finished", "the run is stopped")
        assert virtual_clock().now() - began == pytest.approx(45, abs=0.1)


@virtual
async def test_runs_go_on_under_an_agent_that_never_reached_the_control_plane_where_the_one_before_it_was_told_so() -> None:
    cluster, control = memory_cluster(), Control()
    cluster.start(run_request(command=("sleep", "200")))
    control.on_lease_lost, control.away = "continue", True
    async with agent(control, cluster, first_lease_s=45.0, on_lease_lost="continue") as found:
        await asyncio.sleep(300)
        control.away = False
        assert (await found.told()).outcome == "succeeded"


@virtual
async def test_nothing_is_started_without_a_lease_and_everything_after_its_return() -> None:
    control = Control()
    cluster = memory_cluster()
    async with agent(control, cluster) as found:
        await found.introduced()
        # The cluster is silent when the order comes, so it is still to be carried out when the lease is gone.
        cluster.kill()
        control.order(start(1))
        await asyncio.sleep(1)
        control.away = True
        await asyncio.sleep(LEASE_S + 10)
        cluster.revive()
        await asyncio.sleep(30)
        assert cluster.started == {}
        control.away = False
        assert (await found.told()).outcome == "succeeded"


@virtual
async def test_an_order_withdrawn_while_the_agent_was_cut_off_is_not_carried_out() -> None:
    control = Control()
    cluster = memory_cluster()
    async with agent(control, cluster) as found:
        await found.introduced()
        cluster.kill()
        control.order(start(1))
        await asyncio.sleep(1)
        control.away = True
        await asyncio.sleep(LEASE_S + 10)
        control.outbox = []
        cluster.revive()
        control.away = False
        control.order(start(2, "b-1"))
        await found.told("b-1")
        assert cluster.started == {"b-1": 1}


@virtual
async def test_an_agent_does_not_name_its_runs_while_its_cluster_is_silent() -> None:
    control = Control()
    async with agent(control) as found:
        await found.introduced()
        control.refuse = unwanted(lambda request: request.known_runs is not None, UnreachableError("no answer"))
        control.want_census()
        await until_so(lambda: control.calls[-1].known_runs is not None, "a census is wanted")
        found.cluster.kill()
        await until_so(lambda: not control.accepted[-1].reachable, "the silence is told")
        await asyncio.sleep(60)
        assert all(call.known_runs is None for call in control.calls if not call.reachable)
        control.refuse = unwanted(lambda _request: False)
        found.cluster.revive()
        await until_so(lambda: len(control.censuses) == 2, "the runs are named when the cluster is back")


@virtual
async def test_until_a_census_has_arrived_nothing_more_is_acknowledged() -> None:
    control = Control()
    async with agent(control) as found:
        await found.introduced()
        control.refuse = unwanted(lambda request: request.known_runs is not None, UnreachableError("no answer"))
        control.want_census()
        await until_so(lambda: control.calls[-1].known_runs is not None, "a census is on its way, and may arrive at any time")
        control.order(start(1))
        await until_so(lambda: found.cluster.started, "the run is started")
        await asyncio.sleep(30)
        assert control.acknowledged == 0
        control.refuse = unwanted(lambda _request: False)
        await until_so(lambda: control.acknowledged == 1, "the start is acknowledged")
        assert control.censuses[-1] == ("a-1",)


# --- the end ---


@virtual
async def test_a_superseded_agent_ends_and_leaves_its_runs_alone() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control) as found:
        await until_so(lambda: found.cluster.started, "the run is started")
        control.superseded = True
        control.order()
        assert isinstance(await found.failure(), AgentSupersededError)
        assert found.cluster.history("a-1")[-1].type == "started"


@virtual
async def test_a_revoked_token_ends_the_agent_and_leaves_its_runs_alone() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control) as found:
        await until_so(lambda: found.cluster.started, "the run is started")
        control.refuse = unwanted(lambda _request: True, AuthenticationError("revoked"))
        assert isinstance(await found.failure(), AuthenticationError)
        assert found.cluster.history("a-1")[-1].type == "started"


@virtual
async def test_a_cluster_that_refuses_the_agent_is_told_before_the_agent_ends() -> None:
    class Locked(MemoryBackend):
        async def open(self) -> None:
            raise AuthenticationError("the cluster wants another token")

    control = Control()
    locked = Agent(Locked(memory_cluster()), control, clock=virtual_clock(), agent_id="agent-1")
    with pytest.raises(AuthenticationError, match="another token"):
        await locked.run(asyncio.Event())
    assert [(call.reachable, call.detail) for call in control.accepted] == [(False, "the cluster wants another token")]


@virtual
async def test_another_cluster_at_the_address_ends_the_agent() -> None:
    class Replaced(MemoryBackend):
        counted = 0

        async def inventory(self) -> Inventory:
            self.counted += 1
            if self.counted > 1:
                raise ClusterReplacedError("another cluster answers")
            return await super().inventory()

    replaced = Agent(Replaced(memory_cluster()), Control(), clock=virtual_clock(), agent_id="agent-1")
    with pytest.raises(ClusterReplacedError):
        await replaced.run(asyncio.Event())


@virtual
async def test_a_backend_that_says_nothing_any_more_ends_the_agent() -> None:
    class Mute(MemoryBackend):
        def mute(self) -> None:
            self._events.put_nowait(None)

    backend = Mute(memory_cluster())
    mute = Agent(backend, Control(), clock=virtual_clock(), agent_id="agent-1")
    task = asyncio.create_task(mute.run(asyncio.Event()))
    await asyncio.sleep(1)
    backend.mute()
    with pytest.raises(ClusterError, match="events ended"):
        await task


@virtual
async def test_an_agent_that_is_asked_to_end_ends_at_once_and_leaves_its_runs_alone() -> None:
    control = Control(start(1, command=("sleep", "600")))
    async with agent(control) as found:
        await until_so(lambda: found.cluster.started, "the run is started")
        began = virtual_clock().now()
        found.stop.set()
        await found.task
        assert virtual_clock().now() - began < 0.1
        assert found.cluster.history("a-1")[-1].type == "started"
