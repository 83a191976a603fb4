"""What an agent and a backend say to each other, and what an agent and the control plane say.

A backend is a small adapter: inventory, start, stop, observe, logs. `start` of a known run id is a success
that changes nothing, `stop` and `forget` of an unknown one too, so every instruction may be repeated.
Everything a run does comes back as events on one stream; the stream of an adopted run begins with all that
its backend still knows, so an agent that was restarted reports what its predecessor could not.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from cluster.deposits import Grant, Package
from cluster.model import Inventory, LeasePolicy
from cluster.replicas import MOST_AHEAD, MOST_TOLD, CacheCounts, CacheLimits, CacheState, Transfer
from cluster.scaling import MOST_TYPES, Wanted
from workloads.catalogue.product import Format
from workloads.map_jobs import MapStep
from workloads.ray_jobs import RayJobs, RuntimeEnv

Category = Literal[
    "exit", "max_runtime", "cancelled", "preempted", "start_failed", "data", "data_changed", "cache", "statement", "lost", "infrastructure",
    "result", "storage", "runtime_env", "beyond_grant", "out_of_memory", "schema", "max_rows",
]  # fmt: skip


MOST_INSTRUCTIONS = 500  # A reply has the oldest; one with fewer has all.
# What of a result travels with the report of its end instead of in a request of its own.
SMALL_BYTES = 48 * 1024
SMALL_BASE64 = SMALL_BYTES // 3 * 4


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Elsewhere(_Frozen):
    """Another place where a version lies."""

    uri: str
    source: str = Field(description="the cluster there")


class InputFile(_Frozen):
    """A product version that the run reads: fetched from `uri`, proved by size and checksum."""

    ref: str
    uri: str
    format: Format
    size_bytes: int
    sha256: str
    local: bool = Field(description="the replica lies at this cluster; no transfer is charged")
    source: str = Field(default="", description="the cluster at which the replica lies")
    others: tuple[Elsewhere, ...] = Field(default=(), description="where it is brought from instead when that fails, in this order")
    until: float | None = Field(default=None, description="when the right to bring it here ends; null: not by itself")


class AheadFile(_Frozen):
    """A version that a job which waits is going to read on these nodes: it may be brought there while the job waits."""

    file: InputFile
    nodes: tuple[str, ...]


class ResultFile(_Frozen):
    """A file of a run's result, in the agent's directory until it is uploaded."""

    name: str
    size_bytes: int
    sha256: str


class RunRequest(_Frozen):
    """All that a backend needs to start one run. Names on the cluster derive from run_id, nothing else."""

    run_id: str
    job_id: str
    attempt: int
    epoch: int
    kind: Literal["sql", "command", "training", "ray", "map"]
    sql: str | None = None
    engine: Literal["duckdb", "daft"] = Field(default="duckdb", description="what runs a statement; Daft on all of the run's workers")
    or_duckdb: bool = Field(default=False, description="a statement that Daft turns out not to run goes to DuckDB on the first worker")
    command: tuple[str, ...] = ()
    runtime_env: RuntimeEnv | None = Field(default=None, description="kind ray: what its tasks and actors have")
    ray_jobs: RayJobs | None = Field(default=None, description="kind ray: what the cluster's operator allows")
    map: MapStep | None = Field(default=None, description="kind map: the function, and what it is given")
    parts: tuple[ResultFile, ...] = Field(default=(), description="kind map: partitions of earlier attempts that the control plane has")
    files: dict[str, str] = {}
    env: dict[str, str] = {}
    inputs: dict[str, InputFile] = {}
    cpu: float
    memory_bytes: int
    accelerator_model: str | None = None
    accelerator_count: float = Field(default=0, description="whole devices of each worker, or the part of one")
    accelerator_devices: tuple[tuple[int, ...], ...] = Field(
        default=(), description="the devices of each worker by rank: numbers among those of the model on its node"
    )
    nodes: tuple[str, ...] = Field(description="the node of each worker, by rank")
    elastic: bool = Field(default=False, description="it may be grown and shrunk while it runs")
    generation: int = Field(default=0, description="how often its size has been changed; `nodes` are those after that")
    max_runtime_s: float
    max_rows: int | None = Field(default=None, exclude_if=lambda value: value is None, description="a result with more ends the run")
    max_result_bytes: int | None = Field(default=None, description="a larger result is not wanted; set by the agent that starts it")
    cache: CacheLimits = Field(default=CacheLimits(), description="of the agent that starts it")
    deposit: Grant | None = Field(
        default=None, exclude_if=lambda value: value is None, description="where it may put a large result itself; asked for by its agent"
    )
    package: Package | None = Field(
        default=None, exclude_if=lambda value: value is None, description="its files lie where its grant says, and not here"
    )


class GangSize(_Frozen):
    """The workers that an elastic run shall have. Ranks that it has already stay as they are, so one list begins with the other."""

    generation: int = Field(ge=1, description="counts the changes of one run; an order that comes late is known by it")
    nodes: tuple[str, ...] = Field(min_length=1, description="the node of each worker, by rank")
    accelerator_devices: tuple[tuple[int, ...], ...] = ()


class AdoptedRun(_Frozen):
    """A run of an earlier agent that the cluster still knows: running, or ended and not forgotten."""

    run_id: str
    epoch: int = Field(description="of the request that started it")
    waiting: RunRequest | None = Field(
        default=None, description="its request, when its work is not known to have begun; it does not begin before `start` is called again"
    )


class SmallFile(ResultFile):
    """One that travels with the report of its run's end."""

    content: str = Field(max_length=SMALL_BASE64, description="the bytes as base64")

    @classmethod
    def of(cls, name: str, data: bytes) -> Self:
        """A file of at most SMALL_BYTES."""
        sha256 = hashlib.sha256(data).hexdigest()
        return cls(name=name, size_bytes=len(data), sha256=sha256, content=base64.b64encode(data).decode())

    def read(self) -> bytes:
        """The bytes. Raises ValueError when they are not what was announced."""
        data = base64.b64decode(self.content, validate=True)
        if len(data) != self.size_bytes or hashlib.sha256(data).hexdigest() != self.sha256:
            raise ValueError(f"the result file {self.name} did not arrive as announced")
        return data

    def plain(self) -> ResultFile:
        """The same without its bytes."""
        return ResultFile(name=self.name, size_bytes=self.size_bytes, sha256=self.sha256)


