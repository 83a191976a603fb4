"""Which engine runs a statement: DuckDB on one warm worker, or Daft on all workers that were asked for.

DuckDB wins as long as the data fits one worker: it starts at once and moves nothing between processes. So the choice goes by what is
known before the run, the published size of the inputs, and says in words why. Pure; what Daft cannot run is found out elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.resources import format_memory

Engine = Literal["duckdb", "daft"]
# What one core of DuckDB reads, joins and adds up in a second, of data as it lies in memory (docs/benchmarks.md); a rough figure.
BYTES_PER_CORE_S = 400e6
ONE_WORKER_S = 60.0
_WIDTHS = {
    "BOOLEAN": 1, "TINYINT": 1, "UTINYINT": 1, "SMALLINT": 2, "USMALLINT": 2, "INTEGER": 4, "UINTEGER": 4, "FLOAT": 4, "DATE": 4,
    "BIGINT": 8, "UBIGINT": 8, "DOUBLE": 8, "TIMESTAMP": 8, "TIME": 8, "HUGEINT": 16,
}  # fmt: skip
_WIDTH_OF_DECIMALS, _WIDTH_OF_OTHERS = 16, 32


class EngineChoice(BaseModel):
    """What runs a statement, and why. `workers` are those that it gets, `asked_workers` those that the job asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: Literal["auto", "duckdb", "daft"]
    engine: Engine
    workers: int = Field(ge=1)
    asked_workers: int = Field(ge=1)
    reason: str
    input_bytes: int = Field(ge=0, description="what is read of the inputs, as it lies in memory, estimated from rows and types of columns")
    one_worker_s: float = Field(ge=0, description="how long DuckDB would take on one worker, estimated")


@dataclass(frozen=True)
class Worker:
    """What one worker has: cores, and bytes of memory."""

    cpu: float
    memory_bytes: int


def estimate_bytes(inputs: Iterable[tuple[int, Sequence[str]]]) -> int:
    """The inputs, (rows, types of the columns) each, as they lie in memory."""
    return sum(rows * sum(map(_width, types)) for rows, types in inputs)


def choose(
    asked: Literal["auto", "duckdb", "daft"], workers: int, worker: Worker, input_bytes: int, *,
    refusal: str | None, limit_s: float = ONE_WORKER_S,
) -> EngineChoice:  # fmt: skip
    """The engine of a statement over inputs of that size. `refusal`: why Daft cannot run it, None when it can."""
    seconds = input_bytes / (BYTES_PER_CORE_S * worker.cpu)
    engine, reason = _judge(asked, workers, worker, input_bytes, seconds, refusal, limit_s)
    granted = workers if engine == "daft" else 1
    return EngineChoice(
        asked=asked, engine=engine, workers=granted, asked_workers=workers, reason=reason, input_bytes=input_bytes, one_worker_s=seconds
    )


def _judge(
    asked: str, workers: int, worker: Worker, input_bytes: int, seconds: float, refusal: str | None, limit_s: float
) -> tuple[Engine, str]:
    if asked == "duckdb":
        return "duckdb", "the job asks for it"
    if asked == "daft":
        return "daft", "the job asks for it"
    if workers == 1:
        return "duckdb", "the job asks for one worker"
    if refusal is not None:
        return "duckdb", f"Daft cannot run it: {refusal}"
    size, memory = format_memory(max(input_bytes // 1024**2, 1) * 1024**2), format_memory(worker.memory_bytes)
    if input_bytes > worker.memory_bytes:
        return "daft", f"about {size} of input are more than the {memory} of one worker"
    if seconds > limit_s:
        return "daft", f"one worker would take about {seconds:.0f} s for about {size} of input, more than {limit_s:g} s"
    return "duckdb", f"about {size} of input fit the {memory} of one worker, which takes about {seconds:.1f} s"


def _width(type_: str) -> int:
    name = type_.upper()
    return _WIDTH_OF_DECIMALS if name.startswith("DECIMAL") else _WIDTHS.get(name, _WIDTH_OF_OTHERS)
