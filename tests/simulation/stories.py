"""Telling a story to its end, and looking at what it left: drawn from a seed, or written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

from cluster.backends.memory import Script
from tests.simulation.network import SimulatedNetwork
from tests.simulation.script import Arrival, Happening, arrivals, behaviour, happenings
from tests.virtual_time import in_virtual_time

JOBS, FAULTS = 14, 16
LAST_WORDS = 80


def drawn(seed: int, folder: Path, kinds: Sequence[str], preemption: str | None = None, *, elastic: bool = False) -> SimulatedNetwork:
    """The network after the story of a seed, with every job at its end."""
    random = Random(seed)
    network = told(
        folder, arrivals(random, JOBS, elastic=elastic), happenings(random, kinds, FAULTS), lambda run: behaviour(seed, run.run_id),
        name=f"seed {seed}", preemption=preemption,
    )  # fmt: skip
    for run_id in network.books.succeeded_runs():
        whole = "".join(behaviour(seed, run_id).log)
        assert network.plane.logs[run_id].decode() == whole, f"the log of {run_id}"
    return network


def told(
    folder: Path, jobs: Sequence[Arrival], faults: Sequence[Happening], script: Script, *, name: str = "", preemption: str | None = None
) -> SimulatedNetwork:
    """The network after a story. Whatever was broken on the way fails with the story's last lines."""
    networks: list[SimulatedNetwork] = []

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            network = SimulatedNetwork(folder, group, script, name, preemption)
            networks.append(network)
            await network.tell(jobs, faults)

    try:
        in_virtual_time(story)
        networks[0].books.check_settled()
        overbooked = {member.name: found for member in networks[0].members.values() if (found := member.cluster.violations)}
        assert not overbooked, f"asked for more than there is: {overbooked}"
    except BaseException as error:
        if networks:
            error.add_note("\n".join([f"the story of {name or folder.name}:", *networks[0].trace[-LAST_WORDS:]]))
        raise
    return networks[0]
