"""How many workers a manifest asks for: a number, or a range for a gang that takes what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, WithJsonSchema, model_validator

from workloads.errors import UnitError, shown

# A larger number fits no network; it is a slip of the pen.
MOST_WORKERS = 4096


class WorkerRange(BaseModel):
    """A gang that takes any number of workers from `min` to `max`: as many as there is room for when it starts.

    While it runs it grows and shrinks with the room that there is, unless it is to `keep` the size that it started with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    min: int = Field(ge=1, le=MOST_WORKERS)
    max: int = Field(ge=1, le=MOST_WORKERS)
    while_running: Literal["resize", "keep"] = "resize"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}; write the smaller number as min")
        return self


_COUNT: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(strict=True, ge=1, le=MOST_WORKERS)])


def _read_workers(value: object) -> int | WorkerRange:
    """A number or a range; each is read alone, so that a fault has one path."""
    if isinstance(value, WorkerRange):
        return value
    if isinstance(value, Mapping):
        return WorkerRange.model_validate(value)
    if isinstance(value, str | Sequence):
        raise UnitError(f"{shown(value)} is not a number of workers; write one, like 4, or a range, like {{min: 2, max: 8}}")
    return _COUNT.validate_python(value)


def _write_workers(value: int | WorkerRange) -> int | dict[str, int | str]:
    return value.model_dump(exclude_defaults=True) if isinstance(value, WorkerRange) else value


_WHOLE = {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}
Workers = Annotated[
    int | WorkerRange, PlainValidator(_read_workers), PlainSerializer(_write_workers, return_type=int | dict[str, int | str]),
    WithJsonSchema({"anyOf": [_WHOLE, {
        "type": "object", "title": "WorkerRange", "additionalProperties": False, "required": ["min", "max"],
        "properties": {"min": _WHOLE, "max": _WHOLE, "while_running": {"enum": ["resize", "keep"], "default": "resize"}},
        "description": "as many as there is room for at the start, and while it runs, unless it is to keep its size",
    }]}),
]  # fmt: skip
