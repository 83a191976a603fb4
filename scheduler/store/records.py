"""Rows as frozen values. Field names are the tables' column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic_core import from_json, to_json

from cluster.drivers import ACTORS, Driver
from cluster.health import Health
from cluster.model import ClusterSpec, Node
from cluster.replicas import CacheState
from cluster.scaling import Scaling
from scheduler.lifecycle import State
from scheduler.links import Inbound, Samples
from scheduler.store.rows import Document
from scheduler.wishes import Wish
from workloads.spec import JobSpec

R = TypeVar("R", "JobRecord", "RunRecord")
# Specs that are kept as models, and how long a statement in one of them may be.
MOST_REMEMBERED, MOST_REMEMBERED_SQL = 8192, 10_000


@dataclass(frozen=True)
class JobRecord:
    """A job as stored; `spec` is the document that was accepted."""

    sequence: int
    id: str
    version: int
    state: str
    tenant: str
    queue: str
    rank: int
    name: str
    kind: str
    spec: dict[str, Any]
    submitted_by: str
    idempotency_key: str | None
    idempotency_digest: str | None
    attempts: int
    run_id: str | None
    not_before: float | None
    cause: str
    message: str
    blocker: str
    cancel_requested: bool
    submitted_at: float
    queued_at: float | None
    placed_at: float | None
    started_at: float | None
    finished_at: float | None
    spared: int = 0  # Attempts that the network ended for its own reasons; they do not count against `retry.attempts`.
    waiting_for: int = 0  # Jobs that have to end first and have not; of a task that its array holds back, one more.
    array_id: str | None = None
    array_index: int | None = None

    def parsed(self) -> JobSpec:
        """The spec as a model."""
        return read_spec(self.spec)


@dataclass(frozen=True)
class ArrayRecord:
    """An array as stored; `counts` is how many of its tasks are in each state."""

    id: str
    version: int
    state: str
    tenant: str
    first: str
    size: int
    at_most: int | None
    released: int
    counts: dict[str, int]
    idempotency_key: str | None
    idempotency_digest: str | None
    submitted_at: float
    finished_at: float | None

    def holds_back(self, job: JobRecord) -> bool:
        """Whether a task of it has to wait until others have ended, because no more may run at once."""
        return job.array_index is not None and job.array_index > self.released


@dataclass(frozen=True)
class Resize:
    """A change of a run's size that its agent has not answered yet: to how many workers, why, since when, and for which job, if one."""

    workers: int
    why: str
    at: float
    beneficiary: str | None = None


