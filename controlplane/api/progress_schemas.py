"""How far a job is, as the API's document."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from controlplane.api.bases import Answer


class ProgressView(Answer):
    """What a run reported at one step."""

    step: int
    metrics: dict[str, float]
    at: datetime


class JobProgress(Answer):
    """How far the current run of a job of kind map is."""

    partitions_done: int
    partitions: int
    rows: int = Field(description="of the inputs, in partitions that are done")
    rows_per_s: float | None = Field(description="of this attempt; null before its first partition")
    left_s: float | None = Field(description="seconds until the rest is done at that speed")
    at: datetime
