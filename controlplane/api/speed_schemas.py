"""Speeds on accelerator models in the HTTP API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from controlplane.api.bases import Asked


class SpeedView(Asked):
    """How fast work is on a model, compared with the others that it may use, and where that comes from."""

    value: float = Field(description="only proportions matter: in the unit of the declared speeds, without any 1 on the slowest model")
    origin: Literal["declared", "learned", "rated", "assumed_equal"]
    runs: int = Field(description="of like jobs, on this model and the one that it was compared with; 0 unless learned")
    precision: str | None = Field(description="of the ratings that stand for it; null unless rated")
    words: str


class ModelSpeed(Asked):
    """Like jobs on one model. Medians are over the last of its runs; null where none of them reported steps, or did all of its work."""

    model: str
    speed: SpeedView
    runs: int = Field(description="so many of the last ones on this model count")
    median_steps_per_s: float | None
    median_run_s: float | None


class LikeSpeeds(Asked):
    """What is known of the speeds of like jobs: those of one tenant, kind and name."""

    tenant: str
    kind: str
    name: str
    models: list[ModelSpeed]