@dataclass(frozen=True)
class Sizing:
    """How many workers an elastic run has, and had.

    It may not have fewer than `least`. It was `granted` so many in its turn, and has `workers` as its agent said last; what its nodes
    name beyond that are workers that join, or that `pending` ends. `generation` counts the orders. `past` are the times until which it
    had as many workers before, in order, and `peak` is the most at once, which its quote is for. Its last change was over at
    `settled_at`.
    """

    least: int
    granted: int
    workers: int
    peak: int
    generation: int = 0
    past: tuple[tuple[float, int], ...] = ()
    settled_at: float | None = None
    pending: Resize | None = None

    @classmethod
    def of(cls, least: int, workers: int) -> Sizing:
        """That of a run that begins with so many, and may have no fewer than its `least`."""
        return cls(least, workers, workers, workers)

    @classmethod
    def read(cls, document: dict[str, Any]) -> Sizing:
        """As it is stored."""
        pending = document["pending"]
        past = tuple((float(until), int(workers)) for until, workers in document["past"])
        return cls(**{**document, "past": past, "pending": Resize(**pending) if pending else None})

    def stored(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def used(self, started_at: float, until: float) -> float:
        """Seconds times workers from the run's start until a time."""
        return sum(workers * (end_s - begin_s) for begin_s, end_s, workers in self.spans(started_at, until))

    def spans(self, started_at: float, until: float) -> list[tuple[float, float, int]]:
        """(begin, end, workers) of all times at which it had as many, from the run's start until a time."""
        begins = [started_at, *(end_s for end_s, _ in self.past)]
        ends = [*(end_s for end_s, _ in self.past), max(until, begins[-1])]
        counts = [*(workers for _, workers in self.past), self.workers]
        return list(zip(begins, ends, counts, strict=True))

    def with_workers(self, workers: int, started_at: float, now: float) -> Sizing:
        """The change that was pending is over, and it has so many from now on."""
        past, peak = self.past, max(self.peak, workers)
        if workers != self.workers:
            past = (*past, (max(now, past[-1][0] if past else started_at), self.workers))
        return replace(self, workers=workers, peak=peak, past=past, settled_at=now, pending=None)


@dataclass(frozen=True)
class RunRecord:
    """A run as stored; `held` is what each of its workers holds on its node, `nodes` and devices in the order of ranks."""

    id: str
    job_id: str
    attempt: int
    epoch: int
    state: str
    cause: str
    cluster: str
    nodes: list[str]
    queue: str
    held: dict[str, Any]
    quote: dict[str, Any]
    score: float
    exit_code: int | None
    message: str
    preview: dict[str, Any] | None
    files: list[dict[str, Any]] | None
    usage: dict[str, Any] | None
    placed_at: float
    starting_at: float | None
    started_at: float | None
    finished_at: float | None
    elastic: dict[str, Any] | None = None  # Of a gang that may be resized its Sizing.

    @property
    def sizing(self) -> Sizing | None:
        """How many workers it has and had, where that changes."""
        return Sizing.read(self.elastic) if self.elastic else None


@dataclass(frozen=True)
class EvictionRecord:
    """The order to end a run for reasons of the network: `drained`, or to make room for the job `beneficiary`."""

    run_id: str
    job_id: str
    beneficiary: str | None
    why: str
    message: str
    at: float


@dataclass(frozen=True)
class ClaimRecord:
    """Room that is kept for a queued job `until` then: the node of each worker, and what each will hold there."""

    job_id: str
    cluster: str
    nodes: list[str]
    held: dict[str, Any]
    queue: str
    until: float


@dataclass(frozen=True)
class PastRun:
    """Of a run that has ended what counts for its queue's past use."""

    queue: str
    nodes: list[str]
    held: dict[str, Any]
    placed_at: float
    finished_at: float
    elastic: dict[str, Any] | None = None
    started_at: float | None = None

    @property
    def sizing(self) -> Sizing | None:
        """As of a RunRecord."""
        return Sizing.read(self.elastic) if self.elastic else None


@dataclass(frozen=True)
class ClusterRecord:
    """A member with its standing."""

    spec: ClusterSpec
    cordon: str
    health: Health
    detail: str
    agent_id: str
    backend_version: str
    heard_at: float | None
    reachable_at: float | None
    created_at: float
    introduced: bool = True
    resizes: bool = False
    remote_id: str = ""
    links: Samples = field(default_factory=dict)
    copies: CacheState | None = None
    driver: Driver = ACTORS
    scaling: Scaling | None = None
    wishes: tuple[Wish, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def inbound(self) -> Inbound:
        """How data comes to it."""
        if self.copies is None:
            return Inbound(self.spec.inbound_bandwidth_mib_s, self.links, terms=self.spec.links)
        held, ahead = self.copies.held, self.copies.unread
        return Inbound(self.spec.inbound_bandwidth_mib_s, self.links, held, ahead, self.copies.folder_bytes or None, self.spec.links)


@dataclass(frozen=True)
class NodeRecord:
    """A node with the member it belongs to."""

    cluster: str
    node: Node
    seen_at: float


@dataclass(frozen=True)
class QueueRecord:
    """A queue. Amounts are by resource: `cpu` in cores, `memory` in bytes, accelerators by model."""

    name: str
    weight: float
    max_running: int | None
    created_at: float
    parent: str | None = None
    quota: dict[str, float] = field(default_factory=dict)
    borrow_limit: dict[str, float] = field(default_factory=dict)
    lend_limit: dict[str, float] = field(default_factory=dict)
    order: Literal["best-effort", "strict"] = "best-effort"
    layout: Literal["pack", "spread"] | None = None
    preemption: str | None = None  # None: as the queue above it.


@dataclass(frozen=True)
class WindowRecord:
    """A maintenance or a reservation of nodes of a cluster, all of them where none is named. Times are seconds since the epoch."""

    name: str
    purpose: str
    cluster: str
    nodes: list[str]
    tenant: str | None
    queue: str | None
    reason: str
    begins_at: float
    ends_at: float
    created_at: float


@dataclass(frozen=True)
class EventRecord:
    """One move of a job, with its cause."""

    sequence: int
    job_id: str
    run_id: str | None
    start: str
    finish: str
    cause: str
    message: str
    at: float


@dataclass(frozen=True)
class TokenRecord:
    """A token without its secret."""

    id: str
    hash: str
    role: str
    tenant: str | None
    cluster: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None


def document_of(text: str) -> Document:
    """What a stored text says. Like jobs are stored in like words, and are read in every cycle while they wait."""
    return _remembered(text) if len(text) <= MOST_REMEMBERED_SQL else Document(text)


@lru_cache(maxsize=MOST_REMEMBERED)
def _remembered(text: str) -> Document:
    return Document(text)


def record_of(kind: type[R], row: Sequence[Any]) -> R:
    """A record from the values of all its columns, of which some may be texts of documents: what calling `kind` does, in a third of the
    time, which a frozen dataclass takes to set each of its fields. Raises ValueError for another number of them."""
    record = object.__new__(kind)
    values = record.__dict__
    values.update(zip(_NAMES[kind], row, strict=True))
    for name in AS_TEXT[kind]:
        if isinstance(text := values[name], str):
            values[name] = document_of(text)
    return record


_NAMES: dict[type[JobRecord] | type[RunRecord], tuple[str, ...]] = {
    kind: tuple(item.name for item in fields(kind)) for kind in (JobRecord, RunRecord)
}


# What is read as text, because many rows say the same.
AS_TEXT: dict[type[JobRecord] | type[RunRecord], tuple[str, ...]] = {JobRecord: ("spec",), RunRecord: ("held", "quote")}


def changed_record(record: R, **columns: Any) -> R:
    """The record with other values in some columns: what `dataclasses.replace` does, in a tenth of its time. Raises TypeError."""
    known = record.__dict__
    if not columns.keys() <= known.keys():
        raise TypeError(f"{type(record).__name__} has no {', '.join(sorted(columns.keys() - known.keys()))}")
    changed = object.__new__(type(record))
    changed.__dict__.update(known, **columns)
    return changed


def read_spec(document: dict[str, Any]) -> JobSpec:
    """A stored spec as a model; it was validated strictly when it was accepted. It is shared: nobody changes what is in it."""
    if isinstance(document, Document) and len(document.text) <= MOST_REMEMBERED_SQL:
        return _parsed(document.text)
    text = to_json(document) if _is_small(document) else None
    return JobSpec.model_validate(document, strict=False) if text is None else _parsed(text)


def _is_small(document: Mapping[str, Any]) -> bool:
    return not document.get("files") and len(document.get("sql") or "") <= MOST_REMEMBERED_SQL


@lru_cache(maxsize=MOST_REMEMBERED)
def _parsed(text: bytes | str) -> JobSpec:
    # A job is read in every cycle while it waits, and once more when it ends.
    return JobSpec.model_validate(from_json(text), strict=False)


ACTIVE = tuple(sorted(state.value for state in (State.PLACED, State.STARTING, State.RUNNING)))
