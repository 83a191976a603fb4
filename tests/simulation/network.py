"""A whole network in virtual time: a control plane that may die, members in memory, real agents, and a script of faults.

One seed makes one story, the same in every run. When the story is told, everything is repaired, and all jobs must
come to an end; the books are audited after every commit on the way.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

from cluster.agent import Agent, AgentSupersededError
from cluster.backends.memory import MemoryBackend, MemoryCluster, Script
from cluster.errors import UnreachableError
from cluster.model import ClusterSpec
from cluster.protocol import RunEvent, RunFinished, RunStarted
from scheduler.store import access, fleet
from scheduler.store.session import Store, Transaction
from tests.databases import empty_database
from tests.simulation.acts import ACTS, AGAIN_S
from tests.simulation.books import Books
from tests.simulation.plane import Plane
from tests.simulation.script import MEMBERS, Arrival, Happening
from tests.simulation.weather import SimulatedLink, Weather
from tests.virtual_time import until_so, virtual_clock

PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.50 CNY"}
REST_S = 3000.0
LONG_POLL_S = 7.5  # the longest that the control plane lets a call wait


class Member:
    """One cluster with its weather and its agents, of which the newest speaks for it."""

    def __init__(self, network: SimulatedNetwork, name: str, script: Script, seed: str) -> None:
        self.name, self._network = name, network
        self.cluster = MemoryCluster(MEMBERS[name][1], script, now=network.clock.now)
        self.cluster.listen(network.watch)
        self.weather = Weather(Random(f"{seed}/{name}/weather"), network.group.create_task)
        self._newest = 0
        self._agents: dict[int, asyncio.Task[None]] = {}
        self.start_agent()

    def start_agent(self) -> None:
        """Start (another) agent."""
        self._newest += 1
        self._agents[self._newest] = self._network.group.create_task(self._live(self._newest))

    def ensure_agent(self) -> None:
        """Start an agent if none lives."""
        if all(task.done() for task in self._agents.values()):
            self.start_agent()

    def kill_agents(self) -> None:
        """End every agent without a word."""
        for task in self._agents.values():
            task.cancel()
        self._agents.clear()

    async def _live(self, number: int) -> None:
        agent_id = f"{self.name}-{number}"
        link = SimulatedLink(self._network.plane, self.weather, self.name)
        agent = Agent(MemoryBackend(self.cluster), link, clock=self._network.clock, agent_id=agent_id, long_poll_s=LONG_POLL_S)
        try:
            await agent.run(asyncio.Event())
        except AgentSupersededError:
            self._network.say(f"{agent_id} is superseded")
            if number == self._newest:
                await asyncio.sleep(AGAIN_S)
                self.start_agent()


class SimulatedNetwork:
    """The network of one story, which `tell` runs to its end. The weather of storms comes from the seed."""

    def __init__(self, folder: Path, group: asyncio.TaskGroup, script: Script, seed: str = "", preemption: str | None = None) -> None:
        self.clock, self.group = virtual_clock(), group
        self._began = self.clock.now()
        self.trace: list[str] = []
        self.overlaps: list[str] = []  # attempts that ran while an earlier one of their job did
        self._running: dict[str, set[str]] = defaultdict(set)
        path = folder / "cpn.sqlite"
        furnish(path, self.clock.now(), preemption)
        self.books = Books(path, {(name, node.name): node for name, (_, nodes) in MEMBERS.items() for node in nodes})
        self.plane = Plane(path, self.clock, audit=self.books.audit, say=self.say)
        self.members = {name: Member(self, name, script, seed) for name in MEMBERS}

    def say(self, what: str) -> None:
        """Note what happened, for the reader of a failure."""
        self.trace.append(f"{self.clock.now() - self._began:8.2f} {what}")

    def watch(self, event: RunEvent) -> None:
        """See what a cluster does."""
        job = event.run_id.rpartition("-")[0]
        if isinstance(event, RunStarted):
            self.say(f"{event.run_id} runs")
            if self._running[job]:
                self.overlaps.append(f"{event.run_id} beside {sorted(self._running[job])}")
            self._running[job].add(event.run_id)
        elif isinstance(event, RunFinished):
            self.say(f"{event.run_id} {event.outcome}")
            self._running[job].discard(event.run_id)

    def start_server(self) -> None:
        """Start the server if it is down."""
        if not self.plane.up:
            self.say("the server begins")
            self.plane.start()

    def revive(self, member: Member, *, forget: bool) -> None:
        """Let a dead cluster answer again."""
        if not member.cluster.alive:
            member.cluster.revive(forget=forget)

    async def tell(self, jobs: Sequence[Arrival], faults: Sequence[Happening]) -> None:
        """Everything as scripted, then repairs, then rest."""
        turning = [self.group.create_task(part) for part in (self.plane.decide(), self.plane.judge())]
        acts = [self.group.create_task(part) for part in (*map(self._submit, jobs), *map(self._happen, faults))]
        await asyncio.gather(*acts)
        self._repair()
        await until_so(self._at_rest, "all jobs end and nothing is left to be told", REST_S, look_s=1.0)
        for member in self.members.values():
            member.kill_agents()
        for task in turning:
            task.cancel()
        self.plane.kill()

    async def _submit(self, job: Arrival) -> None:
        await asyncio.sleep(job.at)
        while job.job_id not in self.books.acknowledged:
            try:
                assert self.plane.submit(job.spec, job.job_id, key=job.job_id) == job.job_id
                self.books.acknowledged.add(job.job_id)
            except UnreachableError:
                await asyncio.sleep(AGAIN_S)

    async def _happen(self, fault: Happening) -> None:
        await asyncio.sleep(fault.at)
        self.say(str(fault))
        await ACTS[fault.what](self, self.members[fault.where], fault)

    def _repair(self) -> None:
        self.say("everything is repaired")
        self.start_server()
        for member in self.members.values():
            self.revive(member, forget=False)
            member.weather.cut = member.weather.storm = False
            member.ensure_agent()

    def _at_rest(self) -> bool:
        if self.books.open_jobs() or self.books.open_instructions():
            return False
        return not any(member.cluster.known() for member in self.members.values())


def furnish(path: Path, now: float, preemption: str | None = None) -> None:
    """A new database with the members, a queue with that policy, and a tenant."""

    def work(tx: Transaction) -> None:
        access.add_tenant(tx.conn, "acme", now)
        fleet.add_queue(tx.conn, "default", 1.0, None, now, preemption=preemption)
        for name, (jurisdiction, _) in MEMBERS.items():
            document = {"name": name, "backend": "memory", "jurisdiction": jurisdiction, "prices": PRICES}
            fleet.add_cluster(tx.conn, ClusterSpec.model_validate(document), now)

    path.write_bytes(empty_database())
    store = Store(f"sqlite:///{path}")
    try:
        store.write(work)
    finally:
        store.close()