class Preview(_Frozen):
    """The first rows of a tabular result, as JSON-safe values."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    total_rows: int


class Usage(_Frozen):
    """What a run used, as measured where it ran."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    transferred_bytes: int = 0
    transfers: tuple[Transfer, ...] = ()
    cache: CacheCounts = CacheCounts()


class RunStarting(_Frozen):
    """The backend has taken the run and prepares it (data, processes). Told again where it waits for something else than before."""

    type: Literal["starting"] = "starting"
    run_id: str
    message: str = Field(default="", max_length=2000, description="what it waits for, where the cluster says that")


class RunStarted(_Frozen):
    """The user's work has begun on all workers."""

    type: Literal["started"] = "started"
    run_id: str
    at: float


class RunLog(_Frozen):
    """Bytes of the run's log (UTF-8, replaced where broken) at a byte offset; the same offset may come twice."""

    type: Literal["log"] = "log"
    run_id: str
    offset: int
    text: str


class RunProgress(_Frozen):
    """A metric that the run reported (see docs: the progress file), in the order of `sequence`, which counts from 1."""

    type: Literal["progress"] = "progress"
    run_id: str
    sequence: int
    step: int
    metrics: dict[str, float]
    at: float


class RunPart(_Frozen):
    """A part of the result that is finished while the run goes on: it is brought to the control plane, which is told nothing else of it.

    The next attempt need not make it again, whatever becomes of this one. `directory` is where the agent finds the file.
    """

    type: Literal["part"] = "part"
    run_id: str
    file: ResultFile
    directory: str


class RunResized(_Frozen):
    """The change of an elastic run's size that was ordered last is over.

    It has `workers` now: as many as were asked for, or, where it could not grow, as many as before; `message` says why. None is
    said by an agent whose backend broke on the order: the size is what it was.
    """

    type: Literal["resized"] = "resized"
    run_id: str
    generation: int
    workers: int | None
    message: str = ""
    at: float


class RunFinished(_Frozen):
    """The run is over on all workers. `directory` is where the agent finds the result files."""

    type: Literal["finished"] = "finished"
    run_id: str
    outcome: Literal["succeeded", "failed", "cancelled", "preempted", "lost"]
    category: Category | None = None
    exit_code: int | None = None
    message: str = ""
    at: float
    preview: Preview | None = None
    files: tuple[SmallFile | ResultFile, ...] = ()
    brought: tuple[str, ...] = Field(default=(), description="of the files those that the control plane has from earlier attempts, by name")
    directory: str = ""
    deposit: str = Field(
        default="", exclude_if=lambda value: not value, description="the run has put the files where its grant says, by this token"
    )
    usage: Usage = Usage()


RunEvent = Annotated[
    RunStarting | RunStarted | RunLog | RunProgress | RunPart | RunResized | RunFinished, Field(discriminator="type")
]  # fmt: skip


