"""Usage: what jobs held and what they cost in a time, by tenant, queue or cluster.

Hours are those from a run's start to its end that fall into the time, whatever became of it: they say what the network's machines did,
where receipts say what is owed for it. A gang whose size changed counts with the workers that it had. Money is that of the
receipts which were issued in the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from scheduler.store.records import Sizing
from scheduler.store.session import Connection
from scheduler.store.usage import Held, charged_between, held_between
from workloads.catalogue.postings import total_of
from workloads.resources import GIB, Money

By = Literal["tenant", "queue", "cluster"]
_HOUR_S = 3600.0


@dataclass
class Used:
    """Resource hours, accelerators by model, and amounts by currency."""

    runs: int = 0
    cpu_hours: float = 0.0
    memory_gib_hours: float = 0.0
    accelerator_hours: dict[str, float] = field(default_factory=dict)
    charged: dict[str, Decimal] = field(default_factory=dict)

    def hold(self, held: dict[str, Any], hours: float) -> None:
        """A run held this on each worker, for so many hours times workers."""
        self.runs += 1
        self.cpu_hours += held["cpu"] * hours
        self.memory_gib_hours += held["memory_bytes"] / GIB * hours
        if held["accelerator_count"] and held["accelerator_model"]:
            model = held["accelerator_model"]
            self.accelerator_hours[model] = self.accelerator_hours.get(model, 0.0) + held["accelerator_count"] * hours


def usage(conn: Connection, by: By, begin: float, end: float, now: float, tenant: str | None = None) -> dict[str, Used]:
    """What was used from `begin` until `end`, seconds since the epoch, by name; of one tenant alone where one is named."""
    found: dict[str, Used] = {}
    name: Callable[[Any], str] = lambda row: getattr(row, by)  # noqa: E731
    for run in held_between(conn, begin, end, tenant):
        found.setdefault(name(run), Used()).hold(run.held, worker_hours(run, begin, min(end, now)))
    for receipt in charged_between(conn, begin, end, tenant):
        total, used = Money.read_back(receipt.total), found.setdefault(name(receipt), Used())
        used.charged[total.currency] = total_of((used.charged.get(total.currency, Decimal(0)), total.amount))
    return dict(sorted(found.items()))


def worker_hours(run: Held, begin: float, end: float) -> float:
    """Hours times workers of a run that fall between two times."""
    return sum(max(min(ends, end) - max(begins, begin), 0.0) * workers for begins, ends, workers in _spans(run, end)) / _HOUR_S


def _spans(run: Held, end: float) -> Iterator[tuple[float, float, int]]:
    ended = end if run.finished_at is None else run.finished_at
    spans: Iterable[tuple[float, float, int]]
    spans = Sizing.read(run.elastic).spans(run.started_at, ended) if run.elastic else [(run.started_at, ended, run.workers)]
    yield from spans
