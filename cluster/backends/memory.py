"""A cluster that exists in memory only. It runs nothing: every run does what a script says it would do.

Tests, simulation and the throughput benchmark use it where the subject is what lies above a cluster. What a
real cluster would refuse, it refuses: unknown nodes, and runs that do not fit on a node beside what is there
(which it also records in `violations`, because a scheduler that keeps its books never asks for that).
`MemoryCluster` is what outlives an agent, `MemoryBackend` an agent's connection to it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster.errors import RunRejectedError, UnreachableError
from cluster.model import Inventory, Node
from cluster.pretence import Behaviour, Script, fresh, moved_at_once, steps, succeed_at_once
from cluster.protocol import (
    AdoptedRun,
    AheadFile,
    GangSize,
    RunEvent,
    RunFinished,
    RunRequest,
    RunResized,
    RunStarted,
    RunStarting,
    Usage,
)
from cluster.replicas import Pretended
from cluster.scaling import Scaling, Wanted

__all__ = ["Behaviour", "MemoryBackend", "MemoryCluster", "Script", "succeed_at_once"]
StopOutcome = Literal["cancelled", "preempted", "lost"]
Amounts = dict[str, float]  # cores, bytes, devices by model
SLACK = 1e-9


@dataclass
class _Run:
    request: RunRequest
    steps: list[tuple[float, RunEvent]] = field(default_factory=list)
    history: list[RunEvent] = field(default_factory=list)
    begun_at: float = 0.0
    brought: Usage = field(default_factory=Usage)
    generation: int = 0
    timer: asyncio.TimerHandle | None = None
    over: bool = False


class MemoryCluster:
    """Nodes and runs. `started` counts starts by run id, `violations` what overbooked a node."""

    def __init__(
        self, nodes: Iterable[Node], script: Script = succeed_at_once, *, now: Callable[[], float] = time.time, version: str = "memory",
        copies: Pretended | None = None,
    ) -> None:  # fmt: skip
        self.nodes: dict[str, Node] = {node.name: node for node in nodes}
        self.version, self.copies = version, copies
        self.scaling: Scaling | None = None
        self.wanted: tuple[Wanted, ...] = ()
        self.started: Counter[str] = Counter()
        self.violations: list[str] = []
        self.alive = True
        self._script, self._now = script, now
        self._runs: dict[str, _Run] = {}
        self._held: dict[str, Amounts] = {}
        self._listeners: list[Callable[[RunEvent], None]] = []
        self._unheard: list[RunEvent] = []

    def kill(self) -> None:
        """Answer nothing and say nothing from now on; what runs goes on unseen."""
        self.alive = False

    def revive(self, *, forget: bool = False) -> None:
        """Answer again. With `forget`, as a cluster that lost its memory: no run is left, and those unfinished are lost."""
        self.alive = True
        unheard, self._unheard = self._unheard, []
        if not forget:
            for event in unheard:
                self._say(event)
            return
        unsaid = {event.run_id for event in unheard}
        lost = sorted(run_id for run_id, run in self._runs.items() if not run.over or run_id in unsaid)
        for run_id in sorted(self._runs):
            self._cancel(self._runs.pop(run_id))
        self._held.clear()
        for run_id in lost:
            self._say(RunFinished(run_id=run_id, outcome="lost", category="lost", message="the cluster lost its memory", at=self._now()))

    def check(self) -> None:
        """Raises UnreachableError while the cluster is dead."""
        if not self.alive:
            raise UnreachableError("the cluster in memory is switched off")

    def start(self, request: RunRequest) -> None:
        """Begin a run, once. Raises RunRejectedError, UnreachableError."""
        self.check()
        if request.run_id in self._runs:
            return
        self._hold(request, range(len(request.nodes)))
        self.started[request.run_id] += 1
        run = self._runs[request.run_id] = _Run(request, begun_at=asyncio.get_running_loop().time())
        self._record(run, RunStarting(run_id=request.run_id))
        self._record(run, RunStarted(run_id=request.run_id, at=self._now()))
        run.steps = steps(request, self._script(request))
        self._bring_in(run)
        self._advance(run)

    def stop(self, run_id: str, outcome: StopOutcome) -> None:
        """End a run that is not over. Raises UnreachableError."""
        self.check()
        run = self._runs.get(run_id)
        if run is not None and not run.over:
            used = run.brought.model_copy(update={"wall_s": asyncio.get_running_loop().time() - run.begun_at})
            self._record(run, RunFinished(run_id=run_id, outcome=outcome, category=outcome, at=self._now(), usage=used))

    def resize(self, run_id: str, size: GangSize) -> None:
        """Give an elastic run that is not over other workers. Raises UnreachableError."""
        self.check()
        run = self._runs.get(run_id)
        if run is None or run.over or not run.request.elastic or size.generation < run.generation:
            return
        message = ""
        if size.generation > run.generation:
            run.generation = size.generation
            wanted = run.request.model_copy(update={"nodes": size.nodes, "accelerator_devices": size.accelerator_devices})
            before, after = len(run.request.nodes), len(size.nodes)
            try:
                self._hold(wanted, range(before, after))
                self._release(run.request, range(after, before))
                run.request = wanted
            except RunRejectedError as error:
                message = str(error)
        workers = len(run.request.nodes)
        self._record(run, RunResized(run_id=run_id, generation=run.generation, workers=workers, message=message, at=self._now()))

    def forget(self, run_id: str) -> None:
        """Drop what is kept of an ended run. Raises UnreachableError."""
        self.check()
        if run_id in self._runs and self._runs[run_id].over:
            del self._runs[run_id]

    def known(self) -> tuple[AdoptedRun, ...]:
        """Runs not forgotten, by id. Raises UnreachableError."""
        self.check()
        return tuple(AdoptedRun(run_id=run_id, epoch=self._runs[run_id].request.epoch) for run_id in sorted(self._runs))

    def knows(self, run_id: str) -> bool:
        """Whether a run is not forgotten. Raises UnreachableError."""
        self.check()
        return run_id in self._runs

    def listen(self, listener: Callable[[RunEvent], None]) -> None:
        """Call `listener` with every event from now on."""
        self._listeners.append(listener)

    def leave(self, listener: Callable[[RunEvent], None]) -> None:
        """Call `listener` no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def history(self, run_id: str) -> tuple[RunEvent, ...]:
        """All that a run did."""
        return tuple(self._runs[run_id].history)

    def _bring_in(self, run: _Run) -> None:
        """Have the inputs that do not lie here, without a cache all of them anew; a run for which there is no room fails at once."""
        wanted = [(item.sha256, item.size_bytes, item.source) for item in run.request.inputs.values() if not item.local]
        if not wanted:
            return
        at_s, end = run.steps[-1]
        assert isinstance(end, RunFinished)
        try:
            counts, moved = self.copies.take(run.request.run_id, wanted) if self.copies else moved_at_once(wanted)
        except ValueError as error:
            failed = RunFinished(run_id=run.request.run_id, outcome="failed", category="cache", message=str(error), at=0.0)
            run.steps = [(0.0, failed)]
        else:
            run.brought = Usage(cache=counts, transfers=moved, transferred_bytes=sum(one.size_bytes for one in moved))
            used = run.brought.model_copy(update={"wall_s": end.usage.wall_s})
            run.steps[-1] = (at_s, end.model_copy(update={"usage": used}))

    def _hold(self, request: RunRequest, ranks: range) -> None:
        held = {request.nodes[rank]: dict(self._held.get(request.nodes[rank], {})) for rank in ranks}
        for rank in ranks:
            name = request.nodes[rank]
            node = self.nodes.get(name)
            if node is None or not node.ready:
                raise RunRejectedError(f"run {request.run_id}: node {name!r} is not there or not ready")
            _add(held[name], _demand(request, rank), 1)
        for name in sorted(held):
            capacity = _capacity(self.nodes[name])
            over = sorted(what for what, amount in held[name].items() if amount > capacity.get(what, 0.0) + SLACK)
            if over:
                message = f"run {request.run_id}: node {name} has too little {', '.join(over)} beside what it holds"
                self.violations.append(message)
                raise RunRejectedError(message)
        self._held.update(held)

    def _release(self, request: RunRequest, ranks: range) -> None:
        for rank in ranks:
            _add(self._held[request.nodes[rank]], _demand(request, rank), -1)

    def _advance(self, run: _Run) -> None:
        """Take every step that is due, and set a timer for the next."""
        loop = asyncio.get_running_loop()
        run.timer = None
        while run.steps and not run.over:
            wait_s = run.begun_at + run.steps[0][0] - loop.time()
            if wait_s > 0:
                run.timer = loop.call_later(wait_s, self._advance, run)
                return
            self._record(run, fresh(run.steps.pop(0)[1], self._now()))

    def _record(self, run: _Run, event: RunEvent) -> None:
        run.history.append(event)
        if isinstance(event, RunFinished):
            self._cancel(run)
            if self.copies is not None:
                self.copies.leave(event.run_id)
            self._release(run.request, range(len(run.request.nodes)))
        if self.alive:
            self._say(event)
        else:
            self._unheard.append(event)

    def _cancel(self, run: _Run) -> None:
        run.over = True
        if run.timer is not None:
            run.timer.cancel()

    def _say(self, event: RunEvent) -> None:
        for listener in tuple(self._listeners):
            listener(event)


