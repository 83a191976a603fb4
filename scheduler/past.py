"""Past: what a server remembers of how long runs last, so that nobody who asks when a job starts waits for it to be read.

What a run may last never changes, so it is read once for each run. What like jobs used of their limits is read anew when it is
older than half a minute: it moves an estimate by little. How fast they were on each accelerator model is read anew as soon as one more of
them has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from scheduler.engine.lengths import Parts, on_model
from scheduler.engine.speeds import Rate
from scheduler.store.line import RunLimit, last_ended, limits_of
from scheduler.store.rates import Like, come_since, last_number, newest
from scheduler.store.session import Connection
from workloads.resources import parse_duration
from workloads.spec import JobSpec

FRESH_S = 30.0
ENDED, OF_GROUP = 2000, 20
# How many rates are kept in memory, by like jobs and model, and behind how many new ones all of them are forgotten at once.
MOST_KEPT, MOST_BEHIND = 20_000, 10_000


class Past:
    """Lengths of runs. Thread-safe; estimates only, so it lives in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[str, tuple[str, float]] = {}
        self._parts: Mapping[str, Sequence[float]] = {}
        self._read_at: float | None = None
        self._rates: dict[tuple[Like, str], tuple[Rate, ...]] = {}
        self._seen = 0

    def limits(self, conn: Connection, run_ids: Iterable[str]) -> dict[str, tuple[str, float]]:
        """The group of each of these runs, which must be all that run now, and its limit in seconds."""
        wanted = list(run_ids)
        with self._lock:
            missing = [run_id for run_id in wanted if run_id not in self._limits]
            found = {
                run_id: (on_model(group_of(item), item.model), parse_duration(item.limit))
                for run_id, item in limits_of(conn, missing).items()
            }
            known = self._limits | found
            self._limits = {run_id: known[run_id] for run_id in wanted if run_id in known}
            return dict(self._limits)

    def parts(self, conn: Connection, now: float) -> Parts:
        """The parts of their limits that the last runs of each group used, newest first."""
        with self._lock:
            if self._read_at is None or not 0 <= now - self._read_at <= FRESH_S:
                self._parts, self._read_at = _used(last_ended(conn, ENDED)), now
            return self._parts

    def rates(self, conn: Connection, spec: JobSpec) -> tuple[Rate, ...]:
        """How fast the last runs of like jobs were on each model that a job may use; none where it declares what it needs of that."""
        accelerator = spec.resources.accelerator
        if accelerator is None or not accelerator.learns:
            return ()
        like = spec.tenant, spec.kind, spec.name
        with self._lock:
            self._forget_changed(conn)
            for choice in accelerator.choices:
                if (like, choice.model) not in self._rates:
                    self._rates[like, choice.model] = newest(conn, like, [choice.model], OF_GROUP)
            return tuple(rate for choice in accelerator.choices for rate in self._rates[like, choice.model])

    def _forget_changed(self, conn: Connection) -> None:
        last = last_number(conn)
        if not 0 <= last - self._seen <= MOST_BEHIND or len(self._rates) > MOST_KEPT:
            self._rates = {}
        elif last != self._seen:
            changed = come_since(conn, self._seen)
            self._rates = {key: found for key, found in self._rates.items() if key[0] not in changed}
        self._seen = last


def group_of(item: RunLimit) -> str:
    """Like jobs: those of one tenant with one kind and name, on whatever accelerators."""
    return f"{item.tenant}/{item.kind}/{item.name}"


def group_of_spec(spec: JobSpec) -> str:
    """The same for a job that has no run yet."""
    return group_of(RunLimit(spec.tenant, spec.kind, spec.name, ""))


def _used(ended: Iterable[tuple[RunLimit, float]]) -> Parts:
    found: dict[str, list[float]] = {}
    for item, seconds in ended:
        part = min(max(seconds / parse_duration(item.limit), 0.0), 1.0)
        group = group_of(item)
        for key in dict.fromkeys((group, on_model(group, item.model))):
            of_group = found.setdefault(key, [])
            if len(of_group) < OF_GROUP:
                of_group.append(part)
    return found
