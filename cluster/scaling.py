"""Nodes that a cluster could have: by type, as its autoscaler knows them, and how many of them there shall be.

Room that is not there is never booked and never counted as capacity. Where jobs wait for room that a type has, its cluster's agent is
told how many nodes of it there shall be; it asks the autoscaler, and what comes is a node like any other.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workloads.faults import refuse

MOST_TYPES, MOST_NODES = 100, 100_000
Text = Annotated[str, Field(min_length=1, max_length=253)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeType(_Frozen):
    """Nodes of one kind: what each has, how many there are at least and at most, and how many are there.

    Memory of None: nobody has said how much; it is not asked about then.
    """

    name: Text
    cpu: float = Field(ge=0, le=1e6)
    memory_bytes: int | None = Field(default=None, ge=0)
    accelerators: dict[Text, int] = Field(default={}, max_length=8, description="devices by model")
    labels: dict[str, str] = Field(default={}, max_length=64)
    least: int = Field(default=0, ge=0, le=MOST_NODES)
    most: int = Field(ge=0, le=MOST_NODES)
    present: int = Field(default=0, ge=0, le=MOST_NODES)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            refuse("NodeType", [(("least",), f"it is more than the {self.most} that there may be")])
        return self

    @property
    def absent(self) -> int:
        """How many more there may be."""
        return max(self.most - self.present, 0)


class Scaling(_Frozen):
    """The types of a cluster by name. `trouble`: what its autoscaler says of nodes that it could not start, empty when nothing."""

    types: tuple[NodeType, ...] = Field(max_length=MOST_TYPES)
    trouble: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [item.name for item in self.types]
        refuse("Scaling", [(("types",), f"{name} is there twice") for name in sorted({name for name in names if names.count(name) > 1})])
        return self


class Wanted(_Frozen):
    """How many nodes of a type there shall be, those that are there included."""

    node_type: Text
    count: int = Field(ge=1, le=MOST_NODES)
