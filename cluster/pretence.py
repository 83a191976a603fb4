"""What runs of a cluster in memory pretend to do: a script says it, and the steps of a run follow from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.protocol import Category, Preview, RunEvent, RunFinished, RunLog, RunProgress, RunRequest, Usage
from cluster.replicas import CacheCounts, Transfer

Outcome = Literal["succeeded", "failed", "cancelled", "preempted", "lost"]


@dataclass(frozen=True)
class Behaviour:
    """What a run pretends to do. Log pieces and metrics are spread evenly over `duration_s`; 0 ends the run at once."""

    duration_s: float = 0.0
    outcome: Outcome = "succeeded"
    exit_code: int | None = 0
    category: Category | None = None
    log: tuple[str, ...] = ()
    progress: tuple[dict[str, float], ...] = ()
    message: str = ""
    preview: Preview | None = None


Script = Callable[[RunRequest], Behaviour]


def succeed_at_once(_run: RunRequest) -> Behaviour:
    """The script of a cluster on which everything takes no time and works."""
    return Behaviour()


def moved_at_once(wanted: Sequence[tuple[str, int, str]]) -> tuple[CacheCounts, tuple[Transfer, ...]]:
    """What is told where nothing is kept: all of these (checksum, bytes, where from) came, in no time that could be measured."""
    sizes = {sha256: (size_bytes, source) for sha256, size_bytes, source in wanted}
    moved = tuple(Transfer(source=source, size_bytes=size, seconds=0.0, sha256=sha256) for sha256, (size, source) in sizes.items())
    return CacheCounts(misses=len(moved)), moved


def steps(request: RunRequest, behaviour: Behaviour) -> list[tuple[float, RunEvent]]:
    """All that the run will do after its start, as (seconds after the start, event), in order."""
    steps: list[tuple[float, RunEvent]] = []
    offset = 0
    for index, text in enumerate(behaviour.log):
        steps.append((_spread(index, len(behaviour.log), behaviour), RunLog(run_id=request.run_id, offset=offset, text=text)))
        offset += len(text.encode())
    for index, metrics in enumerate(behaviour.progress):
        at_s = _spread(index, len(behaviour.progress), behaviour)
        steps.append((at_s, RunProgress(run_id=request.run_id, sequence=index + 1, step=index, metrics=metrics, at=0.0)))
    # In time, the sort being stable; what would come after the longest permitted time does not come.
    steps = sorted((step for step in steps if step[0] <= request.max_runtime_s), key=lambda step: step[0])
    return [*steps, (min(behaviour.duration_s, request.max_runtime_s), _end(request, behaviour))]


def _spread(index: int, count: int, behaviour: Behaviour) -> float:
    return behaviour.duration_s * (index + 1) / (count + 1)


def _end(request: RunRequest, behaviour: Behaviour) -> RunFinished:
    if behaviour.duration_s > request.max_runtime_s:
        message = f"it ran longer than {request.max_runtime_s:g} s"
        used = Usage(wall_s=request.max_runtime_s)
        return RunFinished(run_id=request.run_id, outcome="failed", category="max_runtime", message=message, at=0.0, usage=used)
    category = behaviour.category or ("exit" if behaviour.outcome == "failed" else None)
    return RunFinished(
        run_id=request.run_id, outcome=behaviour.outcome, category=category, exit_code=behaviour.exit_code, message=behaviour.message,
        at=0.0, preview=behaviour.preview, usage=Usage(wall_s=behaviour.duration_s),
    )  # fmt: skip


def fresh(event: RunEvent, now: float) -> RunEvent:
    """The event as it happens `now`."""
    return event.model_copy(update={"at": now}) if isinstance(event, RunProgress | RunFinished) else event
