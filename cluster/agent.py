"""The agent: one per cluster, between the cluster's backend and the control plane.

It dials out and makes one kind of call, `sync`. A parked call waits for instructions; a second, immediate one
carries what happened here: observations, a changed inventory, a cluster that came or went. Every call is
harmless when repeated, and nothing that must be known is dropped while the control plane is away.

An agent whose lease ran out stops its runs, because by then the control plane may have started them
elsewhere; where the cluster's operator said so they go on, and what comes of them too late is refused. An agent that
restarts adopts what its predecessor left: at once, so that the lease watches over it, and again when the control plane
has taken it for the one that speaks, because until then another one may have started runs. Whenever the control plane
wants it, all runs are named (a census), so that both sides agree on what is running; until that has arrived no further
instruction is acknowledged, so that no run can be done and yet missing from the count. Adopted runs whose work has not
begun wait for the answer: what was given up meanwhile must not begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from cluster.contact import Contact
from cluster.errors import (
    AgentSupersededError,
    AuthenticationError,
    ClusterError,
    ClusterReplacedError,
    PermanentError,
    ReportRefusedError,
    TransientError,
)
from cluster.inventory_news import InventoryNews
from cluster.link import ControlLink
from cluster.model import LeasePolicy
from cluster.orders import Orders
from cluster.protocol import MOST_INSTRUCTIONS, AdoptedRun, AheadFile, BringsAhead, ClusterBackend, RunRequest, SyncReply, SyncRequest
from cluster.scaling import Wanted
from cluster.shipping import Shipping, TrackedRun, reduced, without_implied
from cluster.timing import Backoff, Clock, wait_at_most

__all__ = ["Agent", "AgentSupersededError"]
log = logging.getLogger("cpn.agent")
BATCH = 600
INVENTORY_S = 30.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
PARKED_AGAIN_S = 0.025  # Longer than a start rests (START_RESTS_S).


class Agent:
    """Drives one backend for one control plane. `long_poll_s` must stay below the control plane's suspect_after_s.

    `on_lease_lost` holds until the control plane says what its operator wants, and `on_policy` is told whenever that changes.
    """

    def __init__(
        self, backend: ClusterBackend, link: ControlLink, *, clock: Clock, agent_id: str, inventory_interval_s: float = 5.0,
        long_poll_s: float = 5.0, first_lease_s: float = 45.0, on_lease_lost: LeasePolicy = "stop",
        on_policy: Callable[[LeasePolicy], None] = lambda _policy: None,
    ) -> None:  # fmt: skip
        self._backend, self._link, self._clock, self._agent_id = backend, link, clock, agent_id
        self._inventory_interval_s, self._long_poll_s = inventory_interval_s, long_poll_s
        self._first_lease_s, self._on_lease_lost, self._on_policy = first_lease_s, on_lease_lost, on_policy
        self._runs: dict[str, TrackedRun] = {}
        self._waiting: dict[str, RunRequest] = {}
        self._inventory = InventoryNews()
        self._detail = ""
        self._reachable = self._reachable_told = True
        self._census_due = True
        self._acknowledge_at_most: int | None = None
        self._batch, self._unwanted, self._ahead = BATCH, tuple[str, ...](), tuple[AheadFile, ...]()
        self._taken = 0  # How many observations the report is made of that is on its way.
        self._wanted: tuple[Wanted, ...] | None = None  # An earlier agent may have asked for some.
        self._observations_apart = False
        self._news, self._introduced, self._reported = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._adopting = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; runs go on. Raises AgentSupersededError, AuthenticationError, ClusterReplacedError, PermanentError."""
        serving, stopping = asyncio.create_task(self._serve()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
        finally:
            for task in (serving, stopping):
                task.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)
            await self._backend.close()

    async def _serve(self) -> None:
        self._contact = Contact(self._first_lease_s)
        await self._open()
        try:
            async with asyncio.TaskGroup() as group:
                self._shipping = Shipping(self._link, self._runs, group.create_task, on_pending=self._news.set, on_over=self._run_over)
                self._orders = Orders(
                    self._backend, self._shipping, self._runs, group.create_task, self._clock, lambda: not self._contact.lease_lost
                )
                for part in (self._receive(), self._report(), self._drain(), self._watch_cluster(), self._watch_lease()):
                    group.create_task(part)
        except BaseExceptionGroup as broken:
            error: BaseException = broken
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None

    def _run_over(self, run_id: str) -> None:
        self._orders.run_over(run_id)

    async def _open(self) -> None:
        """Reach the cluster, adopt its runs and count its nodes, however long that takes."""
        backoff = Backoff()
        while True:
            try:
                await self._backend.open()
                adopted = await self._backend.adopt()
                counted = await self._backend.inventory()
                break
            except TransientError as error:
                log.warning("the cluster cannot be reached: %s", error)
                await self._complain(str(error))
                await backoff.pause()
            except ClusterError as error:
                await self._complain(str(error))
                raise
        self._inventory.saw(counted)
        self._track(adopted)
        log.info("the cluster is open", extra={"nodes": len(counted.nodes), "adopted": sorted(self._runs)})

    def _track(self, adopted: Sequence[AdoptedRun]) -> None:
        for run in adopted:
            self._runs.setdefault(run.run_id, TrackedRun(run.epoch))
            if run.waiting is not None:
                self._waiting[run.run_id] = run.waiting

    async def _complain(self, detail: str) -> None:
        """Tell why there is no inventory yet. The answer does not count: this agent has not been introduced."""
        try:
            await self._link.sync(SyncRequest(agent_id=self._agent_id, reachable=False, detail=detail[:2000]))
        except TransientError as error:
            log.warning("the control plane cannot be reached: %s", error)

    # --- the parked call ---

    async def _receive(self) -> None:
        """Keep a call parked for instructions."""
        await self._introduced.wait()
        backoff, pause_s = Backoff(), SHORTEST_PAUSE_S
        while True:
            began = self._contact.monotonic()
            try:
                fresh = await self._sync(self._request(wait_s=self._long_poll_s))
            except (AuthenticationError, AgentSupersededError):
                raise
            except ClusterError as error:
                self._contact.failed(error)
                await backoff.pause()
                continue
            backoff.reset()
            if fresh:
                # What begins now is often over in a moment. Its report acknowledges this too, and brings what is ordered meanwhile.
                self._reported.clear()
                await wait_at_most(self._reported, PARKED_AGAIN_S)
            # What is not done yet comes back at once; give it time, and more of it while nothing new comes.
            pause_s = SHORTEST_PAUSE_S if fresh else min(pause_s * 2, LONGEST_PAUSE_S)
            if self._orders.settled.is_set():
                if not fresh and self._contact.monotonic() - began < SHORTEST_PAUSE_S:
                    await asyncio.sleep(pause_s)
            else:
                await wait_at_most(self._orders.settled, pause_s)

    # --- the immediate call ---

    async def _report(self) -> None:
        """Tell what happened here as soon as it happens; what was not accepted is told again."""
        await self._take_over()
        backoff = Backoff()
        while True:
            if not self._has_news():
                self._news.clear()
                await self._news.wait()
                continue
            request = self._compose()
            try:
                await self._sync(request)
            except ReportRefusedError as error:
                if not self._give_way(request, error):
                    await backoff.pause()
            except (AuthenticationError, AgentSupersededError):
                raise
            except ClusterError as error:
                if isinstance(error, PermanentError) and not self._introduced.is_set():
                    raise
                self._contact.failed(error)
                await backoff.pause()
            else:
                backoff.reset()
                self._told(request)

    async def _take_over(self) -> None:
        """Speak for the cluster from now on, and adopt what another agent has started until now."""
        backoff = Backoff()
        while True:
            try:
                await self._sync(self._request().model_copy(update={"takes_over": True}))
                break
            except TransientError as error:
                self._contact.failed(error)
                await backoff.pause()
        while True:
            try:
                # Nothing that adopted runs tell may be read before they are known.
                async with self._adopting:
                    return self._track(await self._backend.adopt())
            except TransientError as error:
                log.warning("the cluster cannot be reached: %s", error)
                await backoff.pause()

    def _has_news(self) -> bool:
        changed = bool(self._inventory) or self._reachable != self._reachable_told
        return changed or self._census_possible() or bool(self._shipping.batch(1))

    def _census_possible(self) -> bool:
        return self._census_due and self._reachable

    def _compose(self) -> SyncRequest:
        census = self._census_possible()
        if census and self._acknowledge_at_most is None:
            self._acknowledge_at_most = self._orders.acknowledged
        observations = self._shipping.batch(self._batch)
        self._taken = len(observations)
        update = {"known_runs": tuple(sorted(self._runs)) if census else None, "observations": without_implied(observations)}
        request = self._request().model_copy(update=update)
        return request if self._observations_apart and observations else self._inventory.add_to(request)

    def _told(self, request: SyncRequest) -> None:
        self._shipping.accepted(self._taken)
        self._batch = BATCH
        if request.observations:
            self._reported.set()
        self._reachable_told = request.reachable
        if self._inventory.accepted(request):
            self._observations_apart = False
        if request.known_runs is not None:
            self._census_due, self._acknowledge_at_most = False, None
            self._introduced.set()

    def _give_way(self, request: SyncRequest, error: ReportRefusedError) -> bool:
        """Find what cannot be accepted, by parts, and say of it what can be said. False: nothing to be changed."""
        if request.observations and (request.inventory is not None or request.cache is not None):
            self._observations_apart = True
            return True
        if self._taken > 1:
            self._batch = self._taken // 2
            return True
        log.error("a report was refused: %s", error)
        if request.observations:
            self._shipping.replace_first(reduced(request.observations[0], str(error)))
            self._batch = BATCH
        return bool(request.observations)

    # --- both ---

    def _request(self, wait_s: float = 0.0) -> SyncRequest:
        acknowledged = self._orders.acknowledged
        if self._acknowledge_at_most is not None:
            acknowledged = min(acknowledged, self._acknowledge_at_most)
        return SyncRequest(
            agent_id=self._agent_id, reachable=self._reachable, detail=self._detail, acknowledged=acknowledged, wait_s=wait_s
        )  # fmt: skip

    async def _sync(self, request: SyncRequest) -> bool:
        """One call. True when its reply brought something new."""
        number, began = self._contact.begin()
        reply: SyncReply = await self._link.sync(request)
        if reply.superseded:
            raise AgentSupersededError("another agent process speaks for this cluster now")
        self._contact.succeeded(began, reply.lease_s)
        if reply.on_lease_lost != self._on_lease_lost:
            self._on_lease_lost = reply.on_lease_lost
            self._on_policy(reply.on_lease_lost)
        await self._scale(reply.wanted)
        if reply.unwanted != self._unwanted:
            self._unwanted = reply.unwanted
            await self._backend.refuse_copies(reply.unwanted)
        await self._bring_ahead(() if self._contact.lease_lost else reply.ahead)
        if reply.census_wanted:
            self._census_due = True
            self._news.set()
        self._orders.max_result_bytes = reply.max_result_bytes
        fresh = self._orders.take(reply.instructions, call=number, calls_made=self._contact.calls)
        if (request.known_runs is not None or self._introduced.is_set()) and len(reply.instructions) < MOST_INSTRUCTIONS:
            # The control plane has said all that it wants of the runs that were named.
            waiting, self._waiting = self._waiting, {}
            for run_id in sorted(waiting.keys() - {item.run_id for item in reply.instructions}):
                self._orders.begin(waiting[run_id])
        return fresh

    async def _scale(self, wanted: tuple[Wanted, ...]) -> None:
        """Pass on which nodes there shall be; what the cluster did not take is passed on with the next answer."""
        if wanted != self._wanted:
            try:
                await self._backend.scale(wanted)
            except TransientError as error:
                log.warning("the autoscaler could not be asked: %s", error)
            else:
                self._wanted = wanted

    async def _bring_ahead(self, wanted: tuple[AheadFile, ...]) -> None:
        """Pass on what jobs that wait are going to read here."""
        if wanted != self._ahead and isinstance(self._backend, BringsAhead):
            self._ahead = wanted
            await self._backend.bring_ahead(wanted)

    # --- the cluster ---

    async def _drain(self) -> None:
        async for event in self._backend.events():
            async with self._adopting:
                self._shipping.accept(event)
        raise ClusterError("the backend's events ended")

    async def _watch_cluster(self) -> None:
        """Read the inventory again and again; its silence is news, and so is its return."""
        while True:
            await asyncio.sleep(self._inventory_interval_s)
            try:
                async with asyncio.timeout(INVENTORY_S):
                    inventory = await self._backend.inventory()
            except ClusterReplacedError:
                # The next agent of this cluster adopts what is left of its runs.
                raise
            except (ClusterError, TimeoutError) as error:
                detail = str(error) or f"the cluster did not count its nodes within {INVENTORY_S:.0f} s"
                if self._reachable:
                    log.warning("the cluster cannot be reached: %s", detail)
                self._reachable, self._detail = False, detail[:2000]
                continue
            finally:
                self._news.set()
            if not self._reachable:
                log.info("the cluster can be reached again")
                self._orders.retry_now()
            self._reachable, self._detail = True, ""
            self._inventory.saw(inventory)

    async def _watch_lease(self) -> None:
        while True:
            await self._contact.lease_end()
            # Whether the data may lie here is known to nobody now, and the jobs may wait elsewhere.
            await self._bring_ahead(())
            if self._on_lease_lost == "stop":
                stopped = self._orders.stop_all("lost")
                log.error("the control plane did not answer for the time of the lease; runs are stopped", extra={"runs": stopped})
            else:
                log.error("the control plane did not answer for the time of the lease; runs go on as configured")
            await self._contact.lease_return()
