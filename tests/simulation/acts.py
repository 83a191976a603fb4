"""What each happening of a script does to a network, and how it is undone. Two of a kind may overlap: the first to end ends both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from cluster.errors import UnreachableError
from tests.simulation.script import LASTS_S, Happening

if TYPE_CHECKING:
    from tests.simulation.network import Member, SimulatedNetwork

Act: TypeAlias = "Callable[[SimulatedNetwork, Member, Happening], Awaitable[None]]"
AGAIN_S = 3.0
# What begins within the story ends soon after it.
LATEST_END_S = LASTS_S + 75.0


async def _while_it_lasts(fault: Happening) -> None:
    await asyncio.sleep(min(fault.lasts_s, LATEST_END_S - fault.at))


async def insist(command: Callable[[], object]) -> None:
    """What a person does whose command did not reach the server: give it again."""
    while True:
        try:
            command()
        except UnreachableError:
            await asyncio.sleep(AGAIN_S)
        else:
            return


async def _cut(_network: SimulatedNetwork, member: Member, fault: Happening) -> None:
    member.weather.cut = True
    await _while_it_lasts(fault)
    member.weather.cut = False


async def _storm(_network: SimulatedNetwork, member: Member, fault: Happening) -> None:
    member.weather.storm = True
    await _while_it_lasts(fault)
    member.weather.storm = False


async def _kill_server(network: SimulatedNetwork, _member: Member, fault: Happening) -> None:
    network.plane.kill()
    await _while_it_lasts(fault)
    network.start_server()


def _server_dies(moment: Literal["before", "after"]) -> Act:
    async def act(network: SimulatedNetwork, _member: Member, fault: Happening) -> None:
        network.plane.store.dies = moment
        await _while_it_lasts(fault)
        network.plane.store.dies = ""
        network.start_server()

    return act


async def _kill_agents(_network: SimulatedNetwork, member: Member, fault: Happening) -> None:
    member.kill_agents()
    await _while_it_lasts(fault)
    member.ensure_agent()


async def _double_agent(_network: SimulatedNetwork, member: Member, _fault: Happening) -> None:
    member.start_agent()


def _cluster_dies(*, forget: bool) -> Act:
    async def act(network: SimulatedNetwork, member: Member, fault: Happening) -> None:
        member.cluster.kill()
        await _while_it_lasts(fault)
        network.revive(member, forget=forget)

    return act


async def _cancel(network: SimulatedNetwork, _member: Member, fault: Happening) -> None:
    known = sorted(network.books.acknowledged)
    if known:
        await insist(lambda: network.plane.cancel(known[fault.number % len(known)]))


def _cordon(standing: Literal["cordoned", "draining"]) -> Act:
    async def act(network: SimulatedNetwork, member: Member, fault: Happening) -> None:
        await insist(lambda: network.plane.set_cordon(member.name, standing))
        await _while_it_lasts(fault)
        await insist(lambda: network.plane.set_cordon(member.name, "open"))

    return act


ACTS: dict[str, Act] = {
    "cut": _cut,
    "storm": _storm,
    "server killed": _kill_server,
    "server dies before a commit": _server_dies("before"),
    "server dies after a commit": _server_dies("after"),
    "agent killed": _kill_agents,
    "agent doubled": _double_agent,
    "cluster dead": _cluster_dies(forget=False),
    "cluster forgets": _cluster_dies(forget=True),
    "cancel": _cancel,
    "drain": _cordon("draining"),
    "cordon": _cordon("cordoned"),
}
