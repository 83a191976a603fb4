"""Carrying out what the control plane orders: each instruction once, per run in order, runs side by side.

Instructions come again until they are acknowledged, and one number acknowledges all up to it, so the number
may only grow past what is done. An order that cannot be carried out because the cluster does not answer is
tried again, until it is withdrawn: it is missing from a reply to a call made after it was received.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

from cluster.errors import PermanentError, RunRejectedError, TransientError
from cluster.full_disk import is_full
from cluster.protocol import Category, ClusterBackend, GangSize, Instruction, MakesDeposits, RunFinished, RunRequest, RunResized
from cluster.shipping import Shipping, Spawn, TrackedRun
from cluster.timing import Backoff, Clock

log = logging.getLogger("cpn.agent")
LOCAL = 0  # the sequence number of orders that the agent gives itself
GRACE_S = 5.0
StopOutcome = Literal["cancelled", "preempted", "lost"]


@dataclass
class _Order:
    instruction: Instruction
    received_at_call: int
    withdrawn: bool = False


class Orders:
    """Instructions received and not done, one line of work for each run."""

    def __init__(
        self, backend: ClusterBackend, shipping: Shipping, runs: dict[str, TrackedRun], spawn: Spawn, clock: Clock,
        may_start: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._backend, self._shipping, self._runs = backend, shipping, runs
        self._spawn, self._clock, self._may_start = spawn, clock, may_start
        self._open: dict[int, _Order] = {}
        self._lines: dict[str, deque[_Order]] = {}
        # Numbers taken and not acknowledged, smallest first, and those of them that are done.
        self._numbers: list[int] = []
        self._done: set[int] = set()
        self._highest = 0
        self.max_result_bytes: int | None = None
        self._retry = asyncio.Event()
        self.settled = asyncio.Event()
        self.settled.set()

    @property
    def acknowledged(self) -> int:
        """All instructions up to this sequence number are done."""
        return self._numbers[0] - 1 if self._numbers else self._highest

    def take(self, instructions: Sequence[Instruction], *, call: int, calls_made: int) -> bool:
        """Take in a reply to call number `call`, `calls_made` calls having been made by now. True when something was new."""
        self._withdraw_missing(instructions, call)
        floor = self.acknowledged
        fresh = (item for item in instructions if item.sequence > floor and item.sequence not in self._open)
        new = list({item.sequence: item for item in fresh if item.sequence not in self._done}.values())
        forgotten = {item.run_id: item.sequence for item in new if item.action == "forget"}
        for instruction in new:
            order = _Order(instruction, received_at_call=calls_made)
            # A run that is to be forgotten has an outcome already; to start it now would be to run it twice.
            order.withdrawn = instruction.action == "start" and forgotten.get(instruction.run_id, 0) > instruction.sequence
            self._open[instruction.sequence] = order
            heappush(self._numbers, instruction.sequence)
            self._highest = max(self._highest, instruction.sequence)
            self._enqueue(order)
        if self._open:
            self.settled.clear()
        return bool(new)

    def retry_now(self) -> None:
        """The cluster answers again. What it did not take, it gets before anything new, so that what is to end makes room first."""
        waiting, self._retry = self._retry, asyncio.Event()
        waiting.set()

    def stop_all(self, outcome: StopOutcome) -> tuple[str, ...]:
        """Stop every run that was begun and is not over; returns their ids, sorted."""
        running = tuple(sorted(run_id for run_id, run in self._runs.items() if not run.over))
        for run_id in running:
            stop = Instruction(sequence=LOCAL, action="stop", run_id=run_id, outcome=outcome, grace_s=GRACE_S)
            self._enqueue(_Order(stop, received_at_call=0))
        return running

    def begin(self, run: RunRequest) -> None:
        """Have an adopted run begin whose order was acknowledged by an earlier agent, unless an order for it is under way."""
        tracked = self._runs.get(run.run_id)
        if tracked is not None and not tracked.over and run.run_id not in self._lines:
            start = Instruction(sequence=LOCAL, action="start", run_id=run.run_id, run=run)
            self._enqueue(_Order(start, received_at_call=0))

    def run_over(self, run_id: str) -> None:
        """A run ended; release it if that was ordered already."""
        if self._runs[run_id].forget_when_over:
            self._enqueue(_Order(Instruction(sequence=LOCAL, action="forget", run_id=run_id), received_at_call=0))

    def _withdraw_missing(self, instructions: Sequence[Instruction], call: int) -> None:
        named = {item.sequence for item in instructions}
        # A long list is cut by the sender, so nothing can be said of numbers beyond its last.
        last = max(named, default=self._highest)
        for sequence, order in self._open.items():
            if sequence not in named and sequence <= last and order.received_at_call < call:
                order.withdrawn = True

    def _enqueue(self, order: _Order) -> None:
        run_id = order.instruction.run_id
        if run_id in self._lines:
            self._lines[run_id].append(order)
        else:
            self._lines[run_id] = deque([order])
            self._spawn(self._work(run_id))

    async def _work(self, run_id: str) -> None:
        line = self._lines[run_id]
        while line:
            await self._carry_out(line.popleft())
        del self._lines[run_id]

    async def _carry_out(self, order: _Order) -> None:
        instruction, backoff = order.instruction, Backoff()
        while not order.withdrawn:
            try:
                await self._attempt(instruction)
                break
            except TransientError as error:
                log.warning("%s of %s failed, trying again: %s", instruction.action, instruction.run_id, error)
                await backoff.pause(self._retry)
        self._finish(instruction.sequence)

    def _finish(self, sequence: int) -> None:
        if sequence == LOCAL:
            return
        del self._open[sequence]
        self._done.add(sequence)
        while self._numbers and self._numbers[0] in self._done:
            self._done.discard(heappop(self._numbers))
        if not self._open:
            self.settled.set()

    async def _attempt(self, instruction: Instruction) -> None:
        if instruction.action == "start" and instruction.run is not None:
            await self._start(instruction.run)
        elif instruction.action == "stop":
            await self._stop(instruction)
        elif instruction.action == "forget":
            await self._forget(instruction.run_id)
        elif instruction.action == "resize" and instruction.size is not None:
            await self._resize(instruction.run_id, instruction.size, instruction.grace_s)
        else:
            what = "size" if instruction.action == "resize" else "run"
            log.error("an order to %s %s came without its %s and is ignored", instruction.action, instruction.run_id, what)

    async def _start(self, run: RunRequest) -> None:
        if not self._may_start():
            raise TransientError("the lease is lost; nothing is started before the control plane answers")
        self._runs.setdefault(run.run_id, TrackedRun(run.epoch))
        log.info("start", extra={"run_id": run.run_id, "epoch": run.epoch, "nodes": run.nodes})
        try:
            run = await self._shipping.earlier_parts(run)
            if isinstance(self._backend, MakesDeposits) and self._backend.wants_deposit(run):
                run = await self._shipping.granted(run)
            await self._backend.start(run.model_copy(update={"max_result_bytes": self.max_result_bytes}))
        except TransientError:
            raise
        except RunRejectedError as error:
            self._report_failure(run.run_id, "start_failed", str(error))
        except PermanentError as error:
            self._report_failure(run.run_id, "infrastructure", str(error))
        except Exception as error:
            log.exception("the backend broke on the start of %s", run.run_id)
            category: Category = "storage" if is_full(error) else "infrastructure"
            self._report_failure(run.run_id, category, f"{type(error).__name__}: {error}")

    async def _stop(self, instruction: Instruction) -> None:
        tracked = self._runs.get(instruction.run_id)
        if tracked is not None and tracked.over:
            return
        log.info("stop", extra={"run_id": instruction.run_id, "outcome": instruction.outcome})
        try:
            await self._backend.stop(instruction.run_id, outcome=instruction.outcome, grace_s=instruction.grace_s)
        except TransientError:
            raise
        except Exception:
            # What could not be stopped goes on; its end is reported when it comes.
            log.exception("the backend broke on the stop of %s", instruction.run_id)

    async def _resize(self, run_id: str, size: GangSize, grace_s: float) -> None:
        tracked = self._runs.get(run_id)
        if tracked is None or tracked.over:
            return
        log.info("resize", extra={"run_id": run_id, "generation": size.generation, "workers": len(size.nodes)})
        try:
            await self._backend.resize(run_id, size, grace_s=grace_s)
        except TransientError:
            raise
        except Exception as error:
            log.exception("the backend broke on resizing %s", run_id)
            message = f"{type(error).__name__}: {error}"
            told = RunResized(run_id=run_id, generation=size.generation, workers=None, message=message, at=self._clock.now())
            self._shipping.accept(told)

    async def _forget(self, run_id: str) -> None:
        tracked = self._runs.get(run_id)
        if tracked is not None and not tracked.over:
            tracked.forget_when_over = True
            return
        try:
            await self._backend.forget(run_id)
        except TransientError:
            raise
        except Exception:
            log.exception("the backend broke on forgetting %s", run_id)
        self._runs.pop(run_id, None)

    def _report_failure(self, run_id: str, category: Category, message: str) -> None:
        log.warning("%s cannot run: %s", run_id, message, extra={"category": category})
        self._shipping.accept(RunFinished(run_id=run_id, outcome="failed", category=category, message=message, at=self._clock.now()))