class MemoryBackend:
    """A ClusterBackend over a MemoryCluster."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._mine: set[str] = set()
        self._events: asyncio.Queue[RunEvent | None] = asyncio.Queue()

    async def open(self) -> None:
        self._cluster.check()
        self._cluster.leave(self._hear)
        self._cluster.listen(self._hear)

    async def inventory(self) -> Inventory:
        self._cluster.check()
        nodes = tuple(self._cluster.nodes[name] for name in sorted(self._cluster.nodes))
        copies = self._cluster.copies
        return Inventory(
            nodes=nodes,
            version=self._cluster.version,
            resizes=True,
            cache=copies.state() if copies else None,
            scaling=self._cluster.scaling,
        )

    async def start(self, run: RunRequest) -> None:
        new = run.run_id not in self._mine
        if new and self._cluster.knows(run.run_id):
            # Another agent has started it.
            self._adopt(run.run_id)
            return
        self._mine.add(run.run_id)
        try:
            self._cluster.start(run)
        except Exception:
            if new:
                self._mine.discard(run.run_id)
            raise

    async def stop(self, run_id: str, *, outcome: StopOutcome, grace_s: float) -> None:  # noqa: ARG002
        self._cluster.stop(run_id, outcome)

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:  # noqa: ARG002
        self._cluster.resize(run_id, size)

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        known = self._cluster.known()
        for run in known:
            if run.run_id not in self._mine:
                self._adopt(run.run_id)
        return known

    async def events(self) -> AsyncIterator[RunEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    async def forget(self, run_id: str) -> None:
        self._cluster.forget(run_id)
        self._mine.discard(run_id)

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        if self._cluster.copies is not None:
            self._cluster.copies.refuse(versions)

    async def bring_ahead(self, files: Sequence[AheadFile]) -> None:
        if self._cluster.copies is not None:
            self._cluster.copies.bring([(one.file.sha256, one.file.size_bytes, one.file.source) for one in files])

    async def scale(self, wanted: Sequence[Wanted]) -> None:
        self._cluster.wanted = tuple(wanted)

    async def close(self) -> None:
        self._cluster.leave(self._hear)
        self._events.put_nowait(None)

    def _adopt(self, run_id: str) -> None:
        self._mine.add(run_id)
        for event in self._cluster.history(run_id):
            self._events.put_nowait(event)

    def _hear(self, event: RunEvent) -> None:
        if event.run_id in self._mine:
            self._events.put_nowait(event)


def _demand(request: RunRequest, rank: int) -> Amounts:
    """What one worker holds; of each device that it was given by number, all or its share."""
    demand: Amounts = {"cpu": request.cpu, "memory": request.memory_bytes}
    if request.accelerator_model and request.accelerator_count:
        demand[request.accelerator_model] = request.accelerator_count
        numbers = request.accelerator_devices[rank] if request.accelerator_devices else ()
        demand |= {_device(request.accelerator_model, number): min(request.accelerator_count, 1.0) for number in numbers}
    return demand


def _device(model: str, number: int) -> str:
    return f"{model} {number}"


def _capacity(node: Node) -> Amounts:
    capacity: Amounts = {"cpu": node.cpu, "memory": node.memory_bytes}
    for item in node.accelerators:
        _add(capacity, {item.model: item.count}, 1)
    models = {item.model for item in node.accelerators}
    return capacity | {_device(model, number): 1.0 for model in models for number in range(int(capacity[model]))}


def _add(amounts: Amounts, more: Amounts, factor: int) -> None:
    for what, amount in more.items():
        amounts[what] = amounts.get(what, 0.0) + amount * factor
