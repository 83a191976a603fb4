"""From the news of a run's workers to the one stream of the run's events.

The stream is a fold: the same batches in the same order give the same events, offsets and sequence numbers. A journal
keeps the batches, so an agent that was restarted folds them again and goes on where its predecessor stood.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cluster.protocol import RunEvent, RunLog, RunProgress, RunStarted, RunStarting, Usage
from cluster.replicas import CacheCounts
from cluster.runs.outbox import Batch, Seen, nothing_seen, seen_with


@dataclass
class _Worker:
    seen: Seen = field(default_factory=nothing_seen)
    started_at: float | None = None
    line: str = ""
    finished: dict[str, Any] | None = None


class RunStream:
    """The fold of one run. `absorb` takes a worker's batch and returns the events that it makes."""

    def __init__(self, run_id: str, workers: int, *, elastic: bool = False) -> None:
        self.run_id = run_id
        self._workers = [_Worker() for _ in range(workers)]
        self._several = elastic or workers > 1
        self._staying = workers
        self._released: list[Usage] = []
        self._offset = 0
        self._sequence = 0
        self._announced = False
        self._held: list[RunEvent] = []
        self.first_end: dict[str, Any] | None = None

    def seen(self, rank: int) -> Seen:
        """What has been absorbed of a worker's news."""
        return self._workers[rank].seen

    def is_over(self, rank: int) -> bool:
        """The worker's end has been absorbed."""
        return self._workers[rank].finished is not None

    @property
    def over(self) -> bool:
        """The ends of all workers that stay have been absorbed."""
        return all(worker.finished is not None for worker in self._workers[: self._staying])

    @property
    def announced(self) -> bool:
        """All workers have started."""
        return self._announced

    def dismiss(self, first: int) -> None:
        """The workers from this rank on are ended because the run shrinks: however they end, it is not the end of the run."""
        self._staying = first

    def resize(self, workers: int) -> None:
        """From now on the run has so many workers: those of higher ranks are gone, and missing ones are new."""
        for gone in self._workers[workers:]:
            self._released.append(Usage(**(gone.finished or {}).get("usage", {})))
        del self._workers[workers:]
        self._workers += [_Worker() for _ in range(workers - len(self._workers))]
        self._staying = workers

    def begin(self) -> list[RunEvent]:
        """The first event."""
        return [RunStarting(run_id=self.run_id)]

    def absorb(self, rank: int, batch: Batch) -> list[RunEvent]:
        """The events of one batch; those that come before all workers have started are held back until then."""
        worker = self._workers[rank]
        worker.seen = seen_with(worker.seen, batch)
        events: list[RunEvent] = []
        if "started" in batch:
            worker.started_at = batch["started"]
        if "log" in batch:
            events += self._log(rank, batch["log"])
        for record in batch.get("progress", ()):
            events.append(self._progress(record))
        if "finished" in batch and worker.finished is None:
            worker.finished = batch["finished"]
            if self.first_end is None and rank < self._staying and worker.finished["outcome"] != "succeeded":
                self.first_end = worker.finished
            events += self._log(rank, "", final=True)
        return self._in_order(events)

    def end(self) -> dict[str, Any]:
        """How the run ended: as its first worker that did not succeed, or as its first worker."""
        end = self.first_end or self._workers[0].finished
        assert end is not None, "the run is not over"
        return end

    def usage(self) -> Usage:
        """What all workers used: the longest wall time; CPU, memory and transfers added up."""
        used = [*self._released, *(Usage(**worker.finished.get("usage", {})) for worker in self._workers if worker.finished)]
        return Usage(
            wall_s=max((one.wall_s for one in used), default=0.0),
            cpu_s=sum(one.cpu_s for one in used),
            peak_memory_bytes=sum(one.peak_memory_bytes for one in used),
            transferred_bytes=sum(one.transferred_bytes for one in used),
            transfers=tuple(transfer for one in used for transfer in one.transfers),
            cache=sum((one.cache for one in used), CacheCounts()),
        )

    def _in_order(self, events: list[RunEvent]) -> list[RunEvent]:
        self._held += events
        starts = [worker.started_at for worker in self._workers if worker.started_at is not None]
        if not self._announced and len(starts) == len(self._workers):
            self._announced = True
            self._held.insert(0, RunStarted(run_id=self.run_id, at=max(starts)))
        if not self._announced and not self.over:
            return []
        ready, self._held = self._held, []
        return ready

    def _log(self, rank: int, text: str, *, final: bool = False) -> list[RunEvent]:
        if self._several:
            text = self._whole_lines(rank, text, final)
        if not text:
            return []
        event = RunLog(run_id=self.run_id, offset=self._offset, text=text)
        self._offset += len(text.encode())
        return [event]

    def _whole_lines(self, rank: int, text: str, final: bool) -> str:
        """Lines of several workers must not mix, so a line waits for its end; those of other ranks than 0 say whose they are."""
        worker = self._workers[rank]
        *lines, worker.line = (worker.line + text).split("\n")
        if final and worker.line:
            lines.append(worker.line)
            worker.line = ""
        prefix = f"[rank {rank}] " if rank else ""
        return "".join(f"{prefix}{line}\n" for line in lines)

    def _progress(self, record: dict[str, Any]) -> RunProgress:
        self._sequence += 1
        return RunProgress(run_id=self.run_id, sequence=self._sequence, step=record["step"], metrics=record["metrics"], at=record["at"])
