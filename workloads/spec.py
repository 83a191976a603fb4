"""The job a user submits: what runs, on which data products, for which purpose, with what resources.

A spec is frozen and strict: unknown fields, bare numbers for quantities and fields of another kind are
refused with their path. What it says is checked against catalogue and queues later, at admission. Its JSON
form reads back to an equal spec, which is how jobs are stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from workloads.arrays import ArrayText
from workloads.engines import EngineChoice
from workloads.faults import Fault, refuse
from workloads.map_jobs import MapStep, function_faults
from workloads.predecessors import After, repeated
from workloads.ray_jobs import RuntimeEnv, command_faults, module_faults
from workloads.resources import DurationSeconds, MoneyAmount, Resources

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
PRODUCT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
# No server takes more; usually it takes less.
MAX_FILE_BYTES = 32 * 1024 * 1024
RESERVED_ENV_PREFIX = "CPN_"

_REF = re.compile(rf"({PRODUCT_PATTERN[1:-1]})@([1-9][0-9]{{0,8}})")


def _read_time(value: object) -> object:
    """RFC 3339 text or a datetime; pydantic alone would take a bare number for seconds since the epoch."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a time; write it like 2026-12-01T08:00:00+08:00")
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise ValueError(f"{value!r} is not a time; write it like 2026-12-01T08:00:00+08:00") from error


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
ProductName = Annotated[str, StringConstraints(pattern=PRODUCT_PATTERN)]
Purpose = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Jurisdiction = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
Alias = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
ProductRef = Annotated[str, StringConstraints(pattern=PRODUCT_PATTERN[:-1] + r"@[1-9][0-9]{0,8}$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
FilePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")]
QuoteId = Annotated[str, StringConstraints(pattern=r"^quote-[0-9a-f]{16}$")]
CostCentre = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,61}[A-Za-z0-9])?$")]
Labels = dict[Annotated[str, StringConstraints(max_length=128)], Annotated[str, StringConstraints(max_length=256)]]
Moment = Annotated[AwareDatetime, BeforeValidator(_read_time)]

PRIORITIES = {"low": -100, "normal": 0, "high": 100}
Priority = Literal["low", "normal", "high"]
Kind = Literal["sql", "command", "training", "ray", "map"]
DEFAULT_MAX_RUNTIME_S = 3600.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PlacementRules(_Frozen):
    """Where the buyer allows the job to run; the licences may narrow it further."""

    jurisdictions: tuple[Jurisdiction, ...] = Field(default=(), strict=False, description="empty: any that the licences allow")
    labels: Labels = Field(default={}, description="labels a node must carry")
    clusters: tuple[Name, ...] = Field(default=(), strict=False, description="empty: any cluster")
    prefer: Literal["soonest", "cheapest", "balanced", "cleanest"] = Field(
        default="balanced", description="by what to choose between clusters that may take the job: time, price, both, or CO2"
    )
    same: Literal["zone", "rack"] | None = Field(default=None, description="all workers of a gang on nodes of one zone or rack")


class RetryPolicy(_Frozen):
    """How often to try. `infrastructure` is a lost cluster or node; `exit` a non-zero exit of the user's code."""

    attempts: int = Field(default=3, ge=1, le=100)
    on: tuple[Literal["infrastructure", "exit"], ...] = Field(default=("infrastructure",), strict=False)


