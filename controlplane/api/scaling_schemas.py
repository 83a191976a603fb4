"""Documents about nodes that are not there yet."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from controlplane.api.bases import Answer


class NodeTypeView(Answer):
    """A type of nodes that a cluster's autoscaler can bring."""

    name: str
    cpu: float
    memory_bytes: int | None = Field(description="null: nobody has said how much")
    accelerators: dict[str, int]
    labels: dict[str, str]
    least: int
    most: int
    present: int
    wanted: int = Field(description="how many there shall be, for jobs that wait; 0: none is asked for")
    rests_until: datetime | None = Field(default=None, description="it was asked for in vain, and is not asked again before")


class ScalingView(Answer):
    """What a cluster's autoscaler can bring, by type, and what it says of nodes that it could not start."""

    types: list[NodeTypeView]
    trouble: str = ""
