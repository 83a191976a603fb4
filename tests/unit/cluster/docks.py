"""Shipping for tests: what it ships to, and events in few words."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.protocol import (
    ResultFile,
    RunEvent,
    RunFinished,
    RunLog,
    RunProgress,
    RunStarted,
    RunStarting,
)
from cluster.shipping import Shipping, TrackedRun
from tests.unit.cluster.control import Control
from tests.virtual_time import until_so

AT = 1_800_000_000.0


@dataclass
class Dock:
    """Shipping with what it ships to; `over` names the runs whose end was taken in, in order."""

    control: Control
    shipping: Shipping
    runs: dict[str, TrackedRun]
    over: list[str] = field(default_factory=list)
    rung: list[int] = field(default_factory=list)

    def accept(self, *events: RunEvent) -> None:
        for event in events:
            self.shipping.accept(event)

    def told(self) -> list[RunEvent]:
        return [item.event for item in self.shipping.batch(1000)]

    async def ended(self, run_id: str = "a-1") -> RunFinished:
        """The end of a run as it is told."""
        await until_so(lambda: run_id in self.over, f"{run_id} is over")
        return next(event for event in self.told() if isinstance(event, RunFinished) and event.run_id == run_id)


@asynccontextmanager
async def dock(*run_ids: str) -> AsyncIterator[Dock]:
    """Shipping for these runs (a-1 when none is named), with a control plane that takes everything."""
    control, runs, over, rung = Control(), {run_id: TrackedRun(epoch=3) for run_id in run_ids or ("a-1",)}, list[str](), list[int]()
    async with asyncio.TaskGroup() as group:
        shipping = Shipping(control, runs, group.create_task, on_pending=lambda: rung.append(1), on_over=over.append)
        yield Dock(control, shipping, runs, over, rung)


def starting(run_id: str = "a-1") -> RunStarting:
    return RunStarting(run_id=run_id)


def started(run_id: str = "a-1") -> RunStarted:
    return RunStarted(run_id=run_id, at=AT)


def log(offset: int, text: str, run_id: str = "a-1") -> RunLog:
    return RunLog(run_id=run_id, offset=offset, text=text)


def progress(sequence: int, **metrics: float) -> RunProgress:
    return RunProgress(run_id="a-1", sequence=sequence, step=sequence, metrics=metrics, at=AT)


def end(run_id: str = "a-1", outcome: str = "succeeded", **fields: object) -> RunFinished:
    return RunFinished.model_validate({"run_id": run_id, "outcome": outcome, "at": AT, **fields})


def file(folder: Path, name: str, content: bytes = b"rows") -> ResultFile:
    """A result file that is really there."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return ResultFile(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