class JobSpec(_Frozen):
    """One job as submitted. Quantities carry units (`1GiB`, `10m`, `5.00 CNY`)."""

    name: Name
    tenant: Name
    queue: Name = "default"
    kind: Kind
    purpose: Purpose
    inputs: dict[Alias, ProductRef] = Field(default={}, description="name in the job → owner/product@version")
    sql: str | None = Field(default=None, max_length=100_000)
    engine: Literal["auto", "duckdb", "daft"] = Field(
        default="auto", description="what runs a statement: DuckDB on one worker, Daft on all, or what suits the size of its inputs"
    )
    chosen_engine: EngineChoice | None = Field(default=None, description="in answers only: the engine that was chosen, and why")
    command: tuple[str, ...] = Field(default=(), strict=False, max_length=1000)
    files: dict[FilePath, str] = Field(default={}, max_length=200, description="path in the working directory → text")
    env: dict[EnvName, str] = Field(default={}, max_length=200)
    runtime_env: RuntimeEnv | None = Field(
        default=None, description="kind ray: what its tasks and actors have beside the node's own packages"
    )
    map: MapStep | None = Field(default=None, description="kind map: the function, and what it is given")
    resources: Resources = Resources()
    placement: PlacementRules = PlacementRules()
    priority: Priority = "normal"
    max_runtime: DurationSeconds = Field(default_factory=lambda: DEFAULT_MAX_RUNTIME_S, gt=0, json_schema_extra={"default": "1h"})
    start_after: Moment | None = Field(default=None, description="the job waits until then")
    after: After = ()
    array: ArrayText | None = Field(default=None, description="one submission, many tasks: 0-99, 1,3,7-9, 0-99%10")
    deadline: Moment | None = None
    flexible: Literal["cheapest", "cleanest"] | None = Field(
        default=None,
        description="it may wait for the hour and the cluster where it costs least, or emits least CO2, as long as it keeps its deadline",
    )
    budget: MoneyAmount | None = None
    quote: QuoteId | None = Field(
        default=None, exclude_if=lambda value: value is None, description="of a plan: its prices hold for this job, whatever they are now"
    )
    stop_at_budget: bool = Field(
        default=False, exclude_if=lambda value: not value,
        description="where the budget does not pay for all of max_runtime, run for as long as it pays for, instead of being refused",
    )  # fmt: skip
    max_rows: int | None = Field(
        default=None, ge=1, le=10**12, exclude_if=lambda value: value is None,
        description="kind sql: a result with more rows ends the run; left out, 10,000 where a product has a price for each row",
    )  # fmt: skip
    cost_centre: CostCentre | None = Field(
        default=None, exclude_if=lambda value: value is None, description="whose expense it is; statements have a total for each"
    )
    research: bool = Field(
        default=False, exclude_if=lambda value: not value, description="it is research expenditure; statements have a total of it"
    )
    retry: RetryPolicy = RetryPolicy()

    @field_validator("files")
    @classmethod
    def _files_stay_in_the_working_directory(cls, files: dict[str, str]) -> dict[str, str]:
        refuse("files", _file_faults(files))
        return files

    @model_validator(mode="after")
    def _kind_has_its_fields(self) -> Self:
        refuse(
            "JobSpec",
            [
                *_FAULTS.get(self.kind, _command_faults)(self),
                *_ray_faults(self),
                *_map_faults(self),
                *_process_faults(self),
                *_time_faults(self),
            ],
        )
        return self

    @property
    def rank(self) -> int:
        """The number behind the priority's name; higher goes first."""
        return PRIORITIES[self.priority]

    @property
    def preference(self) -> str:
        """By what to choose between clusters; a flexible job goes by what it waits for."""
        return self.flexible or self.placement.prefer

    @property
    def is_for_daft(self) -> bool:
        """It is a statement that Daft runs, because somebody asked for it or because it was chosen."""
        return self.engine == "daft" or (self.chosen_engine is not None and self.chosen_engine.engine == "daft")

    def start_after_s(self) -> float | None:
        """The time before which it does not start, in seconds since the epoch."""
        return self.start_after.timestamp() if isinstance(self.start_after, datetime) else None

    def deadline_s(self) -> float | None:
        """The deadline in seconds since the epoch."""
        return self.deadline.timestamp() if isinstance(self.deadline, datetime) else None


def _sql_faults(spec: JobSpec) -> Iterator[Fault]:
    if not spec.sql or not spec.sql.strip():
        yield ("sql",), "kind sql needs the field sql with one SELECT statement"
    for field in ("command", "files", "env"):
        if getattr(spec, field):
            yield (field,), f"kind sql takes no {field}; use kind command for code of your own"
    if spec.resources.is_elastic:
        yield ("resources", "workers"), "kind sql runs on a fixed number of workers; give one number"
    elif spec.resources.most > 1 and spec.engine == "duckdb":
        yield ("resources", "workers"), "DuckDB runs on one worker; leave resources.workers out, or give engine: auto or daft"
    distributed = spec.engine == "daft" or spec.resources.most > 1
    if distributed and spec.resources.cpu < 1:
        yield ("resources", "cpu"), "Daft takes whole cores; ask for 1 or more for each worker"
    if distributed and spec.resources.accelerator:
        yield ("resources", "accelerator"), "Daft uses none; leave it out"
    if spec.placement.same and spec.resources.most == 1:
        yield ("placement", "same"), "one worker is alone there; ask for more resources.workers, or leave it out"


def _command_faults(spec: JobSpec) -> Iterator[Fault]:
    if not spec.command or not spec.command[0]:
        yield ("command",), f"kind {spec.kind} needs the field command, like [python, script.py]"
    if spec.sql is not None:
        yield ("sql",), f"kind {spec.kind} takes no sql; use kind sql for a query"
    if spec.engine != "auto":
        yield ("engine",), f"kind {spec.kind} has no engine; leave it out, or use kind sql for a query"
    if spec.placement.same and spec.resources.most == 1:
        yield ("placement", "same"), f"one worker is alone in its {spec.placement.same}; ask for more resources.workers, or leave it out"


