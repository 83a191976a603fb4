"""What a choice between clusters went by, as the HTTP API tells it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from controlplane.api.bases import Answer


class ScoreAspect(Answer):
    """One part of a cluster's score. `points` are the weight times 0 (the best of the job's candidates) to 1 (the worst)."""

    aspect: Literal["price", "transfer", "start", "run", "completion", "fragmentation", "topology", "spread", "pack", "carbon"]
    value: float | None = Field(
        description="the quoted amount, seconds, devices (fragmentation), nodes (topology), a part of the cluster, or grams of CO2; "
        "null where nobody knows, which counts as the worst"
    )
    weight: float
    points: float