class ClusterBackend(Protocol):
    """What an agent drives. One instance per agent process; all calls come from one event loop."""

    async def open(self) -> None:
        """Connect. Raises UnreachableError, AuthenticationError."""

    async def inventory(self) -> Inventory:
        """Nodes now. Raises UnreachableError when the cluster does not answer, ClusterReplacedError when another one does."""

    async def start(self, run: RunRequest) -> None:
        """Begin the run and return soon; progress comes as events. Idempotent by run id. Raises RunRejectedError."""

    async def stop(self, run_id: str, *, outcome: Literal["cancelled", "preempted", "lost"], grace_s: float) -> None:
        """End the run on all workers: SIGTERM, grace, SIGKILL. Ends with RunFinished. Unknown id: nothing happens."""

    async def resize(self, run_id: str, size: GangSize, *, grace_s: float) -> None:
        """Bring an elastic run to another size and return soon: start the ranks that are missing, or end the highest ones (SIGTERM,
        grace, SIGKILL); all others go on undisturbed. Ends with RunResized, or with the run. An older generation than the run is
        at changes nothing, and so does the same one, whose RunResized comes again. Unknown and ended runs, and those that are not
        elastic: nothing happens. Asked for only where the inventory says `resizes`.
        """

    async def adopt(self) -> tuple[AdoptedRun, ...]:
        """Find the runs of an earlier agent still known to the cluster, by run id; their events join the stream.

        What is not known to have begun waits for `start`: it may have been given up and begun elsewhere since it was ordered.
        """

    def events(self) -> AsyncIterator[RunEvent]:
        """All events of all runs, in order for each run. Ends when the backend is closed."""

    async def forget(self, run_id: str) -> None:
        """Release what is kept of a finished run (its outcome is durable elsewhere). Unknown id: nothing happens."""

    async def refuse_copies(self, versions: Sequence[str]) -> None:
        """Remove copies of these versions (checksums) and go on so until told otherwise; one that a run reads goes when it ends."""

    async def scale(self, wanted: Sequence[Wanted]) -> None:
        """Ask the cluster's autoscaler for these nodes, and for no others any more. Raises TransientError. Without one: nothing happens."""

    async def close(self) -> None:
        """Disconnect; runs go on."""


@runtime_checkable
class MakesDeposits(Protocol):
    """A backend whose runs can put a large result into a store themselves."""

    def wants_deposit(self, run: RunRequest) -> bool:
        """Whether this run, which is about to be started, is to be granted a place there."""


@runtime_checkable
class BringsAhead(Protocol):
    """A backend that can bring data to its nodes before the runs that read it."""

    async def bring_ahead(self, files: Sequence[AheadFile]) -> None:
        """Bring these in, in this order, until told otherwise; what is on its way and not among them stops. Returns soon."""


class Observation(_Frozen):
    """A run's event as it crosses to the control plane, fenced by the run's epoch."""

    epoch: int
    event: RunEvent


class Instruction(_Frozen):
    """An order from the control plane: an outbox row. Repeated until its sequence number is acknowledged."""

    sequence: int
    action: Literal["start", "stop", "forget", "resize"]
    run_id: str
    run: RunRequest | None = None
    size: GangSize | None = None
    outcome: Literal["cancelled", "preempted", "lost"] = "cancelled"
    grace_s: float = 5.0


class CacheNews(_Frozen):
    """What a member's caches hold, told apart from its nodes. No state: that is not known now."""

    state: CacheState | None = None


class SyncRequest(_Frozen):
    """The one call of an agent. Everything in it may be repeated without harm."""

    agent_id: str = Field(description="fresh for each agent process")
    reachable: bool = Field(description="the cluster answers its agent")
    detail: str = Field(default="", max_length=2000, description="why it is not reachable")
    inventory: Inventory | None = Field(default=None, description="only when it changed since the last call, and in the first")
    cache: CacheNews | None = Field(default=None, description="when nothing else of the inventory changed; with an inventory it is ignored")
    takes_over: bool = Field(default=False, description="the first call of an agent process: it speaks for the cluster from now on")
    known_runs: tuple[str, ...] | None = Field(default=None, description="a census: when the control plane wants one")
    observations: tuple[Observation, ...] = ()
    acknowledged: int = Field(default=0, description="all instructions up to this sequence number are carried out")
    wait_s: float = Field(default=0.0, ge=0, le=60, description="how long to wait for instructions")


class SyncReply(_Frozen):
    """Instructions not acknowledged yet. An agent without a reply for lease_s stops its runs, unless its operator wants them to go on."""

    instructions: tuple[Instruction, ...] = ()
    lease_s: float
    on_lease_lost: LeasePolicy = "stop"
    max_result_bytes: int | None = Field(default=None, description="results of more bytes will be refused")
    superseded: bool = Field(default=False, description="another agent process speaks for this cluster; this one must end")
    wanted: tuple[Wanted, ...] = Field(
        default=(),
        max_length=MOST_TYPES,
        description="nodes of scalable types that there shall be; a type that is left out is not asked for",
    )
    unwanted: tuple[str, ...] = Field(
        default=(), max_length=MOST_TOLD, description="versions (checksums) in its cache that may not lie there any more"
    )
    ahead: tuple[AheadFile, ...] = Field(
        default=(), max_length=MOST_AHEAD, description="what jobs that wait are going to read there, those that start first before others"
    )
    census_wanted: bool = Field(default=False, description="name all runs; nothing is placed on the cluster before")