def _function_faults(spec: JobSpec) -> Iterator[Fault]:
    if spec.map is None:
        yield ("map",), "kind map needs the field map, like {function: clean.py:fn}"
    else:
        yield from function_faults(spec.map, spec.files)
    if not spec.inputs:
        yield ("inputs",), "kind map works on the rows of its inputs; name one product at least"
    if spec.command:
        yield ("command",), "kind map runs a function and takes no command; use kind command for a program"
    if spec.sql is not None:
        yield ("sql",), "kind map takes no sql; use kind sql for a query"
    if spec.engine != "auto":
        yield ("engine",), "kind map has no engine; leave it out, or use kind sql for a query"
    if spec.resources.is_elastic:
        yield ("resources", "workers"), "kind map runs on a fixed number of workers; give one number"
    if spec.placement.same and spec.resources.most == 1:
        yield ("placement", "same"), "one worker is alone there; ask for more resources.workers, or leave it out"


def _map_faults(spec: JobSpec) -> Iterator[Fault]:
    if spec.kind != "sql" and spec.max_rows is not None:
        yield ("max_rows",), f"kind {spec.kind} returns no rows that are counted; leave it out, or use kind sql for a query"
    if spec.kind != "map" and spec.map is not None:
        yield ("map",), f"kind {spec.kind} takes no map; leave it out, or use kind map"


def _ray_faults(spec: JobSpec) -> Iterator[Fault]:
    if spec.kind != "ray":
        if spec.runtime_env is not None:
            yield ("runtime_env",), f"kind {spec.kind} takes no runtime_env; leave it out, or use kind ray"
        return
    yield from command_faults(spec.command)
    yield from module_faults(spec.runtime_env or RuntimeEnv(), spec.files)
    for name in spec.env:
        if name.startswith("RAY_"):
            yield ("env", name), "names that begin with RAY_ are set by cpn and Ray; choose another name"
    if spec.resources.is_elastic:
        yield ("resources", "workers"), "kind ray runs on a fixed number of workers; give one number"


def _process_faults(spec: JobSpec) -> Iterator[Fault]:
    for index, argument in enumerate(spec.command):
        if "\0" in argument:
            yield ("command", index), "holds a NUL character, which no process can be given"
    for name, value in spec.env.items():
        if name.startswith(RESERVED_ENV_PREFIX):
            yield ("env", name), f"names that begin with {RESERVED_ENV_PREFIX} are set by cpn; choose another name"
        if "\0" in value:
            yield ("env", name), "holds a NUL character, which no process can be given"


_FAULTS = {"sql": _sql_faults, "map": _function_faults}


def _time_faults(spec: JobSpec) -> Iterator[Fault]:
    if spec.quote is not None and spec.flexible is not None:
        yield ("quote",), "a flexible job is quoted for the hour in which it starts; leave one of them out"
    if spec.stop_at_budget and spec.budget is None:
        yield ("stop_at_budget",), "needs to know what the run may cost; give a budget, or leave it out"
    if spec.stop_at_budget and spec.flexible is not None:
        yield ("stop_at_budget",), "a flexible job waits for an hour that its budget pays for in whole; leave one of them out"
    if spec.stop_at_budget and spec.resources.is_elastic:
        yield ("stop_at_budget",), "an elastic gang gets as many workers as its budget pays for; give resources.workers as one number"
    for position, job_id in repeated(spec.after):
        yield ("after", position, "job"), f"{job_id} is named twice; name it once"
    if spec.flexible is not None and spec.deadline is None:
        yield ("flexible",), "needs to know how long the job may wait; give a deadline, or leave flexible out"
    if spec.flexible is not None and spec.placement.prefer == "soonest":
        yield ("placement", "prefer"), "soonest is the opposite of flexible; leave one of them out"
    if (spec.flexible, spec.placement.prefer) in (("cheapest", "cleanest"), ("cleanest", "cheapest")):
        remedy = f"leave it out, or give flexible: {spec.placement.prefer}"
        yield ("placement", "prefer"), f"flexible: {spec.flexible} chooses hour and cluster by one and the same thing; {remedy}"
    if spec.start_after is not None and spec.deadline is not None and spec.start_after >= spec.deadline:
        yield ("start_after",), "is not before the deadline; give an earlier time, or a later deadline"


def _file_faults(files: dict[str, str]) -> Iterator[Fault]:
    for path in files:
        if any(part in ("", ".", "..") for part in path.split("/")):
            yield (path,), f"{path!r} must be a plain relative path"
        parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        if clash := next((parent for parent in parents if parent in files), None):
            yield (path,), f"{clash!r} cannot be a file and a folder"
    if file_bytes(files) > MAX_FILE_BYTES:
        yield (), f"more than {MAX_FILE_BYTES // 1024**2} MiB in all; publish larger data as a product"


def file_bytes(files: Mapping[str, str]) -> int:
    """What a job's files come to."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in files.values())


def split_ref(ref: str) -> tuple[str, int]:
    """`nycflights/flights@1` → ("nycflights/flights", 1). Raises ValueError."""
    match = _REF.fullmatch(ref)
    if not match:
        raise ValueError(f"{ref!r} is not a product reference; write owner/product@version")
    return match[1], int(match.groups()[-1])
